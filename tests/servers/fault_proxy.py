"""A proxy in front of a server that misbehaves as networks do, for one source at a time.

Decides what becomes of the bytes between a source and the server: a *link*. A link is held in one
or both directions (nothing passes, nobody is told; what was sent arrives in order when it is
healed, as TCP would deliver it), slowed down, reset, or refused. A source is whoever `named` says
that a connection comes from: by default there is one link for all.

Promises that a fault begins for present and later connections before its method returns, and that
`heal` ends all of them. Bytes that the kernel holds on either side are out of its reach. Runs in
the loop that it was started in; `ProxyThread` runs proxies for tests without a loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias

_CHUNK = 65_536
_DEADLINE_S = 10.0
EVERYBODY = ""
# Who a connection comes from, by its port on loopback (TCP) or its process (a socket file).
Namer: TypeAlias = Callable[[int], str]
Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
BOTH, TO_SERVER, FROM_SERVER = "both", "to server", "from server"


class _Flow:
    """One direction of a link."""

    def __init__(self) -> None:
        self.open, self.fast = asyncio.Event(), asyncio.Event()
        self.delay_s = 0.0
        self.heal()

    def heal(self) -> None:
        self.open.set()
        self.fast.set()

    async def pass_on(self) -> None:
        """Returns when the next chunk may go."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.fast.wait(), self.delay_s or None)
        await self.open.wait()


class Link:
    """What lies between one source and the server."""

    def __init__(self) -> None:
        self._flows = {TO_SERVER: _Flow(), FROM_SERVER: _Flow()}
        self._writers: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self._refused = asyncio.Event()

    def hold(self, direction: str = BOTH) -> None:
        """Nothing passes in a direction, and neither side is told."""
        for name, flow in self._flows.items():
            if direction in {BOTH, name}:
                flow.open.clear()

    def slow(self, delay_s: float) -> None:
        """Every chunk takes so much longer, in both directions."""
        for flow in self._flows.values():
            flow.delay_s = delay_s
            flow.fast.clear()

    def reset(self) -> None:
        """All connections end at once, without a goodbye; new ones are welcome."""
        for writer in self._writers:
            _abort(writer)

    def refuse(self) -> None:
        """All connections end, and every new one, until it is healed."""
        self._refusing = True
        self._refused.clear()
        self.reset()

    def heal(self) -> None:
        """As if nothing had been."""
        self._refusing = False
        for flow in self._flows.values():
            flow.heal()

    async def refused(self) -> None:
        """Wait until somebody was turned away after `refuse`."""
        await self._refused.wait()

    async def carry(self, source: Streams, dial: Callable[[], Awaitable[Streams]]) -> None:
        """Serves one connection to its end."""
        reader, writer = source
        self._writers.add(writer)
        server: asyncio.StreamWriter | None = None
        try:
            await self._flows[TO_SERVER].open.wait()
            if self._refusing:
                self._refused.set()
                return
            answers, server = await dial()
            self._writers.add(server)
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, server, self._flows[TO_SERVER]))
                group.create_task(_copy(answers, writer, self._flows[FROM_SERVER]))
        except OSError:
            return  # the server does not run: its client sees the connection end
        finally:
            for each in (writer, server):
                if each is not None:
                    self._writers.discard(each)
                    _abort(each)


class FaultProxy:
    """Listens on a free port of loopback, or on a socket file, and forwards to a server.

    `server`: "host:port", or the path of a socket file. Use under `async with`, or `ProxyThread`.
    """

    def __init__(
        self, server: str, *, listen: Path | None = None, named: Namer = lambda _: EVERYBODY
    ) -> None:
        self._server = server
        self._listen = listen
        self._named = named
        self._links: dict[str, Link] = {}
        self._door: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def link(self, source: str = EVERYBODY) -> Link:
        """The link of a source, whether it has connected yet or not."""
        return self._links.setdefault(source, Link())

    async def __aenter__(self) -> Self:
        if self._listen is not None:
            self._door = await asyncio.start_unix_server(self._serve, self._listen)
        else:
            self._door = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = self._door.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._door is not None
        self._door.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            source = await asyncio.to_thread(self._named, _number_of(writer, self._listen))
            await self.link(source).carry((reader, writer), self._dial)
        except asyncio.CancelledError:
            return  # the proxy ends; asyncio would report whoever accepted this connection
        finally:
            self._serving.discard(task)
            _abort(writer)

    async def _dial(self) -> Streams:
        if self._server.startswith("/"):
            return await asyncio.open_unix_connection(self._server)
        host, _, port = self._server.rpartition(":")
        return await asyncio.open_connection(host, int(port))


class ProxyThread:
    """A thread with a loop for proxies; its methods may be called from any other thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies")
        self._stack = contextlib.AsyncExitStack()

    def open(self, proxy: FaultProxy) -> FaultProxy:
        """Starts a proxy, which ends with the thread."""
        self._run(self._stack.enter_async_context(proxy))
        return proxy

    def call(self, change: Callable[[], None]) -> None:
        """Has a fault begin or end; it has when this returns."""

        async def call() -> None:
            change()

        self._run(call())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stack.aclose())
        self._run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_DEADLINE_S)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_DEADLINE_S)


def by_process(pids: Callable[[], Mapping[str, Iterable[int]]]) -> Namer:
    """Names a connection of loopback after the process that it comes from.

    `pids`: the processes of every source. A stranger is EVERYBODY.
    """

    def named(port: int) -> str:
        inode = _inode_of(port)
        for name, numbers in pids().items():
            if any(inode in _sockets_of(pid) for pid in numbers):
                return name
        return EVERYBODY

    return named


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flow: _Flow) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            await flow.pass_on()
            writer.write(data)
            await writer.drain()
    await flow.open.wait()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()  # what it holds leaves before the connection is aborted


def _abort(writer: asyncio.StreamWriter) -> None:
    """Ends a connection by RST."""
    ours = writer.get_extra_info("socket")
    if ours is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _number_of(writer: asyncio.StreamWriter, listen: Path | None) -> int:
    """The port that a connection comes from, or its process where it came by a socket file."""
    if listen is None:
        return int(writer.get_extra_info("peername")[1])
    ours = writer.get_extra_info("socket")
    credentials = ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def _inode_of(port: int) -> str:
    """The socket that is bound to a port of loopback and connected from it."""
    local = f"0100007F:{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(local) and fields[3] != "0A":  # 0A: it listens
                return fields[9]
    return ""


def _sockets_of(pid: int) -> set[str]:
    """The inodes of the sockets that a process holds."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(entry.path)  # noqa: PTH115 - text, not a path
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found
