"""A small campaign that never was: its files as they would be written, and a store beside them.

The clean one has what the checks look at: a chain of two, a retry, a killed attempt, an overlap
that its DAG allows, a cancelled run, a call without an answer. A test forges one thing more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.core.entries import Assign, Result
from agent.core.records import AcceptedRecord, Record, StartedRecord, StartOfAgent
from agent.core.types import Outcome
from agent.journal.codec import Header, encode_header, encode_record
from agent.journal.frames import frame
from controlplane.core.shard.outcomes import SILENT
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import OnDisconnect
from tests.campaign.checks import Findings, judge
from tests.campaign.recorded import Recorded, Stored, StoredRun, Told, read_files

S = 1_000_000_000
INCARNATION = b"i" * 16
CHAIN, RETRIED, KILLED, OVERLAP, CANCELLED = (f"run-{number}" for number in range(5))


def attempt(number: int) -> str:
    return number.to_bytes(16, "big").hex()


class Forged:
    """Call `findings` once everything is forged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[tuple[Any, ...]] = []
        self.calls: list[dict[str, Any]] = []
        self.faults: list[dict[str, Any]] = []
        self.rounds: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []
        self.records: list[Record] = [StartOfAgent(1, "boot", 1)]
        self.attempts: dict[str, Stored] = {}
        self.runs: dict[str, StoredRun] = {}
        self.recorded = Recorded()

    # Files.

    def starts(self, number: int, run: str, task: str, at_s: float, pid: int = 7) -> None:
        self.lines.append((attempt(number), task, run, "start", pid, int(at_s * S), "-"))

    def lives(self, number: int, run: str, task: str, *at_s: float) -> None:
        """It says that it is alive."""
        for moment_s in at_s:
            line = (attempt(number), task, run, "alive", 7, int(moment_s * S), "-")
            self.lines.append(line)

    def ends(self, number: int, run: str, task: str, at_s: float, status: int = 0) -> None:
        self.lines.append((attempt(number), task, run, "end", 7, int(at_s * S), status))

    def call(self, call: str, key: str, outcome: str, at_s: float, **more: Any) -> None:
        self.calls.append(
            {"at_ns": int(at_s * S), "call": call, "key": key, "outcome": outcome, **more}
        )

    def fault(self, kind: str, target: str, began_s: float, healed_s: float) -> None:
        times = {"began_ns": int(began_s * S), "healed_ns": int(healed_s * S)}
        self.faults.append({"round": 1, "kind": kind, "target": target, "detail": {}} | times)

    def phase(self, phase: str, began_s: float, ended_s: float) -> None:
        times = {"began_ns": int(began_s * S), "ended_ns": int(ended_s * S)}
        self.rounds.append({"round": 1, "phase": phase} | times)

    def journal(self, number: int, outcome: Outcome | None, status: int = 0) -> None:
        """What the agent has on disk of an attempt; None: no end."""
        attempt_id = bytes.fromhex(attempt(number))
        assign = Assign(0, 1, 1, attempt_id, INCARNATION, run="r", task="t")
        self.records += [
            AcceptedRecord(assign, 1),
            StartedRecord(attempt_id, 7, 1, 1, "boot"),
        ]
        if outcome is not None:
            self.records.append(Result(0, attempt_id, outcome, status, 0, 1, 2))

    # The store.

    def stores(
        self,
        number: int,
        run: str,
        task: str,
        state: AttemptState = AttemptState.SUCCEEDED,
        status: int | None = 0,
        *,
        message: str = "",
        late: Told | None = None,
        policy: OnDisconnect = OnDisconnect.FENCE,
        signal: int = 0,
    ) -> None:
        told = Told(state, 1, 2, status, signal)
        names = (attempt(number), run, task, "ant")
        self.attempts[attempt(number)] = Stored(*names, told, message, late, policy)

    def run(self, run: str, state: RunState = RunState.SUCCEEDED, shard: int = 0) -> None:
        self.runs[run] = StoredRun(run, "etl", state, True, state.final, shard)
        self.call("trigger", f"key of {run}", "invoke", 1)
        self.call("trigger", f"key of {run}", "ok", 1.5, run=run, dag="etl")

    def works(self, number: int, run: str, task: str, begin_s: float, end_s: float) -> None:
        """An attempt that succeeds, everywhere."""
        self.starts(number, run, task, begin_s)
        self.ends(number, run, task, end_s)
        self.stores(number, run, task)
        self.journal(number, Outcome.SUCCEEDED)

    # Judging.

    def write(self) -> None:
        work = self.folder / "work" / "ant"
        work.mkdir(parents=True, exist_ok=True)
        header = encode_header(Header(INCARNATION, 1))
        encoded = [header, *map(encode_record, self.records)]
        (work / "journal").write_bytes(b"".join(map(frame, encoded)))
        text = "".join("\t".join(map(str, line)) + "\n" for line in self.lines)
        (self.folder / "ledger.tsv").write_text(text)
        for name in ("clients", "faults", "rounds", "epochs"):
            rows = getattr(self, "calls" if name == "clients" else name)
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (self.folder / f"{name}.jsonl").write_text(lines)
        cluster = {"dsn": "", "agents": {"ant": str(work)}, "seed": 7, "machine": "a machine"}
        (self.folder / "cluster.json").write_text(json.dumps(cluster))

    def findings(self) -> Findings:
        self.write()
        recorded = read_files(self.folder)
        recorded.attempts, recorded.runs = self.attempts, self.runs
        recorded.verified = self.recorded.verified
        return judge(recorded)


def clean(folder: Path) -> Forged:
    """A campaign in which nothing is wrong."""
    forged = Forged(folder)
    forged.phase("warm-up", 0, 2)
    forged.phase("faults", 2, 30)
    forged.phase("heal", 30, 32)
    forged.phase("drain", 32, 40)
    forged.run(CHAIN)
    forged.works(1, CHAIN, "a", 2, 3)
    forged.works(2, CHAIN, "b", 3.001, 4)
    forged.run(RETRIED)
    forged.starts(3, RETRIED, "a", 2)
    forged.ends(3, RETRIED, "a", 2.5, 3)
    forged.stores(3, RETRIED, "a", AttemptState.FAILED, 3)
    forged.journal(3, Outcome.FAILED, 3)
    forged.works(4, RETRIED, "a", 5, 6)
    killed(forged)
    overlapping(forged)
    cancelled(forged)
    forged.call("trigger", "key without an answer", "invoke", 9)
    forged.call("trigger", "key without an answer", "unknown", 12, error="no answer")
    forged.runs["run-9"] = StoredRun("run-9", "etl", RunState.SUCCEEDED, True, True)
    forged.epochs += [
        {"at_ns": 0, "shard": 0, "epoch": 1, "node": "node-1"},
        {"at_ns": 7 * S, "shard": 0, "epoch": 2, "node": "node-2"},
    ]
    forged.fault("node-kill", "node-1", 4, 9)
    return forged


def killed(forged: Forged) -> None:
    """Its agent was silent, it was given up, and its agent said later that it had ended in time."""
    forged.run(KILLED)
    forged.starts(5, KILLED, "a", 10)
    late = Told(AttemptState.LOST, 1_000_000, 7_000_000, -1, 9)
    lost = AttemptState.LOST
    forged.stores(5, KILLED, "a", lost, None, message=SILENT, late=late)
    forged.works(6, KILLED, "a", 20, 21)


def overlapping(forged: Forged) -> None:
    """Its DAG says that it may be retried while it may still run."""
    forged.run(OVERLAP)
    forged.starts(7, OVERLAP, "a", 10)
    forged.ends(7, OVERLAP, "a", 18)
    late = Told(AttemptState.SUCCEEDED, 1, 2, 0, 0)
    retry = OnDisconnect.RETRY
    lost = AttemptState.LOST
    forged.stores(7, OVERLAP, "a", lost, None, message=SILENT, late=late, policy=retry)
    forged.starts(8, OVERLAP, "a", 15)
    forged.ends(8, OVERLAP, "a", 16)
    forged.stores(8, OVERLAP, "a", policy=retry)


def cancelled(forged: Forged) -> None:
    """It was stopped by a signal, and then seen to be cancelled."""
    forged.run(CANCELLED, RunState.CANCELLED)
    forged.starts(9, CANCELLED, "a", 10)
    forged.stores(9, CANCELLED, "a", AttemptState.CANCELLED, -1, signal=15)
    forged.call("cancel", CANCELLED, "ok", 10.5, run=CANCELLED)
    forged.call("get", CANCELLED, "ok", 12, run=CANCELLED, state="CANCELLED")
