"""The times of leadership and the relations between them.

Decides nothing at run time. Promises that an instance is consistent: every broken relation is
reported at once, in one ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class LeaderTimes:
    """How long a leader waits, tries and may speak. The store bounds each of its calls itself."""

    authority_ms: int = 4_000  # how long a fence allows to speak, from the moment it was sent
    lease_ttl_ms: int = 5_000  # of the node's lease in etcd
    idle_fence_ms: int = 1_000  # longest time between two fences
    sweep_ms: int = 1_000  # longest time between two looks into the inbox
    retry_min_ms: int = 20  # first pause before what failed is tried again
    retry_max_ms: int = 1_000
    stuck_ms: int = 15_000  # without a commit for so long, another node that commits shall lead
    peer_commit_ms: int = 5_000  # how fresh the other node's last commit must be
    caution_ms: int = 30_000  # longest time of batches of one after a batch that failed
    drain_ms: int = 1_000  # of a graceful stop

    def __post_init__(self) -> None:
        rules = [
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
        ]
        faults = [text for holds, text in rules if not holds]
        if faults:
            raise ValueError("times of leadership: " + "; ".join(faults))
