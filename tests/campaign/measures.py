"""The figures of a campaign, computed from what was recorded.

Decides what each figure means. Failover: a fault hurts a node; for every shard that the node led
when it began, the time until another epoch was seen (`takeover`), and until an attempt of that
shard started after it (`progress`). A fault that no takeover followed within `NO_FAILOVER_S` was
not one. Does not know how figures are shown.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from controlplane.core.states import AttemptState
from tests.campaign.recorded import Recorded

HURTS_LEADERS = ("node-kill", "node-pause", "node-block", "rolling-restart")
NO_FAILOVER_S = 30.0
_S = 1_000_000_000


class Spread(NamedTuple):
    """Of so many values, in seconds; all 0 where there is none."""

    count: int
    p50_s: float
    p99_s: float
    most_s: float

    def __str__(self) -> str:
        if not self.count:
            return "none"
        figures = f"p50 {self.p50_s:.2f} s, p99 {self.p99_s:.2f} s, max {self.most_s:.2f} s"
        return f"{self.count}: {figures}"


def spread(values: Iterable[float]) -> Spread:
    """By the nearest rank."""
    ordered = sorted(values)
    if not ordered:
        return Spread(0, 0.0, 0.0, 0.0)
    p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99))
    return Spread(len(ordered), p50, p99, ordered[-1])


class Failover(NamedTuple):
    """A shard changed its leader after a fault. `progress_s` None: nothing of it started after."""

    shard: int
    kind: str
    takeover_s: float
    progress_s: float | None


def failovers(recorded: Recorded) -> Iterator[Failover]:
    """Of all faults that hurt nodes."""
    seen: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for epoch in sorted(recorded.epochs, key=lambda each: each["at_ns"]):
        seen[epoch["shard"]].append((epoch["at_ns"], epoch["node"]))
    starts = _starts_by_shard(recorded)
    for fault in recorded.faults:
        if fault["kind"] not in HURTS_LEADERS:
            continue
        for shard, epochs in seen.items():
            found = _failover(fault, shard, epochs, starts.get(shard, []))
            if found is not None:
                yield found


def _failover(
    fault: dict[str, Any], shard: int, epochs: Sequence[tuple[int, str]], starts: Sequence[int]
) -> Failover | None:
    began_ns = fault["began_ns"]
    place = bisect_right(epochs, began_ns, key=lambda each: each[0])
    hurt = "rolling-restart" in fault["kind"] or (place and epochs[place - 1][1] == fault["target"])
    if not hurt or place == len(epochs):
        return None
    taken_ns = epochs[place][0]
    if taken_ns - began_ns > NO_FAILOVER_S * _S:
        return None
    after = bisect_right(starts, taken_ns)
    progress_s = (starts[after] - began_ns) / _S if after < len(starts) else None
    return Failover(shard, fault["kind"], (taken_ns - began_ns) / _S, progress_s)


def _starts_by_shard(recorded: Recorded) -> dict[int, list[int]]:
    starts: dict[int, list[int]] = defaultdict(list)
    for line in recorded.lines:
        run = recorded.runs.get(line.run)
        if line.kind == "start" and run is not None:
            starts[run.shard].append(line.at_ns)
    return {shard: sorted(times) for shard, times in starts.items()}


def phase_lengths(recorded: Recorded, phase: str) -> Spread:
    """How long a phase of the rounds took: `heal` until all serves, `drain` until all is done."""
    return spread(
        (each["ended_ns"] - each["began_ns"]) / _S
        for each in recorded.rounds
        if each["phase"] == phase
    )


def throughput(recorded: Recorded) -> list[int]:
    """Attempts that started in each second, from the first one on."""
    times = [line.at_ns for line in recorded.lines if line.kind == "start"]
    if not times:
        return []
    first = min(times)
    counted = Counter((at_ns - first) // _S for at_ns in times)
    return [counted[second] for second in range(max(counted) + 1)]


def totals(recorded: Recorded) -> dict[str, int]:
    """What a ledger of all campaigns keeps: counts of what was done."""
    starts = Counter(line.attempt for line in recorded.lines if line.kind == "start")
    ended = {line.attempt for line in recorded.lines if line.kind == "end"}
    void = {each["round"] for each in recorded.rounds if each.get("void")}
    acknowledged = {
        call["run"]
        for call in recorded.calls
        if call["call"] == "trigger" and call["outcome"] == "ok"
    }
    return {
        "rounds": len({each["round"] for each in recorded.rounds}),
        "void_rounds": len(void),
        "faults": len(recorded.faults),
        "attempts": len(starts),
        "started_twice": sum(count > 1 for count in starts.values()),
        "killed": len(set(starts) - ended),
        "runs": len(acknowledged),
        "runs_lost": len(acknowledged - set(recorded.runs)),
    }


def minutes(recorded: Recorded) -> float:
    """From the begin of the first round to the end of the last one."""
    phases = [each for each in recorded.rounds if "began_ns" in each]
    if not phases:
        return 0.0
    began_ns = min(each["began_ns"] for each in phases)
    return (max(each["ended_ns"] for each in phases) - began_ns) / (60 * _S)


def attempt_states(recorded: Recorded) -> Counter[str]:
    """How attempts ended, as recorded."""
    return Counter(AttemptState(each.told.state).name for each in recorded.attempts.values())


def calls_by_outcome(recorded: Recorded) -> dict[str, Counter[str]]:
    """For each kind of call how its calls ended."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for call in recorded.calls:
        if call["outcome"] != "invoke":
            found[call["call"]][call["outcome"]] += 1
    return found
