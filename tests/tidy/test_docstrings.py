"""Every module begins by saying what it is for; a test file is named after what it tests."""

from __future__ import annotations

import ast

from tests.tidy.sources import Source, expect_none, sample, sources


def speechless(source: Source) -> bool:
    """True for a module with code and no docstring; an empty package file needs none."""
    if source.path.rsplit("/", 1)[-1].startswith("test_"):
        return False
    return bool(source.tree.body) and ast.get_docstring(source.tree) is None


def test_every_module_has_a_docstring() -> None:
    expect_none(source.path for source in sources() if speechless(source))


def test_a_module_without_a_docstring_is_found() -> None:
    assert speechless(sample("x = 1"))
    assert not speechless(sample('"""Counts."""\nx = 1'))
    assert not speechless(sample(""))
    assert not speechless(sample("x = 1", "tests/unit/test_x.py"))
