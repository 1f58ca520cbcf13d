"""The table of all campaigns: rows are kept, sums are computed, nothing is counted twice."""

from __future__ import annotations

import json
import sys

import pytest

from tests.campaign import totals
from tests.campaign.totals import BEGIN, END, TotalsError, add, parse

PAGE = f"# Page\n\nbefore\n\n{BEGIN}\n{END}\n\nafter\n"
CAMPAIGN = {
    "kind": "campaign",
    "at": "2026-01-02T03:04:05+00:00",
    "commit": "0123456789",
    "minutes": 10.2,
    "rounds": 9,
    "void_rounds": 1,
    "faults": 60,
    "attempts": 12_345,
    "violations": 0,
}
SIMULATION = {
    "kind": "simulation",
    "at": "2026-01-02T04:05:06Z",
    "commit": "0123456789",
    "seeds": 300,
    "virtual_s": 18_000,
    "faults": 4_000,
    "attempts": 90_000,
    "violations": 0,
}


def test_rows_are_added_and_summed():
    later = CAMPAIGN | {"at": "2026-01-03T00:00:00+00:00", "violations": 2}
    page = add(add(add(PAGE, CAMPAIGN), SIMULATION), later)
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines[2:] == [
        "| 2026-01-02T03:04:05+00:00 | 0123456789 | campaign | 8 | 10.2 | 60 | 12,345 | 0 |",
        "| 2026-01-02T04:05:06Z | 0123456789 | simulation | 300 | 300.0 | 4,000 | 90,000 | 0 |",
        "| 2026-01-03T00:00:00+00:00 | 0123456789 | campaign | 8 | 10.2 | 60 | 12,345 | 2 |",
        "| **all** |  | campaign | 16 | 20.4 | 120 | 24,690 | 2 |",
        "| **all** |  | simulation | 300 | 300.0 | 4,000 | 90,000 | 0 |",
    ]
    assert page.startswith("# Page\n\nbefore\n")
    assert page.endswith("\n\nafter\n")
    assert len(parse(page)[1]) == 3


@pytest.mark.parametrize(
    ("page", "report", "words"),
    [
        (add(PAGE, CAMPAIGN), CAMPAIGN, "already"),
        (PAGE, CAMPAIGN | {"commit": ""}, "names no commit"),
        (PAGE, CAMPAIGN | {"kind": "party"}, "no kind of report"),
        ("# Page", CAMPAIGN, "the page has no"),
    ],
)
def test_what_cannot_be_added_is_refused(page, report, words):
    with pytest.raises(TotalsError, match=words):
        add(page, report)


def test_the_page_of_the_project_has_the_table():
    before, _, after = parse(totals.PAGE.read_text("utf-8"))
    assert before
    assert after


def test_the_command_changes_the_page(tmp_path, monkeypatch, capsys):
    page, report = tmp_path / "page.md", tmp_path / "report.json"
    page.write_text(PAGE)
    report.write_text(json.dumps(CAMPAIGN))
    monkeypatch.setattr(sys, "argv", ["totals", f"--add={report}", f"--page={page}"])
    assert totals.main() == 0
    assert "12,345" in page.read_text()
    assert totals.main() == 1
    assert "already" in capsys.readouterr().err
