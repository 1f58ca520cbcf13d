"""Keeps the processes of an embedded cluster alive: notices an end, says so, starts again.

Decides how long to wait before the next start. Promises that a process which ends is started again
as long as it is kept, that `stop` leaves none behind, and that a process which keeps dying is
not started more often than every ten seconds. Does not know what the processes do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from signal import Signals
from typing import NoReturn

from controlplane.embedded.errors import ProcessStartError
from controlplane.embedded.process import ChildProcess, Command, log_tail

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
# A process that lived this long has recovered: its next end is a first one again.
STEADY_S = 30.0

Say = Callable[[str], None]


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
    def pid(self) -> int | None:
        """None while it does not run."""
        running = self._child is not None and self._child.exit_status is None
        return self._child.pid if self._child is not None and running else None

    def start(self) -> None:
        """Start it now; raises ProgramMissingError."""
        self._child = ChildProcess(self.command)

    async def first_end(self) -> ProcessStartError:
        """What to say about a process that ends while the cluster boots."""
        assert self._child is not None, "first_end() before start()"
        status = await self._child.wait()
        log_file = self.command.log_file
        return ProcessStartError(self.name, described(status), log_file, log_tail(log_file))

    async def keep(self) -> NoReturn:
        """Start it again whenever it ends, until this is cancelled; then it may be stopped."""
        assert self._child is not None, "keep() before start()"
        loop = asyncio.get_running_loop()
        ends_in_a_row = 0
        while True:
            started_s = loop.time()
            status = await self._child.wait()
            steady = loop.time() - started_s >= STEADY_S
            ends_in_a_row = 1 if steady else ends_in_a_row + 1
            pause = pause_s(ends_in_a_row)
            self._say(
                f"{self.name} ended ({described(status)}); it starts again in {pause:g} s. "
                f"Its log: {self.command.log_file}"
            )
            await asyncio.sleep(pause)
            self.start()
            self._say(f"{self.name} runs again as process {self.pid}")

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL."""
        if self._child is not None:
            await self._child.stop(grace_s)


def pause_s(ends_in_a_row: int) -> float:
    """Doubles with every end in a row, up to the longest."""
    doublings = min(ends_in_a_row - 1, 16)
    return min(FIRST_PAUSE_S * 2.0**doublings, LONGEST_PAUSE_S)


def described(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    return f"killed by {Signals(-status).name}" if -status in set(Signals) else f"signal {-status}"
