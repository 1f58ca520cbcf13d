"""How a shard gets past a batch that could not be stored: one source at a time.

Decides in which portions events are taken after such a batch, and for how long. What fails alone is
its own fault and is set aside; everything else passes. Does not know what failed, or how.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from controlplane.core.events import (
    ApplyDag,
    CancelRun,
    DecideApproval,
    Event,
    Finished,
    Inventory,
    PauseDag,
    Rejected,
    Started,
    TriggerRun,
)
from controlplane.leader.mailbox import Delivery

# A command by its number, an attempt by its id, an inventory by its agent.
Key = int | bytes | str
_TIMERS: Key = ""


class Failure(NamedTuple):
    """A batch that is known not to be stored, so that memory is ahead of the store.

    `alone`: it held one source, taken on purpose without others.
    """

    events: tuple[Event, ...]
    reason: str
    alone: bool


def key_of(event: Event) -> Key | None:
    """What names the source of an event; None: nothing that would say it again is lost with it."""
    if isinstance(event, ApplyDag | TriggerRun | CancelRun | PauseDag | DecideApproval):
        return event.command
    if isinstance(event, Finished | Started | Rejected):
        return event.attempt_id
    if isinstance(event, Inventory):
        return event.agent
    return None


def text_of(event: Event) -> int | str:
    """How an event is named where it is set aside: a command by its number."""
    key = key_of(event)
    if isinstance(key, int):
        return key
    if isinstance(key, bytes):
        return f"{type(event).__name__} of attempt {key.hex()}"
    return f"{type(event).__name__} of agent {key}" if key else type(event).__name__


def keys_of(events: Iterable[Event]) -> set[Key]:
    """The names of all sources, those inside inventories included."""
    return {key for event in events for part in parts(event) if (key := key_of(part)) is not None}


def parts(event: Event) -> Iterator[Event]:
    """An event in portions that can fail one by one: the ends inside an inventory are its own."""
    if isinstance(event, Inventory) and event.finished:
        yield from event.finished
        held = tuple((each.attempt_id, each.started_us) for each in event.finished)
        yield event._replace(live=event.live + held, finished=())
    else:
        yield event


def singles(delivery: Delivery) -> list[Delivery]:
    """A delivery in portions."""
    return [delivery._replace(events=(part,)) for event in delivery.events for part in parts(event)]


def without(events: Sequence[Event], aside: frozenset[Key]) -> list[Event]:
    """Events without those of sources that were set aside.

    An end that was set aside counts as held by its agent, which is then not asked for it again.
    """
    kept: list[Event] = []
    for event in events:
        if isinstance(event, Inventory):
            ends = tuple(each for each in event.finished if each.attempt_id not in aside)
            held = tuple(
                (each.attempt_id, each.started_us)
                for each in event.finished
                if each.attempt_id in aside
            )
            kept.append(event._replace(live=event.live + held, finished=ends))
        elif key_of(event) not in aside:
            kept.append(event)
    return kept


class Caution:
    """Batches of one until all suspects have passed, or time is up: some never come again."""

    def __init__(self, failed: Iterable[Event], until_ms: int) -> None:
        self._suspects = keys_of(failed) or {_TIMERS}
        self._until_ms = until_ms

    def passed(self, events: Iterable[Event]) -> None:
        """These are stored, and what timers did before them."""
        self._suspects -= keys_of(events)
        self._suspects.discard(_TIMERS)

    def over(self, now_ms: int) -> bool:
        """Whether large batches may be taken again."""
        return not self._suspects or now_ms >= self._until_ms
