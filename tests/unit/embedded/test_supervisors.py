"""Supervisors that agents left behind: found by their lock, ended, named if they stay."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import contextmanager

import pytest

from controlplane.embedded import supervisors
from controlplane.embedded.errors import NotStoppedError
from controlplane.embedded.process import ChildProcess, Command
from controlplane.embedded.supervisors import end_left, lives, pid_of
from tests.servers.until import until


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pid").write_text("4711 12345 7c1f\n")
    return tmp_path


@contextmanager
def locked(folder):
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield fd
    finally:
        os.close(fd)


def command(folder, script: str) -> Command:
    return Command(
        name="agent-1 supervisor",
        argv=(sys.executable, "-c", script),
        env={},
        cwd=folder,
        log_file=folder / "log",
    )


def test_it_lives_as_long_as_its_lock_is_held(folder):
    assert not lives(folder)
    assert not lives(folder / "nowhere")
    with locked(folder):
        assert lives(folder)
    assert not lives(folder)


@pytest.mark.parametrize("text", ["", "\n", "x 1 2\n"])
def test_a_number_that_is_not_there_is_none(folder, text):
    assert pid_of(folder) == 4711
    (folder / "pid").write_text(text)
    assert pid_of(folder) == 0
    (folder / "pid").unlink()
    assert pid_of(folder) == 0


async def test_one_that_is_gone_needs_no_command(folder):
    await end_left([command(folder, "open('ran', 'w')")])
    assert not (folder / "ran").exists()


async def test_one_that_is_told_may_take_a_moment(folder):
    holder = Command(
        name="holder",
        argv=("flock", "-n", str(folder / "lock"), "sleep", "60"),
        env={"PATH": os.environ["PATH"]},
        cwd=folder,
        log_file=folder / "log",
    )
    child = ChildProcess(holder)
    await until(lambda: lives(folder))
    await end_left([command(folder, f"import os; os.kill({child.pid}, 15)")])
    assert not lives(folder)
    await child.stop(5.0)


async def test_one_that_stays_is_named(folder, monkeypatch):
    monkeypatch.setattr(supervisors, "_GONE_DEADLINE_S", 0.05)
    with locked(folder), pytest.raises(NotStoppedError, match=r"agent-1 supervisor .process 4711."):
        await end_left([command(folder, "open('ran', 'w'); raise SystemExit(1)")])
    assert (folder / "ran").exists()
