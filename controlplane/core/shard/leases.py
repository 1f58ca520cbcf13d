"""Decides when the attempt leases of an agent are extended, and when its attempts are given up.

An agent that is adopted is answered whenever it beats: its attempts may run on. An attempt is given
up when neither an answer to its agent nor its own assignment is younger than the time that
`LeaseTimes` gives for its task; after a takeover the leader before may have answered until its
authority ended, so that moment counts as an answer. Only the monotonic clock is read.

A beat costs O(1), however many attempts the agent has: it notes the time of the answer, and the one
timer of an incarnation looks again when it fires. Attempts that wait equally long stand in a lane,
in the order in which they were sent, so that looking costs only what is due. Does not know what
becomes of a task whose attempt is given up.
"""

from __future__ import annotations

from controlplane.core.effects import LeaseMessage
from controlplane.core.events import Beat
from controlplane.core.run.run import LiveAttempt
from controlplane.core.shard.admission import Admission
from controlplane.core.shard.book import Book, LeaseDue
from controlplane.core.shard.restored import Aftermath
from controlplane.core.time.leases import LeaseTimes
from controlplane.core.time.wheel import MAX_DEADLINE_MS, TimerId
from controlplane.core.types import OnDisconnect

# Looked up once: a member of an enum costs more than the rest of a comparison.
_RETRY = OnDisconnect.RETRY
# Lanes are named by the overtime of their tasks; those that are retried have one of their own.
_RETRIED = -1


class Lane:
    """Attempts that are given up equally long after the last word, in the order of sending."""

    __slots__ = ("after_ms", "attempts")

    def __init__(self, after_ms: int) -> None:
        self.after_ms = after_ms
        self.attempts: dict[bytes, LiveAttempt] = {}


class Watch:
    """The attempts of one incarnation of an agent. `due_ms`: when its timer fires."""

    __slots__ = ("answered_ms", "due_ms", "lanes", "timer")

    def __init__(self) -> None:
        self.answered_ms = 0
        self.due_ms = MAX_DEADLINE_MS
        self.lanes: dict[int, Lane] = {}
        self.timer: TimerId | None = None


class Leases:
    """The leases of the live attempts of one shard."""

    def __init__(
        self, book: Book, admission: Admission, aftermath: Aftermath, times: LeaseTimes
    ) -> None:
        self._book = book
        self._aftermath = aftermath
        self._admission = admission
        self._times = times
        self._floor_ms = 0
        self._watches: dict[str, dict[bytes, Watch]] = {}

    def recover(self) -> None:
        """A takeover: the leader before may have answered until its authority ended."""
        self._floor_ms = self._book.now.mono_ms + self._times.authority_ms

    def keep(self, attempt: LiveAttempt) -> None:
        """Watches an attempt from now on, while it is in its lane."""
        task = attempt.run.version.tasks[attempt.task]
        name = _RETRIED if task.on_disconnect is _RETRY else task.overtime_ms
        agent, incarnation = attempt.agent, attempt.incarnation
        lives = self._watches.get(agent)
        watch = lives.get(incarnation) if lives else None
        if watch is None:
            watch = self._watches.setdefault(agent, {})[incarnation] = Watch()
        lane = watch.lanes.get(name)
        if lane is None:
            lane = watch.lanes[name] = Lane(self._times.lost_after_ms(task))
        attempt.sent_ms = now_ms = self._book.now.mono_ms
        attempt.lane = lane.attempts
        lane.attempts[attempt.attempt_id] = attempt
        if now_ms + lane.after_ms + 1 < watch.due_ms:
            due_ms = max(now_ms, self._floor_ms) + lane.after_ms + 1
            if due_ms < watch.due_ms:
                self._arm(watch, agent, incarnation, due_ms)

    def sent_again(self, attempt: LiveAttempt) -> None:
        """An attempt that its agent never saw is sent once more."""
        attempt.sent_ms = self._book.now.mono_ms
        attempt.lane[attempt.attempt_id] = attempt.lane.pop(attempt.attempt_id)

    def attempts_of(self, agent: str) -> list[LiveAttempt]:
        """All live attempts of all incarnations of an agent."""
        return [
            attempt
            for watch in self._watches.get(agent, {}).values()
            for lane in watch.lanes.values()
            for attempt in lane.attempts.values()
        ]

    def beat(self, event: Beat) -> None:
        """An agent is alive; it is answered if this shard has its inventory and attempts there."""
        if self._admission.adopted(event.agent, event.incarnation):
            self.answer(event.agent, event.incarnation)

    def answer(self, agent: str, incarnation: bytes) -> None:
        """Lets what an adopted agent runs for this shard run on, unless that must end."""
        if self._aftermath.withholds(agent, incarnation):
            return
        watch = self._watches.get(agent, {}).get(incarnation)
        if watch is not None and any(lane.attempts for lane in watch.lanes.values()):
            watch.answered_ms = self._book.now.mono_ms
            self._book.effects.messages.append(LeaseMessage(agent))

    def due(self, agent: str, incarnation: bytes) -> list[LiveAttempt]:
        """The timer of an incarnation: the attempts to give up now, each of which must be ended."""
        lives = self._watches[agent]
        watch = lives[incarnation]
        over: list[LiveAttempt] = []
        next_ms = MAX_DEADLINE_MS
        for name, lane in list(watch.lanes.items()):
            due_ms = self._look(watch, lane, over)
            if due_ms is None:
                del watch.lanes[name]
            else:
                next_ms = min(next_ms, due_ms)
        if watch.lanes:
            self._arm(watch, agent, incarnation, next_ms)
        else:
            del lives[incarnation]
            if not lives:
                del self._watches[agent]
        return over

    def _look(self, watch: Watch, lane: Lane, over: list[LiveAttempt]) -> int | None:
        """Adds what is over of a lane, and returns when the next one is; None: there is none."""
        answered_ms, now_ms = max(watch.answered_ms, self._floor_ms), self._book.now.mono_ms
        for attempt in lane.attempts.values():
            due_ms = max(answered_ms, attempt.sent_ms) + lane.after_ms + 1
            if due_ms > now_ms:
                return due_ms
            over.append(attempt)
        return None

    def _arm(self, watch: Watch, agent: str, incarnation: bytes, due_ms: int) -> None:
        wheel = self._book.wheel
        if watch.timer is not None:
            wheel.cancel(watch.timer)
        watch.due_ms = due_ms
        watch.timer = wheel.insert(due_ms, LeaseDue(agent, incarnation))
