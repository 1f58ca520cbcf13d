"""The page about the command line is what the command line says of itself."""

from __future__ import annotations

from pathlib import Path

from mainspring.cli.commands import COMMANDS
from mainspring.cli.exit_codes import ExitCode
from mainspring.cli.reference import reference

PAGE = Path(__file__).resolve().parents[3] / "docs/cli.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "python -m mainspring.cli.reference docs/cli.md"


def test_the_page_has_every_command_and_every_exit_code() -> None:
    page = reference()
    assert [each.words for each in COMMANDS if f"\n## mainspring {each.words}\n" not in page] == []
    assert [code for code in ExitCode if f"| {code.value} | {code.meaning} |" not in page] == []
