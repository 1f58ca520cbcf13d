"""The mistakes that are known to change nothing, each with its reason.

Decides which of the random mutants need not be caught. Promises nothing about the reasons: those
are for readers.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.mutants.mistakes import Mistake

FILE = Path(__file__).with_name("equivalent.toml")


class Equivalent(NamedTuple):
    """A mistake by its text: the changed lines as they were, and as they read with it."""

    path: str
    function: str
    was: str
    reads: str
    reason: str

    def is_it(self, mistake: Mistake) -> bool:
        """Whether a mistake is this one."""
        return self[:4] == (mistake.path, mistake.function, mistake.was, mistake.reads)


def read_equivalents(text: str) -> list[Equivalent]:
    """The entries; raises TypeError for one with other keys, ValueError without a reason."""
    found = [Equivalent(**entry) for entry in tomllib.loads(text).get("equivalent", ())]
    for each in found:
        if not each.reason.strip():
            raise ValueError(f"{each.path}: {each.was!r} has no reason")
    return found


def reason_of(mistake: Mistake, known: Iterable[Equivalent]) -> str:
    """Why a mistake changes nothing; empty: it is not known to."""
    return next((each.reason for each in known if each.is_it(mistake)), "")
