"""A TCP proxy that can misbehave: refuse, cut, or go silent.

Runs in the loop of the test. Promises that after `cut` no byte passes in either direction until
`restore`; that while it is `silent` connections are accepted and nothing is ever answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class TcpProxy:
    """Use under `async with`; listens on `port` of loopback and forwards to another port."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = True
        self._silent = False
        self._refused = asyncio.Event()
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._close_all()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Close all connections and every new one."""
        self._open = False
        self._refused.clear()
        self._close_all()

    def restore(self) -> None:
        self._open = True
        self._silent = False

    def silence(self) -> None:
        """Keep all connections, accept new ones, and pass no byte on."""
        self._silent = True

    async def refused(self) -> None:
        """Wait until a client was turned away after `cut`."""
        await self._refused.wait()

    def _close_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            self._refused.set()
            writer.transport.abort()
            return
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        pair = {writer, upstream}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, upstream))
                group.create_task(self._copy(upstream_reader, writer))
        finally:
            self._writers -= pair

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if not self._silent:
                    writer.write(data)
                    await writer.drain()
        writer.close()
