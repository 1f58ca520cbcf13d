import asyncio

from controlplane.codec import commands
from controlplane.coordination.errors import EtcdUnavailable
from controlplane.core.effects import AssignMessage, CommandOutcome
from controlplane.core.events import Inventory
from controlplane.core.states import RunState
from controlplane.core.types import Resources
from controlplane.leader.claim import Claim
from controlplane.leader.leadership import Leadership
from controlplane.leader.mailbox import Delivery
from controlplane.store.ports import EPOCH_LEAP
from controlplane.store.records import ShardWord
from tests.sim.memory_store import ConnectionLost, Faults, Point
from tests.sim.virtual import START_WALL_US, pass_time
from tests.unit.leader.cluster import WON, Cluster, led
from tests.unit.leader.harness import CountedIds, Session, ended, inventory, virtual

RUN_IDS = [CountedIds().run_id(START_WALL_US + n) for n in range(3)]


class Unreliable(Faults):
    """Loses the connection at the next `times` visits of a point."""

    def __init__(self, point, times):
        self.point, self.times = point, times

    async def at(self, point, shard):
        if point is self.point and self.times:
            self.times -= 1
            raise ConnectionLost


@virtual
async def test_a_won_key_becomes_an_epoch_and_an_announced_claim():
    cluster = Cluster()
    leadership = Leadership(0, WON, cluster.around)
    async with led(cluster, leadership):
        await cluster.leads(1)
        row = cluster.database.shards[0]
        assert (row.epoch, row.node, row.address) == (1, "n1", "n1:1")
        assert cluster.journal.claims == [Claim(0, 1, row.holder)]
        assert leadership.inbox is not None
    assert cluster.journal.claims == []
    assert leadership.inbox is None


@virtual
async def test_a_key_that_is_not_ours_any_more_takes_nothing_over():
    cluster = Cluster()
    cluster.candidate.holds = False
    await Leadership(0, WON, cluster.around).run()
    assert cluster.database.shards[0].epoch == 0


@virtual
async def test_a_takeover_that_somebody_else_won_ends_it():
    cluster = Cluster()
    leadership = Leadership(0, WON, cluster.around)

    async def verify(_key):
        await cluster.store.take_over(0, 0, b"o" * 16, "n2", "n2:1")
        return True

    cluster.candidate.verify = verify
    await leadership.run()
    assert cluster.database.shards[0].node == "n2"


@virtual
async def test_stores_and_etcds_that_do_not_answer_are_asked_again():
    cluster = Cluster(Unreliable(Point.READ, 3))
    cluster.candidate.fails.append(EtcdUnavailable("UNAVAILABLE", "x"))
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(1)


@virtual
async def test_a_recovery_that_fails_is_tried_again():
    class SecondRead(Unreliable):
        async def at(self, point, shard):
            if point is Point.READ and cluster.database.shards[0].epoch:
                await super().at(point, shard)

    cluster = Cluster()
    cluster.store.faults = SecondRead(Point.READ, 2)
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(1)


@virtual
async def test_a_leadership_can_be_stopped_before_it_leads():
    cluster = Cluster(Unreliable(Point.READ, 10_000))
    leadership = Leadership(0, WON, cluster.around)
    async with led(cluster, leadership):
        await pass_time(20)
        assert leadership.without_commit_ms >= 20_000
    assert leadership.stopping


@virtual
async def test_commands_are_applied_and_work_is_given_to_an_agent_that_gave_its_inventory():
    cluster = Cluster()
    leadership = Leadership(0, WON, cluster.around)
    numbers = [cluster.apply(), cluster.trigger(RUN_IDS[0])]
    async with led(cluster, leadership):
        await cluster.leads(1)
        await cluster.applied(*numbers)
        session = cluster.connect()
        await cluster.journal.until(lambda: cluster.journal.said)
        [(_, [message], sessions, _, _)] = cluster.journal.said
        assert isinstance(message, AssignMessage)
        assert (message.task, sessions) == ("t0", {"a": session})
        assert leadership.committed_wall_us
        assert leadership.without_commit_ms < 1_000
    assert cluster.fleet.room("a").used_cpu == 0


@virtual
async def test_a_stored_definition_that_cannot_be_read_stops_nothing_else():
    cluster = Cluster()
    leadership = Leadership(0, WON, cluster.around)
    numbers = [cluster.apply(), cluster.trigger(RUN_IDS[0])]
    async with led(cluster, leadership):
        await cluster.leads(1)
        await cluster.applied(*numbers)
    (digest,) = cluster.database.specs
    whole, cluster.database.specs[digest] = cluster.database.specs[digest], b"\xff"
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(2)
        refused, good = cancel(cluster, RUN_IDS[0], "no"), cluster.apply(tasks=2)
        await cluster.applied(refused, good)
        assert cluster.outcome(refused) is CommandOutcome.REFUSED
        assert cluster.outcome(good) is CommandOutcome.APPLIED
        [aside] = cluster.database.tables["quarantine"].values()
        assert aside["source"] == f"version line@{digest.hex()[:12]}"
    cluster.database.specs[digest] = whole
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(3)
        stopped = cancel(cluster, RUN_IDS[0], "now")
        await cluster.applied(stopped)
        assert cluster.outcome(stopped) is CommandOutcome.APPLIED


@virtual
async def test_an_unknown_commit_is_settled_and_applied_once():
    cluster = Cluster()
    numbers = [cluster.apply(), cluster.trigger(RUN_IDS[0])]
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(1)
        cluster.store.faults = Unreliable(Point.ANSWER, 2)
        await cluster.applied(*numbers)
        await pass_time(5)
    assert len(cluster.database.tables["run"]) == 1
    assert cluster.database.shards[0].epoch == 1


def cancel(cluster, run_id, reason):
    return cluster.command(commands.cancel_run("line", run_id, reason))


@virtual
async def test_a_command_that_cannot_be_stored_is_set_aside_and_the_others_pass():
    cluster = Cluster()
    first = [cluster.apply(), *(cluster.trigger(run_id) for run_id in RUN_IDS)]
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(1)
        await cluster.applied(*first)
        good = [cancel(cluster, RUN_IDS[0], "fine")]
        bad = cancel(cluster, RUN_IDS[1], "not\0fine")
        good.append(cancel(cluster, RUN_IDS[2], "fine"))
        await cluster.applied(*good, bad)
        # Careful after the failure, and once more to set aside what failed alone.
        await cluster.leads(3)
    assert cluster.outcome(bad) is CommandOutcome.QUARANTINED
    assert {cluster.outcome(number) for number in good} == {CommandOutcome.APPLIED}
    states = {row["run_id"]: row["state"] for row in cluster.database.tables["run"].values()}
    assert states == {
        RUN_IDS[0]: RunState.CANCELLED,
        RUN_IDS[1]: RunState.RUNNING,
        RUN_IDS[2]: RunState.CANCELLED,
    }
    [row] = cluster.database.tables["quarantine"].values()
    assert row["source"] == str(bad)


@virtual
async def test_the_end_of_an_attempt_that_cannot_be_stored_is_set_aside_and_not_asked_for_again():
    cluster = Cluster()
    numbers = [cluster.apply(), cluster.trigger(RUN_IDS[0])]
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(1)
        await cluster.applied(*numbers)
        session = cluster.connect()
        await cluster.journal.until(lambda: cluster.journal.said)
        attempt_id = cluster.journal.said[0][1][0].attempt_id
        bad = ended(1)._replace(attempt_id=attempt_id, message="\0")
        for epoch in (1, 2, 3):
            await cluster.leads(epoch)
            again = Delivery((inventory(bad),), session)
            cluster.journal.mailbox.put(again)
        await cluster.journal.until(lambda: cluster.database.tables["quarantine"])
        await pass_time(10)
        assert cluster.database.shards[0].epoch == 3
    [row] = cluster.database.tables["quarantine"].values()
    assert row["source"] == f"Finished of attempt {attempt_id.hex()}"
    assert len(cluster.database.tables["attempt_live"]) == 1
    assigned = [m for said in cluster.journal.said for m in said[1] if type(m) is AssignMessage]
    assert len(assigned) == 1


# A store that went back in time


class Away(Faults):
    """The store does not answer reads, `left` times from now on."""

    left = 0

    async def at(self, point, shard):
        if point is Point.READ and self.left:
            self.left -= 1
            raise ConnectionLost


def restored(cluster):
    return cluster.database.restored[0]


def forget(cluster, batch):
    """The store goes back to an earlier batch of the epoch."""
    cluster.database.shards[0] = cluster.database.shards[0]._replace(batch=batch)


@virtual
async def test_a_leader_whose_commits_are_gone_marks_the_store_before_it_goes():
    cluster = Cluster(away := Away())
    task = asyncio.ensure_future(Leadership(0, WON, cluster.around).run())
    await cluster.leads(1)
    await pass_time(5)
    forget(cluster, 1)
    away.left = 2
    async with asyncio.timeout(10):
        await task
    assert restored(cluster).hold == 2
    assert "of epoch 1 of shard 0" in restored(cluster).reason
    assert cluster.stats.counters()["stores_went_back"] == 1
    assert cluster.database.shards[0].epoch > EPOCH_LEAP


@virtual
async def test_a_leader_that_stops_need_not_wait_for_the_store_to_say_so():
    cluster = Cluster(away := Away())
    leadership = Leadership(0, WON, cluster.around)
    task = asyncio.ensure_future(leadership.run())
    await cluster.leads(1)
    await pass_time(5)
    forget(cluster, 1)
    away.left = 1_000_000
    await pass_time(5)
    leadership.stop()
    async with asyncio.timeout(10):
        await task
    assert restored(cluster).hold == 0


@virtual
async def test_what_agents_remember_is_judged_before_a_takeover():
    cluster = Cluster()
    cluster.journal.memories.append(ShardWord(0, 7, b"o" * 16, 3))
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(7 + EPOCH_LEAP + 1)
    assert cluster.journal.claims == []
    assert restored(cluster).hold == 2


@virtual
async def test_a_takeover_that_finds_another_server_raises_the_alarm():
    cluster = Cluster()
    await cluster.store.take_over(0, 0, b"o" * 16, "n2", "n2:1")
    cluster.database.server = "2/00000001"
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(1 + EPOCH_LEAP)
        assert cluster.journal.claims[0].restored_epoch == 1 + EPOCH_LEAP
    assert cluster.stats.counters()["stores_went_back"] == 1


@virtual
async def test_a_leader_after_a_restore_assigns_only_when_the_period_is_over():
    cluster = Cluster()
    cluster.database.mark_restored("by hand", ())
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(EPOCH_LEAP + 1)
        await cluster.applied(cluster.apply(), cluster.trigger(b"r" * 16))
        cluster.connect()
        await pass_time(cluster.around.times.leases.lease_ms / 1_000)
        assert restored(cluster).hold == 2
        assert not cluster.database.tables["attempt_live"]
        await pass_time(20)
        assert restored(cluster).hold == 0
        assert cluster.database.tables["attempt_live"]


@virtual
async def test_what_the_store_has_forgotten_is_counted():
    cluster = Cluster()
    cluster.database.mark_restored("by hand", ())
    async with led(cluster, Leadership(0, WON, cluster.around)):
        await cluster.leads(EPOCH_LEAP + 1)
        cluster.fleet.connect("a", b"i" * 16, Resources(4_000, 1 << 30))
        held = Inventory("a", b"i" * 16, ((b"x" * 16, 1),), ())
        cluster.journal.mailbox.put(Delivery((held,), Session()))
        await pass_time(1)
    assert cluster.stats.counters()["attempts_not_in_store"] == 1


@virtual
async def test_a_deposed_leadership_ends():
    cluster = Cluster()
    task = asyncio.ensure_future(Leadership(0, WON, cluster.around).run())
    await cluster.leads(1)
    await cluster.store.take_over(0, 1, b"o" * 16, "n2", "n2:1")
    async with asyncio.timeout(10):
        await task
    assert cluster.journal.claims == []
