import asyncio

from mainspring.agent.v1 import session_pb2 as pb

from controlplane.leader.sessions.session import greeted
from controlplane.leader.sessions.tails import PIECES_KEPT, Tails
from controlplane.objectstore.logs import LogPiece
from tests.unit.leader.harness import virtual
from tests.unit.leader.test_session import hello

ATTEMPT = b"t" * 16


class Desk:
    """One agent, and a reader that notes what it gets."""

    def __init__(self, offsets=(0, 0)):
        self.session = greeted(hello(), 0)
        self.tails = Tails({"a-1": self.session}.get)
        self.read = []
        self.reader = asyncio.ensure_future(self._read(offsets))

    async def _read(self, offsets):
        async for piece in self.tails.tail("a-1", ATTEMPT, offsets):
            self.read.append(piece)

    def take_in(self, offset, data, *, stderr=False, eof=False, tail=1):
        piece = pb.LogData(tail=tail, is_stderr=stderr, offset=offset, data=data, eof=eof)
        self.tails.take_in(self.session, piece)

    async def asked(self):
        ready = await self.session.outbox.take()
        [entry] = ready.frame.log_tails
        return entry


@virtual
async def test_pieces_arrive_in_order_until_the_end():
    desk = Desk((2, 0))
    entry = await desk.asked()
    assert (entry.attempt_id, entry.stdout_offset, entry.stderr_offset) == (ATTEMPT, 2, 0)
    desk.take_in(2, b"out")
    desk.take_in(0, b"err", stderr=True)
    desk.take_in(5, b"!", eof=True)
    await desk.reader
    assert desk.read == [
        LogPiece("stdout", 2, b"out"),
        LogPiece("stderr", 0, b"err"),
        LogPiece("stdout", 5, b"!"),
    ]


@virtual
async def test_pieces_that_do_not_follow_are_dropped():
    desk = Desk()
    await desk.asked()
    desk.take_in(4, b"late")
    desk.take_in(0, b"ab")
    desk.take_in(0, b"ab")
    desk.take_in(0, b"other", tail=9)
    desk.take_in(2, b"", eof=True)
    await desk.reader
    assert desk.read == [LogPiece("stdout", 0, b"ab")]


@virtual
async def test_a_slow_reader_asks_again_from_where_it_is():
    desk = Desk()
    await desk.asked()
    for offset in range(PIECES_KEPT + 5):
        desk.take_in(offset, b"x")
    desk.take_in(PIECES_KEPT + 5, b"", eof=True)
    entry = await desk.asked()
    assert (entry.tail, entry.stdout_offset, entry.stop) == (1, PIECES_KEPT, False)
    desk.take_in(PIECES_KEPT, b"y", eof=True)
    await desk.reader
    assert len(desk.read) == PIECES_KEPT + 1


@virtual
async def test_a_reader_that_leaves_ends_the_reading():
    desk = Desk()
    await desk.asked()
    desk.reader.cancel()
    await asyncio.gather(desk.reader, return_exceptions=True)
    entry = await desk.asked()
    assert (entry.tail, entry.stop) == (1, True)


@virtual
async def test_the_end_of_the_session_ends_its_readings():
    desk = Desk()
    await desk.asked()
    desk.session.live = False
    desk.tails.ended(greeted(hello(), 0))
    assert not desk.reader.done()
    desk.tails.ended(desk.session)
    await desk.reader
    assert desk.read == []


@virtual
async def test_an_agent_without_a_session_has_nothing_to_read():
    tails = Tails({}.get)
    assert [piece async for piece in tails.tail("a-1", ATTEMPT, (0, 0))] == []
