"""Runs attempts as processes.

Decides: how a process is started, signalled and reaped, and what is said when one cannot start.

Promises: every attempt leads a session and process group of its own, with the two spool files as
its only open output; when its first process ends, the rest of the group is killed before that
process is reaped, so the group's number cannot have passed to a stranger. Nothing of Mainspring
runs between the fork and the user's program. Output goes straight to files: it costs the agent
nothing and a task never waits for the agent.

Does not know: why an attempt is started or signalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.actions import Signal
from agent.core.entries import Assign
from agent.core.events import ProcessExited, ProcessSpawned, SpawnFailed
from agent.logs.spool import STDERR, STDOUT, SpooledLog
from agent.runtime.environment import attempt_environment

SIGNALS = {Signal.TERM: signal.SIGTERM, Signal.KILL: signal.SIGKILL}

ProcessEvent = ProcessSpawned | SpawnFailed | ProcessExited


@dataclass(slots=True)
class _Running:
    """A process that was spawned; `folder` is removed after it."""

    process: subprocess.Popen[bytes]
    pidfd: int
    log: SpooledLog
    folder: Path | None


class ProcessRuntime:
    """The processes of one agent. `feed` takes what becomes of them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        folders: Path,
        base: Mapping[str, str],
        feed: Callable[[ProcessEvent], None],
    ) -> None:
        self._loop = loop
        self._folders = folders
        self._base = base
        self._feed = feed
        self._running: dict[bytes, _Running] = {}

    def spawn(self, assign: Assign, log: SpooledLog) -> None:
        """Starts an attempt; blocks until its program runs or has failed to (about 1 ms)."""
        folder: Path | None = None
        try:
            if not (assign.spec and assign.spec.cwd):
                folder = self._folders / assign.attempt_id.hex()
                folder.mkdir()
            process = self._popen(assign, log, folder)
            started_at_us = time.time_ns() // 1_000
            pidfd = _open_pidfd(process)
        except (OSError, ValueError, OverflowError) as error:
            self._remove_folder(folder)
            message = _why_not_spawned(assign, error)
            self._feed(SpawnFailed(assign.attempt_id, message, time.time_ns() // 1_000))
            return
        self._running[assign.attempt_id] = _Running(process, pidfd, log, folder)
        self._loop.add_reader(pidfd, self._on_exit, assign.attempt_id)
        self._feed(ProcessSpawned(assign.attempt_id, started_at_us))

    def signal(self, attempt_id: bytes, what: Signal) -> None:
        """Signals the whole group of an attempt; one that is over is left alone."""
        running = self._running.get(attempt_id)
        if running is not None:
            _signal_group(running.process.pid, SIGNALS[what])

    def _popen(
        self, assign: Assign, log: SpooledLog, folder: Path | None
    ) -> subprocess.Popen[bytes]:
        assert assign.spec is not None, "an attempt without a specification is never spawned"
        with log.files() as (stdout, stderr):
            return subprocess.Popen(
                assign.spec.argv,
                env=attempt_environment(self._base, assign),
                cwd=folder or assign.spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                close_fds=True,
            )

    def _on_exit(self, attempt_id: bytes) -> None:
        finished_at_us = time.time_ns() // 1_000
        running = self._running.pop(attempt_id)
        self._loop.remove_reader(running.pidfd)
        _signal_group(running.process.pid, signal.SIGKILL)
        exit_code, ended_by, message = _reap(running)
        os.close(running.pidfd)
        sizes = running.log.size(STDOUT), running.log.size(STDERR)
        self._feed(ProcessExited(attempt_id, exit_code, ended_by, finished_at_us, *sizes, message))
        self._remove_folder(running.folder)

    def _remove_folder(self, folder: Path | None) -> None:
        """An empty folder goes at once; a tree is removed beside the loop."""
        if folder is None:
            return
        try:
            folder.rmdir()
        except OSError:
            self._loop.run_in_executor(None, _remove_tree, folder)


def _open_pidfd(process: subprocess.Popen[bytes]) -> int:
    """A process that cannot be watched (no descriptors left) must not run."""
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _signal_group(pid: int, number: int) -> None:
    """The group may be gone, or belong to another user by now: neither can be helped here."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _reap(running: _Running) -> tuple[int, int, str]:
    """The exit status: code (-1: none), signal (0: none), and what there is to say about it."""
    try:
        status = os.waitid(os.P_PIDFD, running.pidfd, os.WEXITED)
    except ChildProcessError:
        # `Popen.wait` would call this a success.
        running.process.returncode = -1
        return -1, 0, "the exit status of the process was taken by someone else"
    assert status is not None, "without WNOHANG there is always a status"
    running.process.returncode = status.si_status
    if status.si_code == os.CLD_EXITED:
        return status.si_status, 0, ""
    return -1, status.si_status, ""


def _why_not_spawned(assign: Assign, error: OSError | ValueError | OverflowError) -> str:
    assert assign.spec is not None, "an attempt without a specification is never spawned"
    if not isinstance(error, OSError):
        return f"cannot execute: {error}"
    reason = error.strerror or str(error)
    if assign.spec.cwd and error.filename == assign.spec.cwd:
        return f"cannot enter the working folder {assign.spec.cwd!r}: {reason}"
    if error.filename is not None and os.fsdecode(error.filename) != assign.spec.argv[0]:
        return f"cannot prepare {os.fsdecode(error.filename)!r}: {reason}"
    return f"cannot execute {assign.spec.argv[0]!r}: {reason}"
