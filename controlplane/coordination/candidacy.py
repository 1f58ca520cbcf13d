"""What a node should do about the leader keys, as a value.

Decides which shards to campaign for, which keys count as won or lost, and which shards should move
to another node. Promises to be pure: views, times and random pauses are arguments, a `Plan` comes
out. Knows nothing of etcd's protocol, nor of who really leads: that is the store's.

A key counts as won when it is seen bound to this node's lease, whether the campaign was answered
or not; it counts as lost when it is seen otherwise, or when the lease is lost.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Collection, Mapping

from controlplane.coordination.keys import Keyspace
from controlplane.coordination.records import Change, Changed, Record, Removed, Snapshot
from controlplane.coordination.rendezvous import preferred


class LossReason(enum.Enum):
    """Why a leader key was lost. None of them deposes a leader: only the fence does."""

    LOST_LEASE = "lost_lease"  # this node's lease is lost
    KEY_TAKEN = "key_taken"  # the key is another candidacy's
    KEY_GONE = "key_gone"  # the key was deleted by somebody else
    HANDED_OVER = "handed_over"  # given up on purpose: another node should lead


@dataclasses.dataclass(frozen=True, slots=True)
class LeaderKey:
    """A leader key that this node won; another creation of the same key is another candidacy.

    A store that went back in time gives a revision out again, to somebody else; a lease never.
    """

    key: str
    create_revision: int
    lease: int


@dataclasses.dataclass(frozen=True, slots=True)
class ShardLeader:
    """Who holds a shard's key, as etcd tells: a hint for routing, no authority."""

    shard: int
    node: str
    address: str


@dataclasses.dataclass(frozen=True, slots=True)
class Electorate:
    """The nodes as seen by this one.

    live: nodes that campaign. stable: those of them that have been there long enough to be handed
    shards. eligible: whether this node campaigns.
    """

    me: str
    eligible: bool
    live: frozenset[str]
    stable: frozenset[str]

    def owner(self, shard: int) -> str:
        """Preferred owner among all that campaign."""
        return preferred(shard, self.live | {self.me} if self.eligible else self.live - {self.me})

    def heir(self, shard: int) -> str | None:
        """The node to hand a shard of ours to; None = keep it."""
        others = self.stable - {self.me}
        if not others:
            return None
        chosen = preferred(shard, others | {self.me} if self.eligible else others)
        return None if chosen == self.me else chosen


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. resignations: keys still to be deleted. review_at: when to look again."""

    elected: tuple[tuple[int, LeaderKey], ...]
    lost: tuple[tuple[int, LossReason], ...]
    campaigns: tuple[int, ...]
    resignations: tuple[LeaderKey, ...]
    review_at: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Held:
    key: LeaderKey
    since: float


@dataclasses.dataclass(slots=True)
class _Shard:
    """Our knowledge of one shard. record: the key as last seen, None = absent."""

    record: Record | None = None
    seen_revision: int = 0  # newest revision at which we know the key
    held: _Held | None = None
    resigned: LeaderKey | None = None
    vacant_until: float | None = None  # end of the head start of the preferred owner
    barred_until: float = 0.0


class Candidacy:
    """Feed it what is read from etcd; `review` says what to do. Times are in seconds."""

    def __init__(self, cluster: str, shards: int) -> None:
        self._keyspace = Keyspace(cluster)
        self._shards = {shard: _Shard() for shard in range(shards)}
        self._known_revision = 0  # newest revision that the watch delivered; 0 = nothing yet

    # What was read

    def apply(self, change: Change) -> None:
        """Take in what the watch delivered."""
        match change:
            case Snapshot():
                self._apply_snapshot(change)
            case Changed(record=record):
                self._known_revision = max(self._known_revision, record.mod_revision)
                self.saw(record)
            case Removed(key=key, revision=revision):
                self._known_revision = max(self._known_revision, revision)
                self.saw_absent(key, revision)

    def saw(self, record: Record) -> None:
        """Take in one key as read; what is older than our knowledge is passed over."""
        self._set(record.key, record, record.mod_revision)

    def saw_absent(self, key: str, revision: int) -> None:
        self._set(key, None, revision)

    def _set(self, key: str, record: Record | None, revision: int) -> None:
        number = self._keyspace.shard_of(key)
        shard = None if number is None else self._shards.get(number)
        if shard is not None and revision >= shard.seen_revision:
            shard.record = record
            shard.seen_revision = revision

    def _apply_snapshot(self, snapshot: Snapshot) -> None:
        # Revisions went down: the store was wiped, and what we know of it says nothing any more.
        wiped = snapshot.revision < self._known_revision
        self._known_revision = snapshot.revision
        records = {record.key: record for record in snapshot.records}
        for number, shard in self._shards.items():
            if wiped:
                shard.seen_revision = 0
            key = self._keyspace.leader(number)
            self._set(key, records.get(key), snapshot.revision)

    # What was asked for

    def resign(self, number: int, *, barred_until: float) -> LeaderKey | None:
        """Give the shard up: not a loss. Returns the key to delete, None if there is none."""
        shard = self._shards[number]
        shard.barred_until = barred_until
        if shard.held is not None:
            shard.resigned = shard.held.key
            shard.held = None
        return shard.resigned

    # What is known

    @property
    def held(self) -> Mapping[int, LeaderKey]:
        """The keys that this node holds."""
        return {n: s.held.key for n, s in self._shards.items() if s.held is not None}

    @property
    def leaders(self) -> Mapping[int, ShardLeader]:
        """The holders of all keys that are there and readable."""
        found = (_leader(n, s.record) for n, s in self._shards.items() if s.record is not None)
        return {leader.shard: leader for leader in found if leader is not None}

    # What to do

    def review(
        self,
        now: float,
        *,
        lease: int | None,
        electorate: Electorate,
        pause_s: float,
        keep_s: float = 0.0,
    ) -> Plan:
        """Plan the next actions. pause_s: head start of a preferred owner, with jitter. keep_s: how
        long a key is held at least: an heir that does not take its shard must not be asked in
        every turn.

        A shard that should move has its key given up here, and is barred for as long as the heir
        has a head start: who leads goes on until the heir has taken over.
        """
        if self._known_revision == 0:
            return Plan((), (), (), (), None)
        shards = self._shards.items()
        lost = [(n, reason) for n, s in shards if (reason := _loss(s, lease))]
        elected = tuple((n, key) for n, s in shards if (key := _win(s, lease, now)))
        for number in [n for n, s in shards if _moves(s, electorate.heir(n), now - keep_s)]:
            self.resign(number, barred_until=now + pause_s)
            lost.append((number, LossReason.HANDED_OVER))
        resignations = tuple(key for _, s in shards if (key := _resignation(s)))
        if lease is None or not electorate.eligible:
            return Plan(elected, tuple(lost), (), resignations, None)
        campaigns = tuple(
            n for n, s in shards if _campaigns(s, now, pause_s, electorate, electorate.owner(n))
        )
        return Plan(elected, tuple(lost), campaigns, resignations, self._review_at(campaigns))

    def _review_at(self, campaigns: Collection[int]) -> float | None:
        waits = [
            max(shard.barred_until, shard.vacant_until)
            for number, shard in self._shards.items()
            if shard.vacant_until is not None and number not in campaigns
        ]
        return min(waits, default=None)


def key_of(record: Record) -> LeaderKey:
    """The candidacy that a record stands for."""
    return LeaderKey(record.key, record.create_revision, record.lease)


def _loss(shard: _Shard, lease: int | None) -> LossReason | None:
    if shard.held is None:
        return None
    reason: LossReason | None = None
    if shard.held.key.lease != lease:
        reason = LossReason.LOST_LEASE
    elif shard.record is None:
        reason = LossReason.KEY_GONE
    elif key_of(shard.record) != shard.held.key:
        reason = LossReason.KEY_TAKEN
    if reason is not None:
        shard.held = None
    return reason


def _win(shard: _Shard, lease: int | None, now: float) -> LeaderKey | None:
    record = shard.record
    if shard.held is not None or record is None or lease is None or record.lease != lease:
        return None
    key = key_of(record)
    if key == shard.resigned:
        return None
    shard.held = _Held(key, now)
    return key


def _moves(shard: _Shard, heir: str | None, held_since: float) -> bool:
    """Whether an heir should have a key that has been held since then or longer."""
    return heir is not None and shard.held is not None and shard.held.since <= held_since


def _resignation(shard: _Shard) -> LeaderKey | None:
    if shard.record is None or key_of(shard.record) != shard.resigned:
        shard.resigned = None
    return shard.resigned


def _campaigns(
    shard: _Shard, now: float, pause_s: float, electorate: Electorate, owner: str
) -> bool:
    if shard.record is not None:
        shard.vacant_until = None
        return False
    if shard.vacant_until is None or owner == electorate.me:
        shard.vacant_until = now if owner == electorate.me else now + pause_s
    return now >= max(shard.vacant_until, shard.barred_until)


def leader_value(node: str, address: str) -> bytes:
    """Write what a leader key holds."""
    return json.dumps({"node": node, "address": address}, separators=(",", ":")).encode()


def _leader(shard: int, record: Record) -> ShardLeader | None:
    try:
        fields = json.loads(record.value)
        return ShardLeader(shard, str(fields["node"]), str(fields["address"]))
    except (ValueError, KeyError, TypeError):
        return None
