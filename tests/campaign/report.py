"""Writes the report of a campaign: `report.md` with plots beside it, and `report.json` for totals.

Decides what is told, and in which order: what was found comes first. Every figure is computed from
the evidence (see `measures`). Does not judge.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.campaign import measures
from tests.campaign.checks import JUDGED, Findings
from tests.campaign.drawing import distribution, series
from tests.campaign.recorded import Recorded

_S = 1_000_000_000
_VIOLATIONS_TOLD = 50


def write(evidence: Path, findings: Findings) -> Path:
    """Writes all files into the folder of the evidence; the path of the report."""
    recorded = findings.recorded
    found = list(measures.failovers(recorded))
    plots = {
        "throughput.svg": series(
            "attempts started in each second; faults shaded",
            measures.throughput(recorded),
            _spans(recorded),
        ),
        "failover.svg": distribution(
            "failover: share of takeovers within so many seconds of the fault",
            [each.takeover_s for each in found],
        ),
    }
    for name, drawn in plots.items():
        (evidence / name).write_text(drawn, encoding="utf-8")
    document = summary(findings)
    (evidence / "report.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    report = evidence / "report.md"
    report.write_text("\n".join(_lines(document, findings, found)) + "\n", encoding="utf-8")
    return report


def summary(findings: Findings) -> dict[str, Any]:
    """The campaign in a few numbers, for `tests.campaign.totals`."""
    recorded = findings.recorded
    return {
        "kind": "campaign",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "seed": recorded.cluster.get("seed"),
        "minutes": round(measures.minutes(recorded), 1),
        **measures.totals(recorded),
        "violations": len(findings.violations),
        "open": sum(findings.open.values()),
    }


def commit() -> str:
    """The commit of the tree that this program is in; empty outside of one."""
    command = ["git", "rev-parse", "--short=10", "HEAD"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _spans(recorded: Recorded) -> list[tuple[float, float]]:
    """The faults, in seconds since the first attempt."""
    starts = [line.at_ns for line in recorded.lines if line.kind == "start"]
    first = min(starts, default=0)
    return [
        ((fault["began_ns"] - first) / _S, (fault["healed_ns"] - first) / _S)
        for fault in recorded.faults
    ]


def _lines(
    document: dict[str, Any], findings: Findings, found: Sequence[measures.Failover]
) -> Iterator[str]:
    recorded = findings.recorded
    cluster = recorded.cluster
    yield f"# Campaign of {document['minutes']:g} minutes, seed {document['seed']}"
    yield ""
    yield f"Commit {document['commit'] or 'unknown'}, {document['at']}. {cluster['machine']}."
    yield f"Versions: {_pairs(cluster.get('versions', {}))}."
    yield ""
    yield from _violations(findings)
    yield from _table(
        "What happened",
        ("what", "how many"),
        [
            ("rounds (of them void)", f"{document['rounds']} ({document['void_rounds']})"),
            ("faults", document["faults"]),
            ("attempts", document["attempts"]),
            ("attempts that were killed", document["killed"]),
            ("attempts that started twice", document["started_twice"]),
            ("acknowledged runs", document["runs"]),
            ("acknowledged runs lost", document["runs_lost"]),
        ],
    )
    yield from _table("Judged", ("invariant", "of what", "judged"), _judged(findings))
    yield from _counts("Faults", "kind", Counter(each["kind"] for each in recorded.faults))
    yield from _counts("Ends of attempts, as recorded", "state", measures.attempt_states(recorded))
    yield from _failover(found)
    yield from _table(
        "After the last fault of a round",
        ("until", "rounds and seconds"),
        [
            ("every part serves", measures.phase_lengths(recorded, "heal")),
            ("all that was asked for is done", measures.phase_lengths(recorded, "drain")),
        ],
    )
    yield "## Throughput"
    yield ""
    yield "![attempts started in each second](throughput.svg)"
    yield ""
    yield from _calls(recorded)


def _violations(findings: Findings) -> Iterator[str]:
    yield "## Violations"
    yield ""
    if findings.clean:
        yield "None."
    for each in findings.violations[:_VIOLATIONS_TOLD]:
        yield f"* **{each.invariant}** {each.subject}: {each.detail}"
    if (more := len(findings.violations) - _VIOLATIONS_TOLD) > 0:
        yield f"* and {more} more"
    for what, count in sorted(findings.open.items()):
        yield f"* open, {count} times: {what}"
    yield ""


def _judged(findings: Findings) -> Iterator[tuple[object, ...]]:
    for name, count in sorted(findings.judged.items()):
        yield name, JUDGED.get(name, "rows of the store"), count


def _failover(found: Sequence[measures.Failover]) -> Iterator[str]:
    def rows() -> Iterator[tuple[object, ...]]:
        for kind in (*sorted({each.kind for each in found}), "all"):
            of_kind = [each for each in found if kind in (each.kind, "all")]
            progress = [each.progress_s for each in of_kind if each.progress_s is not None]
            takeovers = measures.spread(each.takeover_s for each in of_kind)
            yield kind, takeovers, measures.spread(progress)

    columns = ("fault", "to the next leader", "to the next start of an attempt")
    yield from _table("Failover of shards", columns, rows())
    yield "![share of takeovers within so many seconds](failover.svg)"
    yield ""


def _calls(recorded: Recorded) -> Iterator[str]:
    calls = measures.calls_by_outcome(recorded)
    rows = (
        (name, *(calls[name][outcome] for outcome in ("ok", "fail", "unknown")))
        for name in sorted(calls)
    )
    yield from _table("Calls of clients", ("call", "ok", "fail", "unknown"), rows)


def _counts(title: str, column: str, counts: Counter[str]) -> Iterator[str]:
    yield from _table(title, (column, "how many"), sorted(counts.items()))


def _pairs(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {fact}" for name, fact in facts.items())


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
    yield ""
