"""When a running attempt must end.

Decides: which signal is due at a moment, from the attempt lease (of the attempt and of its shard,
whichever is later, and the overtime of the task after it), the timeout, and what was asked. Pure:
times are arguments, in milliseconds since the boot.

Promises: the first cause stays; once an attempt was told to end nothing makes that later, and no
attempt lives longer than its lease, its overtime and LEASE_GRACE_MS.
"""

from __future__ import annotations

import signal

FAR_MS = 1 << 62
# Between the signal at the end of an attempt lease and the one that nothing survives.
LEASE_GRACE_MS = 1_000

NONE, TIMED_OUT, LEASE, AGENT_STOPPED = "none", "timed_out", "lease", "agent_stopped"


class Attempt:
    """An attempt whose first process runs as `pid`, since `ticks`."""

    __slots__ = (
        *("attempt_id", "shard", "pid", "ticks", "has_folder", "logs", "until_ms", "overtime_ms"),
        *("timeout_at_ms", "grace_ms", "cause", "kill_at_ms", "killed"),
    )

    def __init__(self, attempt_id: str, shard: int, until_ms: int, overtime_ms: int) -> None:
        self.attempt_id = attempt_id
        self.shard = shard
        self.until_ms = until_ms
        self.overtime_ms = overtime_ms
        self.pid = 0
        self.ticks = 0
        self.has_folder = False
        self.logs: tuple[str, str] = ("", "")
        self.timeout_at_ms = FAR_MS
        self.grace_ms = 0
        self.cause = NONE
        self.kill_at_ms = FAR_MS
        self.killed = False

    def began(self, now_ms: int, timeout_ms: int, grace_ms: int) -> None:
        """The timeout counts from now on; 0: there is none."""
        self.timeout_at_ms = now_ms + timeout_ms if timeout_ms > 0 else FAR_MS
        self.grace_ms = grace_ms

    def lease_end_ms(self, shard_until_ms: int) -> int:
        return max(self.until_ms, shard_until_ms) + self.overtime_ms

    def next_ms(self, shard_until_ms: int) -> int:
        """When `due` has to be asked next."""
        lease_end_ms = self.lease_end_ms(shard_until_ms)
        if self.cause == NONE:
            return min(lease_end_ms, self.timeout_at_ms)
        if self.killed:
            return FAR_MS
        return min(self.kill_at_ms, lease_end_ms + LEASE_GRACE_MS)

    def due(self, now_ms: int, shard_until_ms: int) -> int:
        """The signal that is due; 0: none."""
        lease_end_ms = self.lease_end_ms(shard_until_ms)
        sent = 0
        if self.cause == NONE and lease_end_ms <= now_ms:
            sent = self.stop(LEASE, lease_end_ms + LEASE_GRACE_MS - now_ms, now_ms)
        elif self.cause == NONE and self.timeout_at_ms <= now_ms:
            sent = self.stop(TIMED_OUT, self.grace_ms, now_ms)
        if self.cause != NONE and self.next_ms(shard_until_ms) <= now_ms:
            return self._kill()
        return sent

    def stop(self, cause: str, grace_ms: int, now_ms: int) -> int:
        """Ends it for a cause; again, with less grace, to hurry. The signal to send; 0: none."""
        if self.cause == NONE:
            self.cause = cause
            self.kill_at_ms = now_ms + grace_ms
            return int(signal.SIGTERM) if grace_ms > 0 else self._kill()
        self.kill_at_ms = min(self.kill_at_ms, now_ms + grace_ms)
        return 0 if self.killed or grace_ms > 0 else self._kill()

    def _kill(self) -> int:
        self.killed = True
        return int(signal.SIGKILL)
