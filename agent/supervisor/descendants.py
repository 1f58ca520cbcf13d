"""Finds the processes that an attempt left behind.

Decides whose a process is: the attempt whose first process leads its session or is its parent,
the one that its environment names, or that of an ancestor; what was found once is kept, also when
its ancestors are gone. One that was orphaned before anybody looked, in a session of its own and
with an environment of its own, belongs to any attempt as old as itself: it is doomed once none of
those runs.

Promises: a process of somebody else is never named, nor one of `helpers`. Looks into each process
once; does not kill.
"""

from __future__ import annotations

from agent.supervisor import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

STRANGER, SOMEBODYS = "-", ""


class Descendants:
    """The processes below this one. `all_ours`: there are no others to be seen; else only those
    of the attempts in `known` are, and those that the kernel gave to this process.
    """

    def __init__(self, own_pid: int, all_ours: bool, known: Collection[str]) -> None:
        self._own = own_pid
        self._all_ours = all_ours
        self._known = known
        self._owners: dict[int, tuple[str, int]] = {}
        self.helpers: set[int] = set()

    def doomed(
        self, running: Mapping[int, str], over: Mapping[int, str], oldest_ticks: int
    ) -> list[tuple[int, int]]:
        """Pid and start of whatever runs though its attempt does not. `running`, `over`: attempts
        by their first process; `oldest_ticks`: the start of the oldest that runs.
        """
        present = proc.pids()
        self._owners = {pid: self._owners[pid] for pid in present if pid in self._owners}
        alive = set(running.values())
        found = []
        for pid in present:
            if pid in running or pid in self.helpers or pid == self._own:
                continue
            owner, ticks = self._owners.get(pid) or self._look(pid, running, over)
            if owner == STRANGER or owner in alive:
                continue
            if owner != SOMEBODYS or ticks < oldest_ticks:
                found.append((pid, ticks))
        return found

    def _look(
        self, pid: int, running: Mapping[int, str], over: Mapping[int, str]
    ) -> tuple[str, int]:
        """Owner and start of a process that was not seen before, found by climbing."""
        climbed: list[tuple[int, int]] = []
        owner = STRANGER
        while pid > 0:
            if pid == self._own:
                owner = SOMEBODYS
                break
            if pid in running or pid in over:
                owner = running.get(pid) or over[pid]
                break
            if pid in self._owners:
                owner = self._owners[pid][0]
                break
            found = proc.stat(pid)
            if found is None:
                break
            climbed.append((pid, found.ticks))
            named = running.get(found.session) or over.get(found.session) or self._named(pid)
            if named:
                owner = named
                break
            pid = found.parent
        for below, ticks in climbed:
            self._owners[below] = owner, ticks
        return (owner, climbed[0][1]) if climbed else (STRANGER, 0)

    def _named(self, pid: int) -> str:
        """The attempt in the environment of a process, if it can be one of ours."""
        attempt_id = proc.attempt_of(pid)
        return attempt_id if self._all_ours or attempt_id in self._known else ""
