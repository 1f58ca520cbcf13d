from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from structlog.testing import capture_logs

from agent.core.entries import Leadership
from agent.core.records import JournalState, Record, StartOfAgent
from agent.journal.codec import decode_record, encode_record
from agent.journal.file import Journal, JournalLost, open_journal
from agent.journal.reading import read_journal
from tests.unit.agent.journal.samples import (
    ALL_KINDS,
    HOLDER,
    INCARNATION,
    accepted,
    acked,
    attempt_id,
    finished,
    histories,
    started,
)

RECORDS = ALL_KINDS[1:]


def start(path: Path, boot_id: str = "boot", prune_bytes: int = 1 << 20):
    return open_journal(path, boot_id, 5, prune_bytes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def write(path: Path, *records: Record) -> bytes:
    """Makes a journal with these records; returns its incarnation."""
    journal, state = start(path)
    journal.append(records)
    journal.sync()
    journal.close()
    return state.incarnation


def records_of(path: Path) -> list[Record]:
    return [record for _, record in read_journal(path.read_bytes()).records]


class Syncs:
    """Counts what is asked of the disk; fails when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.fail = False
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, descriptor: int) -> None:
        self.count += 1
        if self.fail:
            raise OSError(errno.EIO, "Input/output error")
        self._real(descriptor)


def test_a_first_start_makes_a_journal(path: Path):
    journal, state = start(path)
    assert len(journal.incarnation) == 16
    assert state == JournalState(journal.incarnation, StartOfAgent(1, "boot", 5))
    assert records_of(path) == [StartOfAgent(1, "boot", 5)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["journal"]
    journal.close()


def test_the_next_start_knows_what_was_written(path: Path):
    incarnation = write(path, *RECORDS)
    journal, state = start(path, "next boot")
    assert (journal.incarnation, state.incarnation) == (incarnation, incarnation)
    assert state.start == StartOfAgent(2, "next boot", 5)
    assert state.epochs == {0: Leadership(0, 1, HOLDER, 4)}
    assert list(state.held) == [attempt_id(2)]
    assert state.held[attempt_id(2)].boot_id == "boot"
    journal.close()


def test_the_state_that_is_handed_out_is_not_that_of_the_journal(path: Path):
    journal, state = start(path)
    journal.append([accepted(1)])
    journal.sync()
    assert not state.held
    journal.close()


def test_every_cut_of_a_journal_can_be_gone_on_with(path: Path):
    incarnation = write(path, *RECORDS)
    whole = path.read_bytes()
    full = records_of(path)
    header = read_journal(whole).records[0][0]
    for length in range(header, len(whole) + 1):
        os.truncate(path, 0)
        path.write_bytes(whole[:length])
        kept = records_of(path)
        with capture_logs() as logs:
            journal, state = start(path)
        assert state.incarnation == incarnation
        cut = [line for line in logs if "cut off" in line["event"]]
        assert bool(cut) == (read_journal(whole[:length]).end < length)
        journal.append([acked(2)])
        journal.sync()
        journal.close()
        number = state.start.number
        assert records_of(path) == [*kept, StartOfAgent(number, "boot", 5), acked(2)]
        assert kept == full[: len(kept)]


def test_a_flipped_byte_is_never_read_as_a_record(path: Path):
    write(path, *RECORDS)
    last = read_journal(path.read_bytes()).records[-1][0]
    for at in range(path.stat().st_size):
        for left in path.parent.iterdir():
            left.unlink()
        incarnation = write(path, *RECORDS)
        full = records_of(path)
        damaged = bytearray(path.read_bytes())
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with capture_logs() as logs:
            journal, state = start(path)
        journal.close()
        kept = records_of(path)[:-1]
        anew = at < last
        assert kept == ([] if anew else full[:-1])
        assert (state.incarnation != incarnation) == anew
        assert path.with_name("journal.lost-1").exists() == anew
        assert logs[0]["log_level"] == ("error" if anew else "warning")


def test_a_copy_is_put_aside_for_a_new_incarnation(path: Path, tmp_path: Path):
    incarnation = write(path, *RECORDS)
    copy = tmp_path / "copy" / "journal"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    with capture_logs() as logs:
        journal, state = start(copy)
    journal.close()
    assert state.incarnation != incarnation
    assert not state.held
    assert logs[0]["reason"] == "it is a copy of a journal"
    assert copy.with_name("journal.lost-1").read_bytes() == path.read_bytes()
    shutil.copy(path, copy.with_name("again"))
    copy.with_name("again").rename(copy)
    start(copy)[0].close()
    assert copy.with_name("journal.lost-2").exists()


def test_a_lost_file_is_a_new_incarnation(path: Path):
    incarnation = write(path, *RECORDS)
    path.unlink()
    journal, state = start(path)
    journal.close()
    assert state.incarnation != incarnation
    assert state.start.number == 1


def test_what_a_start_left_half_made_is_replaced(path: Path):
    path.with_name("journal.new").write_bytes(b"half")
    write(path)
    assert [each.name for each in path.parent.iterdir()] == ["journal"]


def test_many_records_share_one_write_to_disk(path: Path, monkeypatch: pytest.MonkeyPatch):
    journal, _ = start(path)
    syncs = Syncs(monkeypatch)
    for number in range(1000):
        journal.append([accepted(number)])
    journal.sync()
    assert syncs.count == 1
    assert len(records_of(path)) == 1001
    journal.close()


def test_what_is_flushed_is_in_the_file_before_any_sync(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    journal, _ = start(path)
    syncs = Syncs(monkeypatch)
    journal.append([accepted(1), started(1)])
    assert len(records_of(path)) == 1
    journal.flush()
    assert records_of(path)[1:] == [accepted(1), started(1)]
    assert syncs.count == 0
    journal.close()


def test_a_journal_that_was_deleted_is_noticed(path: Path):
    journal, _ = start(path)
    path.unlink()
    journal.append([accepted(1)])
    with pytest.raises(JournalLost, match="was deleted"):
        journal.sync()
    journal.close()


def test_nothing_is_written_after_a_writing_that_failed(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    journal, _ = start(path)
    syncs = Syncs(monkeypatch)
    syncs.fail = True
    journal.append([accepted(1)])
    with pytest.raises(OSError, match="Input/output"):
        journal.sync()
    syncs.fail = False
    with pytest.raises(AssertionError, match="not written any more"):
        journal.sync()
    journal.close()


def test_a_full_disk_leaves_a_journal_that_can_be_gone_on_with(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    journal, _ = start(path)
    real = os.write

    def cut_short(descriptor: int, data: memoryview) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:20])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", cut_short)
        journal.append([accepted(1)])
        with pytest.raises(OSError, match="No space left"):
            journal.sync()
    journal.close()
    again, state = start(path)
    again.close()
    assert state.incarnation == journal.incarnation
    assert state.start.number == 2
    assert not state.held


def test_history_is_left_out_when_a_journal_is_written_anew(path: Path):
    journal, state = start(path, prune_bytes=2_000)
    journal.append([Leadership(0, 1, HOLDER, 4), accepted(0), started(0)])
    for number in range(1, 60):
        journal.append([accepted(number), started(number), finished(number), acked(number)])
        journal.sync()
        assert path.stat().st_size < 3_000
    journal.append([accepted(99)])
    journal.sync()
    journal.close()
    again, after = start(path)
    again.close()
    assert after.incarnation == state.incarnation
    assert list(after.held) == [attempt_id(0), attempt_id(99)]
    assert after.held[attempt_id(0)].started == started(0)
    assert [each.name for each in path.parent.iterdir()] == ["journal"]


def test_a_journal_of_what_is_held_is_not_written_anew(path: Path):
    journal, _ = start(path, prune_bytes=500)
    for number in range(50):
        journal.append([accepted(number)])
        journal.sync()
    inode = path.stat().st_ino
    journal.append([accepted(51)])
    journal.sync()
    assert path.stat().st_ino == inode
    assert len(records_of(path)) == 52
    journal.close()


@given(histories())
def test_a_shorter_journal_says_the_same(records: list[Record]):
    state, again = JournalState(INCARNATION), JournalState(INCARNATION)
    state.read(records)
    encoded = [encode_record(record) for record in state.snapshot()]
    again.read(decode_record(data) for data in encoded)
    assert again == state
    assert len(encoded) <= len(records) + 2


def test_a_journal_knows_its_size_after_it_was_opened(path: Path):
    write(path, *(accepted(n) for n in range(20)), *(acked(n) for n in range(20)))
    size = path.stat().st_size
    journal, _ = start(path, prune_bytes=1_000)
    assert isinstance(journal, Journal)
    assert path.stat().st_size < size / 4
    journal.close()
