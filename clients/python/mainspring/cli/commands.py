"""The table of commands: where each one lives, what it is for, and an example.

Decides the shape of the command line. Promises: reading this table imports no command.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its words, the function behind it, its help and examples of its use."""

    words: str
    target: str
    help: str
    examples: tuple[str, ...]


GROUPS = {
    "dag": "Apply, check and read DAGs and their schedules.",
    "run": "Trigger, follow and cancel runs; read logs.",
    "approval": "See what waits for a person, and decide.",
    "agent": "See the agents that do the work.",
    "shard": "See the shards and who leads them.",
    "admin": "Repair what only the owner of the database can.",
    "import": "Turn workflows of other formats into DAG files.",
}

COMMANDS = (
    Command(
        "up",
        "mainspring.cli.up:up",
        "Start a local cluster and keep it up until Ctrl-C.",
        ("mainspring up", "mainspring up --nodes 2 --shards 4 --agents 2 --data ./cluster"),
    ),
    Command(
        "dag apply",
        "mainspring.cli.dag_files:apply",
        "Create or change the DAGs that files define; all of them, or none if one has a problem.",
        ("mainspring dag apply etl.yaml", "mainspring dag apply --dry-run dags/*.yaml"),
    ),
    Command(
        "dag validate",
        "mainspring.cli.dag_files:validate",
        "Check DAG files and list every problem with file, line and column.",
        ("mainspring dag validate etl.yaml", "mainspring dag validate --offline dags/*.yaml"),
    ),
    Command(
        "dag list",
        "mainspring.cli.dag:list_dags",
        "List the DAGs.",
        ("mainspring dag list", "mainspring dag list --json | jq '.dags[].name'"),
    ),
    Command(
        "dag get",
        "mainspring.cli.dag:get",
        "Show one DAG, or print its definition as a DAG file.",
        ("mainspring dag get etl", "mainspring dag get etl --definition > etl.yaml"),
    ),
    Command(
        "dag versions",
        "mainspring.cli.dag:versions",
        "List the versions of a DAG, the newest first.",
        ("mainspring dag versions etl",),
    ),
    Command(
        "dag next",
        "mainspring.cli.dag:next_instants",
        "List the next instants of the schedules of a DAG.",
        ("mainspring dag next etl -n 20",),
    ),
    Command(
        "dag pause",
        "mainspring.cli.dag:pause",
        "Stop the schedules of a DAG; runs that exist go on.",
        ('mainspring dag pause etl --reason "source is down"',),
    ),
    Command(
        "dag resume",
        "mainspring.cli.dag:resume",
        "Start the schedules of a paused DAG again.",
        ("mainspring dag resume etl",),
    ),
    Command(
        "run trigger",
        "mainspring.cli.run:trigger",
        "Make a run of the current version of a DAG.",
        (
            "mainspring run trigger etl --watch",
            "mainspring run trigger etl --logical-time 2026-01-31T00:00:00Z",
        ),
    ),
    Command(
        "run list",
        "mainspring.cli.run:list_runs",
        "List runs, the newest first.",
        ("mainspring run list etl", "mainspring run list --state running --state queued"),
    ),
    Command(
        "run get",
        "mainspring.cli.run:get",
        "Show one run, and why work that could go on does not.",
        ("mainspring run get etl/01890a5d-ac96-774b-bcce-b302099a8057 --tasks",),
    ),
    Command(
        "run watch",
        "mainspring.cli.run_follow:watch",
        "Follow a run until it is final; the exit code is its result.",
        ("mainspring run watch 01890a5d-ac96-774b-bcce-b302099a8057",),
    ),
    Command(
        "run wait",
        "mainspring.cli.run_follow:wait",
        "Wait silently until a run is final; the exit code is its result.",
        ("mainspring run wait 01890a5d-ac96-774b-bcce-b302099a8057 --timeout 600",),
    ),
    Command(
        "run logs",
        "mainspring.cli.run_logs:logs",
        "Print what a task wrote; byte for byte with --stream.",
        (
            "mainspring run logs 01890a5d-ac96-774b-bcce-b302099a8057 extract",
            "mainspring run logs 01890a5d-ac96-774b-bcce-b302099a8057 extract --follow",
        ),
    ),
    Command(
        "run cancel",
        "mainspring.cli.run:cancel",
        "Cancel a run: nothing new is assigned, and what runs is stopped.",
        ("mainspring run cancel 01890a5d-ac96-774b-bcce-b302099a8057 --wait",),
    ),
    Command(
        "approval list",
        "mainspring.cli.approval:list_approvals",
        "List the tasks that wait for a decision, the oldest first.",
        (
            "mainspring approval list",
            "mainspring approval list etl/01890a5d-ac96-774b-bcce-b302099a8057 -o json",
        ),
    ),
    Command(
        "approval approve",
        "mainspring.cli.approval:approve",
        "Have another attempt of a task started.",
        ("mainspring approval approve 01890a5d-ac96-774b-bcce-b302099a8057/load --reason empty",),
    ),
    Command(
        "approval reject",
        "mainspring.cli.approval:reject",
        "Have a task fail instead of trying it again.",
        ("mainspring approval reject 01890a5d-ac96-774b-bcce-b302099a8057/load --reason half",),
    ),
    Command(
        "agent list",
        "mainspring.cli.cluster:list_agents",
        "List the agents: what they offer, and what they grant to the node that answers.",
        ("mainspring agent list",),
    ),
    Command(
        "shard list",
        "mainspring.cli.cluster:list_shards",
        "List the shards with their leaders.",
        ("mainspring shard list -o yaml",),
    ),
    Command(
        "import wfformat",
        "mainspring.cli.importing:wfformat",
        "Turn a WfFormat workflow (1.4 to 1.6) into a DAG file.",
        (
            "mainspring import wfformat montage.json --time-scale 0.01 -o montage.yaml",
            "mainspring import wfformat montage.json | mainspring dag validate /dev/stdin",
        ),
    ),
    Command(
        "admin recover",
        "mainspring.cli.admin:recover",
        "Say that the database was restored: nothing may be doubled by what it has forgotten.",
        (
            "mainspring admin recover --reason restored",
            "mainspring admin recover --dsn postgresql://db/mainspring --shard 2 --reason restored",
        ),
    ),
    Command(
        "doctor",
        "mainspring.cli.doctor:doctor",
        "Check set-up, connection and cluster, and say what to do about problems.",
        ("mainspring doctor",),
    ),
    Command(
        "verify",
        "mainspring.cli.verify:verify",
        "Judge what the database of a cluster says against what must always hold; changes nothing.",
        ("mainspring verify", "mainspring verify --since 24h -o json"),
    ),
    Command(
        "version",
        "mainspring.cli.version:version",
        "Print the version of this program, and of the server if asked.",
        ("mainspring version --server",),
    ),
)
