from __future__ import annotations

import os
from pathlib import Path

from agent.core.entries import Assign
from agent.logs.spool import STDERR, STDOUT, Spool

ID = b"a" * 16


def written(tmp_path: Path):
    spool = Spool(tmp_path)
    log = spool.create(Assign(0, 1, 1, ID, b"i", 1, "d", "r", "t", "acme"))
    with log.files() as (stdout, _stderr):
        os.write(stdout, b"hello")
    return spool, log


def test_a_log_is_read_from_any_offset(tmp_path: Path):
    _, log = written(tmp_path)
    assert (log.size(STDOUT), log.size(STDERR), log.waiting()) == (5, 0, 5)
    assert log.read(STDOUT, 1, 3) == b"ell"
    assert log.read(STDOUT, 5, 3) == b""


def test_files_that_were_never_made_are_empty(tmp_path: Path):
    log = Spool(tmp_path / "gone").create(Assign(0, 1, 1, ID, b"i"))
    assert (log.size(STDOUT), log.read(STDOUT, 0, 9)) == (0, b"")


def test_files_go_when_all_is_over_uploaded_and_read(tmp_path: Path):
    spool, log = written(tmp_path)
    assert spool.live() == [log]
    assert not spool.release(ID)
    log.ended = True
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
