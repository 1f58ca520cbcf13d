"""The socket at which an agent talks to its supervisor.

Decides: the newest connection that said hello is the agent, and what an older one still sent is
dropped; one of another protocol is told so; one that sends nonsense, or does not read, is closed:
it is told everything when it comes back.

Promises: never waits for the other side; writes once a turn; keeps at most BUFFER_MOST bytes for an
agent. Does not know what messages mean.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections import deque

from agent.supervisor.protocol import PROTOCOL, BrokenFrame, FrameReader, frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

SOCKET = "socket"
BUFFER_MOST = 16 << 20
READ_AT_ONCE = 1 << 18
# Beyond this many waiting messages nothing is read: the agent keeps them.
WAITING_MOST = 1_000
CONNECTIONS_MOST = 16


@contextlib.contextmanager
def short_path(folder: str) -> Iterator[str]:
    """The socket of a folder, by a path that is short wherever the folder is: such paths end at
    108 bytes.
    """
    at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{at}/{SOCKET}"
    finally:
        os.close(at)


class Connection:
    """One peer. `refused`: it is closed when all was written."""

    __slots__ = ("out", "reader", "refused", "sock", "watched")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = FrameReader()
        self.out = bytearray()
        self.refused = False
        self.watched = select.EPOLLIN


class Door:
    """Listens in a folder; `epoll` is shared with whoever waits for more."""

    def __init__(self, folder: str, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._connections: dict[int, Connection] = {}
        self._agent: Connection | None = None
        self.waiting: deque[tuple[str, Any]] = deque()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short_path(folder) as path:
            if os.path.lexists(path):
                os.unlink(path)
            self._listener.bind(path)
            os.chmod(path, 0o600)
        self._listener.listen(CONNECTIONS_MOST)
        self._listener.setblocking(False)
        epoll.register(self._listener.fileno(), select.EPOLLIN)

    @property
    def has_agent(self) -> bool:
        return self._agent is not None

    def handle(self, descriptor: int, welcome: Callable[[], list[bytes]]) -> None:
        """Something can be done at a descriptor. A new agent gets `welcome`, hello first."""
        if descriptor == self._listener.fileno():
            self._accept()
            return
        connection = self._connections.get(descriptor)
        if connection is not None and len(self.waiting) < WAITING_MOST:
            self._read(connection, welcome)

    def say(self, frames: Iterable[bytes]) -> None:
        """Tells the agent, if there is one; `flush` sends it."""
        if self._agent is not None:
            self._agent.out += b"".join(frames)

    def refuse_agent(self, why: str) -> None:
        """The agent said what makes no sense: nothing more of it is heard."""
        if self._agent is not None:
            self._refuse(self._agent, why)
        self.waiting.clear()

    def flush(self) -> None:
        """Writes what can be written, and waits for what can be done next."""
        for connection in list(self._connections.values()):
            if not self._write(connection) or (connection.refused and not connection.out):
                self._close(connection)
                continue
            reading = connection is not self._agent or len(self.waiting) < WAITING_MOST
            wanted = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if connection.out else 0)
            if wanted != connection.watched:
                self._epoll.modify(connection.sock.fileno(), wanted)
                connection.watched = wanted

    def close(self) -> None:
        """Turns everybody away."""
        for connection in list(self._connections.values()):
            self._close(connection)
        self._epoll.unregister(self._listener.fileno())
        self._listener.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._connections) >= CONNECTIONS_MOST:
            sock.close()
            return
        sock.setblocking(False)
        self._connections[sock.fileno()] = Connection(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, connection: Connection, welcome: Callable[[], list[bytes]]) -> None:
        try:
            data = connection.sock.recv(READ_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        if connection.refused:
            return
        try:
            messages = connection.reader.feed(data)
        except BrokenFrame as error:
            self._refuse(connection, str(error))
            return
        if connection is not self._agent and messages:
            self._greet(connection, *messages.pop(0), welcome)
        if connection is self._agent:
            self.waiting += messages

    def _greet(
        self, connection: Connection, kind: str, version: Any, welcome: Callable[[], list[bytes]]
    ) -> None:
        spoken = version.get("version") if isinstance(version, dict) else None
        if kind != "hello" or spoken != PROTOCOL:
            said = f"protocol {spoken}" if kind == "hello" else f"{kind!r} before hello"
            self._refuse(connection, f"the supervisor speaks protocol {PROTOCOL}, not {said}")
            return
        if self._agent is not None:
            self._close(self._agent)
        self.waiting.clear()
        self._agent = connection
        connection.out += b"".join(welcome())

    def _refuse(self, connection: Connection, why: str) -> None:
        if connection is self._agent:
            self._agent = None
        connection.refused = True
        connection.out += frame("refused", {"version": PROTOCOL, "message": why})

    def _write(self, connection: Connection) -> bool:
        """Whether the connection may live on."""
        if not connection.out:
            return True
        try:
            sent = connection.sock.send(connection.out)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        del connection.out[:sent]
        return len(connection.out) <= BUFFER_MOST

    def _close(self, connection: Connection) -> None:
        if connection is self._agent:
            self._agent = None
        descriptor = connection.sock.fileno()
        self._epoll.unregister(descriptor)
        del self._connections[descriptor]
        connection.sock.close()
