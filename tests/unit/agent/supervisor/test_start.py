"""What a supervisor is started with."""

from __future__ import annotations

import subprocess

import pytest

from agent.supervisor import start
from agent.supervisor.__main__ import ROOT, main

HEAVY = {"asyncio", "dataclasses", "typing", "subprocess", "pathlib", "inspect", "logging"}


def test_what_stays_in_memory_is_light():
    script = f"import sys; sys.path.append({ROOT!r}); import agent.supervisor.supervisor"
    script += "; print(*sys.modules)"
    command = [*start.PYTHON[:-1], "-c", script]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "agent.supervisor.door" in loaded
    assert HEAVY.intersection(loaded) == set()


@pytest.mark.parametrize(
    "arguments",
    [[], ["--idle-ms"], ["a", "b"], ["--containment", "none", "a"], ["--unknown", "a"]],
)
def test_wrong_arguments_are_answered_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == 2
    assert "usage: python -P -m agent.supervisor" in capsys.readouterr().err


def test_where_namespaces_are_forbidden_asking_for_one_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(start, "UNSHARE", ("false",))
    monkeypatch.setattr(start, "UNSHARE_AS_USER", ("no-such-program",))
    assert start.namespace_command() == ()
    assert start.start(str(tmp_path), "namespace", 1_000) == 1
    assert "PID namespaces are forbidden" in capsys.readouterr().err


def test_there_may_be_nothing_to_end(tmp_path):
    assert start.end(str(tmp_path / "never"), 1.0)
    (tmp_path / "pid").write_text("1 2 another-boot\n")
    assert start.end(str(tmp_path), 1.0)
    (tmp_path / "pid").write_text("nonsense\n")
    assert start.end(str(tmp_path), 1.0)
