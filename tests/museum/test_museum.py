"""The museum: every public bug told to a good end, and seen when it is put in here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.museum import masters, schedules, tasks
from tests.museum.exhibits import SEEDS, Exhibit, seen, shown

EXHIBITS = [*masters.EXHIBITS, *tasks.EXHIBITS, *schedules.EXHIBITS]
ROOT = Path(__file__).resolve().parent.parent.parent
ON_REAL_SERVERS = ROOT / "tests/contract/store/test_museum.py"

each_exhibit = pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)


@each_exhibit
@pytest.mark.parametrize("seed", SEEDS)
def test_it_ends_well(exhibit: Exhibit, seed: int):
    shown(exhibit, seed)


@each_exhibit
def test_the_bug_is_seen(exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch):
    exhibit.relapse(monkeypatch)
    assert seen(exhibit)


def test_the_page_shows_every_exhibit_and_no_other():
    """The last column of the page names the stories; those on real servers are test functions."""
    page = (ROOT / "docs/museum.md").read_text(encoding="utf-8")
    on_servers = ON_REAL_SERVERS.read_text(encoding="utf-8")
    shown_there = set(re.findall(r"`(\w+)` \|$", page, re.MULTILINE))
    stories = {exhibit.name for exhibit in EXHIBITS}
    assert stories <= shown_there
    races = set(re.findall(r"^async def test_(\w+)\(", on_servers, re.MULTILINE))
    assert shown_there - stories <= races
    bugs = " ".join([on_servers, *(exhibit.bug for exhibit in EXHIBITS)])
    assert set(re.findall(r"#\d+", bugs)) == set(re.findall(r"#\d+", page))
