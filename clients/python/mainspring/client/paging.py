"""Reads lists page by page.

Promises: never asks for more than the caller wants, and ends even if the server repeats itself.
"""

from __future__ import annotations

from collections.abc import Callable

_LARGEST_PAGE = 1_000


def gather(read: Callable[[int, str], tuple[int, str]], limit: int | None) -> str:
    """Calls `read(page_size, page_token)` until there is nothing more or `limit` items came.

    `read` keeps the items itself; it returns their number and the token of the next page. The
    answer is the token of the first page that was not read, "" when everything was.
    """
    token, left = "", limit
    while True:
        size = _LARGEST_PAGE if left is None else min(left, _LARGEST_PAGE)
        came, following = read(size, token)
        left = None if left is None else left - came
        if not following or following == token:
            return ""
        if left is not None and left <= 0:
            return following
        token = following
