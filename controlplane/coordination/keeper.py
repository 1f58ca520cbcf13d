"""When a node's lease is renewed, when it is lost, and when another one is asked for.

Promises:

* the lease is renewed only while the main loop ticks: a node whose loop hangs loses its keys;
* a renewal answered with a time to live of 0 or less is a lost lease, although it is no error;
* after a loss, another lease follows once etcd answers and the main loop ticks;
* the keys of a lost lease are freed as soon as etcd answers.

Knows neither threads nor gRPC: clock and service are arguments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import structlog

from controlplane.coordination.errors import EtcdError, EtcdUnavailable
from controlplane.coordination.ports import LeaseService
from controlplane.coordination.records import LeaseChange, LeaseEnd, LeaseGranted, LeaseLost
from controlplane.coordination.settings import CoordinationSettings

_log = structlog.get_logger(__name__)


class LeaseKeeper:
    """`run` once. Writes `valid_until`, reads what `tick` wrote: single floats, so no lock."""

    def __init__(
        self,
        settings: CoordinationSettings,
        *,
        now: Callable[[], float],
        tell: Callable[[LeaseChange], object],
    ) -> None:
        self.valid_until = 0.0
        self._settings = settings
        self._now = now
        self._tell = tell
        self._ticked_at = now()
        self._backoff = settings.backoff
        self._stale: int | None = None  # a lost lease that etcd may still hold

    def tick(self) -> None:
        """The main loop turns."""
        self._ticked_at = self._now()

    async def run(self, service: LeaseService) -> None:
        """Keep a lease until the service says to stop; then end it."""
        stopping = False
        while not stopping:
            lease = await self._acquire(service)
            if lease is None:
                stopping = await service.pause(self._backoff.next_s())
                continue
            self._backoff.reset()
            _log.info("lease_granted", lease=lease)
            self._tell(LeaseGranted(lease))
            reason = await self._hold(service, lease)
            self.valid_until = 0.0
            self._stale = lease
            if reason is None:
                break
            _log.warning("lease_lost", lease=lease, reason=reason.value)
            self._tell(LeaseLost(lease, reason))
        with contextlib.suppress(EtcdError):  # else it ends by itself
            await self._revoke_stale(service)

    async def _acquire(self, service: LeaseService) -> int | None:
        if self._stalled():
            return None
        sent_at = self._now()
        try:
            await self._revoke_stale(service)
            grant = await service.grant(self._settings.lease_ttl_ms // 1_000)
        except EtcdError as error:
            _tell_of("lease_not_granted", error)
            return None
        self.valid_until = sent_at + grant.ttl_s
        return grant.lease

    async def _hold(self, service: LeaseService, lease: int) -> LeaseEnd | None:
        """Renew until the lease is lost; None = stopping."""
        pause_s = self._settings.renew_ms / 1_000
        withheld = False  # the last renewal that was due: a loop that turns again too late is why
        while not await service.pause(pause_s):
            stalled = self._stalled()
            renewed = None if stalled else await self._renew(service, lease)
            if renewed is False:
                return LeaseEnd.STALLED if withheld else LeaseEnd.GONE
            if self._now() >= self.valid_until:
                return LeaseEnd.STALLED if stalled else LeaseEnd.EXPIRED
            withheld = stalled
            pause_s = self._settings.renew_ms / 1_000 if renewed else self._backoff.next_s()
        return None

    async def _renew(self, service: LeaseService, lease: int) -> bool | None:
        """True = renewed, False = the lease is gone, None = no answer."""
        sent_at = self._now()
        try:
            ttl_s = await service.renew(lease)
        except EtcdError as error:
            _tell_of("lease_not_renewed", error)
            return None
        if ttl_s <= 0:
            return False
        self.valid_until = sent_at + ttl_s
        self._backoff.reset()
        return True

    def _stalled(self) -> bool:
        return self._now() - self._ticked_at > self._settings.max_stall_ms / 1_000

    async def _revoke_stale(self, service: LeaseService) -> None:
        """Free the keys of the last lease: they would block their shards until it ends."""
        if self._stale is not None:
            await service.revoke(self._stale)
            self._stale = None


def _tell_of(event: str, error: EtcdError) -> None:
    """An outage passes; what etcd refuses needs a person."""
    if type(error) is EtcdUnavailable:
        _log.info(event, error=str(error))
    else:
        _log.warning(event, error=str(error))
