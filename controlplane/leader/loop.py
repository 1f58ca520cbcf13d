"""The loop of one shard in one epoch: take, decide, commit, speak.

Each turn of it:

1. Takes what has arrived and waits for it when there is nothing: until the core's next deadline, or
   until the next fence is due. While a batch is being committed, events queue; the next turn takes
   them all.
2. Reads the definitions that the core will need and does not have.
3. Tops up the ids that the core gives out: random ones for attempts, reserved ones for runs.
4. Drops what came from sessions that have ended, and lets the core decide (`core.step`).
5. Commits the rows in one fenced transaction. Without rows there is no commit, unless a fence is
   due, or the last one is too old to speak on, or what is to be said ends what an agent holds.
6. Speaks: messages to agents, answers to callers who wait for commands, news of runs.

Promises: nothing is said of what is not known to be committed, and nothing at all when the last
fence was sent too long ago: another may lead since. When a batch is known not to be stored, memory
is ahead of the store: the loop ends with the Failure, and its owner takes over again. Does not know
what events mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import structlog

from controlplane.codec.errors import CodecError
from controlplane.core.effects import CancelMessage, Effects, ResultAckMessage, Writes
from controlplane.core.events import AgentGone, Event, Finished, Inventory
from controlplane.core.shard.queue import Want
from controlplane.core.time.deadlines import Now
from controlplane.core.types import DagKey, DagVersion
from controlplane.leader.caution import Caution, Failure, Key, singles, without
from controlplane.leader.claim import Claim, LeaderClock, Speaker
from controlplane.leader.committer import Committer
from controlplane.leader.inbox import Inbox
from controlplane.leader.mailbox import Delivery, Mailbox, Source
from controlplane.leader.news import RunNews
from controlplane.leader.patience import GivenUp, Patience
from controlplane.leader.recovery import compiled
from controlplane.store.errors import BatchRefused, Deposed, StoreUnavailable
from controlplane.store.ports import ShardStore
from controlplane.telemetry.clock import Entropy
from controlplane.telemetry.stats import Stats

_log = structlog.get_logger(__name__)

# A batch takes no more than this, or what arrived together.
EVENTS_A_BATCH = 1_000
_FINAL_WORDS = (CancelMessage, ResultAckMessage)


class ShardCore(Protocol):
    """The core as the loop uses it; see `controlplane.core.shard.shard.Shard`."""

    def step(self, events: Sequence[Event], now: Now) -> Effects: ...
    def next_deadline(self) -> int | None: ...
    def missing_versions(self, events: Iterable[Event]) -> set[tuple[DagKey, bytes]]: ...
    def offer_versions(self, versions: Iterable[DagVersion]) -> None: ...
    def offer_attempt_ids(self, ids: Iterable[bytes]) -> None: ...
    def offer_run_keys(self, keys: Iterable[int]) -> None: ...
    @property
    def attempt_ids_wanted(self) -> int: ...
    @property
    def run_keys_wanted(self) -> int: ...
    @property
    def want(self) -> Want: ...


# What the core raises when an event finds it in a state that we did not think of.
OUR_BUGS = (AssertionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class BrokenShard(AssertionError):  # noqa: N818  (the name says what is so; it is used as a state)
    """A batch failed that no source can be blamed for: memory or rows are not what we think."""


class LoopParts(NamedTuple):
    """What a loop works with."""

    core: ShardCore
    store: ShardStore
    committer: Committer
    mailbox: Mailbox
    inbox: Inbox
    speaker: Speaker
    clock: LeaderClock
    entropy: Entropy
    stats: Stats
    patience: Patience
    news: RunNews


class LeaderLoop:
    """`run` it once. `aside`: sources that were set aside before and are passed over."""

    def __init__(
        self,
        claim: Claim,
        parts: LoopParts,
        *,
        caution: Caution | None = None,
        aside: frozenset[Key] = frozenset(),
    ) -> None:
        self.claim = claim
        self._core = parts.core
        self._store = parts.store
        self._committer = parts.committer
        self._mailbox = parts.mailbox
        self._inbox = parts.inbox
        self._speaker = parts.speaker
        self._clock = parts.clock
        self._entropy = parts.entropy
        self._stats = parts.stats
        self._patience = parts.patience
        self._news = parts.news
        self._caution = caution
        self._aside = aside
        self._to_quarantine: list[tuple[int | str, str]] = []
        self._sessions: dict[str, Source] = {}
        # Whether it ended because another epoch is in force.
        self.deposed = False

    def quarantine(self, source: int | str, reason: str) -> None:
        """Has a source set aside, in a batch of its own, before the first step."""
        self._to_quarantine.append((source, reason))

    async def run(self) -> Failure | None:
        """Turns until a batch failed, or (None) the shard is given up or led by another.

        Raises BrokenShard.
        """
        failure: Failure | None = None
        try:
            while failure is None and not self._patience.over:
                await self._mailbox.wait(self._idle_s())
                await self._set_aside()
                failure = await self._turn()
        except Deposed as error:
            _log.warning("deposed", **self._names, by_epoch=error.epoch)
            self._stats.count("leaders_deposed")
            self.deposed = True
            return None
        except GivenUp:
            return None
        return failure

    def _idle_s(self) -> float:
        due_ms = self._committer.fence_due_ms
        deadline_ms = self._core.next_deadline()
        if deadline_ms is not None and deadline_ms < due_ms:
            due_ms = deadline_ms
        return (due_ms - self._clock.now().mono_ms) / 1_000

    async def _turn(self) -> Failure | None:
        if self._caution is not None and self._caution.over(self._clock.now().mono_ms):
            self._caution = None
        if self._caution is not None:
            return await self._careful_turn(self._caution)
        return await self._batch(self._mailbox.take(EVENTS_A_BATCH))

    async def _careful_turn(self, caution: Caution) -> Failure | None:
        """Timers in batches of their own, events in batches of one.

        A single that comes at the moment of a timer must not be blamed for it: both see one `now`,
        the timer first.
        """
        portions = [one for delivery in self._mailbox.take(1) for one in singles(delivery)]
        for portion in portions or [Delivery(())]:
            now = self._clock.now()
            failure = await self._batch([], now)
            if failure is not None:
                raise BrokenShard(f"a batch without a source failed: {failure.reason}")
            failure = await self._batch([portion], now) if portion.events else None
            if failure is not None:
                return failure._replace(alone=True)
            caution.passed(portion.events)
        return None

    async def _batch(
        self, deliveries: Sequence[Delivery], now: Now | None = None
    ) -> Failure | None:
        """Steps 2 to 6."""
        await self._provide(deliveries)
        events = self._handled(deliveries)
        decided = now or self._clock.now()
        try:
            effects = self._core.step(events, decided)
            await self._commit(effects)
        except (BatchRefused, *OUR_BUGS) as error:
            reason = f"{type(error).__name__}: {error}"
            _log.exception("batch_failed", **self._names, events=len(events), reason=reason)
            return Failure(tuple(events), reason, alone=False)
        self._count(effects.writes, len(events))
        for note in effects.strays:
            self._stats.count("attempts_not_in_store")
            told = {**note._asdict(), "attempt_id": note.attempt_id.hex()}
            _log.warning("attempt_not_in_store", **self._names, **told)
        self._speak(effects, deliveries, decided)
        return None

    async def _provide(self, deliveries: Sequence[Delivery]) -> None:
        """Steps 2 and 3: what the core will need."""
        core = self._core
        if count := core.attempt_ids_wanted:
            core.offer_attempt_ids(self._entropy.attempt_ids(count))
        while True:
            try:
                if count := core.run_keys_wanted:
                    core.offer_run_keys(await self._store.reserve_run_keys(count))
                for delivery in deliveries:
                    if missing := core.missing_versions(delivery.events):
                        await self._offer_versions(missing)
            except StoreUnavailable as error:
                _log.warning("not_provided", **self._names, error=str(error))
                await self._patience.pause()
            else:
                return

    async def _offer_versions(self, missing: set[tuple[DagKey, bytes]]) -> None:
        """A definition that is not readable is not offered: what needs it fails alone."""
        for row in await self._store.read_versions(list(missing)):
            try:
                self._core.offer_versions([await compiled(row)])
            except CodecError as error:
                _log.warning("version_not_readable", **self._names, dag=row.dag, error=str(error))

    def _handled(self, deliveries: Iterable[Delivery]) -> list[Event]:
        """Step 4: the events of sessions that live, and by which session each agent is known."""
        events: list[Event] = []
        for delivery in deliveries:
            source = delivery.source
            if source is not None and not source.live:
                continue
            events += delivery.events
            first = delivery.events[0]
            # An end may come before its inventory: out of it, when turns are careful.
            if source is not None and isinstance(first, Inventory | Finished):
                self._sessions[first.agent] = source
            elif isinstance(first, AgentGone):
                self._forget_session(first.agent)
        return without(events, self._aside) if self._aside else events

    def _forget_session(self, agent: str) -> None:
        known = self._sessions.get(agent)
        if known is not None and not known.live:
            del self._sessions[agent]

    async def _commit(self, effects: Effects) -> None:
        """Step 5."""
        committer = self._committer
        if effects.writes:
            await committer.commit(effects.writes)
        elif self._clock.now().mono_ms >= committer.fence_due_ms or _must_be_in_force(effects):
            await committer.fence()
        while effects.messages and not committer.may_speak:
            await committer.fence()

    def _speak(self, effects: Effects, deliveries: Iterable[Delivery], decided: Now) -> None:
        """Step 6, in the same turn of the event loop as the last look at the fence's age."""
        writes = effects.writes
        self._news.publish(writes)
        if writes.applied:
            self._inbox.done(row.command for row in writes.applied)
        if effects.messages:
            arrived = [each.received_us for each in deliveries if each.received_us]
            self._speaker.speak(
                self.claim,
                self._committer.batch,
                effects.messages,
                self._sessions,
                min(arrived, default=0),
                decided.mono_ms,
            )
        self._speaker.stepped(self.claim.shard, self._core.want)

    def _count(self, writes: Writes, events: int) -> None:
        if writes:
            self._stats.count("batches")
            self._stats.count("batch_events", events)
            self._stats.count("attempts_assigned", len(writes.live))
            self._stats.count("attempts_ended", len(writes.done))

    async def _set_aside(self) -> None:
        self._to_quarantine += self._inbox.take_broken()
        while self._to_quarantine:
            source, reason = self._to_quarantine.pop(0)
            _log.error("source_set_aside", **self._names, source=source, reason=reason)
            await self._committer.quarantine(source, reason)
            self._stats.count("sources_set_aside")
            if isinstance(source, int):
                self._inbox.done([source])

    @property
    def _names(self) -> dict[str, int]:
        return {"shard": self.claim.shard, "epoch": self.claim.epoch}


def _must_be_in_force(effects: Effects) -> bool:
    """Whether a leader that was deposed a moment ago would do harm: an agent stops or forgets what
    it is told to, and after a restore the next leader may want it.
    """
    return any(type(message) in _FINAL_WORDS for message in effects.messages)
