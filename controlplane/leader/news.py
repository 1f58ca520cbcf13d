"""News of runs: who follows a run on the node that leads it hears of a change once it is committed.

Promises that a follower of a run that is led here is woken by every committed change it asked for,
from its registration on. An optimisation: who hears nothing looks by itself after a while, as for
runs that are led elsewhere. It carries no state: whoever is woken reads the store. So it needs no
authority, and a deposed leader that wakes somebody costs one look. Does not know what changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.core.effects import Writes

_Followers = dict[int, set[asyncio.Event]]


class RunNews:
    """All on one event loop. Runs are named by their internal numbers."""

    def __init__(self) -> None:
        self._shards: set[int] = set()
        self._of_changes: _Followers = {}
        self._of_ends: _Followers = {}

    def lead(self, shard: int) -> None:
        """News of this shard are published here from now on."""
        self._shards.add(shard)

    def withdraw(self, shard: int) -> None:
        """No more news of this shard: whoever follows its runs had better look now."""
        self._shards.discard(shard)
        for followers in (self._of_changes, self._of_ends):
            for run in followers:
                _wake(followers, run)

    def leads(self, shard: int) -> bool:
        """Whether news of the shard's runs are published here."""
        return shard in self._shards

    def publish(self, writes: Writes) -> None:
        """These rows are committed."""
        for row in writes.sealed if self._of_ends else ():
            _wake(self._of_ends, row.run)
        if not self._of_changes:
            return
        for rows in (writes.run_changes, writes.done, writes.live, writes.started, writes.waits):
            for run in {row.run for row in rows}:
                _wake(self._of_changes, run)

    @contextmanager
    def changes(self, run: int) -> Iterator[asyncio.Event]:
        """An event that is set whenever something of the run has changed."""
        with _following(self._of_changes, run) as event:
            yield event

    @contextmanager
    def ends(self, run: int) -> Iterator[asyncio.Event]:
        """An event that is set when the run is final."""
        with _following(self._of_ends, run) as event:
            yield event


def _wake(followers: _Followers, run: int) -> None:
    for event in followers.get(run, ()):
        event.set()


@contextmanager
def _following(followers: _Followers, run: int) -> Iterator[asyncio.Event]:
    event = asyncio.Event()
    mine = followers.setdefault(run, set())
    mine.add(event)
    try:
        yield event
    finally:
        mine.discard(event)
        if not mine:
            followers.pop(run, None)
