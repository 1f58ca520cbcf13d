"""Reading addresses."""

from __future__ import annotations

import pytest
from mainspring.client.addresses import parse_address, parse_addresses
from mainspring.client.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("127.0.0.1:7070", "127.0.0.1:7070", True),
        ("127.8.9.1:1", "127.8.9.1:1", True),
        ("localhost:1", "localhost:1", True),
        ("[::1]:65535", "[::1]:65535", True),
        (" Node.Example:443 ", "node.example:443", False),
        ("10.0.0.1:7070", "10.0.0.1:7070", False),
        ("localhost.example:1", "localhost.example:1", False),
        ("[fe80::1]:1", "[fe80::1]:1", False),
        ("0.0.0.0:1", "0.0.0.0:1", False),
    ],
)
def test_addresses(text: str, shown: str, loopback: bool) -> None:
    address = parse_address(text)
    assert (str(address), address.loopback) == (shown, loopback)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "x",
        "x:",
        ":1",
        "x:0",
        "x:65536",
        "x:-1",
        "x:1e3",
        "::1:5",
        "a/b:1",
        "u@h:1",
        "h:\uff11",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="HOST:PORT"):
        parse_address(text)


def test_several_addresses_keep_their_order_without_repetitions() -> None:
    assert [str(each) for each in parse_addresses("b:2, a:1,b:2,")] == ["b:2", "a:1"]


@pytest.mark.parametrize("text", ["", ",", ",".join(["h:1"] * 65), "x" * 1_000_000])
def test_no_address_or_too_many(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_addresses(text)
    assert len(caught.value.message) < 300
