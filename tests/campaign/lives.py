"""When each attempt lived, and how that is known.

An attempt writes when it starts, ten times a second while it works, and when it is about to exit.
Until its last line it lived for certain: an attempt of the same task instance that started before
that ran beside it. One that was killed writes no end, so its death must be told by somebody. In
this order:

1. its own last line, if that is its end;
2. its agent reported its end to the shard before the next attempt was assigned: the supervisor had
   reaped it before it told anybody, and the next attempt was assigned in the commit of that report
   or a later one (`verify` holds that by batch numbers): it was dead before the next one started;
3. its supervisor was killed meanwhile: the kernel ended all its processes with it;
4. its agent said after all when it ended, when the shard had given it up: how long it had lived
   then by the agent's clock, from its own first line on, unless that clock was set meanwhile;
5. it had been silent for `SILENT_FOR_NS` when the next one started.

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
# A living attempt would have written twenty lines.
SILENT_FOR_NS = 2_000_000_000
SUPERVISOR_DEATHS = ("supervisor-kill", "agent-and-supervisor-kill")
_GIVEN_UP = (AttemptState.LOST, AttemptState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Life:
    """An attempt from its first line to `end_ns` (None: not known), which `how` tells; it wrote its
    last line at `seen_ns`, and that was its end if it `ended`. `reported`: it was over before its
    task instance got another attempt.
    """

    attempt: str
    run: str
    task: str
    start_ns: int
    seen_ns: int
    ended: bool
    reported: bool
    on_disconnect: OnDisconnect
    killed_ns: tuple[int, ...] = ()
    end_ns: int | None = None
    how: str = ""


def lives(recorded: Recorded) -> Iterator[Life]:
    """Every attempt that started and that the store knows."""
    last = {line.attempt: line for line in recorded.lines}
    kills = {stored.agent: () for stored in recorded.attempts.values()}
    kills = {agent: tuple(_kills(recorded, agent)) for agent in kills}
    for line in recorded.lines:
        stored = recorded.attempts.get(line.attempt)
        if line.kind != "start" or stored is None:
            continue
        life = Life(
            line.attempt,
            line.run,
            line.task,
            line.at_ns,
            last[line.attempt].at_ns,
            last[line.attempt].kind == "end",
            _reported(stored),
            stored.on_disconnect,
            kills[stored.agent],
        )
        yield _by_agent(life, stored, recorded)


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
    """With the end of an attempt that wrote none, as its agent said later."""
    late = stored.late
    if life.ended:
        return replace(life, end_ns=life.seen_ns, how="it wrote its end then")
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
    if before.seen_ns > after.start_ns:
        return True
    if before.ended or before.reported:
        return False
    if any(before.start_ns <= killed_ns <= after.start_ns for killed_ns in before.killed_ns):
        return False
    if before.end_ns is not None:
        return before.end_ns > after.start_ns + UNSURE_NS
    return False if before.seen_ns + SILENT_FOR_NS < after.start_ns else None
