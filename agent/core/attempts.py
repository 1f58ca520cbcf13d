"""The attempts that an agent holds, from the assignment to the acknowledged result.

Decides: the state of each attempt, how it ended, when its spawn is asked for.

    ACCEPTED ──spawn──▶ SPAWNING ──spawned──▶ STARTED ──exit──▶ FINISHED ──acknowledged──▶ (recent)
        │ ▲                │ │                   │                  ▲
        │ └─ not claimed ──┘ │                   │                  │
        └── cancelled ───────┴── spawn failed ───┴── lost ──────────┘

SPAWNING is whatever a supervisor may have claimed: its spawn was asked for, in this start of the
agent or in an earlier one. It is over, or may be asked for again, when a supervisor said what it
knows.

Promises: an attempt ends once; a spawn that was asked for is never taken back: a cancellation that
meets SPAWNING is carried out when the process is there; an id is remembered after its result was
acknowledged for far longer than a message can be on its way.

Does not know: nodes, sessions, supervisors, who is told what.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agent.core.entries import Assign, LiveAttempt, Result, Subject
from agent.core.events import ProcessExited, SpawnFailed
from agent.core.types import EndCause, Outcome

MAX_MESSAGE = 1_000
# Enough for the next write of the journal to be shared by many, few enough for a stop to hand back
# most of what waits.
SPAWN_WINDOW = 16

# How an attempt ended that its supervisor had to end.
_OUTCOMES = {
    EndCause.CANCELLED: Outcome.CANCELLED,
    EndCause.AGENT_STOPPED: Outcome.LOST,
    EndCause.TIMED_OUT: Outcome.TIMED_OUT,
    EndCause.LEASE: Outcome.LOST,
}
_EXPLANATIONS = {
    EndCause.NONE: "",
    EndCause.CANCELLED: "",
    EndCause.AGENT_STOPPED: "its agent was stopped",
    EndCause.TIMED_OUT: "killed at its timeout of {} ms",
    EndCause.LEASE: "killed at the end of its attempt lease",
}


class State(enum.Enum):
    """Where an attempt stands; see the picture at the top."""

    ACCEPTED = "ACCEPTED"
    SPAWNING = "SPAWNING"
    STARTED = "STARTED"
    FINISHED = "FINISHED"


class Origin(enum.Enum):
    """Since when an attempt is held, until a supervisor has answered; then HERE."""

    HERE = "this start of the agent"
    EARLIER_START = "an earlier start of the agent"
    EARLIER_BOOT = "an earlier boot of the host"


@dataclass(slots=True)
class Attempt:
    """One attempt. `node` is the node whose grant it occupies; `lease_until_ms` its attempt lease
    as assigned; `stop` why it is made to end from here.
    """

    assign: Assign
    node: str
    lease_until_ms: int = 0
    state: State = State.ACCEPTED
    started_at_us: int = 0
    stop: EndCause | None = None
    result: Result | None = None
    origin: Origin = Origin.HERE

    @property
    def program_missing(self) -> str:
        """Why there is nothing to be spawned, as the end of a sentence; empty: there is."""
        spec = self.assign.spec
        if spec is None:
            return "could not be read"
        return "" if spec.argv else "names no program"


class Held(NamedTuple):
    """What is held for one shard."""

    live: list[LiveAttempt]
    finished: list[Result]
    subjects: list[Subject]


class AttemptTable:
    """All attempts of the agent. Bounded: at most `spawn_window` spawns are asked for at a time,
    and `recent_limit` acknowledged results are remembered.
    """

    def __init__(self, spawn_window: int = SPAWN_WINDOW, recent_limit: int = 10_000) -> None:
        self._held: dict[bytes, Attempt] = {}
        self._recent: dict[bytes, Result] = {}
        self._recent_limit = recent_limit
        self._queue: deque[Attempt] = deque()
        self._window = spawn_window
        self._spawning = 0
        self._unfinished = 0

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

    def hold(self, attempt: Attempt) -> None:
        """Takes an attempt over in any state; one that is ACCEPTED waits for its spawn."""
        self._held[attempt.assign.attempt_id] = attempt
        if attempt.result is None:
            self._unfinished += 1
        if attempt.state is State.SPAWNING:
            self._spawning += 1
        elif attempt.state is State.ACCEPTED:
            self._queue.append(attempt)

    def drop(self, attempt: Attempt) -> None:
        """Forgets an attempt that was not spawned, as if it had not been accepted."""
        del self._held[attempt.assign.attempt_id]
        self._enter(attempt, State.FINISHED)
        self._unfinished -= 1

    def to_spawn(self) -> Iterator[Attempt]:
        """The attempts whose spawn is to be asked for now; they are SPAWNING from here on."""
        while self._queue and self._spawning < self._window:
            attempt = self._queue.popleft()
            if attempt.state is State.ACCEPTED:
                attempt.state = State.SPAWNING
                self._spawning += 1
                yield attempt

    def wait_again(self, attempt: Attempt) -> None:
        """No supervisor has claimed the attempt: its spawn may be asked for anew."""
        self._enter(attempt, State.ACCEPTED)
        self._queue.append(attempt)

    def spawned(self, attempt: Attempt, started_at_us: int) -> None:
        self._enter(attempt, State.STARTED)
        attempt.started_at_us = started_at_us

    def spawn_failed(self, attempt: Attempt, event: SpawnFailed) -> Result:
        cancelled = attempt.stop is EndCause.CANCELLED
        by_itself = Outcome.CANCELLED if cancelled else Outcome.FAILED
        outcome = _OUTCOMES.get(event.cause, by_itself)
        return self.end(attempt, outcome, event.at_us, event.message)

    def exited(self, attempt: Attempt, event: ProcessExited) -> Result:
        by_itself = Outcome.FAILED if event.exit_code else Outcome.SUCCEEDED
        return self._finish(
            attempt,
            Result(
                attempt.assign.shard,
                event.attempt_id,
                _OUTCOMES.get(event.cause, by_itself),
                event.exit_code,
                event.signal,
                attempt.started_at_us or event.finished_at_us,
                event.finished_at_us,
                event.stdout_bytes,
                event.stderr_bytes,
                _short(event.message or _explanation(attempt, event.cause)),
            ),
        )

    def end(
        self, attempt: Attempt, outcome: Outcome, at_us: int, message: str, started_at_us: int = 0
    ) -> Result:
        """Ends an attempt whose exit status nobody knows; `started_at_us` 0: it never ran."""
        shard, attempt_id = attempt.assign.shard, attempt.assign.attempt_id
        text = _short(message)
        result = Result(shard, attempt_id, outcome, -1, 0, started_at_us, at_us, message=text)
        return self._finish(attempt, result)

    def acknowledge(self, attempt: Attempt) -> None:
        """The result is recorded: only the memory of the id stays, for a while."""
        assert attempt.result is not None, "only a finished attempt has a result to acknowledge"
        attempt_id = attempt.assign.attempt_id
        del self._held[attempt_id]
        self._recent[attempt_id] = attempt.result
        if len(self._recent) > self._recent_limit:
            del self._recent[next(iter(self._recent))]

    def inventory(self, shards: Iterable[int]) -> dict[int, Held]:
        """What is held for each of the shards: what is not over, and what is not acknowledged."""
        found: dict[int, Held] = {shard: Held([], [], []) for shard in shards}
        for attempt in self._held.values():
            assign = attempt.assign
            lists = found.get(assign.shard)
            if lists is None:
                continue
            # What was cancelled before it came is of nothing that is known here.
            if assign.run:
                subject = Subject(assign.attempt_id, assign.run, assign.task, assign.number)
                lists.subjects.append(subject)
            if attempt.result is None:
                lists.live.append(LiveAttempt(assign.attempt_id, attempt.started_at_us))
            else:
                lists.finished.append(attempt.result)
        return found

    def _enter(self, attempt: Attempt, state: State) -> None:
        if attempt.state is State.SPAWNING:
            self._spawning -= 1
        attempt.state = state

    def _finish(self, attempt: Attempt, result: Result) -> Result:
        assert attempt.result is None, "an attempt ends once"
        self._enter(attempt, State.FINISHED)
        attempt.result = result
        self._unfinished -= 1
        return result


def _explanation(attempt: Attempt, cause: EndCause) -> str:
    spec = attempt.assign.spec
    return _EXPLANATIONS[cause].format(spec.timeout_ms if spec else 0)


def _short(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
