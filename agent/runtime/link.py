"""The agent's link to its supervisor.

Decides: when a supervisor is started (nobody listens, and whoever listened is surely gone), and
when one is given up: not to say hello within HELLO_S, or nothing at SILENT_LOOKS looks in a row,
though it was asked each time, is to be dead, and it is killed. One that stands still enforces no
lease; killed, the kernel ends its tasks. Looks are counted, not seconds, so that an agent which
stood still itself hears first what was said meanwhile.

Promises: SupervisorReady after each connection, with all that the supervisor knows; until then,
and after SupervisorGone, what it is asked for is dropped. What is asked in one turn of the loop is
one write. Does not know why anything is asked.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

import structlog

from agent.core.entries import Assign
from agent.core.events import (
    Claimed,
    Event,
    ProcessExited,
    ProcessSpawned,
    SpawnFailed,
    Supervised,
    SupervisorGone,
    SupervisorReady,
)
from agent.core.types import Containment, EndCause
from agent.runtime.environment import attempt_environment
from agent.supervisor import proc, start
from agent.supervisor.door import short_path
from agent.supervisor.protocol import PROTOCOL, BrokenFrame, FrameReader, frame

HELLO_S = 10.0
START_S = 15.0
GONE_S = 10.0
END_S = 5.0
LOOK_S, SILENT_LOOKS = 2.0, 5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
NO_PROCESS = -1

log_lines = structlog.get_logger(__name__)


class SupervisorRefusedError(Exception):
    """The supervisor that runs here will not talk to this agent; the text says why."""


class OutputFiles(Protocol):
    """Where the output of an attempt goes."""

    @property
    def paths(self) -> tuple[Path, Path]: ...


class Channel(asyncio.Protocol):
    """One connection. `lost` is done, with the reason, when it is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[str, Any], None]) -> None:
        self.lost: asyncio.Future[str] = loop.create_future()
        self._loop = loop
        self._take = take
        self._reader = FrameReader()
        self._out: list[bytes] = []
        self.silent_looks = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # That of uvloop is none by its class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.silent_looks = 0
        try:
            for kind, content in self._reader.feed(data):
                self._take(kind, content)
        except BrokenFrame as error:
            self.close(f"the supervisor sends nonsense: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(str(exc) if exc else "the supervisor closed the connection")

    def say(self, kind: str, content: Any) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame(kind, content))

    def close(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        self._transport.abort()

    def _flush(self) -> None:
        said, self._out = b"".join(self._out), []
        if not self.lost.done():
            self._transport.write(said)


class SupervisorLink:
    """The supervisor of WORK/supervisor. `base_env`: what every task sees; `feed` takes what is
    said; `containment`: the only kind to start, by its name in the protocol.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        folder: Path,
        base_env: Mapping[str, str],
        feed: Callable[[Event], None],
        containment: str = "",
    ) -> None:
        self._loop = loop
        self._folder = folder
        self._base_env = base_env
        self._feed = feed
        self._containment = containment
        self._channel: Channel | None = None
        self._ending = False
        # Of the supervisor that was talked to last.
        self._pidfd = NO_PROCESS

    async def run(self) -> NoReturn:
        """Keeps a supervisor for ever. Raises SupervisorRefusedError where that cannot be."""
        try:
            while True:
                channel = await self._open()
                reason = await self._watch(channel)
                self._channel = None
                if not self._ending:
                    log_lines.warning("the supervisor is gone", reason=reason)
                    self._feed(SupervisorGone(reason))
        finally:
            if self._channel is not None:
                self._channel.close("the agent goes")
                self._channel = None
            self._let_go()

    def spawn(self, assign: Assign, log: OutputFiles, lease_until_ms: int) -> None:
        """Has an attempt claimed and started; ProcessSpawned or SpawnFailed follows."""
        spec = assign.spec
        assert spec is not None, "an attempt without a specification is never spawned"
        request = {
            "id": assign.attempt_id.hex(),
            "argv": spec.argv,
            "env": attempt_environment(self._base_env, assign),
            "cwd": spec.cwd,
            "stdout": str(log.paths[0]),
            "stderr": str(log.paths[1]),
            "timeout_ms": spec.timeout_ms,
            "grace_ms": spec.grace_ms,
            "overtime_ms": spec.overtime_ms,
            "shard": assign.shard,
            "until_ms": lease_until_ms,
        }
        self._say("spawn", request)

    def extend(self, shard: int, until_ms: int) -> None:
        """The attempts of a shard may run until then; never shortens."""
        self._say("extend", {"shard": shard, "until_ms": until_ms})

    def stop(self, attempt_id: bytes, cause: EndCause, grace_ms: int) -> None:
        """Ends an attempt that runs: SIGTERM, SIGKILL after the grace."""
        content = {"id": attempt_id.hex(), "cause": cause.value, "grace_ms": grace_ms}
        self._say("stop", content)

    def forget(self, attempt_id: bytes) -> None:
        """Nothing of an attempt that is over need be kept."""
        self._say("forget", {"id": attempt_id.hex()})

    async def end(self) -> None:
        """Ends the supervisor and all that runs; none is started after it."""
        self._ending = True
        if not await asyncio.to_thread(start.end, str(self._folder), END_S):
            log_lines.error("the supervisor does not end", folder=str(self._folder))

    def _say(self, kind: str, content: Any) -> None:
        if self._channel is not None:
            self._channel.say(kind, content)

    async def _watch(self, channel: Channel) -> str:
        """Why the connection is over."""
        while True:
            await asyncio.wait((channel.lost,), timeout=LOOK_S)
            if channel.lost.done():
                return channel.lost.result()
            channel.silent_looks += 1
            if channel.silent_looks > SILENT_LOOKS:
                channel.close("it does not answer, and is killed")
                await self._kill()
            else:
                channel.say("ping", {})

    # Connecting

    async def _open(self) -> Channel:
        """A connection over which everything was told; tries for ever."""
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, pause_s * 2))
            if self._ending:
                await self._loop.create_future()
            try:
                sock = await self._dial()
            except (ConnectionRefusedError, FileNotFoundError):
                await self._see_off()
                if await self._start():
                    pause_s = 0.0
                continue
            except OSError as error:
                log_lines.warning("cannot reach the supervisor", reason=str(error))
                continue
            self._remember(start.peer_pid(sock))
            listing = _Listing(self._loop, self._feed)
            channel = await self._channel_over(sock, listing.take)
            try:
                if await self._greet(channel, listing):
                    return channel
            except BaseException:
                channel.close("given up")
                raise

    async def _dial(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with short_path(str(self._folder)) as path:
                async with asyncio.timeout(HELLO_S):
                    await self._loop.sock_connect(sock, path)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _channel_over(self, sock: socket.socket, take: Callable[[str, Any], None]) -> Channel:
        channel = Channel(self._loop, take)
        await self._loop.create_unix_connection(lambda: channel, sock=sock)
        return channel

    async def _greet(self, channel: Channel, listing: _Listing) -> bool:
        """Says hello, and hears and tells what the supervisor knows. Whether it was of use."""
        channel.say("hello", {"version": PROTOCOL})
        await asyncio.wait(
            (listing.whole, channel.lost), timeout=HELLO_S, return_when=asyncio.FIRST_COMPLETED
        )
        if listing.refusal:
            raise SupervisorRefusedError(listing.refusal)
        if channel.lost.done():
            return False
        if not listing.whole.done():
            channel.close("no hello")
            log_lines.error("the supervisor does not answer and is killed")
            await self._kill()
            return False
        # In this order: the news asks for things.
        self._channel = channel
        self._feed(listing.whole.result())
        listing.go_on()
        return True

    async def _see_off(self) -> None:
        """Waits until the supervisor that was here before has surely ended."""
        if self._pidfd == NO_PROCESS:
            self._pidfd = start.pidfd_of_file(str(self._folder / "pid"))
        if self._pidfd != NO_PROCESS and not await self._gone():
            await self._kill()
        self._let_go()

    async def _kill(self) -> None:
        if self._pidfd != NO_PROCESS:
            proc.pidfd_kill(self._pidfd)
            await self._gone()

    async def _gone(self) -> bool:
        """Whether the process of the pidfd has ended, after some time at the latest."""
        ended = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._note_end, ended)
        try:
            await asyncio.wait((ended,), timeout=GONE_S)
            return ended.done()
        finally:
            self._loop.remove_reader(self._pidfd)

    def _note_end(self, ended: asyncio.Future[None]) -> None:
        self._loop.remove_reader(self._pidfd)
        ended.set_result(None)

    async def _start(self) -> bool:
        """Whether a supervisor was started."""
        kind = ("--containment", self._containment) if self._containment else ()
        starting = await asyncio.create_subprocess_exec(
            *start.PYTHON,
            *kind,
            str(self._folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(START_S):
                _, errors = await starting.communicate()
        except TimeoutError:
            errors = b"it takes too long"
        finally:
            if starting.returncode is None:
                starting.kill()
                await starting.wait()
        if starting.returncode != 0:
            text = errors.decode("utf-8", "replace").strip()
            log_lines.error("cannot start the supervisor", reason=text)
        return starting.returncode == 0

    def _remember(self, pid: int) -> None:
        """Keeps hold of the process that listens, and leaves word of it for who ends it later."""
        self._let_go()
        ticks = proc.start_ticks(pid)
        if not ticks:
            return
        self._pidfd = os.pidfd_open(pid)
        fresh = self._folder / "pid.new"
        fresh.write_text(f"{pid} {ticks} {proc.boot_id()}\n", "ascii")
        fresh.replace(self._folder / "pid")

    def _let_go(self) -> None:
        if self._pidfd != NO_PROCESS:
            os.close(self._pidfd)
            self._pidfd = NO_PROCESS


class _Listing:
    """Takes what a supervisor says: all that it knows first, then its news."""

    def __init__(self, loop: asyncio.AbstractEventLoop, feed: Callable[[Event], None]) -> None:
        self.whole: asyncio.Future[SupervisorReady] = loop.create_future()
        self.refusal = ""
        self._feed = feed
        self._attempts: list[Supervised] = []
        self._containment = Containment.PROCESS
        self._early: list[Event] | None = []

    def take(self, kind: str, content: Any) -> None:
        match kind:
            case "hello":
                self._containment = Containment[content["containment"].upper()]
            case "attempt":
                self._attempts.append(supervised(content))
            case "listed":
                if not self.whole.done():
                    ready = SupervisorReady(self._containment, tuple(self._attempts))
                    self.whole.set_result(ready)
            case "refused":
                self.refusal = content["message"]
            case "pong":
                return
            case _:
                self._take_news(kind, content)

    def _take_news(self, kind: str, content: Any) -> None:
        if (told := NEWS.get(kind)) is None:
            raise BrokenFrame(f"{kind!r} is not known")
        if self._early is None:
            self._feed(told(content))
        else:
            self._early.append(told(content))

    def go_on(self) -> None:
        """The list was told: what came behind it follows, and the rest as it comes."""
        early, self._early = self._early or [], None
        for event in early:
            self._feed(event)


def supervised(content: Mapping[str, Any]) -> Supervised:
    """What a supervisor knows of one attempt."""
    claimed = Claimed(bytes.fromhex(content["id"]), content["claimed_at_us"])
    return Supervised(
        claimed,
        spawned(content["spawned"]) if "spawned" in content else None,
        ended(content["ended"]) if "ended" in content else None,
        failed(content["failed"]) if "failed" in content else None,
    )


def spawned(content: Mapping[str, Any]) -> ProcessSpawned:
    attempt_id = bytes.fromhex(content["id"])
    return ProcessSpawned(attempt_id, content["at_us"], content["pid"], content["ticks"])


def failed(content: Mapping[str, Any]) -> SpawnFailed:
    attempt_id = bytes.fromhex(content["id"])
    cause = EndCause(content["cause"])
    return SpawnFailed(attempt_id, content["message"], content["at_us"], cause)


def ended(content: Mapping[str, Any]) -> ProcessExited:
    return ProcessExited(
        bytes.fromhex(content["id"]),
        content["code"],
        content["signal"],
        content["at_us"],
        content["stdout"],
        content["stderr"],
        content["message"],
        EndCause(content["cause"]),
    )


NEWS: Mapping[str, Callable[[Mapping[str, Any]], Event]] = {
    "spawned": spawned,
    "failed": failed,
    "ended": ended,
}
