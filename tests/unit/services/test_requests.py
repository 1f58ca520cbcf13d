from __future__ import annotations

import json
from base64 import urlsafe_b64encode

import pytest

from controlplane.services.errors import InvalidArgument
from controlplane.services.requests import (
    check_range,
    check_text,
    page_key,
    page_size,
    page_token,
    question,
)

ASKED = question("runs", "acme", None)


def made_up(*parts: object) -> str:
    return urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def test_a_token_comes_back_as_its_key() -> None:
    assert page_key(ASKED, page_token(ASKED, [5, "a.b"]), (int, str)) == [5, "a.b"]
    assert page_key(ASKED, "", (int,)) is None


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "A" * 3_000,
        page_token(question("runs", "other", None), [5]),
        page_token(ASKED, ["5"]),
        page_token(ASKED, [5, 6]),
        page_token(ASKED, [1 << 63]),
        made_up(ASKED, True),
        made_up(),
        urlsafe_b64encode(b"[" * 1_400).decode(),
        urlsafe_b64encode(b"7").decode(),
    ],
)
def test_a_token_that_was_not_given_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        page_key(ASKED, token, (int,))
    assert caught.value.violations[0].field == "page_token"


@pytest.mark.parametrize("text", ["\0", "\ud800", "a/b", ""])
def test_a_made_up_text_does_not_reach_the_store(text: str) -> None:
    with pytest.raises(InvalidArgument):
        page_key(ASKED, made_up(ASKED, text), (str,))


def test_sizes_have_limits_and_a_default() -> None:
    assert (page_size(0, 100, 1_000), page_size(7, 100, 1_000)) == (100, 7)
    for size in (-1, 1_001):
        with pytest.raises(InvalidArgument):
            page_size(size, 100, 1_000)


def test_texts_and_numbers_have_limits() -> None:
    assert check_text("f", "fine", 4) == "fine"
    assert check_range("f", 3, 1, 3) == 3
    with pytest.raises(InvalidArgument):
        check_text("f", "too long", 4)
    with pytest.raises(InvalidArgument):
        check_range("f", 4, 1, 3)
