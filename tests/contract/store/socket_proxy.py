"""A proxy between a client and a PostgreSQL socket, that can lose the client and keep the server.

After `cut` the client's connections are gone while their backends still see theirs, as when a
machine dies in the middle of a COMMIT. `hold` keeps connections open and passes nothing on.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit


class SocketProxy:
    """Use under `async with`; `dsn` leads through it."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        [host] = parse_qs(parts.query)["host"]
        [port] = parse_qs(parts.query)["port"]
        self._folder = tempfile.TemporaryDirectory(prefix="mainspring-proxy-")
        name = f".s.PGSQL.{port}"
        self._upstream = Path(host) / name
        self._path = Path(self._folder.name) / name
        changed = f"host={quote(self._folder.name, safe='')}&port={port}"
        self.dsn = parts._replace(query=changed).geturl()
        self._clients: set[asyncio.StreamWriter] = set()
        self._servers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._clients | self._servers:
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._folder.cleanup()

    def cut(self) -> None:
        """Lose all clients; their backends go on. New connections are served."""
        for writer in self._clients:
            writer.transport.abort()
        self._clients.clear()

    def hold(self) -> None:
        """Pass no byte on from now on."""
        self._passing.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_unix_connection(self._upstream)
        self._clients.add(writer)
        self._servers.add(upstream)
        ways = ((reader, upstream, True), (upstream_reader, writer, False))
        for source, target, from_client in ways:
            task = asyncio.create_task(self._copy(source, target, from_client=from_client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        """A client that says goodbye is passed on; one that was cut is not."""
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                await self._passing.wait()
                target.write(data)
                await target.drain()
            if not from_client:
                target.close()
