import asyncio
from contextlib import asynccontextmanager

from controlplane.codec import commands
from controlplane.core.events import ApplyDag
from controlplane.leader import inbox as module
from controlplane.leader.inbox import Inbox
from controlplane.leader.mailbox import Delivery, Mailbox
from controlplane.store.errors import StoreUnavailable
from controlplane.store.records import CommandRow, VersionRow
from tests.sim.virtual import pass_time
from tests.unit.leader.harness import TIMES, ScriptedStore, spec, trigger, trigger_body, virtual


def row(command, body=None):
    return CommandRow(command, "default", trigger_body() if body is None else body)


def applying(command, digest):
    return row(command, commands.apply_dag("line", digest, ""))


class Desk:
    """An inbox that runs, with its store and its mailbox."""

    def __init__(self, limit=1_000):
        self.store, self.mailbox = ScriptedStore(), Mailbox(limit)
        self.inbox = Inbox(0, self.store, self.mailbox, TIMES)

    async def taken(self):
        await self.mailbox.wait(30)
        return [event for each in self.mailbox.take(100) for event in each.events]

    def apply(self, *numbers):
        """What the loop does once a batch is committed."""
        self.store.commands = [r for r in self.store.commands if r.command not in numbers]
        self.inbox.done(numbers)


@asynccontextmanager
async def desk(*rows, **more):
    made = Desk(**more)
    made.store.commands += rows
    task = asyncio.ensure_future(made.inbox.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtual
async def test_commands_come_in_order_and_once():
    async with desk(row(2), row(1)) as made:
        assert await made.taken() == [trigger(1), trigger(2)]
        made.store.commands.append(row(3))
        made.inbox.poke()
        assert await made.taken() == [trigger(3)]


@virtual
async def test_new_commands_are_found_without_a_poke():
    async with desk() as made:
        begun = asyncio.get_running_loop().time()
        made.store.commands.append(row(1))
        await pass_time(0)
        made.store.commands.append(row(2))
        assert await made.taken() == [trigger(1)]
        assert await made.taken() == [trigger(2)]
        assert asyncio.get_running_loop().time() - begun <= 1.0


@virtual
async def test_a_read_from_before_the_commit_brings_nothing_back():
    async with desk(row(1)) as made:
        await made.taken()
        stale = list(made.store.commands)
        made.apply(1)
        made.store.commands = stale
        made.inbox.poke()
        await pass_time(0.1)
        assert made.mailbox.take(10) == []


@virtual
async def test_who_waits_hears_when_all_are_done():
    async with desk(row(1), row(2)) as made:
        await made.taken()
        waiting = asyncio.ensure_future(made.inbox.wait_applied([1, 2], 10))
        await pass_time(0.1)
        made.apply(1)
        await pass_time(0.1)
        assert not waiting.done()
        made.apply(2)
        assert await waiting


@virtual
async def test_what_is_not_in_the_inbox_counts_as_done():
    async with desk(row(1)) as made:
        await made.taken()
        made.apply(1)
        assert await made.inbox.wait_applied([1, 77], 10)


@virtual
async def test_a_wait_ends_with_its_time():
    async with desk(row(1)) as made:
        assert not await made.inbox.wait_applied([1], 2)


@virtual
async def test_a_wait_ends_with_the_epoch():
    async with desk(row(1)) as made:
        waiting = asyncio.ensure_future(made.inbox.wait_applied([1], 10))
        await pass_time(0.1)
    assert not await waiting


@virtual
async def test_a_command_that_cannot_be_read_is_handed_out_to_be_set_aside():
    async with desk(row(1, b"\xff\xff"), row(2), applying(3, b"d" * 32)) as made:
        assert await made.taken() == [trigger(2)]
        broken = made.inbox.take_broken()
        assert [number for number, _ in broken] == [1, 3]
        assert made.inbox.take_broken() == []


@virtual
async def test_a_version_that_does_not_compile_breaks_its_command():
    digest = b"d" * 32
    async with desk() as made:
        made.store.versions.append(VersionRow("default", "line", digest, b"\xff\xff"))
        made.store.commands.append(applying(1, digest))
        made.inbox.poke()
        await made.mailbox.wait(30)
        assert [number for number, _ in made.inbox.take_broken()] == [1]


@virtual
async def test_the_version_of_a_command_is_compiled():
    stored, digest = spec()
    async with desk() as made:
        made.store.versions.append(VersionRow("default", "line", digest, stored))
        made.store.commands.append(applying(1, digest))
        [event] = await made.taken()
        assert isinstance(event, ApplyDag)
        assert (event.version.digest, len(event.version.tasks)) == (digest, 1)


@virtual
async def test_a_failing_read_is_tried_again():
    made = Desk()
    made.store.failing_reads.append(StoreUnavailable("x"))
    made.store.commands.append(row(1))
    task = asyncio.ensure_future(made.inbox.run())
    assert await made.taken() == [trigger(1)]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtual
async def test_a_full_mailbox_leaves_commands_for_later():
    async with desk(row(1), limit=1) as made:
        assert await made.taken() == [trigger(1)]
        assert made.mailbox.put(Delivery((trigger(9),)))
        made.store.commands.append(row(2))
        made.inbox.poke()
        await pass_time(0.1)
        assert await made.taken() == [trigger(9)]
        assert await made.taken() == [trigger(2)]


@virtual
async def test_a_long_inbox_is_read_in_portions():
    rows = [row(number) for number in range(1, module.ROWS_A_LOOK + 10)]
    async with desk(*rows) as made:
        await pass_time(0.1)
        assert len(made.mailbox) == len(rows)


@virtual
async def test_no_more_is_held_than_a_bound():
    made = Desk(limit=100_000)
    made.store.commands += [row(n) for n in range(1, module.IN_FLIGHT_MOST + 2_000)]
    task = asyncio.ensure_future(made.inbox.run())
    await pass_time(5)
    held = len(made.mailbox)
    assert module.IN_FLIGHT_MOST < held <= module.IN_FLIGHT_MOST + module.ROWS_A_LOOK
    made.apply(*range(1, 1_000))
    await pass_time(0.01)
    assert len(made.mailbox) > held
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
