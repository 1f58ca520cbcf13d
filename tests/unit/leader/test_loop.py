import asyncio

import pytest

from controlplane.core.effects import CancelMessage, LeaseMessage, ResultAckMessage
from controlplane.core.events import AgentGone
from controlplane.leader.caution import Caution
from controlplane.leader.loop import BrokenShard
from controlplane.leader.mailbox import Delivery
from controlplane.store.errors import BatchRefused, CommitUnknown, Deposed, StoreUnavailable
from controlplane.store.records import CommandRow, VersionRow
from tests.sim.virtual import pass_time
from tests.unit.leader.harness import (
    KEY,
    LoopClock,
    Session,
    Shell,
    ended,
    inventory,
    spec,
    trigger,
    trigger_body,
    virtual,
)


def attempt(number):
    return number.to_bytes(16, "big")


def put(shell, *events, source=None, received_us=0):
    assert shell.mailbox.put(Delivery(events, source, received_us))


def careful(*events):
    return Caution(events, LoopClock().now().mono_ms + 30_000)


@virtual
async def test_nothing_is_said_before_it_is_committed():
    async with Shell() as shell:
        committed = asyncio.get_running_loop().create_future()
        shell.store.outcomes.append(committed)
        put(shell, ended(1))
        await pass_time(0.5)
        assert shell.rows
        assert not shell.journal.said
        committed.set_result(True)
        await shell.journal.until(lambda: shell.journal.said)
        assert shell.journal.acknowledged == [attempt(1)]


@virtual
async def test_what_arrives_during_a_commit_goes_into_the_next_batch_together():
    async with Shell() as shell:
        committed = asyncio.get_running_loop().create_future()
        shell.store.outcomes.append(committed)
        put(shell, ended(1))
        await pass_time(0.1)
        for number in (2, 3, 4):
            put(shell, ended(number))
        await pass_time(0.1)
        committed.set_result(True)
        await shell.journal.until(lambda: len(shell.journal.said) == 2)
        assert [len(writes.started) for writes in shell.rows] == [1, 3]


@virtual
async def test_messages_carry_their_batch_their_sessions_and_when_their_cause_arrived():
    async with Shell() as shell:
        session = Session()
        put(shell, inventory(), source=session)
        put(shell, ended(1), source=session, received_us=70)
        put(shell, ended(2), source=session, received_us=60)
        await shell.journal.until(lambda: shell.journal.said)
        [(batch, messages, sessions, received_us, _)] = shell.journal.said
        assert (batch, sessions, received_us) == (1, {"a": session}, 60)
        assert messages == [ResultAckMessage("a", attempt(n)) for n in (1, 2)]


@virtual
async def test_what_came_from_a_session_that_ended_is_dropped():
    async with Shell() as shell:
        session = Session()
        put(shell, ended(1), source=session)
        session.live = False
        put(shell, ended(2))
        await shell.journal.until(lambda: shell.journal.said)
        assert shell.journal.acknowledged == [attempt(2)]


@virtual
async def test_an_agent_that_is_gone_is_known_by_no_session():
    async with Shell() as shell:
        old, new = Session(), Session()
        put(shell, inventory(), source=old)
        put(shell, AgentGone("stranger"))
        put(shell, ended(1))
        await shell.journal.until(lambda: len(shell.journal.said) == 1)
        old.live = False
        put(shell, AgentGone("a"))
        put(shell, ended(2))
        await shell.journal.until(lambda: len(shell.journal.said) == 2)
        put(shell, inventory(), source=new)
        put(shell, AgentGone("a"))
        put(shell, ended(3))
        await shell.journal.until(lambda: len(shell.journal.said) == 3)
        assert [said[2] for said in shell.journal.said] == [{"a": old}, {}, {"a": new}]


@virtual
async def test_an_idle_leader_fences_every_second():
    async with Shell() as shell:
        await pass_time(5.5)
        assert len(shell.store.batches) == 5
        assert not shell.rows


@virtual
async def test_the_core_is_stepped_at_its_deadline():
    async with Shell() as shell:
        due_ms = LoopClock().now().mono_ms + 300
        shell.core.deadline_ms = due_ms
        shell.mailbox.nudge()
        await shell.journal.until(lambda: shell.core.deadline_ms is None)
        assert LoopClock().now().mono_ms == due_ms


@virtual
async def test_a_step_without_rows_costs_no_commit():
    async with Shell() as shell:
        put(shell, AgentGone("b"))
        await shell.journal.until(lambda: shell.journal.steps)
        assert not shell.store.batches


@virtual
async def test_messages_without_rows_leave_at_once_while_the_fence_is_fresh():
    async with Shell() as shell:
        speak_without_rows(shell, LeaseMessage("a"))
        await pass_time(0.5)
        put(shell, AgentGone("b"))
        await shell.journal.until(lambda: shell.journal.said)
        assert not shell.store.batches


@virtual
async def test_what_an_agent_stops_or_forgets_upon_is_said_only_behind_a_fence():
    for kind in (CancelMessage, ResultAckMessage):
        async with Shell() as shell:
            speak_without_rows(shell, kind("a", attempt(1)))
            await pass_time(0.5)
            shell.store.outcomes.append(Deposed(0, 8))
            put(shell, AgentGone("b"))
            assert await shell.running is None
            assert len(shell.store.batches) == 1
            assert not shell.journal.said


def speak_without_rows(shell, message):
    step = shell.core.step

    def speaking(events, now):
        effects = step(events, now)
        effects.messages += [message] if events else []
        return effects

    shell.core.step = speaking


@virtual
async def test_a_commit_that_took_too_long_is_followed_by_a_fence_before_anything_is_said():
    async with Shell() as shell:
        loop = asyncio.get_running_loop()
        committed = loop.create_future()
        shell.store.outcomes.append(committed)
        loop.call_later(6, committed.set_result, True)
        put(shell, ended(1))
        await shell.journal.until(lambda: shell.journal.said)
        assert [fence.batch for fence, _, _ in shell.store.batches] == [1, 2]
        [(batch, _, _, _, said_ms)] = shell.journal.said
        assert batch == 2
        # Attempt leases count from the decision, not from when it could be said.
        assert said_ms - shell.journal.decided_ms[0] == 6_000


@virtual
async def test_an_unknown_outcome_keeps_the_leader_silent_until_it_is_known():
    async with Shell() as shell:
        shell.store.outcomes += [CommitUnknown("x")] * 3
        put(shell, ended(1))
        await pass_time(0.05)
        put(shell, ended(2))
        assert not shell.journal.said
        await shell.journal.until(lambda: len(shell.journal.said) == 2)
        sent = [(fence.batch, settle) for fence, _, settle in shell.store.batches]
        assert sent == [(1, False), (1, True), (1, True), (1, True), (2, False)]
        assert shell.core.steps[:1] == [[ended(1)]]


@virtual
async def test_a_deposed_leader_ends_at_once_and_says_nothing():
    async with Shell() as shell:
        shell.store.outcomes.append(Deposed(0, 8))
        put(shell, ended(1))
        assert await shell.running is None
        assert not shell.journal.said
    assert shell.stats.counters()["leaders_deposed"] == 1


@virtual
async def test_a_leader_that_is_given_up_while_the_store_is_away_ends():
    async with Shell() as shell:
        shell.store.outcomes += [StoreUnavailable("x")] * 1_000
        put(shell, ended(1))
        await pass_time(3)
    assert shell.end is None
    assert not shell.journal.said


@virtual
async def test_commands_are_answered_once_committed():
    async with Shell() as shell:
        looking = asyncio.ensure_future(shell.inbox.run())
        shell.store.commands.append(CommandRow(4, KEY.tenant, trigger_body()))
        waiting = asyncio.ensure_future(shell.inbox.wait_applied([4], 10))
        assert await waiting
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    assert [row.command for writes in shell.rows for row in writes.applied] == [4]


@virtual
async def test_a_command_that_cannot_be_read_is_set_aside():
    async with Shell() as shell:
        looking = asyncio.ensure_future(shell.inbox.run())
        shell.store.commands.append(CommandRow(4, "default", b"\xff"))
        assert await shell.inbox.wait_applied([4], 10)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    assert [source for source, _ in shell.store.set_aside] == [4]
    assert shell.stats.counters()["sources_set_aside"] == 1


@virtual
async def test_the_core_gets_ids_keys_and_versions_before_the_step():
    stored, digest = spec()
    shell = Shell()
    shell.store.versions += [
        VersionRow(*KEY, digest, stored),
        VersionRow(*KEY, b"b" * 32, b"\xff\xff"),
    ]
    shell.core.attempt_ids_wanted, shell.core.run_keys_wanted = 3, 2
    shell.core.missing = {(KEY, digest), (KEY, b"b" * 32)}
    shell.store.failing_reads.append(StoreUnavailable("x"))
    async with shell:
        put(shell, trigger(1))
        await shell.journal.until(lambda: shell.journal.steps)
    kinds = [type(each).__name__ for each in shell.core.offered]
    assert kinds == ["bytes"] * 3 + ["int"] * 2 + ["DagVersion"]


@pytest.mark.parametrize("error", [BatchRefused("x", "22000"), AssertionError("rows lost")])
def test_a_batch_known_to_have_failed_ends_the_loop_with_its_events(error):
    @virtual
    async def scenario():
        async with Shell() as shell:
            shell.store.outcomes.append(error)
            put(shell, ended(1), ended(2))
            failure = await shell.running
        assert failure.events == (ended(1), ended(2))
        assert not failure.alone
        assert type(error).__name__ in failure.reason
        assert not shell.journal.said

    scenario()


@virtual
async def test_a_core_that_breaks_ends_the_loop_likewise():
    async with Shell() as shell:
        shell.core.poison.add(attempt(2))
        put(shell, ended(1), ended(2))
        failure = await shell.running
    assert failure.events == (ended(1), ended(2))
    assert not shell.store.batches


@virtual
async def test_a_careful_loop_takes_one_source_at_a_time_until_all_suspects_passed():
    async with Shell(caution=careful(ended(1), ended(2), trigger(3))) as shell:
        session = Session()
        put(shell, inventory(ended(1), ended(2)), source=session)
        put(shell, trigger(3))
        await shell.journal.until(lambda: len(shell.rows) == 3)
        put(shell, ended(4), ended(5))
        await shell.journal.until(lambda: len(shell.rows) >= 4)
    taken = [events for events in shell.core.steps if events]
    assert [len(events) for events in taken] == [1, 1, 1, 1, 2]
    assert taken[3] == [trigger(3)]


@virtual
async def test_a_careful_loop_acknowledges_the_ends_inside_an_inventory():
    """They are taken before the rest of it; the agent does not say them again in its session."""
    session = Session()
    async with Shell(caution=careful(ended(1))) as shell:
        shell.mailbox.put(Delivery((inventory(ended(1)),), session))
        await shell.journal.until(lambda: shell.journal.said)
    [said] = shell.journal.said
    assert shell.journal.acknowledged == [ended(1).attempt_id]
    assert said[2] == {"a": session}


@virtual
async def test_a_careful_loop_that_fails_names_the_one_that_fails_alone():
    async with Shell(caution=careful(ended(1), ended(2))) as shell:
        shell.core.poison.add(attempt(2))
        put(shell, ended(1), ended(2), ended(3))
        failure = await shell.running
    assert failure.alone
    assert failure.events == (ended(2),)
    assert shell.journal.acknowledged == [attempt(1)]


@virtual
async def test_a_single_is_not_blamed_for_a_timer():
    async with Shell(caution=careful(ended(1))) as shell:
        shell.core.deadline_ms, shell.core.broken_timers = 0, 1
        put(shell, ended(1))
        with pytest.raises(BrokenShard, match="a timer"):
            await shell.running
        shell.running = asyncio.ensure_future(pass_time(0))


@virtual
async def test_a_careful_loop_serves_timers_when_nothing_arrives():
    async with Shell(caution=careful()) as shell:
        await pass_time(2.5)
        put(shell, ended(1), ended(2))
        await shell.journal.until(lambda: shell.journal.said)
        assert len(shell.rows) == 1


@virtual
async def test_what_was_set_aside_is_recorded_first_and_passed_over_later():
    async with Shell(aside=frozenset({attempt(1)})) as shell:
        shell.loop.quarantine("an attempt", "why")
        put(shell, ended(1), ended(2))
        await shell.journal.until(lambda: shell.journal.said)
    assert shell.store.set_aside == [("an attempt", "why")]
    assert shell.store.batches[0][1] is None
    assert shell.journal.acknowledged == [attempt(2)]
