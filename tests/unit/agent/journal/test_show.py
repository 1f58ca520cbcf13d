from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.journal.file import open_journal
from agent.journal.reading import NotAJournal, read_journal
from agent.journal.show import show
from tests.unit.agent.journal.samples import ALL_KINDS, attempt_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    journal, _ = open_journal(path, "boot", 1_500_000)
    journal.append(ALL_KINDS[1:])
    journal.sync()
    journal.close()
    return path


def test_every_record_is_one_line(path: Path):
    lines = [json.loads(line) for line in show(path, as_json=True)]
    kinds = ["header", "start", "epoch", "accepted", "started", "finished", "accepted", "acked"]
    assert [line["kind"] for line in lines] == kinds
    start, finished = lines[1], lines[5]
    assert (start["number"], start["at"]) == (1, "1970-01-01T00:00:01.500000Z")
    assert (finished["attempt"], finished["outcome"]) == (attempt_id(1).hex(), "SUCCEEDED")
    assert lines[2]["offset"] == read_journal(path.read_bytes()).records[1][0]


def test_the_lines_for_people_say_the_same(path: Path):
    lines = list(show(path, as_json=False))
    assert len(lines) == 8
    assert " epoch     shard=0 epoch=1 batch=4" in lines[2]
    assert "dag=d run=r task=t number=1" in lines[3]
    assert "K" not in lines[3]


def test_the_place_of_a_cut_is_told(path: Path):
    last = read_journal(path.read_bytes()).records[-1][0]
    os.truncate(path, path.stat().st_size - 3)
    *_, line = show(path, as_json=True)
    assert json.loads(line) == {
        "offset": last,
        "kind": "cut",
        "bytes": path.stat().st_size - last,
    }


def test_damage_is_called_by_its_name(path: Path):
    data = bytearray(path.read_bytes())
    second = read_journal(bytes(data)).records[1][0]
    data[second + 9] ^= 1
    path.write_bytes(data)
    *_, line = show(path, as_json=False)
    assert line.split()[:2] == [str(second), "damage"]


def test_a_record_that_is_being_written_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = path.read_bytes()
    os.truncate(path, len(whole) - 3)
    real = os.close

    def finish_writing(descriptor: int) -> None:
        real(descriptor)
        path.write_bytes(whole)

    monkeypatch.setattr(os, "close", finish_writing)
    assert json.loads(list(show(path, as_json=True))[-1])["kind"] == "acked"


def test_a_journal_is_shown_while_it_is_written_and_pruned(tmp_path: Path):
    path = tmp_path / "journal"
    journal, _ = open_journal(path, "boot", 5, prune_bytes=500)
    for _ in range(50):
        journal.append(ALL_KINDS[1:])
        journal.sync()
        lines = [json.loads(line) for line in show(path, as_json=True)]
        assert lines[0]["incarnation"] == journal.incarnation.hex()
        assert lines[-1]["kind"] not in {"cut", "damage"}
    journal.close()


def test_what_is_no_journal_is_an_error(tmp_path: Path):
    path = tmp_path / "journal"
    path.write_bytes(b"text")
    with pytest.raises(NotAJournal):
        list(show(path, as_json=False))
    with pytest.raises(FileNotFoundError):
        list(show(tmp_path / "none", as_json=False))
