"""Actions in their order, with the journal in between.

Decides: a record that must be on disk holds back everything that follows it. Records go to the
journal as soon as they are known, so that one write to disk serves all that wait.

Promises: actions are performed in the order in which they were added, over all calls; none that
follows a record that is not on disk. Does not know what an action does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from agent.core.actions import Action, Record
from agent.journal.group import GroupCommit


class InOrder:
    """What is to be done. `perform` does one action."""

    def __init__(self, records: GroupCommit, perform: Callable[[Action], None]) -> None:
        self._records = records
        self._perform = perform
        # Each with the number of the record that must be on disk before it.
        self._due: deque[tuple[Action, int]] = deque()

    def add(self, actions: Iterable[Action]) -> None:
        for action in actions:
            awaited = 0
            if isinstance(action, Record):
                number = self._records.append(action.record)
                awaited = number if action.synced else 0
            self._due.append((action, awaited))

    def perform(self) -> None:
        """Performs what may be performed now. A record is performed when it is on disk, if that
        matters, or when it is its turn.
        """
        while self._due:
            action, awaited = self._due[0]
            if awaited > self._records.durable:
                self._records.want(awaited)
                return
            self._due.popleft()
            self._perform(action)

    def drop(self) -> None:
        """Nothing of what is left is done any more."""
        self._due.clear()
