"""Leader keys in memory: leases that expire when their node stops, keys that are won and lost.

Like etcd it only says who may try. A dead node's key stays until its lease is over, so a shard has
no leader for a while; a paused node may still believe in a key that is gone.
"""

from __future__ import annotations

from controlplane.coordination.candidacy import LeaderKey, LossReason
from controlplane.coordination.errors import EtcdUnavailable
from controlplane.coordination.rendezvous import preferred
from controlplane.leader.leaderships import Leaderships

LEASE_TTL_S = 3.0
ROUND_S = 0.25
# Others leave the preferred node this long to take a free key.
COURTESY_S = 0.5


class Keys:
    """What the one etcd holds."""

    def __init__(self, shards: int) -> None:
        self.holders: dict[int, tuple[str, int]] = {}
        self.leases: dict[str, float] = {}
        self.free_since: dict[int, float] = dict.fromkeys(range(shards), 0.0)
        self.shards = shards
        self._revision = 0

    def new_lease(self, node: str) -> str:
        """A lease of a new start of a node: nothing of an earlier start is bound to it."""
        self._revision += 1
        return f"{node}#{self._revision}"

    def renew(self, lease: str, now_s: float) -> None:
        """The lease holds from now on; leases that nobody renewed are over."""
        self.leases[lease] = now_s + LEASE_TTL_S
        self._expire(now_s)

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes with a lease."""
        return sorted({lease.partition("#")[0] for lease in self.leases})

    def _expire(self, now_s: float) -> None:
        for lease in [name for name, until in self.leases.items() if until < now_s]:
            del self.leases[lease]
            for shard in [k for k, (owner, _) in self.holders.items() if owner == lease]:
                self.remove(shard, now_s)

    def remove(self, shard: int, now_s: float) -> None:
        """A key goes."""
        self.holders.pop(shard, None)
        self.free_since[shard] = now_s

    def win(self, shard: int, lease: str) -> int:
        """A key is created; its revision."""
        self._revision += 1
        self.holders[shard] = (lease, self._revision)
        return self._revision


class Election:
    """The election as one node takes part in it: Candidate for its leaders."""

    def __init__(self, node: str, keys: Keys, leaderships: Leaderships) -> None:
        self._node = node
        self.keys = keys
        self._lease = keys.new_lease(node)
        self._leaderships = leaderships
        self._mine: dict[int, int] = {}
        self._rest_until: dict[int, float] = {}
        self._now_s = 0.0
        # Without etcd a node keeps leading, and does not hear that its keys are another's.
        self.sees_etcd = True

    async def verify(self, key: LeaderKey) -> bool:
        """Whether the key is still this creation of it; raises EtcdUnavailable."""
        if not self.sees_etcd:
            raise EtcdUnavailable("UNAVAILABLE", "no member answers")
        return any(
            owner == self._lease and revision == key.create_revision
            for owner, revision in self.keys.holders.values()
        )

    async def resign(self, shard: int, *, pause_ms: int | None = None) -> None:
        """Gives a key up."""
        revision = self._mine.pop(shard, None)
        mine = revision is not None and self.keys.holders.get(shard) == (self._lease, revision)
        if mine and self.sees_etcd:
            self.keys.remove(shard, self._now_s)
        self._rest_until[shard] = self._now_s + (pause_ms or 1_000) / 1_000

    def hand_over(self, shard: int) -> None:
        """Gives a key up for a better node; who leads goes on."""
        revision = self._mine.pop(shard, None)
        if revision is None:
            return
        if self.sees_etcd and self.keys.holders.get(shard) == (self._lease, revision):
            self.keys.remove(shard, self._now_s)
        self._rest_until[shard] = self._now_s + 2 * COURTESY_S
        self._leaderships.on_lost(shard, LossReason.HANDED_OVER)

    def round(self, now_s: float) -> None:
        """Looks at all keys: what was lost is reported, what is free is won."""
        self._now_s = now_s
        self.keys.renew(self._lease, now_s)
        holders = self.keys.holders
        for shard, revision in list(self._mine.items()):
            if (found := holders.get(shard)) != (self._lease, revision):
                del self._mine[shard]
                reason = LossReason.KEY_TAKEN if found else LossReason.KEY_GONE
                self._leaderships.on_lost(shard, reason)
        for shard in range(self.keys.shards):
            if not self._may_try(shard, now_s):
                continue
            if shard not in holders:
                self._won(shard, self.keys.win(shard, self._lease))
            elif shard not in self._mine and holders[shard][0] == self._lease:
                # Given up while etcd was away: it is still there.
                self._won(shard, holders[shard][1])

    def _won(self, shard: int, revision: int) -> None:
        self._mine[shard] = revision
        self._leaderships.on_elected(shard, LeaderKey(f"shard/{shard}", revision, 0))

    def _may_try(self, shard: int, now_s: float) -> bool:
        if now_s < self._rest_until.get(shard, 0.0):
            return False
        first = preferred(shard, self.keys.nodes) == self._node
        return first or now_s > self.keys.free_since[shard] + COURTESY_S
