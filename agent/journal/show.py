"""Prints a journal: `mainspring-agent journal show`.

Decides: what of each record is told, for people or as JSON, one line each. Environments are left
out: they are long and may be private. Changes nothing; the agent may be writing meanwhile, so an
unfinished record at the end is looked at again before it is called one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.entries import Leadership, Result
from agent.core.records import AcceptedRecord, AckedRecord, Record, StartedRecord, StartOfAgent
from agent.journal.file import read_file
from agent.journal.reading import Reading, read_journal

LOOKS = 3

Line = dict[str, str | int]


def show(path: Path, *, as_json: bool) -> Iterator[str]:
    """The lines about the journal at `path`. Raises OSError, NotAJournal."""
    for line in _lines(_look(path)):
        yield json.dumps(line) if as_json else _as_text(line)


def _look(path: Path) -> Reading:
    """A reading with a whole end, if there is one to be had."""
    for _ in range(LOOKS):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            reading = read_journal(read_file(descriptor))
        finally:
            os.close(descriptor)
        if reading.end == reading.size:
            break
    return reading


def _lines(reading: Reading) -> Iterator[Line]:
    header = reading.header
    yield {"offset": 0, "kind": "header", "incarnation": header.incarnation.hex()}
    for offset, record in reading.records:
        yield {"offset": offset, **_tell(record)}
    if reading.end < reading.size:
        kind = "damage" if reading.damaged else "cut"
        yield {"offset": reading.end, "kind": kind, "bytes": reading.size - reading.end}


def _as_text(line: Line) -> str:
    """Offset and kind in columns, then what is known."""
    rest = (f"{name}={value}" for name, value in line.items() if name not in {"offset", "kind"})
    return f"{line['offset']:>10}  {line['kind']:<9} {' '.join(rest)}"


def _tell(record: Record) -> Line:
    match record:
        case StartOfAgent():
            at = _time(record.at_us)
            return {"kind": "start", "number": record.number, "at": at, "boot": record.boot_id}
        case Leadership():
            epoch, batch = record.epoch, record.batch
            return {"kind": "epoch", "shard": record.shard, "epoch": epoch, "batch": batch}
        case AcceptedRecord():
            return _tell_accepted(record)
        case StartedRecord():
            at = _time(record.started_at_us)
            return {"kind": "started", **_id(record.attempt_id), "pid": record.pid, "at": at}
        case Result():
            return _tell_result(record)
        case AckedRecord():
            return {"kind": "acked", **_id(record.attempt_id)}


def _tell_accepted(record: AcceptedRecord) -> Line:
    assign = record.assign
    return {
        "kind": "accepted",
        **_id(assign.attempt_id),
        "shard": assign.shard,
        "epoch": assign.epoch,
        "batch": assign.batch,
        "tenant": assign.tenant,
        "dag": assign.dag,
        "run": assign.run,
        "task": assign.task,
        "number": assign.number,
        "lease_until_ms": record.lease_until_ms,
    }


def _tell_result(result: Result) -> Line:
    return {
        "kind": "finished",
        **_id(result.attempt_id),
        "outcome": result.outcome.name,
        "exit_code": result.exit_code,
        "signal": result.signal,
        "at": _time(result.finished_at_us),
        "message": result.message,
    }


def _id(attempt_id: bytes) -> Line:
    return {"attempt": attempt_id.hex()}


def _time(instant_us: int) -> str:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant_us)
    return instant.isoformat().replace("+00:00", "Z")
