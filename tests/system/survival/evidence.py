"""What a task writes about itself ten times a second, and what it proves.

Decides the script and the format of its lines. The times are those of the machine since its boot,
so they compare over all processes of it. Promises that two attempts of a task which are both alive
at some moment are found, as long as each lives for a tenth of a second.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from mainspring.v1 import run_pb2

from tests.system.dags import process_task, write
from tests.system.parts import Parts

# $1: the evidence; $2: it runs until this file exists; $3: its exit status.
SCRIPT = """\
set -eu
say() { read up _ </proc/uptime; echo "$1 $MAINSPRING_ATTEMPT_ID $MAINSPRING_TASK $$ $up" >>"$0"; }
say start
until [ -e "$1" ]; do sleep 0.1; say alive; done
say end
exit "$2"
"""


@dataclass(slots=True)
class Life:
    """One attempt, as its process tells it; times in seconds since the boot."""

    task: str
    pid: int
    begun_s: float
    last_s: float
    starts: int = 0
    ended: bool = False


class Evidence:
    """A file that tasks write, and a gate that lets them end."""

    def __init__(self, place: Path) -> None:
        self.file = place / "evidence"
        self.gate = place / "gate"

    def task(self, name: str, *parents: str, status: int = 0, **more: object):
        """A task that writes its evidence until the gate opens."""
        argv = ("sh", "-c", SCRIPT, str(self.file), str(self.gate), str(status))
        return process_task(name, *argv, depends_on=parents, grace="1s", **more)

    def open_gate(self) -> None:
        self.gate.touch()

    def lives(self) -> dict[str, Life]:
        """All attempts by their ids, in the order of their starts."""
        found: dict[str, Life] = {}
        text = self.file.read_text() if self.file.exists() else ""
        for line in text.splitlines():
            kind, attempt_id, task, pid, up = line.split()
            at_s = float(up)
            life = found.setdefault(attempt_id, Life(task, int(pid), at_s, at_s))
            life.last_s = at_s
            life.starts += kind == "start"
            life.ended = life.ended or kind == "end"
            assert life.pid == int(pid), f"{attempt_id} is two processes"
        return found

    def of_task(self, task: str) -> list[Life]:
        return [life for life in self.lives().values() if life.task == task]

    def check(self) -> None:
        """Every attempt was started once, and no two of a task were alive together."""
        lives = self.lives()
        assert all(life.starts == 1 for life in lives.values())
        for task in {life.task for life in lives.values()}:
            mine = self.of_task(task)
            for before, after in itertools.pairwise(mine):
                assert before.last_s <= after.begun_s, f"{before} and {after} overlap"


def now_s() -> float:
    """Seconds since the boot, as in evidence."""
    return float(Path("/proc/uptime").read_text().split()[0])


def trigger(parts: Parts, place: Path, definition: dict[str, object]) -> str:
    """Applies a DAG and starts a run of it; the run's name."""
    applied = parts.mainspring("dag", "apply", write(place, definition))
    assert applied.returncode == 0, applied.stderr
    return parts.client.runs.trigger(str(definition["dag"])).name


def attempts(parts: Parts, run: str) -> list[run_pb2.Attempt]:
    return list(parts.client.runs.attempts(run).attempts)


def states(parts: Parts, run: str) -> list[str]:
    """The states of all attempts of a run."""
    return [
        run_pb2.AttemptState.Name(each.state).removeprefix("ATTEMPT_STATE_")
        for each in attempts(parts, run)
    ]


def agents_of(parts: Parts, run: str) -> list[str]:
    """The agents of all attempts of a run."""
    return [each.agent.rpartition("/")[2] for each in attempts(parts, run)]


def succeeded(parts: Parts, run: str, timeout_s: float = 60.0) -> None:
    """Waits for the end of a run, which must be a good one."""
    final = parts.client.runs.wait(run, timeout_s=timeout_s)
    assert final.state == run_pb2.RUN_STATE_SUCCEEDED, states(parts, run)


def files(folder: Path) -> list[Path]:
    """What is in a folder; nothing where it does not exist."""
    return list(folder.iterdir()) if folder.exists() else []
