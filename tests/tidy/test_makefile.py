"""The commands people type: each is explained, makes the environment ready, and exists."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.tidy.sources import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
RULE = re.compile(r"^([a-z][a-z-]*):(?!=)([^#\n]*)(?:## (.*))?$", re.MULTILINE)
PROMISED = {
    *("setup", "demo", "up", "test", "check", "generated", "proto", "lint", "types", "sim"),
    *("wf", "bench", "clean", "help"),
}
NEED_NOTHING = {"help", "setup", "clean"}


def rules(text: str) -> dict[str, tuple[set[str], str]]:
    """Target → what it depends on, and its explanation."""
    return {name: (set(needs.split()), words or "") for name, needs, words in RULE.findall(text)}


def unexplained(text: str) -> list[str]:
    return [name for name, (_, words) in rules(text).items() if not words]


def unprepared(text: str) -> list[str]:
    """Targets that would run in an environment that is not ready."""
    found = rules(text)

    def prepared(name: str) -> bool:
        return name == "setup" or any(prepared(need) for need in found[name][0])

    return [name for name in found if name not in NEED_NOTHING and not prepared(name)]


def phony(text: str) -> set[str]:
    return set(" ".join(re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE)).split())


def test_every_promised_target_exists_and_is_phony() -> None:
    assert PROMISED - set(rules(MAKEFILE)) == set()
    assert set(rules(MAKEFILE)) == phony(MAKEFILE)


def test_every_target_is_explained_and_prepared() -> None:
    assert unexplained(MAKEFILE) == []
    assert unprepared(MAKEFILE) == []


def test_a_target_without_words_or_environment_is_found() -> None:
    text = "setup: ## Install\n\ttrue\nlint:\n\ttrue\ncheck: lint ## All\n"
    assert unexplained(text) == ["lint"]
    assert unprepared(text) == ["lint", "check"]


@pytest.mark.parametrize("script", [".ci/run", ".ci/setup"])
def test_scripts_are_executable_and_parse(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    checked = subprocess.run(["bash", "-n", ROOT / script], capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
