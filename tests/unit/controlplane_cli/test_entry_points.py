"""The server's entry points are found by name, and nothing else is imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from mainspring.cli.exit_codes import ExitCode

from controlplane.cli import __main__ as entry
from controlplane.cli import up


def test_help_lists_the_entry_points(capsys):
    assert entry.main(["--help"]) == ExitCode.OK
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in entry.NAMES)
    assert "example:" in said


@pytest.mark.parametrize("arguments", [[], ["down"]])
def test_anything_else_is_refused(arguments, capsys):
    assert entry.main(arguments) == ExitCode.USAGE
    assert "is no entry point" in capsys.readouterr().err


def test_arguments_go_to_the_chosen_one():
    assert entry.entry_point("up") is up.main
    with pytest.raises(SystemExit) as ended:
        entry.main(["up", "--help"])
    assert ended.value.code == 0


def test_up_does_not_import_what_only_nodes_need():
    script = (
        "import sys, controlplane.cli.up\n"
        "print(sorted(sys.modules.keys() & {'grpc', 'controlplane.leader', 'obstore', 'rich'}))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
