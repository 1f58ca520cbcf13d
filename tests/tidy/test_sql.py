"""SQL lies in named files of the store, never in a string of the program."""

from __future__ import annotations

import ast
import re

import pytest

from tests.tidy.sources import Source, expect_none, product, sample

STATEMENT = re.compile(
    r"\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+\s+AS\s*\("
    r"|(CREATE|ALTER|DROP)\s+(TABLE|INDEX)\s)"
)


def embedded_sql(source: Source) -> list[str]:
    return [
        f"{source.path}:{node.lineno}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and STATEMENT.match(node.value)
    ]


def test_no_sql_in_the_program() -> None:
    expect_none(found for source in product() for found in embedded_sql(source))


@pytest.mark.parametrize(
    "text",
    ["q = 'SELECT 1'", "q = f'DELETE FROM run WHERE run = {x}'", "q = '''\n  INSERT INTO run'''"],
)
def test_sql_in_a_string_is_found(text: str) -> None:
    assert len(embedded_sql(sample(text.replace("run'''", "run VALUES'''")))) == 1


def test_prose_passes() -> None:
    assert embedded_sql(sample("x = 'Select a DAG, then update it'")) == []
