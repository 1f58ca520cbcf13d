"""Decides the limits of the fields that many requests have: page sizes, tokens, texts, waits.

A page token is the key of the last item of a page and a hash of the question; it is opaque, but
holds no secret, and one that was made up or belongs to another question is refused.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import cast

from controlplane.core.graph.names import id_problem, shown, text_problem
from controlplane.services.errors import refused

Key = Sequence[int | str]
MAX_REQUEST_ID = 128
MAX_ETAG = 128
MAX_REASON = 1_000
_MAX_TOKEN = 2_000
_HASH_CHARS = 16


def page_size(given: int, default: int, most: int) -> int:
    """The size of a page; 0 asks for the default."""
    if not 0 <= given <= most:
        raise refused("page_size", f"{given} is out of range; give 1 to {most:,}, or 0")
    return given or default


def question(*parts: object) -> str:
    """What a page token belongs to: the method and all its arguments but page size and token."""
    return sha256(repr(parts).encode()).hexdigest()[:_HASH_CHARS]


def page_token(asked: str, key: Key) -> str:
    """The token of the page after the item with this key."""
    return urlsafe_b64encode(json.dumps([asked, *key]).encode()).decode().rstrip("=")


def page_key(asked: str, token: str, shape: tuple[type[int | str], ...]) -> Key | None:
    """The key inside a token, None for the first page. `shape`: the types of its parts."""
    if not token:
        return None
    try:
        if len(token) > _MAX_TOKEN:
            raise ValueError
        padded = token + "=" * (-len(token) % 4)
        hashed, *key = cast(
            "list[int | str]", json.loads(urlsafe_b64decode(padded.encode("ascii")))
        )
        if hashed != asked or tuple(map(type, key)) != shape:
            raise ValueError
        if not all(map(_storable, key)):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        message = f"{shown(token)} is no token of this list; pass back the one of the last answer"
        raise refused("page_token", message) from None
    return key


def _storable(part: int | str) -> bool:
    return id_problem(part) is None if isinstance(part, str) else abs(part) < 1 << 63


def check_text(field: str, text: str, most: int) -> str:
    """Free text within its limit."""
    if reason := text_problem(text, most):
        raise refused(field, reason)
    return text


def check_range(field: str, value: int, least: int, most: int) -> int:
    """A number within its range."""
    if not least <= value <= most:
        raise refused(field, f"{value} is out of range; give {least:,} to {most:,}")
    return value
