"""Goes over a database, page by page, and has every row judged.

Decides what is looked at: everything, what is newer than an instant, or one run. Each judgement is
about rows of one snapshot, which is one committed state: however the database moves meanwhile, what
is found is true. Where a judgement needs rows of two reads, the second finds only what cannot go
away again (definitions, versions, runs). Does not know how findings are shown.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from controlplane.codec.dag import compile_version
from controlplane.codec.errors import CodecError
from controlplane.core.types import DagKey, DagVersion
from controlplane.store.evidence import EVER_US, EvidenceStore
from controlplane.store.evidence_rows import InstantEvidence, RunEvidence
from controlplane.verify.findings import Findings, Invariant, Violation
from controlplane.verify.ledger import LedgerJudge
from controlplane.verify.promises import (
    judge_command,
    judge_live,
    judge_request,
    judge_shard,
    judge_version,
    judge_wait,
    named_by,
)
from controlplane.verify.runs import judge_run, name_of

MOST_TASKS_KEPT = 200_000


class NoSuchRunError(Exception):
    """The run that was asked for is not there (or no row yet)."""


class Versions:
    """Compiled versions, the most recently used ones."""

    def __init__(self, store: EvidenceStore) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[DagKey, bytes], DagVersion | None] = OrderedDict()
        self._tasks = 0

    async def load(self, runs: Sequence[RunEvidence]) -> None:
        """Reads and compiles what these runs need."""
        wanted = {(DagKey(each.run.tenant, each.run.dag), each.run.digest) for each in runs}
        missing = [each for each in wanted if each not in self._kept]
        if not missing:
            return
        specs = await self._store.specs({digest for _, digest in missing})
        for key, digest in missing:
            version = _compiled(key, digest, specs.get(digest))
            self._kept[key, digest] = version
            self._tasks += len(version.tasks) if version else 0

    def of(self, run: RunEvidence) -> DagVersion | None:
        """The version of a run; None: it is not stored, or cannot be read."""
        return self._kept[DagKey(run.run.tenant, run.run.dag), run.run.digest]

    def trim(self) -> None:
        """Forgets the oldest ones beyond the bound."""
        while self._tasks > MOST_TASKS_KEPT and len(self._kept) > 1:
            _, version = self._kept.popitem(last=False)
            self._tasks -= len(version.tasks) if version else 0


def _compiled(key: DagKey, digest: bytes, spec: bytes | None) -> DagVersion | None:
    if spec is None:
        return None
    try:
        return compile_version(key.tenant, spec, digest)
    except CodecError:
        return None


class Verification:
    """One pass over a database. `everything` or `one_run`, once."""

    def __init__(self, store: EvidenceStore) -> None:
        self._store = store
        self._versions = Versions(store)
        self.findings = Findings()

    async def everything(self, since_us: int = EVER_US) -> Findings:
        """All that was created since an instant, and all that is live. Raises StoreUnavailable."""
        await self._shards()
        async for runs in self._store.run_pages(since_us):
            await self._judge_runs(runs)
        await self._live()
        await self._ledger(since_us)
        await self._commands(since_us)
        await self._definitions()
        return self.findings

    async def one_run(self, run_id: bytes, dag: str | None) -> Findings:
        """One run. `dag` None: of whatever DAG. Raises NoSuchRunError, StoreUnavailable."""
        found = await self._store.find_run(run_id)
        if found is None or dag not in (None, found[1]):
            raise NoSuchRunError
        await self._judge_runs(await self._store.read_runs([found[0]]))
        return self.findings

    async def _judge_runs(self, runs: Sequence[RunEvidence]) -> None:
        await self._versions.load(runs)
        for rows in runs:
            self._judge_run(rows, self._versions.of(rows))
        self._versions.trim()

    def _judge_run(self, rows: RunEvidence, version: DagVersion | None) -> None:
        count = self.findings.count
        count(1, Invariant.I8)
        if version is None:
            digest = rows.run.digest.hex()
            detail = f"its version {digest} is not stored, or cannot be read"
            self.findings.add([Violation(Invariant.I8, name_of(rows), detail)])
            return
        attempts = len(rows.attempts)
        count(attempts, Invariant.I2, Invariant.I3, Invariant.I6, Invariant.I18)
        count(attempts + len(rows.late), Invariant.I12)
        count(1 + attempts + len(rows.waits), Invariant.I11)
        count(rows.states is not None, Invariant.I15)
        count(bool(rows.run.schedule), Invariant.I7)
        self.findings.add(judge_run(rows, version))

    async def _shards(self) -> None:
        for shard in await self._store.shards():
            self.findings.count(shard.takeovers, Invariant.I1)
            self.findings.add(judge_shard(shard))

    async def _live(self) -> None:
        async for live in self._store.live_pages():
            self.findings.count(len(live), Invariant.I10)
            for attempt in live:
                self.findings.add(judge_live(attempt))
        async for waits in self._store.wait_pages():
            for wait in waits:
                self.findings.add(judge_wait(wait))

    async def _ledger(self, since_us: int) -> None:
        judge, last = LedgerJudge(), list[InstantEvidence]()
        async for last in self._store.instant_pages(since_us):
            self.findings.count(len(last), Invariant.I7)
            self.findings.add(judge.page(last))
        self.findings.add(judge.end(last))

    async def _commands(self, since_us: int) -> None:
        async for commands in self._store.command_pages(since_us):
            named = [named_by(each) for each in commands]
            cancelled = [each.cancelled for each in named if each.cancelled]
            made = [each.made for each in named if each.made]
            runs = await self._store.runs_by_id([*made, *cancelled])
            applied = (each.applied for each in named if each.applied)
            uses = await self._store.version_uses(applied)
            self.findings.count(len(commands), Invariant.I8)
            self.findings.count(len(cancelled), Invariant.I14)
            for command in commands:
                self.findings.add(judge_command(command, runs, uses))
        async for requests in self._store.request_pages():
            self.findings.count(len(requests), Invariant.I8)
            for request in requests:
                self.findings.add(judge_request(request))

    async def _definitions(self) -> None:
        async for versions in self._store.version_pages():
            self.findings.count(len(versions), Invariant.I8, Invariant.I15)
            for version in versions:
                self.findings.add(judge_version(version))
