"""Proves the checkers by mutants: `make mutants [ONLY=name] [MUTANT_SEED=1] [MUTANT_COUNT=24]`.

Each mutant of patches/ takes one rule out and is shown to the checkers, the most general one first;
then random mistakes are made in the pure cores, which their unit tests must see. Prints a line as
each is done, survivors with their diff, and a table. Ends with status 1 when one survived or did
not apply. Two at a time, each in a copy of the tree.
"""

from __future__ import annotations

import argparse
import fnmatch
import queue
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.mutants.checkers import Checker, Seen, Unreliable, general, of_core
from tests.mutants.copies import Copy, DoesNotApply, make_copy
from tests.mutants.equivalents import FILE, read_equivalents, reason_of
from tests.mutants.mistakes import Mistake, chosen
from tests.mutants.patches import Mutant, all_patches

WORKERS = 2
SEED = 20_260
COUNT = 24
# Letters of what a checker said.
WHY_MOST = 160
CORES = ("controlplane/core", "agent/core")


class Trial(NamedTuple):
    """A mutant and those who shall see it."""

    mutant: Mutant
    checkers: Sequence[Checker]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant. `checker`: who saw it."""

    mutant: Mutant
    seconds: float
    checker: str = ""
    seen: Seen | None = None
    problem: str = ""

    @property
    def caught(self) -> bool:
        return self.seen is not None

    @property
    def words(self) -> str:
        if self.seen is None:
            return f"DOES NOT APPLY: {self.problem}" if self.problem else "SURVIVED"
        return f"{self.checker}: {self.seen.by}"


def try_out(trial: Trial, copy: Copy, intact: Copy) -> Verdict:
    """Shows a mutant to one checker after the other until one sees it."""
    mutant, begun = trial.mutant, time.monotonic()
    try:
        with copy.changed(mutant.diff, mutant.paths):
            for checker in trial.checkers:
                seen = checker.look(copy, intact)
                if isinstance(seen, Unreliable):
                    print(f"{mutant.name}: {checker.name}: {seen.by}: {seen.why}", flush=True)
                elif seen is not None:
                    return Verdict(mutant, time.monotonic() - begun, checker.name, seen)
    except DoesNotApply as error:
        return Verdict(mutant, time.monotonic() - begun, problem=str(error))
    return Verdict(mutant, time.monotonic() - begun)


def try_all(
    trials: Iterable[Trial], copies: Sequence[Copy], intact: Copy, done: Callable[[Verdict], None]
) -> list[Verdict]:
    """All of them, one at a time in each of the copies; in the order of the trials."""
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(trial: Trial) -> Verdict:
        copy = free.get()
        try:
            verdict = try_out(trial, copy, intact)
        finally:
            free.put(copy)
        done(verdict)
        return verdict

    with ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(one, trials))


def random_trials(intact: Copy, seed: int, count: int) -> list[Trial]:
    """Mistakes in the cores that are not known to change nothing."""
    files = [file for core in CORES for file in (intact.folder / core).rglob("*.py")]
    texts = {file.relative_to(intact.folder).as_posix(): file.read_text() for file in files}
    known = read_equivalents(FILE.read_text())
    found = chosen(texts, seed, count)
    for mistake in found:
        if reason := reason_of(mistake, known):
            print(f"changes nothing: {_name(mistake)}: {mistake.reads}  ({reason})", flush=True)
    return [
        Trial(Mutant(_name(found), f"{found.kind}: {found.reads}", found.diff), of_core(found.path))
        for found in found
        if not reason_of(found, known)
    ]


def _name(mistake: Mistake) -> str:
    return f"{mistake.path}:{mistake.line}"


def table(verdicts: Sequence[Verdict]) -> str:
    """A line a mutant: its name, the rule, who saw it, after how many seconds."""
    rows = [("mutant", "what it breaks", "seen by", "s")]
    rows += [(v.mutant.name, v.mutant.rule, v.words, f"{v.seconds:.0f}") for v in verdicts]
    widths = [min(60, max(len(row[column]) for row in rows)) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many were caught, and by whom."""
    by = Counter(verdict.checker for verdict in verdicts if verdict.caught)
    names = ", ".join(f"{count} by {name}" for name, count in by.items())
    return f"{by.total()} of {len(verdicts)} mutants caught ({names})"


def all_caught(verdicts: Sequence[Verdict]) -> bool:
    """Whether there were any, and none survived."""
    return bool(verdicts) and all(verdict.caught for verdict in verdicts)


def _tell(verdict: Verdict) -> None:
    why = f" ({verdict.seen.why[:WHY_MOST]})" if verdict.seen and verdict.seen.why else ""
    print(f"{verdict.seconds:5.0f} s  {verdict.mutant.name}: {verdict.words}{why}", flush=True)
    if not verdict.caught:
        print(verdict.mutant.diff, flush=True)


def main() -> int:
    """Tries the mutants that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help="names of mutants, as a shell pattern")
    parser.add_argument("--seed", type=int, default=SEED, help="of the random mutants")
    parser.add_argument("--count", type=int, default=COUNT, help="how many random mutants")
    parser.add_argument("--workers", type=int, default=WORKERS, help="mutants at a time")
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mainspring-mutants-") as scratch:
        intact = make_copy(Path(scratch, "intact"))
        trials = [Trial(mutant, general(mutant.paths)) for mutant in all_patches()]
        trials += random_trials(intact, asked.seed, asked.count)
        trials = [each for each in trials if fnmatch.fnmatch(each.mutant.name, asked.only)]
        copies = [intact.clone(Path(scratch, f"mutated-{n}")) for n in range(asked.workers)]
        verdicts = try_all(trials, copies, intact, _tell)
    print(f"\n{table(verdicts)}\n\n{summary(verdicts)} in {time.monotonic() - begun:.0f} s")
    return 0 if all_caught(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
