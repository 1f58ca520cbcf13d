"""Decides how long a shard waits before it gives up the attempts of an agent it cannot hear.

Source: the assignment protocol. An agent lets an attempt run until (the moment when it sent the
heartbeat that was answered last) + lease, on its own clock. The leader answered later than that
moment, so its own wait counts from the answer: lease + grace (for the kill) + drift (of the two
clocks). An attempt that may run on after its lease is waited for so much longer, and the clocks
come apart further meanwhile, in proportion. After a takeover the old leader may have answered until
its authority ended, hence that is added. Does not know agents or attempts.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.core.types import OnDisconnect, TaskDef


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Milliseconds. `grace_ms`: within it an agent's supervisor has killed what it must;
    `drift_ms`: how far two clocks come apart in one lease, at most; `authority_ms`: how long a
    leader may speak after sending its last fence.
    """

    lease_ms: int = 120_000
    grace_ms: int = 10_000
    drift_ms: int = 2_000
    authority_ms: int = 4_000

    def lost_after_ms(self, task: TaskDef) -> int:
        """How long after the last answer an attempt of a task is given up."""
        if task.on_disconnect is OnDisconnect.RETRY:
            return self.lease_ms
        longest_ms = self.lease_ms + task.overtime_ms
        drift_ms = -(-self.drift_ms * longest_ms // self.lease_ms)
        return longest_ms + self.grace_ms + drift_ms
