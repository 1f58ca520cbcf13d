"""The runner of the test groups: no folder is forgotten, nothing failed is counted as passed."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

import pytest

from tests import groups
from tests.groups import GROUPS, Outcome, count, run
from tests.tidy.sources import tracked

SUITE = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'


def ungrouped(paths: list[str]) -> set[str]:
    """Folders with tests that no group runs."""
    known = {folder for group in GROUPS for folder in group.folders}
    tests = [PurePosixPath(path) for path in paths if path.startswith("tests/")]
    return {path.parts[1] for path in tests if path.name.startswith("test_")} - known


def test_every_folder_with_tests_belongs_to_a_group() -> None:
    assert ungrouped(list(tracked())) == set()


def test_a_forgotten_folder_is_found() -> None:
    assert ungrouped(["tests/unit/test_a.py", "tests/other/test_b.py"]) == {"other"}


@pytest.mark.parametrize(
    ("numbers", "status", "outcome"),
    [
        ((5, 0, 0, 0), 0, Outcome(5, 0)),
        ((5, 1, 1, 0), 1, Outcome(3, 2)),
        ((5, 0, 0, 1), 0, Outcome(4, 1)),
        ((5, 0, 0, 0), 1, Outcome(4, 1)),
        ((0, 0, 0, 0), 5, Outcome(0, 1)),
    ],
    ids=["passed", "failed", "skipped", "bad status", "nothing collected"],
)
def test_a_report_is_counted(
    tmp_path: Path, numbers: tuple[int, ...], status: int, outcome: Outcome
) -> None:
    report = tmp_path / "report.xml"
    report.write_text(SUITE.format(*numbers))
    assert count(report, status) == outcome


@pytest.mark.parametrize("text", [None, "<testsuites>"], ids=["missing", "cut off"])
def test_a_run_without_a_report_is_a_failure(tmp_path: Path, text: str | None) -> None:
    report = tmp_path / "report.xml"
    if text is not None:
        report.write_text(text)
    assert count(report, 0) == Outcome(0, 1)


def test_a_command_is_given_its_status_back() -> None:
    assert run([sys.executable, "-c", "raise SystemExit(3)"], 60) == 3


def test_a_command_that_hangs_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([sys.executable, "-c", "import signal; signal.pause()"], 0.05) == -1
    assert "killed" in capsys.readouterr().out


def test_outcomes_add_up_over_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "present", lambda group: [group.name])
    monkeypatch.setattr(groups, "run_group", lambda group: Outcome(2, group.name == "system"))
    assert groups.run_all(GROUPS) == Outcome(2 * len(GROUPS), 1)
