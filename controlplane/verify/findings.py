"""What a verification has found: violations with their evidence, and how much was judged.

Decides the sentence of each invariant that rows can speak of, and that no more than a bound of
violations is kept in full (all are counted). Does not know how they are found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

Fact: TypeAlias = int | str | None

VIOLATIONS_KEPT = 1_000


class Invariant(Enum):
    """The invariants that rows tell of, by their numbers in the design."""

    I1 = "epochs of a shard strictly grow"
    I2 = "nothing is written by an epoch that was not taken over, nor beyond the last batch"
    I3 = "at most one live attempt per task instance"
    I6 = "no task starts before its trigger rule holds over final parents"
    I7 = "every due instant ends as exactly one of run, skipped, coalesced"
    I8 = "what was acknowledged exists"
    I10 = "an attempt ends no later than its run"
    I11 = "only transitions of the state tables; final is final"
    I12 = "one result per attempt, the one that it reported"
    I14 = "a run whose cancellation was acknowledged is cancelled"
    I15 = "what is counted and sealed equals a recount"
    I18 = "no success without exit status 0"


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold for a subject, and what shows it."""

    invariant: Invariant
    subject: str
    detail: str
    evidence: tuple[tuple[str, Fact], ...] = ()

    def as_document(self) -> dict[str, object]:
        """For machines."""
        return {
            "invariant": self.invariant.name,
            "subject": self.subject,
            "detail": self.detail,
            "evidence": dict(self.evidence),
        }


@dataclass(slots=True)
class Findings:
    """Grows while a verification goes on."""

    violations: list[Violation] = field(default_factory=list)
    found: Counter[Invariant] = field(default_factory=Counter)
    judged: Counter[Invariant] = field(default_factory=Counter)

    def add(self, violations: Iterable[Violation]) -> None:
        """Counts all, keeps the first ones."""
        for each in violations:
            self.found[each.invariant] += 1
            if len(self.violations) < VIOLATIONS_KEPT:
                self.violations.append(each)

    def count(self, rows: int, *invariants: Invariant) -> None:
        """So many rows were judged by each of the invariants."""
        for each in invariants:
            self.judged[each] += rows

    @property
    def clean(self) -> bool:
        return not self.found

    def as_document(self) -> dict[str, object]:
        """For machines."""
        return {
            "clean": self.clean,
            "invariants": [
                {
                    "invariant": each.name,
                    "meaning": each.value,
                    "judged": self.judged[each],
                    "violations": self.found[each],
                }
                for each in Invariant
            ],
            "violations": [each.as_document() for each in self.violations],
        }
