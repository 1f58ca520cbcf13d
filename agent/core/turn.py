"""Collects what one call of the core decides.

Promises: the actions keep their order; what is said to one node in one call becomes one `Send`, and
all of them come after the actions, so that what is told was recorded before, and a process is
spawned before the news of it is written. What ends the agent comes after everything.
"""

from __future__ import annotations

from agent.core.actions import Action, Send
from agent.core.entries import Entry
from agent.core.types import Now


class Turn:
    """The clock readings and the outcome of one call of the core."""

    __slots__ = ("_actions", "_frames", "_last", "now")

    def __init__(self, now: Now) -> None:
        self.now = now
        self._actions: list[Action] = []
        self._frames: dict[tuple[str, int], list[Entry]] = {}
        self._last: list[Action] = []

    def act(self, action: Action) -> None:
        self._actions.append(action)

    def send(self, stream: tuple[str, int], entry: Entry) -> None:
        """`stream` is the address of a node and the number of the session."""
        self._frames.setdefault(stream, []).append(entry)

    def end(self, *actions: Action) -> None:
        """What the agent ends with."""
        self._last = list(actions)

    def actions(self) -> list[Action]:
        for (address, session), entries in self._frames.items():
            self._actions.append(Send(address, session, tuple(entries)))
        return [*self._actions, *self._last]
