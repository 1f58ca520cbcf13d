"""Records of every kind, for the tests of the journal."""

from __future__ import annotations

from hypothesis import strategies as st

from agent.core.entries import Assign, Leadership, Result
from agent.core.records import AcceptedRecord, AckedRecord, Record, StartedRecord, StartOfAgent
from agent.core.types import Amount, ExecSpec, Outcome

INCARNATION = b"i" * 16
HOLDER = b"h" * 16
SPEC = ExecSpec(("echo", "hi"), (("K", "v"),), "", 1_000, 500, Amount(1_000, 1 << 20), 7)


def attempt_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def accepted(number: int, shard: int = 0, epoch: int = 1, batch: int = 1) -> AcceptedRecord:
    names = ("d", "r", "t", "acme")
    assign = Assign(shard, epoch, batch, attempt_id(number), INCARNATION, 3, 1, *names, 9, SPEC)
    return AcceptedRecord(assign, 120_000)


def started(number: int) -> StartedRecord:
    return StartedRecord(attempt_id(number), 40 + number, 1_000, 77, "boot")


def finished(number: int) -> Result:
    return Result(0, attempt_id(number), Outcome.SUCCEEDED, 0, 0, 1_000, 2_000, 3, 0, "")


def acked(number: int) -> AckedRecord:
    return AckedRecord(attempt_id(number))


ALL_KINDS: tuple[Record, ...] = (
    StartOfAgent(1, "boot", 5),
    Leadership(0, 1, HOLDER, 4),
    accepted(1),
    started(1),
    finished(1),
    accepted(2),
    acked(1),
)

_numbers = st.integers(0, 4)
_steps = st.one_of(
    st.tuples(st.just("start"), st.sampled_from(["boot", "next boot"])),
    st.tuples(st.just("lead"), st.integers(0, 2)),
    st.tuples(st.just("accept"), _numbers),
    st.tuples(st.sampled_from(["started", "finished", "acked"]), _numbers),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """What an agent may write: starts are numbered, the words of a shard only grow."""
    records: list[Record] = []
    starts = 0
    for words, (kind, value) in enumerate(draw(st.lists(_steps, max_size=30)), 1):
        match kind:
            case "start":
                starts += 1
                records.append(StartOfAgent(starts, value, 100 * starts))
            case "lead":
                records.append(Leadership(value, 1 + words // 4, HOLDER, words))
            case "accept":
                records.append(accepted(value, value % 2, 1 + words // 4, words))
            case _:
                make = {"started": started, "finished": finished, "acked": acked}[kind]
                records.append(make(value))
    return records
