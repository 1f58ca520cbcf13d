import asyncio

from controlplane.core.events import AgentGone
from controlplane.leader.mailbox import Delivery, Mailbox
from tests.unit.leader.harness import virtual


def delivery(*names):
    return Delivery(tuple(AgentGone(name) for name in names))


def test_deliveries_come_out_in_order_and_whole():
    mailbox = Mailbox()
    for each in (delivery("a", "b"), delivery("c"), delivery("d")):
        assert mailbox.put(each)
    assert mailbox.take(2) == [delivery("a", "b")]
    assert len(mailbox) == 2
    assert mailbox.take(10) == [delivery("c"), delivery("d")]
    assert mailbox.take(10) == []


def test_a_delivery_is_never_split():
    mailbox = Mailbox()
    mailbox.put(delivery("a", "b", "c"))
    assert mailbox.take(1) == [delivery("a", "b", "c")]
    assert len(mailbox) == 0


def test_what_does_not_fit_is_refused():
    mailbox = Mailbox(limit=2)
    assert mailbox.put(delivery("a", "b"))
    assert not mailbox.put(delivery("c"))
    mailbox.take(1)
    assert mailbox.put(delivery("c"))


@virtual
async def test_a_reader_waits_until_something_comes():
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    loop.call_later(2, mailbox.put, delivery("a"))
    await mailbox.wait(10)
    assert loop.time() - begun == 2
    await mailbox.wait(10)
    assert loop.time() - begun == 2


@virtual
async def test_a_reader_waits_no_longer_than_it_said():
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await mailbox.wait(3)
    await mailbox.wait(-1)
    assert loop.time() - begun == 3


@virtual
async def test_a_nudge_wakes_once():
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    mailbox.nudge()
    mailbox.nudge()
    await mailbox.wait(3)
    assert (mailbox.take(1), loop.time()) == ([], begun)
    await mailbox.wait(3)
    assert loop.time() - begun == 3
