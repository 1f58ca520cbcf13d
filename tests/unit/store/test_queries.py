"""The loader of named queries."""

from __future__ import annotations

import pytest

from controlplane.store.queries import all_queries, parse_queries, query

TWO = """
-- About the file.

-- name: one
-- Why it is so.
SELECT 1
    -- and why this line
    + 1;

-- name: two
SELECT 2
"""


def test_blocks_become_queries_without_their_comments():
    assert parse_queries(TWO) == {"one": "SELECT 1\n    + 1", "two": "SELECT 2"}


def test_a_name_has_one_block():
    with pytest.raises(ValueError, match="two queries are named one"):
        parse_queries("-- name: one\nSELECT 1\n-- name: one\nSELECT 2")


def test_a_query_without_a_name_is_refused():
    with pytest.raises(ValueError, match="without a name"):
        parse_queries("SELECT 1;\n-- name: one\nSELECT 1")


def test_an_unknown_name_is_an_error():
    with pytest.raises(KeyError):
        query("no_such_query")


def test_no_query_is_empty():
    assert all(all_queries().values())
