"""The times of leadership and the relations between them.

Decides nothing at run time. Promises that an instance is consistent: every broken relation is
reported at once, in one ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from controlplane.core.time.leases import LeaseTimes

HEARTBEAT_MS = 5_000
ATTEMPT_LEASE_MS = 120_000
# Two clocks may drift apart by one thousandth: what a machine clock without any correction keeps.
DRIFT_PARTS = 1_000
# The supervisor looks at its deadlines once a second and kills one second after asking.
LEAST_GRACE_MS = 2_000
LONGEST_ATTEMPT_LEASE_MS = 86_400_000
_LEASE_MS, _AUTHORITY_MS, _IDLE_FENCE_MS, _STUCK_MS = 5_000, 4_000, 1_000, 15_000


@dataclass(frozen=True, slots=True)
class LeaderTimes:
    """How long a leader waits, tries and may speak. The store bounds each of its calls itself."""

    authority_ms: int = _AUTHORITY_MS  # how long a fence allows to speak, from its sending on
    lease_ttl_ms: int = _LEASE_MS  # of the node's lease in etcd
    idle_fence_ms: int = _IDLE_FENCE_MS  # longest time between two fences
    sweep_ms: int = 1_000  # longest time between two looks into the inbox
    retry_min_ms: int = 20  # first pause before what failed is tried again
    retry_max_ms: int = 1_000
    stuck_ms: int = _STUCK_MS  # without a commit for so long, another node that commits shall lead
    peer_commit_ms: int = 5_000  # how fresh the other node's last commit must be
    caution_ms: int = 30_000  # longest time of batches of one after a batch that failed
    drain_ms: int = 1_000  # of a graceful stop
    heartbeat_ms: int = HEARTBEAT_MS  # between two heartbeats of an agent
    attempt_lease_ms: int = ATTEMPT_LEASE_MS  # from the sending of a heartbeat that was answered
    lease_grace_ms: int = 10_000  # within it an agent's supervisor has killed what it must
    lease_drift_ms: int = 2_000  # by how much two clocks differ after an attempt lease, at most

    @classmethod
    def of_leader_lease(cls, lease_ttl_ms: int, **others: int) -> Self:
        """Times that fit a lease in etcd; `others`: fields by name. Raises ValueError."""
        authority_ms = lease_ttl_ms * _AUTHORITY_MS // _LEASE_MS
        return cls(
            lease_ttl_ms=lease_ttl_ms,
            authority_ms=authority_ms,
            idle_fence_ms=min(_IDLE_FENCE_MS, authority_ms // 4),
            stuck_ms=max(_STUCK_MS, lease_ttl_ms),
            **others,
        )

    @property
    def leases(self) -> LeaseTimes:
        """The times of attempt leases, as the core wants them."""
        return LeaseTimes(
            self.attempt_lease_ms, self.lease_grace_ms, self.lease_drift_ms, self.authority_ms
        )

    def __post_init__(self) -> None:
        faults = [text for holds, text in self._rules() if not holds]
        if faults:
            raise ValueError("times of leadership: " + "; ".join(faults))

    def _rules(self) -> list[tuple[bool, str]]:
        return [
            *((getattr(self, f.name) > 0, f"{f.name} must be above 0") for f in fields(self)),
            (
                self.authority_ms < self.lease_ttl_ms,
                "authority_ms must be below lease_ttl_ms",
            ),
            (
                2 * self.idle_fence_ms <= self.authority_ms,
                "2 * idle_fence_ms must not exceed authority_ms",
            ),
            (
                self.retry_min_ms <= self.retry_max_ms <= self.stuck_ms,
                "retry_min_ms <= retry_max_ms <= stuck_ms must hold",
            ),
            (
                self.lease_ttl_ms <= self.stuck_ms,
                "lease_ttl_ms must not exceed stuck_ms",
            ),
            (
                # Else one outage for all looks like the fault of one.
                self.peer_commit_ms < self.stuck_ms,
                "peer_commit_ms must be below stuck_ms",
            ),
            *self._attempt_lease_rules(),
        ]

    def _attempt_lease_rules(self) -> list[tuple[bool, str]]:
        return [
            (
                4 * self.heartbeat_ms <= self.attempt_lease_ms,
                "4 * heartbeat_ms must not exceed attempt_lease_ms",
            ),
            (
                self.attempt_lease_ms <= LONGEST_ATTEMPT_LEASE_MS,
                f"attempt_lease_ms must not exceed {LONGEST_ATTEMPT_LEASE_MS}",
            ),
            (
                self.lease_grace_ms >= LEAST_GRACE_MS,
                f"lease_grace_ms must be at least {LEAST_GRACE_MS}",
            ),
            (
                DRIFT_PARTS * self.lease_drift_ms >= self.attempt_lease_ms,
                f"{DRIFT_PARTS:,} * lease_drift_ms must be at least attempt_lease_ms",
            ),
        ]
