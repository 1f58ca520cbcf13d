"""Whose a process is, by its session, its environment and its ancestors."""

from __future__ import annotations

import pytest

from agent.supervisor import proc
from agent.supervisor.descendants import Descendants

OWN = 1
FAR = 1 << 62


class Machine:
    """Processes as the kernel would tell of them."""

    def __init__(self) -> None:
        self.stats = {OWN: proc.Stat("S", 0, OWN, 1)}
        self.named: dict[int, str] = {}
        self.looked: list[int] = []

    def add(self, pid: int, parent: int, session: int = 0, ticks: int = 100, named: str = ""):
        self.stats[pid] = proc.Stat("S", parent, session or pid, ticks)
        self.named[pid] = named

    def stat(self, pid: int) -> proc.Stat | None:
        self.looked.append(pid)
        return self.stats.get(pid)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(proc, "pids", lambda: sorted(made.stats))
    monkeypatch.setattr(proc, "stat", made.stat)
    monkeypatch.setattr(proc, "attempt_of", lambda pid: made.named.get(pid, ""))
    made.add(10, OWN)
    made.add(20, OWN)
    return made


@pytest.fixture
def descendants() -> Descendants:
    return Descendants(OWN, all_ours=True, known={"a", "b"})


def test_what_runs_is_left_alone(machine: Machine, descendants: Descendants):
    machine.add(11, 10, 10)
    machine.add(12, 11)
    machine.add(13, OWN, named="a")
    assert descendants.doomed({10: "a", 20: "b"}, {}, 50) == []


def test_what_an_ended_attempt_left_is_doomed(machine: Machine, descendants: Descendants):
    del machine.stats[10]
    machine.add(11, OWN, 10, 111)
    machine.add(12, OWN, named="a", ticks=112)
    machine.add(13, 12, ticks=113)
    machine.add(21, 20)
    found = descendants.doomed({20: "b"}, {10: "a"}, 50)
    assert found == [(11, 111), (12, 112), (13, 113)]


def test_who_was_seen_below_a_parent_stays_its_own(machine: Machine, descendants: Descendants):
    machine.add(11, 10, 10)
    machine.add(12, 11)
    assert descendants.doomed({10: "a", 20: "b"}, {}, 50) == []
    del machine.stats[10]
    machine.add(12, OWN)
    assert descendants.doomed({20: "b"}, {10: "a"}, 50) == [(11, 100), (12, 100)]


def test_who_leaves_no_trace_is_doomed_when_nobody_as_old_runs(
    machine: Machine, descendants: Descendants
):
    machine.add(30, OWN, ticks=200)
    assert descendants.doomed({10: "a", 20: "b"}, {}, 100) == []
    del machine.stats[10]
    assert descendants.doomed({20: "b"}, {10: "a"}, 200) == []
    del machine.stats[20]
    machine.add(40, OWN)
    assert descendants.doomed({40: "c"}, {20: "b"}, 201) == [(30, 200)]


def test_each_process_is_looked_into_once(machine: Machine, descendants: Descendants):
    machine.add(11, 10, 10)
    descendants.doomed({10: "a", 20: "b"}, {}, 50)
    descendants.doomed({10: "a", 20: "b"}, {}, 50)
    assert machine.looked == [11]


def test_helpers_and_what_came_from_outside_are_nobodys(machine: Machine, descendants: Descendants):
    machine.add(40, OWN)
    machine.add(50, 0)
    machine.add(51, 50)
    descendants.helpers.add(40)
    assert descendants.doomed({10: "a", 20: "b"}, {}, FAR) == []


def test_one_that_goes_while_it_is_looked_at_is_nobodys(
    machine: Machine, descendants: Descendants, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(proc, "pids", lambda: [OWN, 99])
    assert descendants.doomed({}, {}, FAR) == []


def test_among_others_only_known_attempts_are_believed(machine: Machine):
    descendants = Descendants(OWN, all_ours=False, known={"a"})
    machine.add(60, 59, named="x")
    machine.add(61, 59, named="a")
    machine.add(62, OWN)
    assert descendants.doomed({10: "b", 20: "b"}, {}, FAR) == [(61, 100), (62, 100)]
