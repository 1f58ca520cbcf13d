import asyncio

import pytest
from mainspring.agent.v1 import session_pb2 as pb

from controlplane.core.effects import AssignMessage, CancelMessage, LeaseMessage, ResultAckMessage
from controlplane.core.events import AgentGone, Beat, Finished, Inventory, Rejected, Started
from controlplane.core.fleet.placement import Fleet
from controlplane.core.shard.queue import NO_WANT, ShapeWant
from controlplane.core.types import Resources
from controlplane.leader.claim import Claim
from controlplane.leader.mailbox import Mailbox
from controlplane.leader.sessions import outbox
from controlplane.leader.sessions.hub import SessionHub
from controlplane.leader.sessions.roster import Roster
from controlplane.leader.sessions.session import Refused
from controlplane.store.records import ShardState, ShardWord
from controlplane.telemetry.stats import Stats
from tests.sim.virtual import pass_time
from tests.unit.leader.harness import LoopClock, virtual
from tests.unit.leader.test_roster import Rows
from tests.unit.leader.test_session import hello

ATTEMPT = b"t" * 16
CAPACITY = pb.Capacity(cpu_millis=4_000, memory_bytes=1)
LATER = Claim(1, 3, b"k" * 16)


class Batches:
    batch = 12
    sent_ms = 0


class Desk:
    """A hub that leads shard 0 in epoch 7."""

    def __init__(self, limit=1_000):
        self.fleet, self.mailbox, self.claim = Fleet(), Mailbox(limit), Claim(0, 7, b"h" * 16)
        self.stats = Stats()
        self.hub = SessionHub("n1", self.fleet, Roster(Rows()), LoopClock(), self.stats)
        self.hub.set_peers(["n2:1", "n1:1"])
        self.hub.lead(self.claim, self.mailbox, Batches())

    async def open(self, **changes):
        session = self.hub.open(hello(**changes))
        await told(session)
        return session

    def receive(self, session, **entries):
        self.hub.receive(session, pb.SessionRequest(**entries))

    def arrived(self):
        return [event for each in self.mailbox.take(1_000) for event in each.events]

    def speak(self, session, *messages, received_us=0, decided_ms=None):
        sessions = {session.agent: session}
        decided_ms = LoopClock().now().mono_ms if decided_ms is None else decided_ms
        self.hub.speak(self.claim, 13, messages, sessions, received_us, decided_ms)


async def told(session):
    """Everything that waits for an agent, as one frame."""
    await pass_time(0.06)
    whole = pb.SessionResponse()
    while True:
        try:
            async with asyncio.timeout(0.001):
                whole.MergeFrom((await session.outbox.take()).frame)
        except TimeoutError:
            return whole


def assign(session, **changes):
    message = AssignMessage(
        session.agent, session.incarnation, ATTEMPT, 1, "t", "d", b"r" * 16, "task", 5, b"spec"
    )
    return message._replace(**changes)


@virtual
async def test_a_session_begins_with_a_welcome():
    desk = Desk()
    await pass_time(0)
    frame = await told(desk.hub.open(hello()))
    welcome = frame.welcome
    assert (welcome.node, list(welcome.peers)) == ("n1", ["n1:1", "n2:1"])
    assert (welcome.session, welcome.heartbeat_ms) == (3, 5_000)
    assert welcome.attempt_lease_ms == 120_000
    [shard] = welcome.shards
    assert (shard.shard, shard.epoch, shard.holder, shard.batch) == (0, 7, b"h" * 16, 12)
    assert desk.fleet.room("a-1").connected


@virtual
async def test_a_change_of_shards_or_peers_is_told_once_a_turn():
    desk = Desk()
    session = await desk.open()
    desk.hub.lead(LATER, Mailbox(), Batches())
    desk.hub.set_peers(["n1:1"])
    desk.hub.set_peers(["n1:1"])
    await pass_time(0)
    frame = (await session.outbox.take()).frame
    assert [each.shard for each in frame.welcome.shards] == [0, 1]
    assert list(frame.welcome.peers) == ["n1:1"]
    desk.hub.withdraw(desk.claim)
    desk.hub.withdraw(Claim(1, 2, b"old" * 6))
    assert [each.shard for each in (await told(session)).welcome.shards] == [1]


@virtual
async def test_the_newest_session_of_an_incarnation_wins():
    desk = Desk()
    old = await desk.open(session=3)
    new = await desk.open(session=4)
    assert (old.live, new.live) == (False, True)
    assert await old.outbox.take() is None
    assert desk.arrived() == [AgentGone("a-1")]
    assert desk.fleet.room("a-1").connected
    with pytest.raises(Refused, match="newer session"):
        desk.hub.open(hello(session=3))
    assert new.live


@virtual
async def test_a_second_agent_of_a_name_is_refused_while_the_first_is_heard_of():
    desk = Desk()
    first = await desk.open()
    with pytest.raises(Refused, match="another agent named 'a-1'") as caught:
        desk.hub.open(hello(incarnation=b"o" * 16))
    assert caught.value.reason == pb.REFUSAL_REASON_NAME_TAKEN
    await pass_time(16)
    second = await desk.open(incarnation=b"o" * 16, session=1)
    assert (first.live, second.live) == (False, True)


@virtual
async def test_a_copied_journal_on_another_machine_is_refused_while_the_first_is_heard_of():
    desk = Desk()
    first = await desk.open(session=3)
    with pytest.raises(Refused, match="its work folder was copied") as caught:
        desk.hub.open(hello(session=4, boot_id="another"))
    assert caught.value.reason == pb.REFUSAL_REASON_NAME_TAKEN
    await pass_time(16)
    rebooted = await desk.open(session=4, boot_id="another")
    assert (first.live, rebooted.live) == (False, True)


@virtual
async def test_a_heartbeat_reaches_the_shards_that_have_attempts_there():
    desk = Desk()
    later, idle = Mailbox(), Mailbox()
    desk.hub.lead(LATER, later, Batches())
    desk.hub.lead(Claim(2, 1, b"l" * 16), idle, Batches())
    session = await desk.open()
    for shard, life in ((0, session.incarnation), (1, b"past" * 4), (9, session.incarnation)):
        desk.fleet.charge(shard, "a-1", life, Resources(1, 0))
    desk.receive(session, heartbeat=pb.Heartbeat(beat=1))
    [delivery] = desk.mailbox.take(10)
    assert (delivery.events, delivery.source) == ((Beat("a-1", session.incarnation),), session)
    assert (len(later), len(idle)) == (0, 0)
    assert (await told(session)).heartbeat_ack.beat == 1


@virtual
async def test_a_shard_that_has_no_room_for_a_heartbeat_misses_it():
    desk = Desk(limit=0)
    session = await desk.open()
    desk.fleet.charge(0, "a-1", session.incarnation, Resources(1, 0))
    desk.receive(session, heartbeat=pb.Heartbeat(beat=1))
    assert session.live
    assert (await told(session)).heartbeat_ack.beat == 1


@virtual
async def test_an_inventory_comes_before_the_heartbeat_of_its_frame():
    desk = Desk()
    session = await desk.open()
    desk.fleet.charge(0, "a-1", session.incarnation, Resources(1, 0))
    desk.receive(
        session,
        heartbeat=pb.Heartbeat(beat=1),
        inventories=[pb.Inventory(shard=0, epoch=7)],
    )
    assert [type(event) for event in desk.arrived()] == [Inventory, Beat]


@virtual
async def test_a_silent_session_is_ended():
    desk = Desk()
    task = asyncio.ensure_future(desk.hub.run())
    silent, alive = await desk.open(agent="s"), await desk.open(agent="l")
    for beat in range(6):
        await pass_time(4)
        desk.receive(alive, heartbeat=pb.Heartbeat(beat=beat + 1))
    assert (silent.live, alive.live, alive.beat) == (False, True, 6)
    assert (await told(alive)).heartbeat_ack.beat == 6
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtual
async def test_entries_become_events_of_their_shard():
    desk = Desk()
    session = await desk.open()
    result = pb.Result(attempt_id=ATTEMPT, outcome=pb.OUTCOME_SUCCEEDED)
    foreign = pb.Result(shard=5, attempt_id=ATTEMPT, outcome=pb.OUTCOME_SUCCEEDED)
    desk.receive(
        session,
        accepted=[pb.Accepted(attempt_id=ATTEMPT)],
        started=[pb.Started(attempt_id=ATTEMPT, started_at_us=4)],
        results=[result, foreign],
    )
    [delivery] = desk.mailbox.take(10)
    assert [type(event) for event in delivery.events] == [Started, Finished]
    assert delivery.source is session
    assert delivery.received_us > 0


@virtual
async def test_a_refusal_comes_before_an_inventory_of_the_same_frame():
    """It was said to a leader before: the inventory must have the last word."""
    desk = Desk()
    session = await desk.open()
    refused = pb.Rejected(attempt_id=ATTEMPT, reason=pb.REJECT_REASON_CAPACITY)
    desk.receive(session, rejected=[refused], inventories=[pb.Inventory(epoch=7)])
    assert [type(event) for event in desk.arrived()] == [Rejected, Inventory]


@virtual
async def test_an_inventory_counts_only_for_the_epoch_in_force():
    desk = Desk()
    session = await desk.open()
    desk.receive(session, inventories=[pb.Inventory(shard=0, epoch=6), pb.Inventory(shard=9)])
    assert desk.arrived() == []
    desk.receive(session, inventories=[pb.Inventory(shard=0, epoch=7)])
    assert desk.arrived() == [Inventory("a-1", b"i" * 16, (), ())]


@virtual
async def test_an_entry_that_cannot_be_read_ends_the_session():
    desk = Desk()
    session = await desk.open()
    desk.receive(session, results=[pb.Result(attempt_id=b"short", outcome=1)])
    assert not session.live
    desk.receive(session, heartbeat=pb.Heartbeat(beat=1))
    assert session.beat == 0


@virtual
async def test_a_shard_that_cannot_keep_up_sends_the_agent_away():
    desk = Desk(limit=1)
    session = await desk.open()
    result = pb.Result(attempt_id=ATTEMPT, outcome=pb.OUTCOME_SUCCEEDED)
    desk.receive(session, results=[result, result])
    assert not session.live
    desk.hub.close(session, "again")


@virtual
async def test_messages_of_one_batch_share_a_frame():
    desk = Desk()
    session = await desk.open()
    desk.receive(session, heartbeat=pb.Heartbeat(beat=4))
    ack, cancel = ResultAckMessage("a-1", b"u" * 16), CancelMessage("a-1", b"v" * 16)
    desk.speak(session, ack, assign(session), cancel, assign(session, agent="unknown"))
    ready = await session.outbox.take()
    [entry] = ready.frame.assigns
    assert (entry.shard, entry.epoch, entry.batch, entry.beat) == (0, 7, 13, 4)
    assert (entry.attempt_id, entry.spec) == (ATTEMPT, b"spec")
    assert ready.frame.result_acks[0].attempt_id == b"u" * 16
    assert ready.frame.cancels[0].epoch == 7


async def heard_of(desk):
    """A session whose agent sent heartbeats 1 and 2, and the time between them."""
    session = await desk.open()
    desk.receive(session, heartbeat=pb.Heartbeat(beat=1))
    between_ms = LoopClock().now().mono_ms
    await pass_time(5)
    desk.receive(session, heartbeat=pb.Heartbeat(beat=2))
    return session, between_ms


@virtual
async def test_an_assignment_written_late_echoes_what_was_heard_before_it_was_decided():
    desk = Desk()
    session, between_ms = await heard_of(desk)
    desk.speak(session, assign(session), decided_ms=between_ms)
    [entry] = (await told(session)).assigns
    assert (entry.beat, entry.epoch) == (1, 7)


@virtual
async def test_an_extension_written_late_echoes_what_was_heard_before_it_was_decided():
    desk = Desk()
    session, between_ms = await heard_of(desk)
    desk.speak(session, LeaseMessage("a-1"), decided_ms=between_ms)
    [entry] = (await told(session)).lease_extensions
    assert (entry.shard, entry.epoch, entry.beat) == (0, 7, 1)
    desk.speak(session, LeaseMessage("a-1"))
    [entry] = (await told(session)).lease_extensions
    assert entry.beat == 2


@virtual
async def test_a_cancellation_written_late_names_the_epoch_that_decided_it():
    desk = Desk()
    session, between_ms = await heard_of(desk)
    desk.hub.lead(desk.claim._replace(epoch=9), desk.mailbox, Batches())
    desk.speak(session, CancelMessage("a-1", ATTEMPT), decided_ms=between_ms)
    assert [each.epoch for each in (await told(session)).cancels] == [7]


@virtual
async def test_a_late_acknowledgement_says_only_what_is_stored():
    desk = Desk()
    session, between_ms = await heard_of(desk)
    desk.speak(session, ResultAckMessage("a-1", ATTEMPT), decided_ms=between_ms)
    assert list((await told(session)).result_acks) == [pb.ResultAck(attempt_id=ATTEMPT)]


@virtual
async def test_what_was_decided_before_the_session_is_not_said_in_it():
    desk = Desk()
    await pass_time(1)
    session = await desk.open()
    desk.speak(session, assign(session), LeaseMessage("a-1"), decided_ms=session.opened_ms - 1)
    frame = await told(session)
    assert (len(frame.assigns), len(frame.lease_extensions)) == (0, 0)


@virtual
async def test_nothing_is_said_to_a_session_that_ended():
    desk = Desk()
    old = await desk.open(session=3)
    new = await desk.open(session=4)
    desk.speak(old, assign(old))
    assert not (await told(new)).assigns


@virtual
async def test_an_agent_that_does_not_read_is_let_go():
    desk = Desk()
    session = await desk.open()
    large = assign(session, exec_spec=b"x" * outbox.FRAME_BYTES)
    desk.speak(session, *[large] * (outbox.FRAMES_KEPT - 1))
    assert session.live
    desk.speak(session, *[large] * 3)
    assert not session.live


@virtual
async def test_grants_reach_the_fleet_and_wake_shards_that_want_room():
    desk = Desk()
    session = await desk.open()
    desk.hub.stepped(0, want())
    desk.receive(session, grant=pb.Grant(number=1, amount=CAPACITY))
    assert desk.fleet.room("a-1").granted == Resources(4_000, 1)
    begun = asyncio.get_running_loop().time()
    await desk.mailbox.wait(5)
    assert asyncio.get_running_loop().time() == begun


@virtual
async def test_growth_by_one_shard_wakes_the_others():
    desk = Desk()
    other = Mailbox()
    desk.hub.lead(LATER, other, Batches())
    for shard in (0, 1):
        desk.hub.stepped(shard, want())
    desk.mailbox.take(1)
    desk.fleet.growth += 1
    desk.hub.stepped(0, want())
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await other.wait(5)
    assert loop.time() == begun
    await desk.mailbox.wait(5)
    assert loop.time() == begun + 5


@virtual
async def test_room_is_given_back_also_where_it_is_in_use():
    desk = Desk()
    session = await desk.open()
    desk.receive(session, grant=pb.Grant(number=2, amount=CAPACITY))
    desk.fleet.charge(0, "a-1", session.incarnation, Resources(3_000, 0))
    desk.receive(session, recall=pb.Recall(number=2, amount=pb.Capacity(cpu_millis=2_000)))
    release = (await told(session)).release
    assert (release.number, release.amount.cpu_millis) == (2, 2_000)
    desk.receive(session, recall=pb.Recall(number=1, amount=pb.Capacity(cpu_millis=2_000)))
    release = (await told(session)).release
    assert (release.number, release.amount.cpu_millis) == (1, 0)
    assert desk.fleet.room("a-1").granted == Resources(CAPACITY.cpu_millis - 2_000, 1)


def want(cpu=1_000, tasks=2):
    return (ShapeWant(Resources(cpu, 0), tasks, 5),)


@virtual
async def test_demand_goes_to_agents_that_have_more_to_give():
    desk = Desk()
    part, whole = await desk.open(agent="p"), await desk.open(agent="w")
    desk.receive(part, grant=pb.Grant(number=1, amount=pb.Capacity(cpu_millis=1_000)))
    desk.receive(whole, grant=pb.Grant(number=1, amount=CAPACITY))
    desk.hub.stepped(0, want(1_000))
    desk.hub.stepped(0, want(1_001))
    frame = await told(part)
    (shape,) = frame.demand.shapes
    assert (shape.request.cpu_millis, shape.count, frame.demand.grant_number) == (1_001, 2, 1)
    assert not (await told(whole)).HasField("demand")
    desk.hub.stepped(0, NO_WANT)
    assert (await told(part)).HasField("demand")
    desk.hub.stepped(0, NO_WANT)
    assert not (await told(part)).HasField("demand")


@virtual
async def test_a_grant_that_shrank_is_asked_for_again():
    desk = Desk()
    session = await desk.open()
    desk.hub.stepped(0, want())
    assert (await told(session)).demand.shapes[0].count == 2
    desk.receive(session, grant=pb.Grant(number=1, amount=pb.Capacity(cpu_millis=1_000)))
    assert (await told(session)).demand.shapes[0].count == 2


@virtual
async def test_room_that_was_given_back_is_asked_for_again():
    desk = Desk()
    session = await desk.open()
    desk.receive(session, grant=pb.Grant(number=1, amount=pb.Capacity(cpu_millis=1_000)))
    desk.hub.stepped(0, want())
    assert (await told(session)).demand.shapes[0].count == 2
    desk.receive(session, recall=pb.Recall(number=1, amount=pb.Capacity(cpu_millis=1_000)))
    frame = await told(session)
    assert frame.release.amount.cpu_millis == 1_000
    assert (frame if frame.HasField("demand") else await told(session)).demand.shapes[0].count == 2


@virtual
async def test_a_shard_that_is_not_led_any_more_wants_nothing():
    desk = Desk()
    session = await desk.open()
    desk.hub.stepped(0, want())
    await told(session)
    desk.hub.withdraw(desk.claim)
    assert not (await told(session)).demand.shapes


@virtual
async def test_logs_are_read_through_the_session():
    desk = Desk()
    session = await desk.open()
    reading = desk.hub.tails.tail("a-1", ATTEMPT, (0, 0))
    first = asyncio.ensure_future(anext(reading))
    [entry] = (await told(session)).log_tails
    desk.receive(session, log_data=[pb.LogData(tail=entry.tail, data=b"x")])
    assert (await first).data == b"x"
    desk.hub.close_all("the end")
    with pytest.raises(StopAsyncIteration):
        await anext(reading)


class Judge:
    """A store that answers when it is let, and knows everything."""

    def __init__(self):
        self.free, self.asked = asyncio.Event(), []

    async def contradicted(self, words):
        self.asked += words
        await self.free.wait()
        return []

    async def read_shard(self, shard):
        return ShardState(shard, 7, 0, b"", "", "", 0)


@virtual
async def test_what_an_agent_holds_waits_until_what_it_remembers_is_judged():
    desk, judge = Desk(), Judge()
    task = asyncio.ensure_future(desk.hub.memories.run(judge))
    session = await desk.open(memories=[pb.ShardMemory(shard=0, epoch=6, batch=3, holder=b"o")])
    other = await desk.open(agent="bee", incarnation=b"b" * 16)
    for each in (session, other):
        desk.receive(each, inventories=[pb.Inventory(shard=0, epoch=7)])
    await pass_time(1)
    assert judge.asked == [ShardWord(0, 6, b"o", 3)]
    assert desk.arrived() == []
    desk.hub.close(other, "gone")
    desk.arrived()
    judge.free.set()
    await pass_time(1)
    assert [event.agent for event in desk.arrived()] == [session.agent]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtual
async def test_what_waited_for_a_judgement_is_not_for_a_later_leader():
    desk, judge = Desk(), Judge()
    task = asyncio.ensure_future(desk.hub.memories.run(judge))
    session = await desk.open()
    memory = pb.ShardMemory(shard=0, epoch=6, batch=3)
    inventory = pb.Inventory(shard=0, epoch=7)
    desk.receive(session, memories=[memory], inventories=[inventory])
    desk.hub.withdraw(desk.claim)
    desk.hub.lead(desk.claim._replace(epoch=9), desk.mailbox, Batches())
    judge.free.set()
    await pass_time(1)
    assert desk.arrived() == []
    assert desk.hub.memories.words(0) == [ShardWord(0, 6, b"", 3)]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
