"""Plays every story in `stories/` and compares what the shard commits and sends, line by line.

A story is a text of blocks: lines of input, `----`, the expected output, an empty line. To write
the output anew, run with MAINSPRING_UPDATE=1 and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golden.script import NOTHING, Script

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))
RULE = "----"


def blocks(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """(input lines, expected lines) of each block; remarks belong to the input."""
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        cut = lines.index(RULE) if RULE in lines else len(lines)
        yield lines[:cut], lines[cut + 1 :]


def acts(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each line of input with those that are indented under it."""
    told = [line for line in lines if not line.startswith("#")]
    starts = [place for place, line in enumerate(told) if not line.startswith(" ")]
    for start, end in zip(starts, [*starts[1:], len(told)], strict=True):
        yield told[start], told[start + 1 : end]


def play(text: str) -> str:
    """The story with the output that it has now."""
    script, told = Script(), []
    for lines, _ in blocks(text):
        output = [script.play(line, body) for line, body in acts(lines)]
        heard = [block for block in output if block]
        kept = [block for block in heard if block != NOTHING] or heard[:1]
        told.append("\n".join([*lines, RULE, *kept] if kept else lines))
    return "\n\n".join(told) + "\n"


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_story(story: Path) -> None:
    before = story.read_text(encoding="utf-8")
    now = play(before)
    if os.environ.get("MAINSPRING_UPDATE"):
        story.write_text(now, encoding="utf-8")
    assert now == before


def test_a_difference_is_seen() -> None:
    assert play("agent ant cores=1\n----\nsomething\n") == "agent ant cores=1\n----\nnothing\n"


def test_there_are_stories() -> None:
    assert len(STORIES) >= 10
