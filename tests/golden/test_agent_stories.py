"""Plays every story in `agent_stories/` and compares what the agent does, line by line.

Stories are written as those of the shard; MAINSPRING_UPDATE=1 writes the output anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.golden.agent_script import AgentScript
from tests.golden.script import NOTHING
from tests.golden.test_stories import RULE, blocks

STORIES = sorted((Path(__file__).parent / "agent_stories").glob("*.txt"))


def play(text: str) -> str:
    """The story with the output that it has now."""
    script, told = AgentScript(), []
    for lines, _ in blocks(text):
        output = [script.play(line) for line in lines if not line.startswith("#")]
        kept = [told_now for told_now in output if told_now != NOTHING] or output[:1]
        told.append("\n".join([*lines, RULE, *kept]))
    return "\n\n".join(told) + "\n"


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_story(story: Path) -> None:
    before = story.read_text(encoding="utf-8")
    now = play(before)
    if os.environ.get("MAINSPRING_UPDATE"):
        story.write_text(now, encoding="utf-8")
    assert now == before


def test_a_difference_is_seen() -> None:
    assert play("start\n----\nsomething\n") == "start\n----\nholds: nothing\n"


def test_there_are_stories() -> None:
    assert len(STORIES) >= 10
