from __future__ import annotations

from agent.core import entries, events
from agent.core.actions import StartTail, StopTail
from tests.unit.agent.core.driver import Driver, attempt_id

ID = attempt_id(1)


def ask(driver: Driver, stream, tail: int, *, stop: bool = False) -> None:
    driver.frame(stream, log_tails=(entries.LogTail(tail, ID, 3, 4, stop),))


def piece(stream, tail: int, *, eof: bool = False) -> events.LogPiece:
    return events.LogPiece(*stream, tail, True, 3, b"x", eof)


def test_a_reading_passes_pieces_on_until_the_last():
    driver = Driver()
    stream = driver.connect()
    ask(driver, stream, 1)
    assert driver.last == [StartTail(*stream, 1, ID, 3, 4)]
    driver.handle(piece(stream, 1))
    assert driver.said("h:1") == [entries.LogData(1, True, 3, b"x", eof=False)]
    driver.handle(piece(stream, 1, eof=True))
    assert driver.said("h:1") == [entries.LogData(1, True, 3, b"x", eof=True)]
    assert driver.handle(piece(stream, 1)) == []


def test_a_reading_can_be_moved_and_stopped():
    driver = Driver()
    stream = driver.connect()
    ask(driver, stream, 1)
    ask(driver, stream, 1)
    assert driver.last == [StopTail(*stream, 1), StartTail(*stream, 1, ID, 3, 4)]
    ask(driver, stream, 1, stop=True)
    assert driver.last == [StopTail(*stream, 1)]
    ask(driver, stream, 1, stop=True)
    assert driver.last == []


def test_readings_end_with_their_session():
    driver = Driver(("h:1", "h:2"))
    driver.tick()
    first, second = driver.opened()
    driver.welcome(first, "n1")
    driver.welcome(second, "n2")
    ask(driver, first, 1)
    ask(driver, second, 2)
    driver.handle(events.NodeLost(*first, "gone"))
    assert driver.did(StopTail) == [StopTail(*first, 1)]
    assert driver.handle(piece(first, 1)) == []
    assert driver.handle(piece(second, 2)) != []
