"""The mutants that are written down: unified diffs, each with the rule that it takes out.

Decides what a patch file is: `Rule:` with the rule in one or more lines, then a diff. Does not know
whether a patch fits the tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("patches")
_CHANGED = re.compile(r"^\+\+\+ b/(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change of the tree. `rule`: what holds without it. `paths`: the files it changes."""

    name: str
    rule: str
    diff: str

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(_CHANGED.findall(self.diff))


def read_patch(name: str, text: str) -> Mutant:
    """A patch file; raises ValueError for one without a rule or without a diff."""
    head, mark, rest = text.partition("--- a/")
    first, colon, rule = head.partition("Rule:")
    if first or not colon or not mark or not rule.strip():
        raise ValueError(f"{name}: a patch begins with `Rule:`, and a diff follows")
    return Mutant(name, " ".join(rule.split()), mark + rest)


def all_patches(folder: Path = FOLDER) -> list[Mutant]:
    """In the order of their names."""
    return [read_patch(file.stem, file.read_text()) for file in sorted(folder.glob("*.patch"))]
