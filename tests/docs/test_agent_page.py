"""The page on the agent: its command lines are taken, its unit too, and a journal is shown."""

from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.settings import parse
from tests.docs.pages import blocks
from tests.system.clusters import Cluster

PAGE = "docs/agent.md"
PLACES = ("admin.token", "/etc/mainspring/token", "/var/lib/mainspring/build-1")


def command_lines() -> Iterator[list[str]]:
    """What follows the name of the program, wherever the page calls it."""
    for block in blocks(PAGE, "sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line)
            if words[0] == "mainspring-agent":
                yield words[1:]
    for block in blocks(PAGE, "ini"):
        unit = configparser.ConfigParser()
        unit.optionxform = str
        unit.read_string(block.text.replace("\\\n", " "))
        assert unit["Service"]["KillMode"] == "process"
        yield shlex.split(unit["Service"]["ExecStart"])[1:]


def lines_that(command: str) -> list[list[str]]:
    return [words[1:] for words in command_lines() if words[0] == command]


@pytest.mark.parametrize("words", lines_that("run"), ids=" ".join)
def test_the_options_of_the_page_are_taken(words: list[str], tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("secret\n", encoding="utf-8")
    token.chmod(0o600)
    there = dict(zip(PLACES, (token, token, tmp_path / "work"), strict=True))
    assert parse([str(there.get(word, word)) for word in words]).name == "build-1"


def test_the_page_has_both_ways_to_run_an_agent():
    assert len(lines_that("run")) == 2


def test_the_journal_is_shown_as_the_page_says(cluster: Cluster):
    work = cluster.up.data / "work" / "agent-1"
    for words in lines_that("journal"):
        told = [str(work) if word == PLACES[-1] else word for word in words]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "agent.main", "journal", *told],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "header" in done.stdout
