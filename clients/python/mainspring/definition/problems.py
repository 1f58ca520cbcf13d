"""What can be wrong with a file, and where: positions, field paths, problems.

Decides how a problem reads (`file:line:col: field: message (hint)`) and how many are kept.
Promises that offsets become the lines and columns of an editor: counted from 1, columns in
characters, lines ended by LF, CR or CR LF. Does not know what makes a file wrong.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

# A path is a chain from a value up to the document: its parent's path and its own name or index, or
# the key of a map as it is printed (`['team']`). Chains are cheap to make for every value; only
# those of problems become text.
Path: TypeAlias = "tuple[Path, str | int] | None"

# A file that is wrong in more places than this is wrong in kind; the rest would be noise.
MAX_PROBLEMS = 1_000
SHOWN_CHARACTERS = 60

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    col: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.col}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct. `field` is the path of the API (`tasks[3].depends_on[0]`) or empty."""

    field: str
    message: str
    hint: str
    position: Position

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.position}: {field}{self.message}{hint}"


class SourceError(ValueError):
    """A text that cannot be read further: a place in it, what is wrong, what to do."""

    def __init__(self, offset: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message
        self.hint = hint


class TextMap:
    """Turns offsets of one text into positions; lines are counted on the first question."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in _LINE_END.finditer(self.text))]

    def position(self, offset: int) -> Position:
        line = bisect_right(self._line_starts, offset)
        return Position(self.file, line, offset - self._line_starts[line - 1] + 1)


class Report:
    """Collects the problems of one document, at most `MAX_PROBLEMS` and a last word on the rest."""

    def __init__(self, places: TextMap) -> None:
        self.places = places
        self.problems: list[Problem] = []

    @property
    def full(self) -> bool:
        return len(self.problems) > MAX_PROBLEMS

    def add(self, path: Path, offset: int, message: str, hint: str = "") -> None:
        if self.full:
            return
        if len(self.problems) == MAX_PROBLEMS:
            path, message, hint = None, "too many problems; the rest is not listed", ""
        position = self.places.position(offset)
        self.problems.append(Problem(format_path(path), message, hint, position))


def format_path(path: Path) -> str:
    parts: list[str] = []
    while path is not None:
        path, segment = path
        if isinstance(segment, int):
            parts.append(f"[{segment}]")
        else:
            parts.append(segment if segment.startswith("[") else f".{_printable(segment)}")
    return "".join(reversed(parts)).removeprefix(".")


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


def shown(text: str) -> str:
    """A text of the file, quoted and cut so that a message stays one readable line."""
    if len(text) > SHOWN_CHARACTERS:
        return f"{text[:SHOWN_CHARACTERS]!a}… ({len(text):,} characters)"
    return repr(text)
