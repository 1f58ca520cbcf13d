"""What becomes of the attempts that were not over when the agent or its supervisor ended.

Decides: what a start of the agent holds, from its journal, and what is true of each attempt, once a
supervisor has said all that it knows:

    the supervisor says         ACCEPTED in the journal         STARTED in the journal
    nothing                     may be spawned (again)          lost
    it runs                     adopted                         adopted
    it ended                    that is its end                 that is its end
    it could not be spawned     that is its end                 that is its end
    claimed, no more            lost                            lost
    … after a reboot            lost, unless its end is written (nothing said proves nothing: claims
                                are not synced)

Promises: an attempt that a supervisor claimed is never spawned again; one is called lost with
`started_at_us` 0 only if it surely never ran.

Does not know: leases, nodes, what is told to whom.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.core.attempts import Attempt, Origin, State
from agent.core.events import ProcessExited, ProcessSpawned, SpawnFailed, Supervised
from agent.core.records import HeldAttempt, JournalState

# Whose slot an attempt of an earlier start occupies, until the leader of its shard adopts it.
NOBODY = ""

REBOOTED = "the host was rebooted"
PERHAPS_REBOOTED = "the host was rebooted; whether the attempt had been started is not known"
SUPERVISOR_ENDED = "its supervisor ended, and the attempt with it"
CLAIMED_ONLY = "its supervisor ended while it was starting the attempt"


@dataclass(frozen=True, slots=True)
class Ended:
    """The supervisor saw the end of an attempt."""

    started_at_us: int
    exited: ProcessExited


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody saw the end of an attempt."""

    started_at_us: int
    message: str


@dataclass(frozen=True, slots=True)
class NeverClaimed:
    """No supervisor has begun to spawn an attempt, and none that was asked before still will."""


Verdict = ProcessSpawned | Ended | SpawnFailed | Lost | NeverClaimed


def restore(journal: JournalState) -> Iterator[Attempt]:
    """The attempts of earlier starts. Those that are not over may have been claimed, and wait for
    the word of the supervisor.
    """
    for held in journal.held.values():
        same_boot = held.boot_id == journal.start.boot_id
        yield Attempt(
            held.assign,
            NOBODY,
            held.lease_until_ms,
            _state(held),
            held.started.started_at_us if held.started else 0,
            result=held.result,
            origin=Origin.EARLIER_START if same_boot else Origin.EARLIER_BOOT,
        )


def _state(held: HeldAttempt) -> State:
    if held.result is not None:
        return State.FINISHED
    return State.STARTED if held.started is not None else State.SPAWNING


def runs(known: Supervised | None) -> bool:
    """Whether a process of an attempt is there, as the supervisor says."""
    return (
        known is not None
        and known.spawned is not None
        and known.ended is None
        and known.failed is None
    )


def began_at_us(known: Supervised) -> int:
    """When an attempt was spawned, or was about to be."""
    return known.spawned.started_at_us if known.spawned else known.claimed.claimed_at_us


def judge(attempt: Attempt, known: Supervised | None, wall_us: int) -> Verdict:
    """What is true of an attempt that is not over; see the table at the top."""
    rebooted = attempt.origin is Origin.EARLIER_BOOT
    started_at_us = attempt.started_at_us or (began_at_us(known) if known else 0)
    if known is not None:
        if known.ended is not None:
            return Ended(started_at_us, known.ended)
        if known.failed is not None:
            return known.failed
        if known.spawned is not None and not rebooted:
            return known.spawned
    if rebooted:
        return Lost(started_at_us or wall_us, REBOOTED if started_at_us else PERHAPS_REBOOTED)
    if attempt.state is State.STARTED:
        return Lost(started_at_us, SUPERVISOR_ENDED)
    return Lost(started_at_us, CLAIMED_ONLY) if known is not None else NeverClaimed()
