"""Bad input through the real command line: one clear error, exit code 2 to 6, never a traceback."""

from __future__ import annotations

import json
import socket
import textwrap
from pathlib import Path

import pytest
from mainspring.cli.exit_codes import ExitCode

from tests.system.dags import dag, fresh, process_task, write
from tests.system.up import mainspring

NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"
LONG = "n" * 1_000_000
SOME_TOKEN = {"MAINSPRING_TOKEN": "some"}


def refused(done, code: int, *words: str) -> None:
    """It failed as documented, and says `words` (any case) on standard error alone."""
    said = done.stderr
    assert done.returncode == code, (done.returncode, said[-2_000:])
    assert 2 <= code <= 6
    assert "Traceback" not in said
    assert "defect" not in said
    assert done.stdout == ""
    assert said.strip()
    assert len(said) < 20_000, "an error is read by people"
    missing = [word for word in words if word.lower() not in said.lower()]
    assert not missing, f"{missing} not in: {said[:2_000]}"


def one(**more) -> dict:
    """A DAG of one task with something more in the task."""
    return dag(fresh("bad"), {**process_task("a", "true"), **more})


def two(first: list[str], second: list[str]) -> dict:
    return dag(
        fresh("bad"),
        process_task("a", "true", depends_on=first),
        process_task("b", "true", depends_on=second),
    )


def scheduled(**schedule) -> dict:
    return dag(fresh("bad"), process_task("a", "true"), schedules=[schedule])


# What is in the file, and words of the error; the file is applied.
DEFINITIONS = {
    "cycle": (lambda: two(["b"], ["a"]), ["cycle", "a", "b"]),
    "self-loop": (lambda: two(["a"], []), ["a"]),
    "unknown dependency": (lambda: two(["nowhere"], []), ["nowhere"]),
    "dependency named twice": (lambda: two([], ["a", "a"]), ["a"]),
    "duplicate task": (
        lambda: dag(fresh("bad"), process_task("a", "true"), process_task("a", "true")),
        ["a"],
    ),
    "no tasks": (lambda: dag(fresh("bad")), ["tasks"]),
    "no program": (lambda: dag(fresh("bad"), process_task("a")), ["argv"]),
    "empty program": (lambda: dag(fresh("bad"), process_task("a", "")), ["argv"]),
    "unknown key of a DAG": (lambda: {**one(), "colour": "red"}, ["colour"]),
    "unknown key of a task": (lambda: one(retries=3), ["retries"]),
    "task id with a space": (lambda: dag(fresh("bad"), process_task("a b", "true")), ["a b"]),
    "DAG id with a slash": (lambda: {**one(), "dag": "a/b"}, ["a/b"]),
    "DAG id of 1 MB": (lambda: {**one(), "dag": LONG}, ["dag"]),
    "task id of 1 MB": (lambda: dag(fresh("bad"), process_task(LONG, "true")), ["task"]),
    "NUL in an argument": (lambda: dag(fresh("bad"), process_task("a", "x\0y")), ["argv"]),
    "control character in an id": (
        lambda: dag(fresh("bad"), process_task("a\x07b", "true")),
        ["task"],
    ),
    "negative cores": (lambda: one(resources={"cpu": -1}), ["cpu"]),
    "negative memory": (lambda: one(resources={"memory": "-1GiB"}), ["memory"]),
    "memory without a unit we know": (lambda: one(resources={"memory": "3 pints"}), ["memory"]),
    "too many cores": (lambda: one(resources={"cpu": 1e9}), ["cpu"]),
    "no attempts": (lambda: one(retry={"max_attempts": 0}), ["max_attempts"]),
    "too many attempts": (lambda: one(retry={"max_attempts": 1_001}), ["max_attempts"]),
    "negative timeout": (lambda: one(timeout="-5s"), ["timeout"]),
    "timeout in words": (lambda: one(timeout="soon"), ["timeout"]),
    "unknown trigger rule": (lambda: one(trigger_rule="sometimes"), ["trigger_rule"]),
    "bad cron": (lambda: scheduled(cron="61 * * * *"), ["cron"]),
    "cron of six fields": (lambda: scheduled(cron="0 0 * * * *"), ["cron", "6"]),
    "bad zone": (
        lambda: scheduled(cron="0 0 * * *", timezone="Mars/Olympus"),
        ["Mars/Olympus"],
    ),
    "interval below a second": (lambda: scheduled(interval="10ms"), ["interval"]),
    "schedule without a time": (lambda: scheduled(schedule="s"), ["schedule"]),
}


@pytest.mark.parametrize(("make", "words"), DEFINITIONS.values(), ids=DEFINITIONS.keys())
def test_a_bad_definition_is_refused(cluster, tmp_path, make, words):
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(make()), "utf-8")
    refused(cluster.mainspring("dag", "apply", str(file)), ExitCode.INVALID, *words)


TEXTS = {
    "NaN cores": (
        "dag: x\ntasks: [{task: a, process: {argv: [x]}, resources: {cpu: .nan}}]",
        "cpu",
    ),
    "infinite cores": (
        "dag: x\ntasks: [{task: a, process: {argv: [x]}, resources: {cpu: .inf}}]",
        "cpu",
    ),
    "no YAML": ("dag: [", "bad.yaml:"),
    "a list": ("- 1\n- 2\n", "bad.yaml:1"),
    "nothing": ("", "bad.yaml"),
    "key twice": ("dag: x\ndag: y\n", "bad.yaml:2"),
    "tab": ("dag: x\n\ttasks: []\n", "bad.yaml:2"),
    "object of a language": ("dag: !!python/object/apply:os.system [id]\n", "bad.yaml:1"),
}


@pytest.mark.parametrize(("text", "word"), TEXTS.values(), ids=TEXTS.keys())
def test_a_bad_text_is_refused_with_its_place(cluster, tmp_path, text, word):
    file = tmp_path / "bad.yaml"
    file.write_text(text, "utf-8")
    refused(cluster.mainspring("dag", "apply", str(file)), ExitCode.INVALID, word)


def test_every_problem_of_a_file_is_told_with_line_and_column(cluster, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(
        textwrap.dedent("""\
            dag: many
            tasks:
              - task: a b
                process: {argv: [x]}
                resources: {cpu: -1}
              - task: c
                depends_on: [nowhere]
                colour: red
                process: {argv: [x]}
            """)
    )
    done = cluster.mainspring("dag", "apply", str(file))
    refused(done, ExitCode.INVALID, "bad.yaml:3:11", "bad.yaml:5:", "bad.yaml:8:5")


def test_a_file_that_is_not_text_is_refused(cluster, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_bytes(b"\xff\xfe\x00dag\x80")
    refused(cluster.mainspring("dag", "apply", str(file)), ExitCode.INVALID, "bad.yaml")


def test_aliases_that_grow_without_end_are_refused(cluster, tmp_path):
    rows = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join(rows), "utf-8")
    refused(cluster.mainspring("dag", "apply", str(file)), ExitCode.INVALID, "bomb.yaml")


@pytest.mark.parametrize("name", ["gone.yaml", "."])
def test_a_file_that_cannot_be_read_is_refused(cluster, tmp_path, name):
    done = cluster.mainspring("dag", "apply", str(tmp_path / name))
    assert done.returncode in {ExitCode.INVALID, ExitCode.NOT_ALLOWED}
    refused(done, done.returncode, str(tmp_path))


def chain_file(folder: Path, tasks: int) -> str:
    """A DAG in which every task depends on the one before."""
    parts = [{"task": "t0", "process": {"argv": ["true"]}}]
    parts += [
        {"task": f"t{n}", "process": {"argv": ["true"]}, "depends_on": [f"t{n - 1}"]}
        for n in range(1, tasks)
    ]
    return write(folder, dag(f"chain-{tasks}", *parts))


def test_one_task_too_many_is_refused(cluster, tmp_path):
    done = cluster.mainspring("dag", "apply", chain_file(tmp_path, 100_001))
    refused(done, ExitCode.INVALID, "100,000")


def test_a_chain_of_as_many_tasks_as_allowed_is_applied(cluster, tmp_path):
    done = cluster.mainspring("dag", "apply", chain_file(tmp_path, 100_000), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["dag"]["taskCount"] == 100_000


COMMANDS = {
    "unknown command": (["dag", "destroy"], ExitCode.USAGE, ["destroy"]),
    "unknown flag": (["dag", "list", "--colour=red"], ExitCode.USAGE, ["--colour"]),
    "missing argument": (["run", "trigger"], ExitCode.USAGE, ["dag"]),
    "limit of nothing": (["run", "list", "--limit=0"], ExitCode.USAGE, ["limit"]),
    "unknown state": (["run", "list", "--state=sleeping"], ExitCode.USAGE, ["state"]),
    "unknown form": (["dag", "list", "-o", "xml"], ExitCode.USAGE, ["xml", "yaml"]),
    "no time": (["run", "trigger", "x", "--logical-time=noon"], ExitCode.USAGE, ["time"]),
    "DAG that is not there": (["run", "trigger", "nobody"], ExitCode.CONFLICT, ["nobody"]),
    "bad name of a DAG": (["dag", "get", "a b"], ExitCode.INVALID, ["a b"]),
    "bad name of a run": (["run", "get", "yesterday"], ExitCode.INVALID, ["yesterday"]),
    "run that is not there": (["run", "get", NOBODY], ExitCode.CONFLICT, [NOBODY]),
    "watch of no run": (["run", "watch", NOBODY], ExitCode.CONFLICT, [NOBODY]),
    "logs of no run": (["run", "logs", NOBODY, "a"], ExitCode.CONFLICT, [NOBODY]),
    "cancel of no run": (["run", "cancel", NOBODY], ExitCode.CONFLICT, [NOBODY]),
    "pause of no DAG": (["dag", "pause", "nobody"], ExitCode.CONFLICT, ["nobody"]),
    "bad address": (["dag", "list", "--address=nowhere"], ExitCode.INVALID, ["nowhere"]),
    "no nodes": (["up", "--nodes=0"], ExitCode.USAGE, ["nodes"]),
    "port out of range": (["up", "--port=70000"], ExitCode.USAGE, ["port"]),
    "capacity of nothing": (["up", "--capacity=-1"], ExitCode.USAGE, ["capacity"]),
    "unreadable DSN": (["up", "--dsn=mysql://u@h/d"], ExitCode.USAGE, ["postgresql://"]),
    "import of no file": (["import", "wfformat", "gone.json"], ExitCode.INVALID, ["gone.json"]),
    "import of something else": (
        ["import", "wfformat", "examples/hello.yaml"],
        ExitCode.INVALID,
        ["hello.yaml"],
    ),
}


@pytest.mark.parametrize(("words", "code", "said"), COMMANDS.values(), ids=COMMANDS.keys())
def test_a_bad_command_is_refused(cluster, words, code, said):
    refused(cluster.mainspring(*words), code, *said)


def test_an_import_whose_edges_contradict_each_other_is_refused(cluster, tmp_path):
    tasks = [
        {"id": "a", "name": "a", "parents": [], "children": []},
        {"id": "b", "name": "b", "parents": ["a"], "children": []},
    ]
    file = tmp_path / "odd.json"
    file.write_text(
        json.dumps(
            {"name": "w", "schemaVersion": "1.5", "workflow": {"specification": {"tasks": tasks}}}
        )
    )
    refused(cluster.mainspring("import", "wfformat", str(file)), ExitCode.INVALID, "odd.json", "a")


def test_nobody_known_to_call_says_how_to_start(tmp_path):
    done = mainspring(tmp_path / "none", "dag", "list")
    refused(done, ExitCode.UNREACHABLE, "mainspring up", "--address")


def test_a_server_that_is_not_there_is_said_with_its_address(tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else takes it
        address = f"127.0.0.1:{held.getsockname()[1]}"
        done = mainspring(tmp_path, "dag", "list", "--address", address, env=SOME_TOKEN)
    refused(done, ExitCode.UNREACHABLE, address)


def test_a_port_of_another_program_is_said_with_its_address(cluster, tmp_path):
    etcd = json.loads((cluster.up.data / "etcd" / "ports.json").read_text())["client"]
    done = mainspring(tmp_path, "dag", "list", f"--address=127.0.0.1:{etcd}", env=SOME_TOKEN)
    refused(done, ExitCode.UNREACHABLE, str(etcd))


def test_no_token_and_a_wrong_token_are_refused(cluster, tmp_path):
    address = f"--address=127.0.0.1:{cluster.up.port}"
    refused(mainspring(tmp_path, "dag", "list", address), ExitCode.NOT_ALLOWED, "--token-file")
    wrong = tmp_path / "token"
    wrong.write_text("wrong\n")
    done = mainspring(tmp_path, "dag", "list", address, "--token-file", str(wrong))
    refused(done, ExitCode.NOT_ALLOWED, "token")
    done = mainspring(tmp_path, "dag", "list", address, "--token-file", str(tmp_path / "gone"))
    refused(done, ExitCode.NOT_ALLOWED, "gone")


@pytest.mark.parametrize("place", ["/proc/cluster", "/dev/null/cluster"])
def test_a_folder_that_cannot_be_written_is_refused(place):
    refused(mainspring(Path(place), "up"), ExitCode.NOT_ALLOWED, place, "--data")


def test_a_folder_full_of_other_things_is_refused(tmp_path):
    (tmp_path / "letters").mkdir()
    refused(mainspring(tmp_path, "up"), ExitCode.NOT_ALLOWED, str(tmp_path), "--data")


def test_a_postgres_that_is_not_there_is_said(tmp_path):
    dsn = f"postgresql://u:secret@/d?host={tmp_path}"
    done = mainspring(tmp_path / "data", "up", env={"MAINSPRING_DSN": dsn})
    refused(done, ExitCode.UNREACHABLE, "PostgreSQL")
    assert "secret" not in done.stderr


def test_an_etcd_that_is_not_there_is_said(tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        done = mainspring(tmp_path / "data", "up", "--etcd", address)
    refused(done, ExitCode.UNREACHABLE, address, "--etcd")
