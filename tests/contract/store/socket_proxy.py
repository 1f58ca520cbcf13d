"""A proxy between a client and a PostgreSQL socket, that can lose the client and keep the server.

After `cut` the client's connections are gone while their backends still see theirs, as when a
machine dies in the middle of a COMMIT. `hold` keeps connections open and passes nothing on.
`lose_answer` and `lose_request` do it once, at the message that has a mark.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from enum import Enum
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit


class Fate(Enum):
    """What becomes of the next message that has the mark."""

    ANSWER_LOST = 1
    REQUEST_LOST = 2


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
        self._mark = b""
        self._fate: Fate | None = None
        self._answer_lost: set[asyncio.StreamReader] = set()
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

    def lose_answer(self, mark: bytes) -> None:
        """The next message with `mark` arrives, and its client is gone before the answer."""
        self._mark, self._fate = mark, Fate.ANSWER_LOST

    def lose_request(self, mark: bytes) -> None:
        """The next message with `mark` does not arrive; its client is gone, its backend waits."""
        self._mark, self._fate = mark, Fate.REQUEST_LOST

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_unix_connection(self._upstream)
        self._clients.add(writer)
        self._servers.add(upstream)
        ways = (
            self._requests(reader, upstream, writer, upstream_reader),
            self._answers(upstream_reader, writer),
        )
        for way in ways:
            task = asyncio.create_task(way)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _requests(
        self,
        source: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
    ) -> None:
        """A client that says goodbye is passed on; one that was cut is not."""
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                await self._passing.wait()
                fate = self._fate if self._mark in data else None
                if fate is not None:
                    self._fate = None
                if fate is Fate.REQUEST_LOST:
                    client.transport.abort()
                    return
                if fate is Fate.ANSWER_LOST:
                    self._answer_lost.add(answers)
                upstream.write(data)
                await upstream.drain()

    async def _answers(self, source: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                await self._passing.wait()
                if source in self._answer_lost:
                    client.transport.abort()
                    return
                client.write(data)
                await client.drain()
            client.close()
