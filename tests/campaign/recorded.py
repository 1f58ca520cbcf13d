"""What a campaign left behind, read as plain values: its files, the store, the agents' journals.

Decides the shape of what is judged. Promises to change nothing. Times are nanoseconds since the
boot of the machine unless their names say otherwise. Does not judge.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from agent.core.entries import Result
from agent.core.records import AcceptedRecord
from agent.journal.file import read_file
from agent.journal.reading import NotAJournal, read_journal
from controlplane.codec.dag import parse_spec
from controlplane.core.types import OnDisconnect, RunCause, uuid_text
from controlplane.store.evidence import EvidenceStore
from controlplane.verify.findings import Findings as Verified
from controlplane.verify.verification import Verification
from tests.campaign.evidence import Evidence, read_lines

ATTEMPTS = """
SELECT ended.attempt_id, run.run_id, run.digest, ended.task, ended.state, ended.agent,
    ended.exit_code, ended.signal, ended.started_us, ended.finished_us, ended.message,
    late.state, late.started_us, late.finished_us, late.exit_code, late.signal
FROM attempt AS ended JOIN run USING (day, run)
LEFT JOIN attempt_late AS late USING (day, run, task, expansion, attempt_id)
UNION ALL
SELECT live.attempt_id, run.run_id, run.digest, live.task, 2, live.agent,
    NULL, 0, live.started_us, NULL, '', NULL, NULL, NULL, NULL, NULL
FROM attempt_live AS live JOIN run USING (day, run)
"""
RUNS = "SELECT run_id, dag, state, cause, finished_us IS NOT NULL, shard FROM run"
SPECS = "SELECT digest, spec FROM dag_version"


class Line(NamedTuple):
    """What an attempt wrote. `exit` None: at its start."""

    attempt: str
    task: str
    run: str
    kind: str
    pid: int
    at_ns: int
    exit: int | None


class Told(NamedTuple):
    """How an attempt ended, as somebody said. Times on the clock of its agent."""

    state: int
    started_us: int | None
    finished_us: int | None
    exit_code: int | None
    signal: int


class Stored(NamedTuple):
    """An attempt in the store; state 2: it is live. `late`: what was said after it was given up."""

    attempt: str
    run: str
    task: str
    agent: str
    told: Told
    message: str
    late: Told | None = None
    on_disconnect: OnDisconnect = OnDisconnect.FENCE


class StoredRun(NamedTuple):
    """A run in the store."""

    run: str
    dag: str
    state: int
    triggered: bool
    final: bool
    shard: int = 0


class Journalled(NamedTuple):
    """What the journal of an agent still has of an attempt. `outcome` empty: no end."""

    agent: str
    attempt: str
    outcome: str = ""
    exit_code: int | None = None


@dataclass(slots=True)
class Recorded:
    """All of it. `lines` in the order in which they were written."""

    lines: list[Line] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    cluster: dict[str, Any] = field(default_factory=dict)
    attempts: dict[str, Stored] = field(default_factory=dict)
    runs: dict[str, StoredRun] = field(default_factory=dict)
    journals: list[Journalled] = field(default_factory=list)
    verified: Verified = field(default_factory=Verified)


def read_files(folder: Path) -> Recorded:
    """The files of a folder of evidence."""
    evidence = Evidence(folder)
    cluster = json.loads(evidence.cluster.read_text("utf-8"))
    return Recorded(
        lines=list(ledger_lines(evidence.ledger)),
        calls=list(read_lines(evidence.clients)),
        faults=list(read_lines(evidence.faults)),
        rounds=list(read_lines(evidence.rounds)),
        epochs=list(read_lines(evidence.epochs)),
        cluster=cluster,
        journals=[
            found
            for agent, work in sorted(cluster["agents"].items())
            for found in journalled(agent, Path(work))
        ],
    )


def gather(folder: Path) -> Recorded:
    """The files, what the store says, and what `mainspring verify` says of the store."""
    recorded = read_files(folder)
    asyncio.run(_read_store(recorded))
    return recorded


def ledger_lines(path: Path) -> Iterator[Line]:
    """The whole lines of a ledger; one that is cut off at its end was never written."""
    text = path.read_text("utf-8")
    for line in text[: text.rfind("\n") + 1].splitlines():
        attempt, task, run, kind, pid, at_ns, status = line.split("\t")
        exit_code = int(status) if kind == "end" else None
        yield Line(attempt, task, run, kind, int(pid), int(at_ns), exit_code)


def journalled(agent: str, work: Path) -> Iterator[Journalled]:
    """What the journals of a folder say, those that were put aside included."""
    for path in sorted(work.glob("journal*")):
        if path.name != "journal" and not path.name.startswith("journal.lost-"):
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            records = [record for _, record in read_journal(read_file(descriptor)).records]
        except NotAJournal:
            continue
        finally:
            os.close(descriptor)
        yield from _ends(agent, records)


def _ends(agent: str, records: Iterable[object]) -> Iterator[Journalled]:
    found: dict[bytes, Journalled] = {}
    for record in records:
        if isinstance(record, AcceptedRecord):
            attempt_id = record.assign.attempt_id
            found[attempt_id] = Journalled(agent, attempt_id.hex())
        elif isinstance(record, Result) and record.attempt_id in found:
            found[record.attempt_id] = found[record.attempt_id]._replace(
                outcome=record.outcome.name, exit_code=record.exit_code
            )
    yield from found.values()


async def _read_store(recorded: Recorded) -> None:
    dsn = recorded.cluster["dsn"]
    connection = await asyncpg.connect(dsn, server_settings={"default_transaction_read_only": "on"})
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            tasks = {
                digest: [
                    (task.task, OnDisconnect(task.on_disconnect or OnDisconnect.FENCE))
                    for task in parse_spec(spec).tasks
                ]
                for digest, spec in await connection.fetch(SPECS)
            }
            for row in await connection.fetch(ATTEMPTS):
                stored = _stored(row, tasks)
                recorded.attempts[stored.attempt] = stored
            for run_id, dag, state, cause, final, shard in await connection.fetch(RUNS):
                run, triggered = uuid_text(run_id), cause == RunCause.TRIGGER
                recorded.runs[run] = StoredRun(run, dag, state, triggered, final, shard)
    finally:
        await connection.close()
    async with EvidenceStore.opened(dsn) as store:
        recorded.verified = await Verification(store).everything()


def _stored(row: asyncpg.Record, tasks: dict[bytes, list[tuple[str, OnDisconnect]]]) -> Stored:
    attempt_id, run_id, digest, number, state, agent, exit_code, signal, *rest = row
    started_us, finished_us, message, *late = rest
    task, policy = tasks[digest][number]
    late_told = None
    if late[0] is not None:
        late_state, late_started_us, late_finished_us, late_exit, late_signal = late
        late_told = Told(late_state, late_started_us, late_finished_us, late_exit, late_signal)
    told = Told(state, started_us, finished_us, exit_code, signal)
    names = (attempt_id.hex(), uuid_text(run_id), task, agent)
    return Stored(*names, told, message, late_told, policy)
