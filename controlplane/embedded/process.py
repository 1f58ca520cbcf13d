"""Child processes that end when they should: one primitive for servers, nodes and agents.

Decides how a child is started and how it is stopped. A child leads a session and a process group
of its own, so that Ctrl-C in a terminal reaches only us and we choose the order of stopping. Its
end is learned from a pidfd, without threads and without a SIGCHLD handler that a library could
take away. What is left of its group is killed while the dead leader still holds the group's
number, so the signal cannot hit a stranger who was given that number later.

A child must not outlive us. `setpriv --pdeathsig` asks the kernel to signal it when its parent
ends, whatever ended it; the flag survives exec, and needs no code of ours between fork and exec
(`preexec_fn` is unsafe next to threads, and makes Popen give up vfork). Three limits are known:

* the kernel's "parent" is the *thread* that started the child: start children from a thread that
  lives as long as they should, which is the thread of the event loop;
* a parent that dies in the millisecond before setpriv runs is not noticed;
* the flag reaches the child alone, not what the child starts.

Where setpriv is missing, or does not know the option, children start without that promise.
This module does not know what the children are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from controlplane.embedded.errors import (
    NotStoppedError,
    ProgramMissingError,
    ServerStartError,
    StillRunningError,
)

KILL_DEADLINE_S = 5.0
LOG_LIMIT_BYTES = 16 * 1024 * 1024
LOG_TAIL_BYTES = 2_000
_POLL_S = 0.02
_ASK_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Command:
    """What to start: `env` is the whole environment, output goes to the end of `log_file`."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log_file: Path
    parent_death_signal: signal.Signals = signal.SIGTERM


class ChildProcess:
    """One started child. Belongs to the event loop that was running when it started."""

    def __init__(self, command: Command) -> None:
        """Start `command`; raises ProgramMissingError when its program cannot be found."""
        _require_program(command.argv[0])
        self.command = command
        self._loop = asyncio.get_running_loop()
        self._popen = _spawn(command)
        self._pidfd = os.pidfd_open(self._popen.pid)
        self._exit: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._on_exit)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; -N after signal N; else the exit code."""
        return self._exit.result() if self._exit.done() else None

    async def wait(self) -> int:
        """The exit status, once there is one. Cancelling the wait leaves the child alone."""
        return await asyncio.shield(self._exit)

    def send_signal(self, which: signal.Signals) -> None:
        """To the child alone: it knows in which order its own children should hear of it."""
        if not self._exit.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, which)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if not self._exit.done():
            self._kill_group()

    async def stop(self, grace_s: float) -> int:
        """SIGTERM, then SIGKILL of the group once `grace_s` has passed; returns the exit status."""
        return await self.stop_by(((signal.SIGTERM, grace_s),))

    async def stop_by(self, steps: Sequence[tuple[signal.Signals, float]]) -> int:
        """Send each signal and give its seconds; SIGKILL of the group comes last."""
        for which, grace_s in steps:
            self.send_signal(which)
            if await self._ended_within(grace_s):
                return self._exit.result()
        self.kill()
        if not await self._ended_within(KILL_DEADLINE_S):
            raise NotStoppedError(self.command.name, self.pid)
        return self._exit.result()

    async def _ended_within(self, grace_s: float) -> bool:
        await asyncio.wait({self._exit}, timeout=grace_s)
        return self._exit.done()

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._kill_group()  # before the reap: until then nobody else can have this group number
        os.close(self._pidfd)
        self._exit.set_result(self._popen.wait())

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)


async def run_to_end(command: Command, deadline_s: float) -> int:
    """Run a short command; it is killed at the deadline and when the caller is cancelled."""
    child = ChildProcess(command)
    try:
        async with asyncio.timeout(deadline_s):
            return await child.wait()
    except TimeoutError:
        reason = f"it did not end within {deadline_s:g} s"
        raise start_error(command.name, reason, command.log_file) from None
    finally:
        await child.stop_by(())


def ask(
    program: Path | str, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that answers at once; blocking, so from an event loop only through a thread.

    Raises ProgramMissingError when it cannot be run or does not answer.
    """
    try:
        return subprocess.run(
            (str(program), *arguments),
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_ASK_DEADLINE_S,
        )
    except OSError as error:
        reason = error.strerror or str(error)
    except subprocess.TimeoutExpired:
        reason = f"it did not answer within {_ASK_DEADLINE_S:g} s"
    raise ProgramMissingError(str(program), reason, "Look at the load and the disk, or reinstall.")


def start_error(server: str, reason: str, log_file: Path) -> ServerStartError:
    return ServerStartError(server, reason, log_file, log_tail(log_file))


def log_tail(log_file: Path) -> str:
    """The end of a log for an error message; empty when there is none."""
    try:
        with log_file.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def processes_in(folder: Path, program: str, *words: str) -> tuple[int, ...]:
    """Live processes of `program` that work in `folder`, by what the kernel says of them.

    A pid file says who *was* there: after a reboot its number may belong to anyone. `words` must
    all be on their command lines, one argument each.
    """
    inside = str(folder.resolve())
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return tuple(sorted(pid for pid in pids if _is_there(pid, inside, program, words)))


def kill_all_in(folder: Path, program: str) -> None:
    """SIGKILL to what `processes_in` finds; nobody who was given such a number since is hit."""
    inside = str(folder.resolve())
    for pid in processes_in(folder, program):
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                if _is_there(pid, inside, program, ()):  # judged anew, now that pidfd holds it
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)


async def wait_until_left(folder: Path, program: str, deadline_s: float, *words: str) -> None:
    """Return once no process of `program` works in `folder`; else raise StillRunningError.

    Servers of a killed parent, and the children of a killed server, take a moment to leave.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while pids := await asyncio.to_thread(processes_in, folder, program, *words):
        if loop.time() >= end:
            raise StillRunningError(program, folder, pids)
        await asyncio.sleep(_POLL_S)


def _is_there(pid: int, folder: str, program: str, words: Sequence[str]) -> bool:
    process = Path("/proc", str(pid))
    if _link(process / "cwd") != folder:
        return False
    if Path(_link(process / "exe").removesuffix(" (deleted)")).name != program:
        return False
    return not words or set(words) <= _arguments(process)


def _arguments(process: Path) -> set[str]:
    try:
        return set((process / "cmdline").read_bytes().decode(errors="replace").split("\0"))
    except OSError:  # it ended meanwhile
        return set()


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:  # it ended meanwhile, or belongs to another user
        return ""


def _require_program(program: str) -> None:
    if shutil.which(program) is None:
        raise ProgramMissingError(
            program, "it is not installed or not executable", "Install it and try again."
        )


def _spawn(command: Command) -> subprocess.Popen[bytes]:
    log = _open_log(command.log_file)
    try:
        return subprocess.Popen(
            (*_bound_to_parent(command.parent_death_signal), *command.argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(command.env),
            cwd=command.cwd,
            start_new_session=True,
        )
    finally:
        os.close(log)


def _open_log(log_file: Path) -> int:
    """Append, for the owner alone; a log that has grown long is set aside first."""
    with contextlib.suppress(FileNotFoundError):
        if log_file.stat().st_size > LOG_LIMIT_BYTES:
            log_file.replace(log_file.with_name(f"{log_file.name}.1"))
    return os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


@cache
def _setpriv() -> str | None:
    """The path of a setpriv that can bind a child to its parent (BusyBox has one that cannot)."""
    program = shutil.which("setpriv")
    if program is None:
        return None
    probe = ask(program, "--pdeathsig", "TERM", program, "--version")
    return program if probe.returncode == 0 else None


def _bound_to_parent(which: signal.Signals) -> tuple[str, ...]:
    program = _setpriv()
    if program is None:
        return ()
    return (program, "--pdeathsig", which.name.removeprefix("SIG"))
