from __future__ import annotations

import pytest
from mainspring.logkeys import chunk_key, log_prefix, parse_offset


def test_a_chunk_is_named_by_its_attempt_stream_and_offset():
    prefix = log_prefix("acme", "d", "r", "t.1_-", b"\xab" * 16)
    key = chunk_key(prefix, "stderr", 42)
    assert key == f"logs/acme/d/r/t.1_-/{'ab' * 16}/stderr/0000000000000042"
    assert parse_offset(key) == 42


def test_no_name_can_leave_its_folder_or_meet_another():
    names = ["..", ".", "a/b", "a=2Fb", "a b", "é", "=", ""]
    prefixes = {log_prefix("t", "d", "r", name, b"x") for name in names}
    assert len(prefixes) == len(names)
    assert all(prefix.count("/") == 5 for prefix in prefixes)
    assert log_prefix("t", "d", "r", "..", b"x").split("/")[4] == "=2E."


@pytest.mark.parametrize("key", ["", "a/stdout/1", "a/other/0000000000000001", "stdout/x"])
def test_other_names_are_no_chunks(key: str):
    with pytest.raises(ValueError, match="not the name"):
        parse_offset(key)
