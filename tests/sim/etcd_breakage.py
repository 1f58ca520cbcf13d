"""What breaks in the etcd of a simulated cluster: it stands still, forgets, goes back in time.

Every fault draws from dice of its own and ends by itself, or with `heal`. None of them may cost
more than failover: that is for the invariants to see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

from tests.sim.cluster import Cluster
from tests.sim.election import LEASE_TTL_S

# An older state is this much older than the next one that is kept.
KEEP_EVERY_S = 7.0
KEPT = 4


class EtcdBreakage:
    """The faults of one etcd, by kind."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop = cluster.loop
        self._etcd = cluster.keys
        self._older = deque([self._etcd.state()], maxlen=KEPT)
        self._loop.call_outside(KEEP_EVERY_S, self._keep)
        self.kinds: dict[str, Callable[[Random], None]] = {
            "etcd-hangs": self._hang,
            "etcd-restarts": self._restart,
            "etcd-wiped": self._wipe,
            "etcd-restored": self._restore,
            "etcd-lease-ends": self._end_lease,
            "etcd-late": self._tell_late,
            "etcd-lossy": self._lose_answers,
            "etcd-compacts": self._compact,
        }

    def heal(self) -> None:
        """Nothing is broken any more; what is lost is lost."""
        if self._etcd.down:
            self._etcd.start()
        self._etcd.resume()
        self._etcd.watch_delay_s = 0.0
        self._set_lossy(0.0)

    def _note(self, *words: object) -> None:
        self._cluster.note("f", "etcd", *words)

    def _keep(self) -> None:
        self._older.append(self._etcd.state())
        self._loop.call_outside(KEEP_EVERY_S, self._keep)

    def _hang(self, random: Random) -> None:
        """Shorter than a lease, or longer."""
        self._etcd.pause()
        self._loop.call_later(LEASE_TTL_S * random.choice((0.3, 0.9, 2.0, 4.0)), self._go_on)

    def _go_on(self) -> None:
        self._note("goes on")
        self._etcd.resume()

    def _restart(self, random: Random) -> None:
        self._etcd.stop()
        self._loop.call_later(random.choice((0.2, 2.0, 8.0)), self._come_back)

    def _come_back(self) -> None:
        self._note("is back")
        self._etcd.start()

    def _wipe(self, random: Random) -> None:
        self._etcd.stop()
        self._loop.call_later(random.choice((0.2, 2.0)), self._etcd.go_back)

    def _restore(self, random: Random) -> None:
        self._etcd.stop()
        older = random.choice(list(self._older))
        self._note("goes back from revision", self._etcd.revision, "to", older.revision)
        self._loop.call_later(random.choice((0.2, 2.0)), self._etcd.go_back, older)

    def _end_lease(self, random: Random) -> None:
        """Its node lives and renews it."""
        leases = self._etcd.leases
        if leases:
            self._etcd.revoke(random.choice(leases))

    def _tell_late(self, random: Random) -> None:
        self._etcd.watch_delay_s = random.choice((0.2, 1.0, 5.0))
        self._note("tells changes later by", self._etcd.watch_delay_s)
        self._loop.call_later(random.uniform(1.0, 10.0), self._tell_at_once)

    def _tell_at_once(self) -> None:
        self._etcd.watch_delay_s = 0.0

    def _lose_answers(self, random: Random) -> None:
        share = random.choice((0.1, 0.4))
        self._note("has answers lost:", share)
        self._set_lossy(share)
        self._loop.call_later(random.uniform(1.0, 8.0), partial(self._set_lossy, 0.0))

    def _set_lossy(self, share: float) -> None:
        for node in self._cluster.nodes.values():
            node.election.client.lossy = share

    def _compact(self, _random: Random) -> None:
        self._etcd.compact(self._etcd.revision)
