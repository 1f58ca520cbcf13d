"""Runs a campaign and tells what it found: `make campaign MINUTES=10`.

    python -m tests.campaign [--minutes N] [--seed N] [--out FOLDER] [--kinds KIND,…] [--no-clocks]

Decides where evidence is kept: in a new folder for temporary files, which is removed if nothing was
found, or in FOLDER, which must not exist and stays. Exit status: 0 if no promise was broken and at
least one round counts, 1 otherwise, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.campaign import campaign, checks, measures, report
from tests.campaign.campaign import Outcome, Plan
from tests.campaign.checks import Findings, Violation
from tests.campaign.evidence import Evidence, read_lines
from tests.campaign.faults import FORBIDDEN, KINDS
from tests.campaign.faults.clocks import ClockStep
from tests.campaign.site import Size


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="at least one round is made")
    parser.add_argument("--seed", type=int, default=0, help="of faults and clients; default: any")
    parser.add_argument("--out", type=Path, help="folder for the evidence; it must not exist")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of faults, with commas")
    parser.add_argument("--rate", type=float, default=7.0, help="runs triggered in a second")
    parser.add_argument("--no-clocks", action="store_true", help="set no clocks: no C compiler")
    return parser.parse_args()


def asked(options: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    kinds = [(KINDS | FORBIDDEN)[name] for name in options.kinds.split(",") if name]
    if options.no_clocks:
        kinds = [kind for kind in kinds if kind is not ClockStep]
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    size = Size(clocks=not options.no_clocks)
    return Plan(options.minutes, seed, kinds, size, options.rate)


class Telling:
    """Says after every round how it went."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._begun_s = time.monotonic()

    def __call__(self, outcome: Outcome) -> None:
        passed_s = time.monotonic() - self._begun_s
        number = outcome.rounds
        kinds = [
            fault["kind"] for fault in read_lines(self._evidence.faults) if fault["round"] == number
        ]
        void = f", void: {outcome.void[number]}" if number in outcome.void else ""
        print(f"{passed_s:6.0f} s  round {number}{void}: {', '.join(kinds)}", flush=True)
        for violation in outcome.violations:
            print(f"         VIOLATION {violation}", flush=True)


def main() -> int:
    options = parsed()
    plan = asked(options)
    folder = options.out or Path(tempfile.mkdtemp(prefix="mainspring-campaign-"))
    folder.mkdir(parents=True, exist_ok=options.out is None)
    evidence = Evidence(folder.resolve())
    print(f"campaign of {plan.minutes:g} min, seed {plan.seed}, in {evidence.folder}", flush=True)

    judged: list[Findings] = []

    def judge(seen: Sequence[Violation]) -> Sequence[Violation]:
        findings = checks.check(evidence.folder)
        findings.violations = [*seen, *findings.violations]
        report.write(evidence.folder, findings)
        judged[:] = [findings]
        return findings.violations

    try:
        outcome = campaign.run(evidence, plan, judge, Telling(evidence))
    except BaseException as error:
        print(f"broken off; what there is of evidence is in {evidence.folder}", flush=True)
        if isinstance(error, KeyboardInterrupt):
            return 1
        raise
    print("\n".join(summary(outcome, judged[0], evidence.folder)))
    good = not outcome.violations and outcome.rounds > len(outcome.void)
    if good and options.out is None:
        shutil.rmtree(evidence.folder)
    return 0 if good else 1


def summary(outcome: Outcome, findings: Findings, folder: Path) -> Iterator[str]:
    """What happened, in a few lines; the report has the rest."""
    recorded = findings.recorded
    told = measures.totals(recorded)
    kinds = Counter(fault["kind"] for fault in recorded.faults)
    failovers = [each.takeover_s for each in measures.failovers(recorded)]
    rows = {
        "rounds": f"{outcome.rounds}, of them void: {len(outcome.void)}",
        "faults": f"{told['faults']} ({counts(kinds)})",
        "attempts": f"{told['attempts']}, killed: {told['killed']}",
        "duplicates": told["started_twice"],
        "losses": f"{told['runs_lost']} of {told['runs']} acknowledged runs",
        "failover": measures.spread(failovers),
        "recovery": measures.phase_lengths(recorded, "drain"),
        "open": counts(findings.open) or "nothing",
        "violations": len(outcome.violations),
        "report": folder / "report.md",
    }
    return (f"{name:<12}{value}" for name, value in rows.items())


def counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items()))


if __name__ == "__main__":
    sys.exit(main())
