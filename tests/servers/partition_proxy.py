"""A door in front of a node that can be closed for single processes, as a partition would.

Decides by the process id of whoever connects. Promises that while a process is parted no byte
passes between it and the node in either direction and neither side is told: what was sent is
delivered, in order, when it is joined again. Runs on a thread of its own, so that synchronous tests
can use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Self

import psutil

_DEADLINE_S = 10.0
_CHUNK = 65_536


class PartitionProxy:
    """Listens on a free port of loopback and forwards to another port, under `with`."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="partition-proxy")
        self._passing: dict[int, asyncio.Event] = {}
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def part(self, pid: int) -> None:
        """Nothing passes for a process from now on, over its present and later connections."""
        self._call(lambda: self._gate(pid).clear())

    def join(self, pid: int) -> None:
        self._call(lambda: self._gate(pid).set())

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_DEADLINE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_DEADLINE_S)
        self._loop.close()

    def _call(self, change: Callable[[], None]) -> None:
        async def call() -> None:
            change()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(_DEADLINE_S)

    def _gate(self, pid: int) -> asyncio.Event:
        gate = self._passing.get(pid)
        if gate is None:
            gate = self._passing[pid] = asyncio.Event()
            gate.set()
        return gate

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        pid = await asyncio.to_thread(_owner, port)
        gate = self._gate(pid)
        upstream: asyncio.StreamWriter | None = None
        try:
            await gate.wait()
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, upstream, gate))
                group.create_task(_copy(answers, writer, gate))
        except OSError:
            return  # the node does not run: its client sees the connection close
        finally:
            for each in (writer, upstream):
                if each is not None:
                    each.transport.abort()


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            await gate.wait()
            writer.write(data)
            await writer.drain()
    await gate.wait()
    writer.close()


def _owner(port: int) -> int:
    """The process that connects from a port of loopback; 0: it is gone."""
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.pid:
            return int(connection.pid)
    return 0
