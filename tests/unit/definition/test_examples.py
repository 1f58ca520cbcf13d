"""The examples and the snippets of the reference are valid files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mainspring.definition import load
from mainspring.definition.tables import DAG, Key, ListOf, Section
from mainspring.ledger import LEDGER_SCRIPT

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs" / "dag-files.md").read_text("utf-8")
SNIPPETS = re.findall(r"```(yaml|json)\n(.*?)```", REFERENCE, re.DOTALL)


@pytest.mark.parametrize("name", ["hello.yaml", "montage.yaml"])
def test_example_has_no_problems(name: str) -> None:
    assert load(ROOT / "examples" / name).problems == []


def test_montage_is_what_its_generator_prints() -> None:
    argv = [sys.executable, "-P", "examples/montage.py"]
    printed = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True).stdout
    assert (ROOT / "examples" / "montage.yaml").read_bytes() == printed


def test_montage_has_the_shape_and_the_script() -> None:
    spec = load(ROOT / "examples" / "montage.yaml").documents[0].spec
    finish: dict[str, float] = {}
    for task in spec.tasks:
        start = max((finish[parent] for parent in task.depends_on), default=0)
        finish[task.task] = start + float(task.process.argv[4])
    assert len(finish) == 187
    assert 3 < max(finish.values()) < 6
    assert {task.process.argv[2] for task in spec.tasks} == {LEDGER_SCRIPT}
    assert len({task.label for task in spec.tasks}) == 8


@pytest.mark.parametrize(("language", "text"), SNIPPETS)
def test_snippet_of_the_reference_is_valid(language: str, text: str) -> None:
    assert load(text, filename=f"snippet.{language}").problems == []


def test_reference_names_every_key() -> None:
    missing = [path for path, _key in keys(DAG, "") if f"| `{path}` |" not in REFERENCE]
    assert missing == []


def keys(section: Section, prefix: str) -> list[tuple[str, Key]]:
    found = []
    for key in section.keys:
        path = f"{prefix}{key.name}"
        is_list = isinstance(key.kind, ListOf)
        inner = key.kind.item if is_list else key.kind
        if isinstance(inner, Section):
            found += [(path, key), *keys(inner, f"{path}[]." if is_list else f"{path}.")]
        else:
            found.append((path, key))
    return found
