"""Measures Mainspring against its targets and prints a table in Markdown.

`python -m loadtest.bench [up cli api hop throughput big …]` runs the named measurements, all by
default; `--runs N` repeats each (default 3) and reports the median. Everything (PostgreSQL with
synchronous_commit on, etcd, nodes, agents and the driver) shares one machine, which is named in the
output. Figures also go to `build/bench.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest import measures

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Row:
    """One figure: the median over runs, and all of them."""

    name: str
    unit: str
    target: str
    median: float
    runs: list[float]


def repeat(measure: Callable[[], dict[str, measures.Figure]], runs: int) -> list[Row]:
    """Runs a measurement several times and takes medians figure by figure."""
    collected: dict[str, list[measures.Figure]] = {}
    for _ in range(runs):
        for name, figure in measure().items():
            collected.setdefault(name, []).append(figure)
    return [
        Row(
            name,
            figures[0].unit,
            figures[0].target,
            statistics.median(figure.value for figure in figures),
            [figure.value for figure in figures],
        )
        for name, figures in collected.items()
    ]


def machine() -> str:
    """The machine in one line."""
    return (
        f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}, "
        "everything on this machine"
    )


def table(rows: list[Row]) -> str:
    """The figures as Markdown."""
    lines = ["| figure | median | unit | target | runs |", "|---|---|---|---|---|"]
    for row in rows:
        each = ", ".join(f"{value:.4g}" for value in row.runs)
        lines.append(f"| {row.name} | {row.median:.4g} | {row.unit} | {row.target} | {each} |")
    return "\n".join(lines)


def main() -> int:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measures", nargs="*", choices=[*measures.ALL, []], help="default: all")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.measures or list(measures.ALL):
        print(f"measuring {name} …", file=sys.stderr)
        rows += repeat(measures.ALL[name], options.runs)
    print(f"{machine()}\n\n{table(rows)}")
    (ROOT / "build").mkdir(exist_ok=True)
    content = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    (ROOT / "build" / "bench.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
