"""One PostgreSQL for a whole test session; each test gets a database of its own.

It lives on a thread with an event loop of its own, because a session outlives the loop of any
test, and because the kernel binds a child to the thread that started it. Usable from synchronous
and asynchronous fixtures alike. fsync stays on, as in production, unless asked otherwise.

    @pytest.fixture(scope="session")
    def postgres() -> Iterator[PostgresServer]:
        with PostgresServer() as server:
            yield server
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from controlplane.embedded.postgres import EmbeddedPostgres
from controlplane.embedded.process import Command

_DEADLINE_S = 90.0


class _WithEnvironment(EmbeddedPostgres):
    """One whose processes have variables of the test in their environment."""

    def __init__(self, folder: Path, more: Mapping[str, str], **others: Any) -> None:
        super().__init__(folder, **others)
        self._more = more

    def _command(self, program: str, *arguments: str) -> Command:
        command = super()._command(program, *arguments)
        return replace(command, env={**command.env, **self._more})


class PostgresServer:
    """`folder`: where to keep the data, also afterwards; a temporary one is removed at the end."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._kept = folder is not None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="mainspring-test-pg-"))
        self.postgres = _WithEnvironment(self._folder / "pg", environment or {}, settings=settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-postgres")
        self._numbers = itertools.count(1)

    def start(self) -> None:
        self._thread.start()
        try:
            self._run(self.postgres.start())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Nobody needs the data any more, so nothing is written back."""
        if self.postgres.pid is not None:
            self.end_at_once()
        self._run(self.postgres.stop())
        self._run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_DEADLINE_S)
        self._loop.close()
        if not self._kept:
            shutil.rmtree(self._folder)

    def restart(self) -> None:
        """Stop and start on the same data; DSNs stay valid."""
        self._run(self.postgres.stop())
        self._run(self.postgres.start())

    def kill(self) -> None:
        """SIGKILL of the postmaster; `restart` brings it back."""
        self._run(self.postgres.kill())

    def end_at_once(self) -> None:
        """An immediate shutdown, as after a crash; returns when it is over. See `boot`."""
        pid = self.postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        self._run(self._ended())

    async def _ended(self) -> None:
        await self.postgres.wait()

    def boot(self) -> None:
        """Start again on the same data."""
        self._run(self.postgres.start())

    def create_database(self, name: str, template: str = "template1") -> str:
        """The DSN of a new database, a copy of `template` (which must have no connections)."""
        self._run(self.postgres.create_database(name, template))
        return self.postgres.dsn_of(name)

    def fresh_database(self, template: str = "template1") -> str:
        """As create_database, under a name that no other test has."""
        return self.create_database(f"test_{next(self._numbers)}", template)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_DEADLINE_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
