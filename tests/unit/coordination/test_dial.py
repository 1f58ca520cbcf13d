import pytest

from controlplane.coordination.dial import Rotation, parse_endpoint


@pytest.mark.parametrize(
    "text", ["127.0.0.1:2379", "http://127.0.0.1:2379", "http://127.0.0.1:2379/"]
)
def test_endpoints_become_addresses(text):
    assert parse_endpoint(text) == "127.0.0.1:2379"


def test_ipv6_addresses_keep_their_brackets():
    assert parse_endpoint("[::1]:2379") == "[::1]:2379"


@pytest.mark.parametrize("text", ["", "host", ":2379", "host:", "https://host:2379", "host:2379/x"])
def test_other_endpoints_are_refused(text):
    with pytest.raises(ValueError, match="expected host:port"):
        parse_endpoint(text)


def test_only_the_current_member_is_left():
    rotation = Rotation(3)
    rotation.leave(0)
    rotation.leave(0)
    assert rotation.current == 1


def test_after_the_last_member_comes_the_first():
    rotation = Rotation(2, current=1)
    rotation.leave(1)
    assert rotation.current == 0
