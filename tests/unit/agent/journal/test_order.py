from __future__ import annotations

from agent.core.actions import Action, Exit, Note, Record
from agent.core.records import Record as JournalEntry
from agent.journal.order import InOrder
from tests.unit.agent.journal.samples import accepted, finished, started


class Disk:
    """A group commit whose disk is as slow as a test wants."""

    def __init__(self) -> None:
        self.appended: list[JournalEntry] = []
        self.wanted: list[int] = []
        self.durable = 0

    def append(self, record: JournalEntry) -> int:
        self.appended.append(record)
        return len(self.appended)

    def want(self, number: int) -> None:
        self.wanted.append(number)


def texts(done: list[Action]) -> list[str]:
    return [action.text for action in done if isinstance(action, Note)]


def test_what_follows_a_record_waits_until_it_is_on_disk():
    disk, done = Disk(), []
    order = InOrder(disk, done.append)
    order.add([Note("before"), Record(accepted(1), synced=True), Note("after")])
    order.perform()
    assert (texts(done), disk.wanted) == (["before"], [1])
    order.perform()
    assert texts(done) == ["before"]
    disk.durable = 1
    order.perform()
    assert texts(done) == ["before", "after"]


def test_records_are_written_while_what_precedes_them_waits():
    disk, done = Disk(), []
    order = InOrder(disk, done.append)
    order.add([Record(accepted(1), synced=True), Note("1")])
    order.perform()
    order.add([Record(accepted(2), synced=True), Note("2"), Record(finished(1), synced=True)])
    order.perform()
    assert disk.appended == [accepted(1), accepted(2), finished(1)]
    assert done == []
    disk.durable = 2
    order.perform()
    assert texts(done) == ["1", "2"]
    disk.durable = 3
    order.perform()
    assert done[-1] == Record(finished(1), synced=True)


def test_a_record_that_need_not_be_on_disk_holds_nothing_back():
    disk, done = Disk(), []
    order = InOrder(disk, done.append)
    order.add([Record(started(1), synced=False), Note("after")])
    order.perform()
    assert disk.appended == [started(1)]
    assert (texts(done), disk.wanted) == (["after"], [])


def test_nothing_is_done_after_a_drop():
    disk, done = Disk(), []
    order = InOrder(disk, done.append)
    order.add([Record(accepted(1), synced=True), Note("after")])
    order.perform()
    order.drop()
    disk.durable = 1
    order.perform()
    assert done == []


def test_an_action_may_end_everything_that_follows():
    done: list[Action] = []

    def perform(action: Action) -> None:
        done.append(action)
        order.drop()

    order = InOrder(Disk(), perform)
    order.add([Exit(), Note("after")])
    order.perform()
    assert done == [Exit()]
