"""What the agent and its supervisor agree on.

Decides: which spawns are asked for, what becomes of each attempt when a supervisor has said what it
knows, what is done about processes that nobody here answers for.

Promises: nothing is spawned before it is known what runs; an attempt that a supervisor has claimed
is never asked for again; news that come twice, or late, change nothing.

Does not know: sessions and shards; processes, but for what is said of them.
"""

from __future__ import annotations

from agent.core import adoption
from agent.core.actions import Adopted, ExtendLeases, Forget, Spawn, Stop
from agent.core.attempts import Attempt, Origin, State
from agent.core.events import (
    ProcessExited,
    ProcessSpawned,
    SpawnFailed,
    Supervised,
    SupervisorReady,
)
from agent.core.steps import CANCELLED_BEFORE, Steps
from agent.core.turn import Turn
from agent.core.types import EndCause, Outcome

WAITED_TOO_LONG = "its attempt lease was over before it could be started"


class Supervision:
    """The agent's side of its supervisors, one after the other."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        # How many supervisors have answered, and whether the last one still does.
        self._supervisors = 0
        self._supervised = False
        # Processes that belong to no attempt and are being ended: id → when they began.
        self._strays: dict[bytes, int] = {}

    def ready(self, event: SupervisorReady, turn: Turn) -> None:
        """Brings what is held in line with what the supervisor knows."""
        self._supervisors += 1
        self._supervised = True
        known = {each.claimed.attempt_id: each for each in event.attempts}
        for attempt in list(self._steps.attempts):
            self._reconcile(attempt, known.pop(attempt.assign.attempt_id, None), turn)
        for shard, until_ms in self._steps.leases.in_force(turn.now.mono_ms):
            turn.act(ExtendLeases(shard, until_ms))
        self._strays.clear()
        for attempt_id, stray in known.items():
            if adoption.runs(stray):
                self._end_stray(attempt_id, adoption.began_at_us(stray), turn)
            else:
                turn.act(Forget(attempt_id))

    def gone(self) -> None:
        """Nothing can be spawned until the next one answers."""
        self._supervised = False

    def spawned(self, event: ProcessSpawned, turn: Turn) -> None:
        attempt = self._steps.attempts.find(event.attempt_id)
        if attempt is None or attempt.result is not None:
            self._end_stray(event.attempt_id, event.started_at_us, turn)
        else:
            self._steps.begin(attempt, event, turn)

    def spawn_failed(self, event: SpawnFailed, turn: Turn) -> None:
        attempt = self._steps.attempts.find(event.attempt_id)
        if attempt is None:
            turn.act(Forget(event.attempt_id))
        elif attempt.state in {State.ACCEPTED, State.SPAWNING}:
            self._steps.over(attempt, self._steps.attempts.spawn_failed(attempt, event), turn)

    def exited(self, event: ProcessExited, turn: Turn) -> None:
        """The end of one that was given up before changes nothing: its result was told."""
        self._strays.pop(event.attempt_id, None)
        attempt = self._steps.attempts.find(event.attempt_id)
        if attempt is None:
            turn.act(Forget(event.attempt_id))
        elif attempt.result is None:
            self._steps.over(attempt, self._steps.attempts.exited(attempt, event), turn)

    def stray(self, attempt_id: bytes) -> int:
        """When a process began that belongs to no attempt and is being ended; 0: there is none."""
        return self._strays.get(attempt_id, 0)

    def ask_for_spawns(self, turn: Turn) -> None:
        """Gives up what has waited longer than its lease, and asks for what may be spawned."""
        for attempt in self._steps.leases.lapsed(turn.now.mono_ms):
            self._steps.end(attempt, Outcome.LOST, WAITED_TOO_LONG, turn)
        if self._supervised:
            for attempt in self._steps.attempts.to_spawn():
                until_ms = self._steps.leases.until_ms(attempt)
                turn.act(Spawn(attempt.assign, until_ms, self._supervisors))

    def _reconcile(self, attempt: Attempt, known: Supervised | None, turn: Turn) -> None:
        if attempt.result is None:
            self._carry_out(adoption.judge(attempt, known, turn.now.wall_us), attempt, turn)
        if attempt.result is not None and adoption.runs(known):
            # It was given up already: nothing may run under its id any more.
            turn.act(Stop(attempt.assign.attempt_id, EndCause.AGENT_STOPPED, 0))
        if attempt.origin is not Origin.HERE:
            attempt.origin = Origin.HERE
            result = attempt.result
            if attempt.state is State.STARTED or (result is not None and result.started_at_us):
                turn.act(Adopted(attempt.assign, over=result is not None))

    def _carry_out(self, verdict: adoption.Verdict, attempt: Attempt, turn: Turn) -> None:
        match verdict:
            case ProcessSpawned():
                self._steps.begin(attempt, verdict, turn)
            case adoption.Ended():
                attempt.started_at_us = verdict.started_at_us
                self.exited(verdict.exited, turn)
            case SpawnFailed():
                self._steps.over(attempt, self._steps.attempts.spawn_failed(attempt, verdict), turn)
            case adoption.Lost():
                self._steps.end(attempt, Outcome.LOST, verdict.message, turn, verdict.started_at_us)
            case _:
                if attempt.state is State.SPAWNING:
                    self._start_again(attempt, turn)

    def _start_again(self, attempt: Attempt, turn: Turn) -> None:
        """What no supervisor has claimed may be spawned, unless it should not be any more."""
        if attempt.stop is EndCause.CANCELLED:
            self._steps.end(attempt, Outcome.CANCELLED, CANCELLED_BEFORE, turn)
        elif self._steps.stopping:
            self._steps.hand_back(attempt, turn)
        elif attempt.program_missing:
            self._steps.fail_without_program(attempt, turn)
        else:
            self._steps.attempts.wait_again(attempt)
            self._steps.leases.watch(attempt)

    def _end_stray(self, attempt_id: bytes, began_us: int, turn: Turn) -> None:
        """Nobody here answers for this process."""
        self._strays[attempt_id] = began_us
        turn.act(Stop(attempt_id, EndCause.CANCELLED, 0))
