"""Finds SQL by name: the blocks `-- name: xyz` of the files in `sql/`.

A name has one block. The lines of a comment after the name say why the query is as it is; they stay
out of what is sent. Does not know any query; tests prove that each is used and can be prepared.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_BLOCK = re.compile(r"^-- name: *(\S+) *$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n?", re.MULTILINE)


def parse_queries(text: str) -> dict[str, str]:
    """The named queries of one file. Raises ValueError for a name used twice or text before one."""
    head, *parts = _BLOCK.split(text)
    if _COMMENT.sub("", head).strip():
        raise ValueError("a query without a name")
    found: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in found:
            raise ValueError(f"two queries are named {name}")
        found[name] = _COMMENT.sub("", body).strip().removesuffix(";")
    return found


@cache
def all_queries() -> dict[str, str]:
    """Every named query of the store."""
    found: dict[str, str] = {}
    for path in sorted(files(__package__).joinpath("sql").iterdir(), key=lambda path: path.name):
        for name, text in parse_queries(path.read_text(encoding="utf-8")).items():
            if name in found:
                raise ValueError(f"two queries are named {name}")
            found[name] = text
    return found


def query(name: str) -> str:
    """The text of a query. Raises KeyError for a name that no file has."""
    return all_queries()[name]
