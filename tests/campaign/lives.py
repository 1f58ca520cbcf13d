"""When each attempt lived, and how that is known.

An attempt writes when it starts and when it is about to exit. One that was killed writes no end, so
its death must be told by somebody. In this order:

1. its own last line: it lived until then for certain;
2. its agent reported its end to the shard before the next attempt was assigned: the supervisor had
   reaped it before it told anybody, and the next attempt was assigned in the commit of that report
   or a later one (`verify` holds that by batch numbers): it was dead before the next one started;
3. its supervisor was killed meanwhile: the kernel ended all its processes with it;
4. its agent said after all when it ended, when the shard had given it up: how long it had lived
   then by the agent's clock, from its own first line on, unless that clock was set meanwhile.

Where none of these speaks it is not known when it died, and nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from controlplane.core.shard.outcomes import SILENT
from controlplane.core.states import AttemptState
from controlplane.core.types import OnDisconnect
from tests.campaign.recorded import Recorded, Stored

# Between spawning and the first line of an attempt, and between its end and its reaping.
UNSURE_NS = 100_000_000
SUPERVISOR_DEATHS = ("supervisor-kill", "agent-and-supervisor-kill")
_GIVEN_UP = (AttemptState.LOST, AttemptState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Life:
    """An attempt from its first line to `end_ns`. `how` that is known; empty: it is not.

    `reported`: it was over before its task instance got another attempt.
    """

    attempt: str
    run: str
    task: str
    start_ns: int
    end_ns: int | None
    how: str
    reported: bool
    on_disconnect: OnDisconnect
    killed_ns: tuple[int, ...] = ()


def lives(recorded: Recorded) -> Iterator[Life]:
    """Every attempt that started and that the store knows."""
    ends = {line.attempt: line.at_ns for line in recorded.lines if line.kind == "end"}
    for line in recorded.lines:
        stored = recorded.attempts.get(line.attempt)
        if line.kind != "start" or stored is None:
            continue
        life = Life(
            line.attempt,
            line.run,
            line.task,
            line.at_ns,
            ends.get(line.attempt),
            "it wrote its end then" if line.attempt in ends else "",
            _reported(stored),
            stored.on_disconnect,
            tuple(_kills(recorded, stored.agent)),
        )
        yield life if life.end_ns is not None else _by_agent(life, stored, recorded)


def _reported(stored: Stored) -> bool:
    """Whether its recorded end is the word of its agent."""
    given_up = stored.told.state in _GIVEN_UP and stored.message == SILENT
    return stored.told.state > AttemptState.RUNNING and not given_up


def _kills(recorded: Recorded, agent: str) -> Iterator[int]:
    """When the supervisor of an agent was certainly dead."""
    for fault in recorded.faults:
        if fault["kind"] in SUPERVISOR_DEATHS and fault["target"] == agent:
            yield fault["healed_ns"]


def _by_agent(life: Life, stored: Stored, recorded: Recorded) -> Life:
    """The life of an attempt that wrote no end, as its agent said later."""
    late = stored.late
    if late is None or not late.started_us or not late.finished_us:
        return life
    end_ns = life.start_ns + (late.finished_us - late.started_us) * 1_000
    for fault in recorded.faults:
        set_meanwhile = fault["began_ns"] <= end_ns and fault["healed_ns"] >= life.start_ns
        if fault["kind"] == "clock-step" and fault["target"] == stored.agent and set_meanwhile:
            return life
    return replace(life, end_ns=end_ns, how="its agent said so later")


def alive_together(found: Sequence[Life]) -> Iterator[tuple[Life, Life, bool | None]]:
    """Neighbouring lives of one task instance: whether they overlapped; None: it is not known."""
    ordered = sorted(found, key=lambda life: life.start_ns)
    for place, after in enumerate(ordered[1:], start=1):
        for before in ordered[:place]:
            if before.attempt == after.attempt:
                continue  # an attempt that started twice is another matter
            yield before, after, _overlap(before, after)


def _overlap(before: Life, after: Life) -> bool | None:
    if before.how == "it wrote its end then":
        return before.end_ns is not None and before.end_ns > after.start_ns
    if before.reported:
        return False
    if any(before.start_ns <= killed_ns <= after.start_ns for killed_ns in before.killed_ns):
        return False
    if before.end_ns is None:
        return None
    return before.end_ns > after.start_ns + UNSURE_NS
