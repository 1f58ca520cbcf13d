import asyncio

from mainspring.agent.v1 import session_pb2 as pb

from controlplane.leader.sessions import outbox as module
from controlplane.leader.sessions.outbox import Outbox
from tests.sim.virtual import pass_time
from tests.unit.leader.harness import virtual


def assign(number, size=0):
    return pb.Assign(number=number, spec=b"x" * size)


@virtual
async def test_entries_of_one_turn_share_a_frame():
    outbox = Outbox()
    taking = asyncio.ensure_future(outbox.take())
    await pass_time(0)
    outbox.assign(assign(1), 0)
    outbox.acknowledge(pb.ResultAck(attempt_id=b"a"))
    outbox.cancel(pb.Cancel(attempt_id=b"c"))
    outbox.answer_beat(3)
    outbox.tail(pb.LogTail(tail=2))
    outbox.demand(pb.Demand(grant_number=1))
    outbox.demand(pb.Demand(grant_number=2))
    ready = await taking
    frame = ready.frame
    assert ([each.number for each in frame.assigns], frame.heartbeat_ack.beat) == ([1], 3)
    assert (len(frame.result_acks), len(frame.cancels), len(frame.log_tails)) == (1, 1, 1)
    assert frame.demand.grant_number == 2
    assert ready.received_us == 0


@virtual
async def test_a_frame_knows_the_oldest_result_behind_its_assignments():
    outbox = Outbox()
    for received_us in (0, 9, 5, 7):
        outbox.assign(assign(1), received_us)
    assert (await outbox.take()).received_us == 5
    outbox.assign(assign(1), 0)
    assert (await outbox.take()).received_us == 0


@virtual
async def test_a_welcome_begins_a_frame():
    outbox = Outbox()
    outbox.assign(assign(1), 0)
    outbox.welcome(pb.Welcome(node="n"))
    outbox.assign(assign(2), 0)
    first, second = await outbox.take(), await outbox.take()
    assert not first.frame.HasField("welcome")
    assert second.frame.welcome.node == "n"
    assert second.frame.assigns[0].number == 2


@virtual
async def test_a_shard_has_one_extension_a_frame():
    outbox = Outbox()
    outbox.extend(0, 7, 3)
    outbox.extend(1, 9, 3)
    outbox.extend(0, 8, 4)
    first = (await outbox.take()).frame
    assert [(each.shard, each.epoch, each.beat) for each in first.lease_extensions] == [
        (0, 8, 4),
        (1, 9, 3),
    ]
    outbox.extend(0, 8, 5)
    [entry] = (await outbox.take()).frame.lease_extensions
    assert entry.beat == 5


@virtual
async def test_two_releases_stay_two():
    outbox = Outbox()
    outbox.release(pb.Release(number=1))
    outbox.release(pb.Release(number=2))
    numbers = [(await outbox.take()).frame.release.number for _ in range(2)]
    assert numbers == [1, 2]


@virtual
async def test_frames_have_a_size_and_the_outbox_a_bound():
    outbox = Outbox()
    while not outbox.overfull:
        outbox.assign(assign(1, module.FRAME_BYTES // 4), 0)
    frame = (await outbox.take()).frame
    assert module.FRAME_BYTES // 2 < frame.ByteSize() <= module.FRAME_BYTES
    assert not outbox.overfull


@virtual
async def test_a_closed_outbox_gives_nothing():
    outbox = Outbox()
    waiting = asyncio.ensure_future(outbox.take())
    await pass_time(0)
    outbox.close()
    assert await waiting is None
    outbox.assign(assign(1), 0)
    assert await outbox.take() is None
