"""Reads the code blocks of the documentation."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of code: the page, the line of its first line, its language, its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, language: str) -> list[Block]:
    """The blocks of a page that are written in a language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text[: found.start()].count("\n") + 2, language, found.group(2))
        for found in _BLOCK.finditer(text)
        if found.group(1) == language
    ]


def commands(block: Block) -> list[list[str]]:
    """The `mainspring` commands of a block as arguments, without the program and comments."""
    lines = block.text.splitlines()
    split = [shlex.split(line, comments=True) for line in lines if line.startswith("mainspring ")]
    return [[word for word in words[1:] if word != "&"] for words in split]
