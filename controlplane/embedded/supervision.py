"""Keeps the processes of an embedded cluster alive: notices an end, says so, starts again.

Decides how long to wait before the next start. Promises that a process which ends, by whatever
signal or exit status, is started again as long as it is kept, that a start which fails is tried
again as well, that neither happens more often than every ten seconds to one that keeps failing,
and that `stop` leaves none behind. Does not know what the processes do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import NoReturn, Protocol

from controlplane.embedded.errors import EmbeddedError, ProcessStartError, ServerStartError
from controlplane.embedded.process import ChildProcess, Command, log_tail

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
# A process that lived this long has recovered: its next end is a first one again.
STEADY_S = 30.0

Say = Callable[[str], None]


class Kept(Protocol):
    """What can be kept alive: a process that runs, and can be started again once it has ended."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int | None: ...

    @property
    def log_file(self) -> Path: ...

    async def wait(self) -> int: ...

    async def restart(self) -> None: ...


async def keep(kept: Kept, say: Say) -> NoReturn:
    """Start it again whenever it ends, until this is cancelled; then it may be stopped."""
    loop = asyncio.get_running_loop()
    failures_in_a_row = 0
    while True:
        started_s = loop.time()
        news = f"ended ({described(await kept.wait())})"
        if loop.time() - started_s >= STEADY_S:
            failures_in_a_row = 0
        while news:
            failures_in_a_row += 1
            pause = pause_s(failures_in_a_row)
            say(f"{kept.name} {news}; it starts again in {pause:g} s. Its log: {kept.log_file}")
            await asyncio.sleep(pause)
            news = await _news_of_restart(kept)
        say(f"{kept.name} runs again as process {kept.pid}")


async def _news_of_restart(kept: Kept) -> str:
    """Why it did not start; empty when it did."""
    try:
        await kept.restart()
    except ServerStartError as error:  # without the last lines of its log, which is named anyway
        return f"did not start ({error.reason})"
    except (EmbeddedError, OSError) as error:
        return f"did not start ({error})"
    return ""


class Supervised:
    """One process that should always run. `start` first, `keep` for the rest of its time."""

    def __init__(self, command: Command, say: Say) -> None:
        self.command = command
        self._say = say
        self._child: ChildProcess | None = None

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def log_file(self) -> Path:
        return self.command.log_file

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        running = self._child is not None and self._child.exit_status is None
        return self._child.pid if self._child is not None and running else None

    def start(self) -> None:
        """Start it now; raises ProgramMissingError."""
        self._child = ChildProcess(self.command)

    async def restart(self) -> None:
        """As `start`, once it has ended."""
        self.start()

    async def wait(self) -> int:
        """The exit status of the running process, when it ends."""
        assert self._child is not None, "wait() before start()"
        return await self._child.wait()

    async def first_end(self) -> ProcessStartError:
        """What to say about a process that ends while the cluster boots."""
        status = await self.wait()
        return ProcessStartError(
            self.name, described(status), self.log_file, log_tail(self.log_file)
        )

    async def keep(self) -> NoReturn:
        """Start it again whenever it ends, until this is cancelled; then it may be stopped."""
        await keep(self, self._say)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL."""
        if self._child is not None:
            await self._child.stop(grace_s)


def pause_s(failures_in_a_row: int) -> float:
    """Doubles with every failure in a row, up to the longest."""
    doublings = min(failures_in_a_row - 1, 16)
    return min(FIRST_PAUSE_S * 2.0**doublings, LONGEST_PAUSE_S)


def described(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    return f"killed by {Signals(-status).name}" if -status in set(Signals) else f"signal {-status}"
