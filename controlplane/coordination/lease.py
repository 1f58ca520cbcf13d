"""A node's lease: the one thing that says to etcd that this node lives.

Decides when to renew, when the lease counts as lost, and when to ask for another one. Promises:

* the lease is renewed only while the main loop ticks: a node whose loop hangs loses its keys;
* the main loop can see for itself until when the lease surely lives (`valid_until`, counted from
  the moment a renewal was sent), so a thread that hangs deceives nobody;
* a renewal answered with a time to live of 0 or less is a lost lease, although it is no error;
* after a loss, another lease follows once etcd answers and the main loop ticks.

Knows nothing of the keys that are bound to the lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import threading
import time
from collections.abc import Callable

import structlog

from controlplane.coordination.errors import EtcdError, EtcdUnavailable
from controlplane.coordination.keepalive import LeaseCalls
from controlplane.coordination.settings import CoordinationSettings

_log = structlog.get_logger(__name__)


class LeaseEnd(enum.Enum):
    """Why a lease was lost."""

    GONE = "gone"  # etcd does not know it: expired there, revoked, or the store was wiped
    EXPIRED = "expired"  # no renewal was answered in time
    STALLED = "stalled"  # the main loop did not tick, so the lease was left to expire


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseGranted:
    """From now on keys may be bound to this lease."""

    lease: int


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseLost:
    """Keys bound to this lease are gone, or will be soon."""

    lease: int
    reason: LeaseEnd


LeaseChange = LeaseGranted | LeaseLost


class NodeLease:
    """The main loop's side; the thread's is `_Keeper`.

    `run` for the life of the node; its cancellation revokes the lease.
    """

    def __init__(self, settings: CoordinationSettings) -> None:
        self._settings = settings
        self._listeners: list[Callable[[LeaseChange], None]] = []
        self._current: int | None = None
        self._keeper: _Keeper | None = None

    @property
    def current(self) -> int | None:
        """Id of the lease as far as the main loop was told; None = there is none."""
        return self._current

    @property
    def valid_until(self) -> float:
        """Instant of the monotonic clock, in seconds, until which the lease surely lives."""
        return self._keeper.valid_until if self._keeper else 0.0

    @property
    def alive(self) -> bool:
        return self._current is not None and time.monotonic() < self.valid_until

    def add_listener(self, listener: Callable[[LeaseChange], None]) -> None:
        """Have the main loop call the listener at every change; it must not block."""
        self._listeners.append(listener)

    def tick(self) -> None:
        """Show that the main loop turns. `run` does it every `tick_ms`."""
        if self._keeper is not None:
            self._keeper.ticked_at = time.monotonic()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        self._keeper = keeper = _Keeper(
            self._settings,
            tell=lambda change: loop.call_soon_threadsafe(self._deliver, change),
            ended=lambda error: loop.call_soon_threadsafe(_settle, ended, error),
        )
        threading.Thread(target=keeper.run, name="etcd-lease", daemon=True).start()
        try:
            while not ended.done():
                self.tick()
                await asyncio.wait({ended}, timeout=self._settings.tick_ms / 1_000)
        finally:
            keeper.stop()
            # The thread may be inside one call, then revokes in another.
            await asyncio.wait({ended}, timeout=3 * self._settings.deadline_ms / 1_000)
        ended.result()

    def _deliver(self, change: LeaseChange) -> None:
        self._current = change.lease if isinstance(change, LeaseGranted) else None
        for listener in self._listeners:
            listener(change)


def _settle(ended: asyncio.Future[None], error: Exception | None) -> None:
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)


class _Keeper:
    """The thread's side. Writes `valid_until`, reads `ticked_at`: single floats, so no lock."""

    def __init__(
        self,
        settings: CoordinationSettings,
        *,
        tell: Callable[[LeaseChange], object],
        ended: Callable[[Exception | None], object],
    ) -> None:
        self.ticked_at = time.monotonic()
        self.valid_until = 0.0
        self._settings = settings
        self._tell = tell
        self._ended = ended
        self._stopping = threading.Event()
        self._backoff = settings.backoff
        self._stale: int | None = None  # a lost lease that etcd may still hold

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        failure: Exception | None = None
        try:
            with LeaseCalls(
                self._settings.endpoints, deadline_ms=self._settings.deadline_ms
            ) as calls:
                self._keep_leases(calls)
        except Exception as error:  # noqa: BLE001  (top of the thread: `run` raises it again)
            _log.exception("lease_thread_failed")
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed over our head
            self._ended(failure)

    def _keep_leases(self, calls: LeaseCalls) -> None:
        while not self._stopping.is_set():
            lease = self._acquire(calls)
            if lease is None:
                self._stopping.wait(self._backoff.next_s())
                continue
            self._backoff.reset()
            _log.info("lease_granted", lease=lease)
            self._tell(LeaseGranted(lease))
            reason = self._hold(calls, lease)
            self.valid_until = 0.0
            self._stale = lease
            if reason is not None:
                _log.warning("lease_lost", lease=lease, reason=reason.value)
                self._tell(LeaseLost(lease, reason))
        with contextlib.suppress(EtcdError):  # else it ends by itself
            self._revoke_stale(calls)

    def _acquire(self, calls: LeaseCalls) -> int | None:
        if self._stalled():
            return None
        sent_at = time.monotonic()
        try:
            self._revoke_stale(calls)
            grant = calls.grant(self._settings.lease_ttl_ms // 1_000)
        except EtcdError as error:
            _log.info("lease_not_granted", error=str(error))
            return None
        self.valid_until = sent_at + grant.ttl_s
        return grant.lease

    def _hold(self, calls: LeaseCalls, lease: int) -> LeaseEnd | None:
        """Renew until the lease is lost; None = stopping."""
        pause_s = self._settings.renew_ms / 1_000
        while not self._stopping.wait(pause_s):
            stalled = self._stalled()
            renewed = None if stalled else self._renew(calls, lease)
            if renewed is False:
                return LeaseEnd.GONE
            if time.monotonic() >= self.valid_until:
                return LeaseEnd.STALLED if stalled else LeaseEnd.EXPIRED
            pause_s = self._settings.renew_ms / 1_000 if renewed else self._backoff.next_s()
        return None

    def _renew(self, calls: LeaseCalls, lease: int) -> bool | None:
        """True = renewed, False = the lease is gone, None = no answer."""
        sent_at = time.monotonic()
        try:
            ttl_s = calls.renew(lease)
        except EtcdUnavailable as error:
            _log.info("lease_not_renewed", lease=lease, error=str(error))
            return None
        if ttl_s <= 0:
            return False
        self.valid_until = sent_at + ttl_s
        self._backoff.reset()
        return True

    def _stalled(self) -> bool:
        return time.monotonic() - self.ticked_at > self._settings.max_stall_ms / 1_000

    def _revoke_stale(self, calls: LeaseCalls) -> None:
        """Free the keys of the last lease: they would block their shards until it ends."""
        if self._stale is not None:
            calls.revoke(self._stale)
            self._stale = None
