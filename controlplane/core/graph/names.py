"""Decides which texts are ids and which are free text.

Every message names the reason and the way out, and never repeats more of the input than a person
can read. Does not know which field is judged.
"""

from __future__ import annotations

import re

MAX_ID_LENGTH = 200
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHOWN = 60


def shown(text: str) -> str:
    """`text` in quotes, cut to a length that can be read."""
    if len(text) <= _SHOWN:
        return repr(text)
    return f"{text[:_SHOWN]!r}… ({len(text):,} characters)"


def shown_bare(text: str) -> str:
    """The same without quotes, for texts in a row."""
    cut = repr(text[:_SHOWN])[1:-1]
    return cut if len(text) <= _SHOWN else f"{cut}… ({len(text):,} characters)"


def id_problem(text: str) -> str | None:
    """Why `text` is not an id, or None."""
    if not text:
        return "is missing; give it an id of 1 to 200 characters"
    if len(text) > MAX_ID_LENGTH:
        return f"{shown(text)} is too long; an id has at most {MAX_ID_LENGTH} characters"
    if not _ID.fullmatch(text):
        return (
            f"{shown(text)} is not an id; use letters, digits, '.', '_' and '-', "
            "and begin with a letter or digit"
        )
    return None


def text_problem(text: str, limit: int) -> str | None:
    """Why `text` is not free text of at most `limit` characters, or None."""
    if len(text) > limit:
        return f"{shown(text)} is too long; at most {limit:,} characters are kept"
    if any(ord(char) < 32 and char not in "\t\n\r" for char in text):
        return f"{shown(text)} holds a control character; remove it"
    return None
