from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.core.entries import Assign
from agent.logs.spool import STDERR, STDOUT, Spool

ID = b"a" * 16
ASSIGN = Assign(0, 1, 1, ID, b"i", 1, 1, "d", "r", "t", "acme")
PREFIX = f"logs/acme/d/r/t/{ID.hex()}"


def written(tmp_path: Path):
    spool = Spool(tmp_path)
    log = spool.create(ASSIGN)
    log.paths[STDOUT].write_bytes(b"hello")
    log.paths[STDERR].touch()
    return spool, log


def test_a_log_is_read_from_any_offset(tmp_path: Path):
    _, log = written(tmp_path)
    assert (log.size(STDOUT), log.size(STDERR), log.waiting()) == (5, 0, 5)
    assert log.read(STDOUT, 1, 3) == b"ell"
    assert log.read(STDOUT, 5, 3) == b""


def test_files_that_were_never_made_are_empty(tmp_path: Path):
    log = Spool(tmp_path / "gone").create(ASSIGN)
    assert (log.size(STDOUT), log.read(STDOUT, 0, 9)) == (0, b"")


def test_files_go_when_all_is_over_uploaded_and_read(tmp_path: Path):
    spool, log = written(tmp_path)
    assert not spool.release(ID)
    spool.end(ID)
    assert spool.unfinished()
    assert not spool.release(ID)
    log.uploaded[STDOUT] = 5
    log.readers = 1
    assert not spool.release(ID)
    log.readers = 0
    assert spool.release(ID)
    assert not spool.release(ID)
    assert list(tmp_path.iterdir()) == []
    assert spool.find(ID) is None


def test_a_log_is_made_once(tmp_path: Path):
    spool, log = written(tmp_path)
    assert spool.create(ASSIGN) is log
    assert spool.adopt(ASSIGN) is log
    assert log.asked


def test_the_log_of_an_attempt_of_an_earlier_start_is_found_again(tmp_path: Path):
    written(tmp_path)
    spool = Spool(tmp_path)
    assert spool.recover({ID}) == {}
    log = spool.adopt(ASSIGN)
    assert (log.prefix, log.waiting(), log.ended, log.asked) == (PREFIX, 5, False, False)


def test_output_that_is_owed_is_found_without_its_attempt(tmp_path: Path):
    spool, _ = written(tmp_path)
    spool.end(ID)
    again = Spool(tmp_path)
    log = again.recover(())[ID]
    assert (log.prefix, log.waiting(), log.ended, log.asked) == (PREFIX, 5, True, False)
    log.uploaded[STDOUT] = 5
    assert again.release(ID)
    assert list(tmp_path.iterdir()) == []


def test_an_attempt_without_output_leaves_no_note(tmp_path: Path):
    spool = Spool(tmp_path)
    log = spool.create(ASSIGN)
    for path in log.paths:
        path.touch()
    spool.end(ID)
    assert len(list(tmp_path.iterdir())) == 2
    assert Spool(tmp_path).recover(()) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("note", [None, "logs/acme/d/r"])
def test_output_of_nobody_is_told_and_left_alone(tmp_path: Path, note: str | None):
    _, log = written(tmp_path)
    if note is not None:
        (tmp_path / f"{ID.hex()}.owed").write_text(note)
    (tmp_path / "something else").touch()
    with capture_logs() as logs:
        assert Spool(tmp_path).recover(()) == {}
    assert [line["path"] for line in logs] == [str(log.paths[STDOUT])]
    assert log.paths[STDOUT].read_bytes() == b"hello"


def test_output_that_somebody_deleted_is_not_waited_for(tmp_path: Path):
    spool, log = written(tmp_path)
    spool.end(ID)
    log.paths[STDOUT].unlink()
    assert not spool.release(ID)
    assert log.read(STDOUT, 0, 9) == b""
    assert spool.release(ID)
    assert list(tmp_path.iterdir()) == []
