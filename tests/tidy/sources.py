"""The files that the rules of the house are checked on.

Decides: what counts as ours (everything git knows or would add) and what is exempt (generated
code). Promises: each file is read and parsed once per process. Does not know any rule.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = {".py", ".md", ".sql", ".proto", ".toml", ".yaml", ".yml", ".json", ".sh", ".cfg", ""}


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file: its path inside the repository, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/")


def sample(text: str, path: str = "controlplane/sample.py") -> Source:
    """A file that exists only in a test: the mutants that prove a rule."""
    return Source(path, text, ast.parse(text))


@cache
def tracked() -> tuple[str, ...]:
    """Paths of all files of ours that exist, in order."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(sorted(name for name in set(listed.splitlines()) if (ROOT / name).is_file()))


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Path and content of every text file of ours, generated ones included."""
    names = [name for name in tracked() if Path(name).suffix in TEXT]
    return tuple((name, (ROOT / name).read_text(encoding="utf-8")) for name in names)


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file written by hand."""
    return tuple(
        Source(name, text, ast.parse(text, name))
        for name, text in texts()
        if name.endswith(".py") and "_pb2" not in name
    )


def product() -> list[Source]:
    """What is shipped or run by users: everything but the tests."""
    return [source for source in sources() if not source.is_test]


def expect_none(found: Iterable[str]) -> None:
    """Fails with the whole list, one finding a line."""
    findings = list(found)
    assert not findings, "\n" + "\n".join(findings)
