"""The socket of a supervisor, without one behind it."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.supervisor import door as door_module
from agent.supervisor.door import CONNECTIONS_MOST, WAITING_MOST, Door, short_path
from agent.supervisor.protocol import PROTOCOL, FrameReader, frame

HELLO = frame("hello", {"version": PROTOCOL})
WELCOME = frame("hello", {}) + frame("listed", {})


class House:
    """A door, and those who knock."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self._epoll = select.epoll()
        self.door = Door(self.folder, self._epoll)

    def turn(self) -> None:
        """All that can be done now."""
        for _ in range(5):
            for descriptor, _ in self._epoll.poll(0):
                self.door.handle(descriptor, lambda: [WELCOME])
            self.door.flush()

    @contextlib.contextmanager
    def knock(self, said: bytes = b"") -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as sock, short_path(self.folder) as path:
            sock.settimeout(5)
            sock.connect(path)
            sock.sendall(said)
            self.turn()
            yield sock

    def close(self) -> None:
        self.door.close()
        self._epoll.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    made = House(deep)
    yield made
    made.close()


def heard(sock: socket.socket) -> list:
    return FrameReader().feed(sock.recv(1 << 20))


def test_who_says_hello_is_welcome_and_heard(house: House):
    with house.knock(HELLO + frame("end", {})) as sock:
        assert heard(sock) == [("hello", {}), ("listed", {})]
        assert list(house.door.waiting) == [("end", {})]
        house.door.say([frame("ended", {})])
        house.turn()
        assert heard(sock) == [("ended", {})]
    house.turn()
    assert not house.door.has_agent
    house.door.say([frame("ended", {})])


def test_what_an_older_agent_asked_is_dropped(house: House):
    with house.knock(HELLO + frame("end", {})) as old, house.knock(HELLO) as new:
        assert not house.door.waiting
        assert [kind for kind, _ in heard(old)] == ["hello", "listed"]
        assert old.recv(1) == b""
        assert heard(new)[0][0] == "hello"
        assert house.door.has_agent


def test_one_that_does_not_read_is_dropped(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(door_module, "BUFFER_MOST", 1 << 20)
    with house.knock(HELLO):
        for _ in range(100):
            house.door.say([frame("ended", "x" * 50_000)])
            house.turn()
        assert not house.door.has_agent


def test_more_is_read_only_when_there_is_room(house: House):
    burst = frame("extend", {}) * (WAITING_MOST * 2)
    with house.knock(HELLO) as sock:
        sock.sendall(burst)
        house.turn()
        sock.sendall(frame("end", {}))
        house.turn()
        assert ("end", {}) not in house.door.waiting
        house.door.waiting.clear()
        house.turn()
        assert house.door.waiting[-1] == ("end", {})


def test_a_refused_agent_is_told_why_and_heard_no_more(house: House):
    with house.knock(HELLO + frame("sing", {})) as sock:
        house.door.refuse_agent("no songs")
        assert not house.door.waiting
        sock.sendall(frame("end", {}))
        house.turn()
        assert heard(sock)[-1] == ("refused", {"version": PROTOCOL, "message": "no songs"})
        assert not house.door.waiting


def test_too_many_connections_are_closed(house: House):
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS_MOST):
            stack.enter_context(house.knock())
        last = stack.enter_context(house.knock())
        assert last.recv(1) == b""


def test_the_socket_is_for_its_owner_alone(house: House):
    assert (Path(house.folder) / "socket").stat().st_mode & 0o777 == 0o600
