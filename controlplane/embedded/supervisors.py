"""Supervisors of agents as the embedded cluster sees them: it starts none, but leaves none behind.

An agent starts its own supervisor and, asked to stop, ends it with all its tasks. One that was
killed leaves its supervisor behind, on purpose: the next agent of its name takes the tasks up
again. At the end of the cluster there is no next agent.

Decides when that is: once the agents are gone. Promises that no supervisor on the given work
folders is left, or that NotStoppedError names it. Knows of a supervisor what the agent promises:
in WORK/supervisor the file `lock`, held for as long as anything of it lives, the file `pid`, and
the command that ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from controlplane.embedded.errors import EmbeddedError, NotStoppedError
from controlplane.embedded.process import Command, run_to_end

_END_DEADLINE_S = 12.0  # the command itself asks for 5 s, and then kills
_GONE_DEADLINE_S = 2.0
_POLL_S = 0.01
_AT_ONCE = 8  # ending one takes an interpreter


async def end_left(commands: Iterable[Command]) -> None:
    """Run each command whose folder has a living supervisor: what `end_command` of it says."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def end(command: Command) -> None:
        async with gate:
            await _end(command)

    await asyncio.gather(*(end(each) for each in commands if lives(each.cwd)))


def lives(folder: Path) -> bool:
    """Whether a supervisor holds the lock of its folder."""
    try:
        fd = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # there never was one
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def pid_of(folder: Path) -> int:
    """Its number as this machine sees it; 0 when it did not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((folder / "pid").read_text("ascii").split()[0])
    return 0


async def _end(command: Command) -> None:
    with contextlib.suppress(EmbeddedError):  # judged by its effect
        await run_to_end(command, _END_DEADLINE_S)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + _GONE_DEADLINE_S
    while lives(command.cwd):
        if loop.time() >= end_s:
            raise NotStoppedError(command.name, pid_of(command.cwd))
        await asyncio.sleep(_POLL_S)
