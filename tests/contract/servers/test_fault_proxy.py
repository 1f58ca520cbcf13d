"""Each fault of the proxy, against a server that says everything back."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys

import pytest

from tests.servers.fault_proxy import (
    BOTH,
    EVERYBODY,
    FROM_SERVER,
    TO_SERVER,
    FaultProxy,
    ProxyThread,
    by_process,
)

DEADLINE_S = 10.0


class Echo:
    """Says back what it hears; `heard` is all of it."""

    def __init__(self):
        self.heard = b""
        self.more = asyncio.Event()

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1024):
                self.heard += data
                self.more.set()
                writer.write(data)
        writer.close()

    async def hears(self, text):
        async with asyncio.timeout(DEADLINE_S):
            while text not in self.heard:
                self.more.clear()
                await self.more.wait()


class Caller:
    """One connection to the proxy."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, proxy):
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    def say(self, text):
        self._writer.write(text)

    async def hears(self, text):
        async with asyncio.timeout(DEADLINE_S):
            assert await self._reader.readexactly(len(text)) == text

    async def ends(self):
        """Whether it ended without a goodbye."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                assert await self._reader.read() == b""
            except ConnectionResetError:
                return True
            return False

    async def asks(self, text):
        self.say(text)
        await self.hears(text)

    def close(self):
        self._writer.transport.abort()


@pytest.fixture
async def echo():
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


@pytest.fixture
async def proxy(echo):
    async with FaultProxy(echo.address) as made:
        yield made


@pytest.fixture
async def caller(proxy):
    made = await Caller.to(proxy)
    yield made
    made.close()


async def nothing_for(waiting):
    """What should not happen is given some turns of the loop, and of the kernel, to happen."""
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert not waiting.done()


async def test_a_healthy_link_passes_everything(caller, echo):
    text = os.urandom(1_000_000)
    caller.say(text)
    await caller.hears(text)
    assert echo.heard == text


async def test_a_held_link_passes_nothing_and_loses_nothing(proxy, caller, echo):
    await caller.asks(b"before")
    proxy.link().hold(BOTH)
    caller.say(b"while")
    waiting = asyncio.ensure_future(caller.hears(b"while"))
    await nothing_for(waiting)
    assert echo.heard == b"before"
    proxy.link().heal()
    await waiting


async def test_a_link_that_is_held_to_the_server_still_brings_answers(proxy, caller, echo):
    await caller.asks(b"before")
    proxy.link().hold(TO_SERVER)
    caller.say(b"while")
    waiting = asyncio.ensure_future(echo.hears(b"while"))
    await nothing_for(waiting)
    proxy.link().heal()
    await waiting
    await caller.hears(b"while")


async def test_a_link_that_is_held_from_the_server_still_brings_questions(proxy, caller, echo):
    await caller.asks(b"before")
    proxy.link().hold(FROM_SERVER)
    caller.say(b"while")
    await echo.hears(b"while")
    waiting = asyncio.ensure_future(caller.hears(b"while"))
    await nothing_for(waiting)
    proxy.link().heal()
    await waiting


async def test_a_new_connection_over_a_held_link_waits(proxy, echo):
    proxy.link().hold()
    late = await Caller.to(proxy)
    waiting = asyncio.ensure_future(late.asks(b"late"))
    await nothing_for(waiting)
    assert echo.heard == b""
    proxy.link().heal()
    await waiting
    late.close()


async def test_a_slow_link_takes_its_time_for_every_chunk(proxy, caller):
    loop = asyncio.get_running_loop()
    proxy.link().slow(0.05)
    before = loop.time()
    await caller.asks(b"a")
    await caller.asks(b"b")
    # Two chunks there and two back, none of them early.
    assert loop.time() - before >= 0.2


async def test_healing_a_slow_link_lets_go_what_waits(proxy, caller):
    await caller.asks(b"before")
    proxy.link().slow(3_600.0)
    caller.say(b"while")
    waiting = asyncio.ensure_future(caller.hears(b"while"))
    await nothing_for(waiting)
    proxy.link().heal()
    await waiting


async def test_a_reset_ends_connections_and_welcomes_new_ones(proxy, caller):
    await caller.asks(b"before")
    proxy.link().reset()
    assert await caller.ends()
    after = await Caller.to(proxy)
    await after.asks(b"after")
    after.close()


async def test_a_refusing_link_ends_old_and_new_connections_until_it_is_healed(proxy, caller):
    await caller.asks(b"before")
    proxy.link().refuse()
    assert await caller.ends()
    turned_away = await Caller.to(proxy)
    await turned_away.ends()
    async with asyncio.timeout(DEADLINE_S):
        await proxy.link().refused()
    proxy.link().heal()
    after = await Caller.to(proxy)
    await after.asks(b"after")
    after.close()


async def test_without_a_server_connections_end(caller, echo):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
        async with FaultProxy(nobody) as proxy:
            lonely = await Caller.to(proxy)
            await lonely.ends()
            lonely.close()


async def test_a_socket_file_is_served_too_and_names_its_callers_process(tmp_path):
    echo, names = Echo(), []
    path = tmp_path / "server"
    server = await asyncio.start_unix_server(echo.serve, path)
    door = tmp_path / "door"
    async with FaultProxy(str(path), listen=door, named=lambda pid: names.append(pid) or "me"):
        caller = Caller(*await asyncio.open_unix_connection(door))
        await caller.asks(b"hello")
        caller.close()
    server.close()
    assert names == [os.getpid()]


CHILD = """
import socket, sys
sys.stdin.readline()
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as call:
    call.sendall(b"child")
    sys.stdout.buffer.write(call.recv(5))
"""


async def test_links_of_two_processes_are_told_apart(echo):
    """A child is cut off while we are not."""
    pids = {"me": [os.getpid()]}
    async with FaultProxy(echo.address, named=by_process(lambda: pids)) as proxy:
        proxy.link("other").hold()
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CHILD, str(proxy.port)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        pids["other"] = [child.pid]
        waiting = asyncio.ensure_future(child.communicate(b"call\n"))
        mine = await Caller.to(proxy)
        await mine.asks(b"mine")
        await nothing_for(waiting)
        proxy.link("other").heal()
        assert (await waiting)[0] == b"child"
        mine.close()


async def test_a_thread_serves_callers_without_a_loop(echo):
    def call():
        with ProxyThread() as thread:
            proxy = thread.open(FaultProxy(echo.address))
            thread.call(proxy.link(EVERYBODY).refuse)
            address = ("127.0.0.1", proxy.port)
            with (
                pytest.raises(ConnectionResetError),
                socket.create_connection(address, 10) as turned_away,
            ):
                turned_away.recv(1)
            thread.call(proxy.link(EVERYBODY).heal)
            with socket.create_connection(address, 10) as caller:
                caller.sendall(b"hello")
                return caller.recv(5)

    assert await asyncio.to_thread(call) == b"hello"
