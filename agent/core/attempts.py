"""The attempts that an agent holds, from the assignment to the acknowledged result.

Decides: the state of each attempt, how it ended, when it is asked and when it is made to end.

    ACCEPTED ──spawn──▶ SPAWNING ──spawned──▶ STARTED ──exit──▶ FINISHED ──acknowledged──▶ (recent)
        └── cancelled ──────┴── spawn failed ──────────────────────▶┘

Promises: an id is spawned at most once, also after its result was acknowledged, for as long as it
is among the recent ones (far longer than a message can be on its way). A spawn that was asked for
is never taken back: a cancellation that meets SPAWNING is carried out when the process is there.

Does not know: nodes, sessions, who is told what.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.core.entries import Assign, LiveAttempt, Result
from agent.core.events import ProcessExited, SpawnFailed
from agent.core.types import Outcome

MAX_MESSAGE = 1_000
UNKNOWN = (
    "the agent, started anew, has nothing of this attempt;"
    " a process of its earlier start may still run"
)
# Deadlines of finished attempts that may stay in the heap before it is cleaned.
SPARE_DEADLINES = 256


class State(enum.Enum):
    """Where an attempt stands; see the picture at the top."""

    ACCEPTED = "ACCEPTED"
    SPAWNING = "SPAWNING"
    STARTED = "STARTED"
    FINISHED = "FINISHED"


class Stop(enum.Enum):
    """Why an attempt is made to end, and the outcome that follows from it."""

    CANCELLED = Outcome.CANCELLED
    TIMED_OUT = Outcome.TIMED_OUT
    AGENT_STOPPED = Outcome.LOST


@dataclass(slots=True)
class Attempt:
    """One attempt. `node` is the node whose grant it occupies. `deadline_ms` is on the monotonic
    clock: of the timeout while `stop` is None, of SIGKILL after that; 0: none.
    """

    assign: Assign
    node: str
    state: State = State.ACCEPTED
    started_at_us: int = 0
    stop: Stop | None = None
    deadline_ms: int = 0
    result: Result | None = None


class AttemptTable:
    """All attempts of the agent. Bounded: at most `spawn_window` spawns are asked for at a time,
    and `recent_limit` acknowledged results are remembered.
    """

    def __init__(self, spawn_window: int = 4, recent_limit: int = 10_000) -> None:
        self._held: dict[bytes, Attempt] = {}
        self._recent: dict[bytes, Result] = {}
        self._recent_limit = recent_limit
        self._queue: deque[Attempt] = deque()
        self._window = spawn_window
        self._unfinished = 0
        self._deadlines: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._held.values())

    @property
    def unfinished(self) -> int:
        """How many attempts are not over."""
        return self._unfinished

    def find(self, attempt_id: bytes) -> Attempt | None:
        return self._held.get(attempt_id)

    def recent(self, attempt_id: bytes) -> Result | None:
        """The result of an attempt that was acknowledged not long ago."""
        return self._recent.get(attempt_id)

    def accept(self, assign: Assign, node: str) -> Attempt:
        """Takes a new attempt over; it waits for its spawn."""
        attempt = Attempt(assign, node)
        self._held[assign.attempt_id] = attempt
        self._unfinished += 1
        self._queue.append(attempt)
        return attempt

    def bury(self, assign: Assign, node: str, at_us: int) -> Result:
        """Holds a cancelled attempt that this start of the agent knows nothing of, so that it never
        starts here. An earlier start may have had it.
        """
        attempt = Attempt(assign, node, stop=Stop.CANCELLED)
        self._held[assign.attempt_id] = attempt
        self._unfinished += 1
        return self.never_started(attempt, at_us, UNKNOWN)

    def drop(self, attempt: Attempt) -> None:
        """Forgets an attempt that was not spawned, as if it had not been accepted."""
        del self._held[attempt.assign.attempt_id]
        attempt.state = State.FINISHED
        self._unfinished -= 1

    def to_spawn(self) -> Iterator[Attempt]:
        """The attempts whose spawn is to be asked for now; they are SPAWNING from here on."""
        while self._queue and self._window:
            attempt = self._queue.popleft()
            if attempt.state is State.ACCEPTED:
                attempt.state = State.SPAWNING
                self._window -= 1
                yield attempt

    def spawned(self, attempt: Attempt, started_at_us: int, mono_ms: int) -> None:
        self._window += 1
        attempt.state = State.STARTED
        attempt.started_at_us = started_at_us
        spec = attempt.assign.spec
        if spec and spec.timeout_ms > 0:
            self._set_deadline(attempt, mono_ms + spec.timeout_ms)

    def spawn_failed(self, attempt: Attempt, event: SpawnFailed) -> Result:
        self._window += 1
        return self.never_started(attempt, event.at_us, event.message)

    def never_started(self, attempt: Attempt, at_us: int, message: str) -> Result:
        """Ends an attempt that has no process."""
        outcome = Outcome.CANCELLED if attempt.stop is Stop.CANCELLED else Outcome.FAILED
        assign = attempt.assign
        return self._finish(
            attempt,
            Result(
                assign.shard, assign.attempt_id, outcome, -1, 0, 0, at_us, message=_short(message)
            ),
        )

    def exited(self, attempt: Attempt, event: ProcessExited) -> Result:
        return self._finish(
            attempt,
            Result(
                attempt.assign.shard,
                event.attempt_id,
                _outcome(attempt, event),
                event.exit_code,
                event.signal,
                attempt.started_at_us,
                event.finished_at_us,
                event.stdout_bytes,
                event.stderr_bytes,
                _short(event.message or _explanation(attempt)),
            ),
        )

    def acknowledge(self, attempt: Attempt) -> None:
        """The result is recorded: only the memory of the id stays, for a while."""
        assert attempt.result is not None, "only a finished attempt has a result to acknowledge"
        attempt_id = attempt.assign.attempt_id
        del self._held[attempt_id]
        self._recent[attempt_id] = attempt.result
        if len(self._recent) > self._recent_limit:
            del self._recent[next(iter(self._recent))]

    def stop_by(self, attempt: Attempt, stop: Stop, kill_at_ms: int) -> None:
        """Records why the attempt is made to end, and when it is killed."""
        attempt.stop = stop
        self._set_deadline(attempt, kill_at_ms)

    def due(self, mono_ms: int) -> Iterator[Attempt]:
        """The started attempts whose deadline has come; each is given once."""
        while self._deadlines and self._deadlines[0][0] <= mono_ms:
            deadline_ms, attempt_id = heapq.heappop(self._deadlines)
            attempt = self._held.get(attempt_id)
            if attempt and attempt.deadline_ms == deadline_ms and attempt.state is State.STARTED:
                attempt.deadline_ms = 0
                yield attempt

    def next_deadline(self) -> int | None:
        return self._deadlines[0][0] if self._deadlines else None

    def inventory(self, shards: Iterable[int]) -> dict[int, tuple[list[LiveAttempt], list[Result]]]:
        """What is held for each of the shards: what is not over, and what is not acknowledged."""
        found: dict[int, tuple[list[LiveAttempt], list[Result]]] = {s: ([], []) for s in shards}
        for attempt in self._held.values():
            lists = found.get(attempt.assign.shard)
            if lists is None:
                continue
            if attempt.result is None:
                lists[0].append(LiveAttempt(attempt.assign.attempt_id, attempt.started_at_us))
            else:
                lists[1].append(attempt.result)
        return found

    def _set_deadline(self, attempt: Attempt, deadline_ms: int) -> None:
        attempt.deadline_ms = deadline_ms
        heapq.heappush(self._deadlines, (deadline_ms, attempt.assign.attempt_id))

    def _finish(self, attempt: Attempt, result: Result) -> Result:
        assert attempt.result is None, "an attempt ends once"
        attempt.state = State.FINISHED
        attempt.deadline_ms = 0
        attempt.result = result
        self._unfinished -= 1
        if len(self._deadlines) > SPARE_DEADLINES + 2 * self._unfinished:
            self._compact()
        return result

    def _compact(self) -> None:
        """Drops the deadlines of attempts that are over: most end long before their timeout."""
        self._deadlines = [
            (attempt.deadline_ms, attempt_id)
            for attempt_id, attempt in self._held.items()
            if attempt.deadline_ms
        ]
        heapq.heapify(self._deadlines)


def _outcome(attempt: Attempt, event: ProcessExited) -> Outcome:
    if attempt.stop is not None:
        return attempt.stop.value
    return Outcome.SUCCEEDED if event.exit_code == 0 else Outcome.FAILED


def _explanation(attempt: Attempt) -> str:
    if attempt.stop is Stop.TIMED_OUT:
        assert attempt.assign.spec is not None, "only what has a specification has a timeout"
        return f"killed at its timeout of {attempt.assign.spec.timeout_ms} ms"
    return "its agent was stopped" if attempt.stop is Stop.AGENT_STOPPED else ""


def _short(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
