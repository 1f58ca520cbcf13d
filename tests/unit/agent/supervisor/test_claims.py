"""Claim files: made once, appended to, and read by whoever comes after."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.supervisor import proc
from agent.supervisor.claims import Claims, is_id
from agent.supervisor.protocol import body

CLAIMED = {"at_us": 5, "boot_id": proc.boot_id(), "by": "process"}
SPAWNED = {"id": "aa", "at_us": 6, "pid": 7, "ticks": 8}
ENDED = {"id": "aa", "code": 0}


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    made = Claims(str(tmp_path / "attempts"))
    made.make("aa", CLAIMED)
    return made


def known(claims: Claims) -> dict:
    return claims.read_all()["aa"]


def test_a_claim_is_made_once(claims: Claims):
    with pytest.raises(FileExistsError):
        claims.make("aa", CLAIMED)
    claims.forget("aa")
    claims.forget("aa")
    assert claims.read_all() == {}


def test_what_was_spawned_and_not_ended_is_claimed_only(claims: Claims):
    claims.append("aa", body("spawned", SPAWNED))
    assert known(claims) == {"id": "aa", "claimed_at_us": 5}
    assert claims.spawned() == {"aa": {**SPAWNED, "by": "process"}}


def test_an_end_is_kept(claims: Claims):
    claims.append("aa", body("spawned", SPAWNED))
    claims.append("aa", body("ended", ENDED))
    assert known(claims) == {
        "id": "aa",
        "claimed_at_us": 5,
        "spawned": SPAWNED,
        "ended": ENDED,
    }
    assert claims.spawned() == {}


def test_a_failed_start_is_kept(claims: Claims):
    claims.append("aa", body("failed", ENDED))
    assert known(claims) == {"id": "aa", "claimed_at_us": 5, "failed": ENDED}


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_cut_line_counts_as_not_written(claims: Claims, cut: int):
    claims.append("aa", body("spawned", SPAWNED))
    claims.append("aa", body("ended", ENDED))
    path = Path(claims.path("aa"))
    path.write_bytes(path.read_bytes()[:-cut])
    assert "ended" not in known(claims)
    assert claims.spawned()["aa"]["pid"] == 7


@pytest.mark.parametrize("text", [b"", b"\0" * 100, b'{"claimed": 1}\n', b"\n\n", b"[]\n"])
def test_a_claim_of_which_nothing_can_be_read_is_as_old_as_its_file(claims: Claims, text: bytes):
    path = Path(claims.path("aa"))
    path.write_bytes(text)
    assert known(claims) == {"id": "aa", "claimed_at_us": path.stat().st_mtime_ns // 1_000}
    assert claims.spawned() == {"aa": {"by": ""}}


def test_what_another_boot_claimed_cannot_run_now(tmp_path: Path):
    claims = Claims(str(tmp_path))
    claims.make("aa", {**CLAIMED, "boot_id": "another"})
    claims.append("aa", body("spawned", SPAWNED))
    assert claims.spawned() == {}
    assert list(claims.read_all()) == ["aa"]


def test_only_hex_of_some_length_is_an_id():
    assert is_id("0123456789abcdef")
    assert not any(map(is_id, ("", "..", "a/b", "AA", "a" * 65, 7, None)))


def test_a_claim_that_is_gone_cannot_be_written(claims: Claims):
    claims.forget("aa")
    with pytest.raises(FileNotFoundError):
        claims.append("aa", b"{}")
