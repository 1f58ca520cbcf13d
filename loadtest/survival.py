"""Measures what deaths cost, against the targets, and prints a table in Markdown.

`make bench-survival`, or `python -m loadtest.survival [failover readoption takeover no-ops …]`: all
by default, within some ten minutes. Everything runs on one machine, which the output names: real
nodes, agents, supervisors, PostgreSQL and etcd with everything synced, a leader lease of 5 s.
`--kills` and `--stops` say how often nodes are killed and stopped cleanly, `--runs` how often the
rest is measured. How busy the machine was with other things before each measurement is told with
it. Figures with all their samples also go to `build/survival.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import uvloop

from loadtest import failover, no_ops, readoption, takeover
from loadtest.bench import machine
from loadtest.samples import distribution

ROOT = Path(__file__).resolve().parent.parent
LOOK_S = 3.0


@dataclass(frozen=True, slots=True)
class Amounts:
    """How often things are done."""

    kills: int
    stops: int
    runs: int


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `spread`: whether it is a distribution; else its median is told."""

    name: str
    unit: str
    target: str
    samples: Sequence[float]
    spread: bool = False

    def measured(self) -> str:
        """The figure in words."""
        if not self.spread:
            each = ", ".join(map(shown, self.samples))
            return f"{shown(statistics.median(self.samples))} {self.unit} ({each})"
        told = distribution(self.samples)
        numbers = " / ".join(map(shown, (told.p50, told.p99, told.most)))
        return f"{numbers} {self.unit}, n = {told.count}"


def shown(value: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def of_failovers(samples: failover.Samples, how: str, target: str) -> list[Row]:
    """Rows of shards that lost their leader in one way."""
    name = f"leader {how} → first assignment of the next, p50 / p99 / worst"
    assigned = [each.assigned_s for each in samples.failovers]
    taken = [each.taken_over_s for each in samples.failovers]
    return [
        Row(name, "s", target, assigned, spread=True),
        Row("… of it until the epoch was taken", "s", "", taken, spread=True),
    ]


async def failovers(amounts: Amounts) -> list[Row]:
    """Nodes that die, stop and come back."""
    killed, stopped = await failover.measure(amounts.kills, amounts.stops)
    joined = killed.joinings + stopped.joinings
    spread, serving = [each.spread_s for each in joined], [each.serving_s for each in joined]
    name = "node started → it leads its part, p50 / p99 / worst"
    return [
        *of_failovers(killed, "killed (SIGKILL)", "p99 < 8"),
        *of_failovers(stopped, "stopped (SIGTERM)", "< 1"),
        Row(name, "s", "", spread, spread=True),
        Row("… of it until it served", "s", "", serving, spread=True),
    ]


async def takeovers(amounts: Amounts) -> list[Row]:
    """A full shard changes hands."""
    found, split = await takeover.measure(amounts.runs)
    size = f"{takeover.RUNS:,} live runs, {takeover.RUNS * takeover.LIVE:,} live attempts"
    return [
        Row(f"{size}: key won → Welcome heard", "s", "< 2", [each.welcomed_s for each in found]),
        Row("… → epoch taken", "s", "", [each.taken_s for each in found]),
        Row("… → memory recovered", "s", "", [each.recovered_s for each in found]),
        Row("… → next attempt assigned", "s", "", [each.assigned_s for each in found]),
        Row("… alone in a process: rows read", "s", "", split.read_s),
        Row("… definitions compiled", "s", "", split.compile_s),
        Row("… memory recovered", "s", "", split.recover_s),
    ]


async def readoptions(amounts: Amounts) -> list[Row]:
    """An agent dies with its hands full; agent and supervisor at rest."""
    costs = await readoption.measure(amounts.runs)
    idle, busy, restarts = costs.idle, costs.busy, costs.restarts
    count = readoption.TASKS
    return [
        Row(f"agent started → {count} tasks told as adopted", "s", "< 1", restarts.from_start_s),
        Row("… from the kill of the last agent", "s", "", restarts.from_kill_s),
        Row(f"supervisor with {count} tasks, memory", "MB", "< 15", busy.supervisor_mb),
        Row("… processor", "% of a core", "", busy.supervisor_percent),
        Row("idle supervisor, memory", "MB", "", idle.supervisor_mb),
        Row("… processor", "% of a core", "", idle.supervisor_percent),
        Row("idle agent, memory", "MB", "< 80", idle.agent_mb),
        Row("… processor", "% of a core", "< 1", idle.agent_percent),
        Row(f"agent with {count} tasks, memory", "MB", "", busy.agent_mb),
        Row("… processor", "% of a core", "", busy.agent_percent),
    ]


async def processes(amounts: Amounts) -> list[Row]:
    """No-op processes through the whole path."""
    found = await no_ops.measure(amounts.runs)
    first = Row("`/bin/true` tasks, DAGs of 100", "tasks/s", "≥ 500", found.rates)
    spent = found.spent_us.items()
    return [first, *(Row(f"… processor of {name}", "µs/task", "", us) for name, us in spent)]


ALL: dict[str, Callable[[Amounts], Awaitable[list[Row]]]] = {
    "failover": failovers,
    "takeover": takeovers,
    "readoption": readoptions,
    "no-ops": processes,
}


def busy() -> str:
    """What the machine does by itself."""
    load, percent = os.getloadavg()[0], psutil.cpu_percent(LOOK_S)
    return f"load {load:.1f}, {percent:.0f} % of all cores busy"


def table(rows: Sequence[Row]) -> str:
    """The figures as Markdown."""
    lines = ["| | measured | target |", "|---|---|---|"]
    for row in rows:
        target = f"{row.target} {row.unit}" if row.target else ""
        lines.append(f"| {row.name} | {row.measured()} | {target} |")
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("measures", nargs="*", choices=[*ALL, []], help="default: all")
    parser.add_argument("--kills", type=int, default=20, help="of nodes, by SIGKILL")
    parser.add_argument("--stops", type=int, default=10, help="of nodes, by SIGTERM")
    parser.add_argument("--runs", type=int, default=3, help="of what is no distribution")
    return parser.parse_args()


def main() -> int:
    """Runs what the command line names."""
    options = parsed()
    amounts = Amounts(options.kills, options.stops, options.runs)
    rows: list[Row] = []
    around: dict[str, str] = {}
    for name in options.measures or list(ALL):
        around[name] = busy()
        print(f"measuring {name} … before it: {around[name]}", file=sys.stderr)
        rows += uvloop.run(ALL[name](amounts))
    print(f"{machine()}\n\n{table(rows)}\n\nThe machine before each measurement:\n")
    print("\n".join(f"* {name}: {words}" for name, words in around.items()))
    (ROOT / "build").mkdir(exist_ok=True)
    content = {"machine": machine(), "before": around, "rows": [asdict(row) for row in rows]}
    (ROOT / "build" / "survival.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
