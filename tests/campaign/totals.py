"""Keeps the table of all campaigns and simulations in docs/reliability.md.

    python -m tests.campaign.totals --add report.json [--page FILE]

`report.json` is what a campaign writes beside its report, or what `python -m tests.sim … --json`
wrote. Decides the columns; the rows between the markers are the record, the sums under them are
computed anew. Promises to refuse a report that is in the table already, and one of a tree that is
no commit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs/reliability.md"
BEGIN, END = "<!-- totals: begin -->", "<!-- totals: end -->"
COLUMNS = (
    "judged",
    "commit",
    "what",
    "rounds or seeds",
    "minutes (simulated: virtual)",
    "faults",
    "attempts",
    "violations",
)
_SUM = "**all**"


class TotalsError(ValueError):
    """The page or the report cannot be used; the message says why."""


class Row(NamedTuple):
    """One campaign or simulation."""

    at: str
    commit: str
    kind: str
    units: int
    minutes: float
    faults: int
    attempts: int
    violations: int

    def cells(self) -> tuple[str, ...]:
        return (self.at, self.commit, self.kind, *map(_number, self[3:]))


def row_of(report: dict[str, Any]) -> Row:
    """The row of a report."""
    kind = report.get("kind")
    if not report.get("commit"):
        raise TotalsError("the report names no commit")
    if kind == "campaign":
        units, minutes = report["rounds"] - report["void_rounds"], report["minutes"]
    elif kind == "simulation":
        units, minutes = report["seeds"], report["virtual_s"] / 60
    else:
        raise TotalsError(f"{kind!r} is no kind of report")
    counts = (report["faults"], report["attempts"], report["violations"])
    return Row(report["at"], report["commit"], kind, units, round(minutes, 1), *counts)


def add(page: str, report: dict[str, Any]) -> str:
    """The page with one row more."""
    before, rows, after = parse(page)
    row = row_of(report)
    if row in rows:
        raise TotalsError("this report is in the table already")
    return before + render([*rows, row]) + after


def parse(page: str) -> tuple[str, list[Row], str]:
    """What is before the table, its rows without the sums, and what is after it."""
    before, begun, rest = page.partition(BEGIN)
    inside, ended, after = rest.partition(END)
    if not begun or not ended:
        raise TotalsError(f"the page has no {BEGIN} … {END}")
    lines = [line.strip("|").split("|") for line in inside.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines[2:]]
    rows = [
        Row(at, commit, kind, int(_plain(units)), float(_plain(minutes)), *map(_count, counts))
        for at, commit, kind, units, minutes, *counts in cells
        if at != _SUM
    ]
    return before, rows, after


def render(rows: Sequence[Row]) -> str:
    """The table with its markers and sums."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(row.cells() for row in rows)]
    lines += [_sum(kind, rows) for kind in sorted({row.kind for row in rows})]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{BEGIN}\n\n{table}\n\n{END}"


def _sum(kind: str, rows: Iterable[Row]) -> tuple[str, ...]:
    of_kind = [row for row in rows if row.kind == kind]
    sums = (sum(column) for column in zip(*(row[3:] for row in of_kind), strict=True))
    return (_SUM, "", kind, *map(_number, sums))


def _number(value: float) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


def _plain(text: str) -> str:
    return text.replace(",", "")


def _count(text: str) -> int:
    return int(_plain(text))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--add", type=Path, required=True, help="report.json of what was run")
    parser.add_argument("--page", type=Path, default=PAGE, help="page that holds the table")
    options = parser.parse_args()
    try:
        report = json.loads(options.add.read_text("utf-8"))
        changed = add(options.page.read_text("utf-8"), report)
    except (TotalsError, OSError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.page.write_text(changed, "utf-8")
    print(changed.partition(BEGIN)[2].partition(END)[0].strip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
