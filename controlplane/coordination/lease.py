"""A node's lease: the one thing that says to etcd that this node lives.

Decides in which thread the lease is kept: one of its own, which depends on no loop. Promises that
the main loop can see for itself until when the lease surely lives (`valid_until`, counted from the
moment a renewal was sent), so a thread that hangs deceives nobody. When to renew is for `keeper` to
say. Knows nothing of the keys that are bound to the lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine

import structlog

from controlplane.coordination.keepalive import LeaseCalls
from controlplane.coordination.keeper import LeaseKeeper
from controlplane.coordination.records import Grant, LeaseChange, LeaseGranted
from controlplane.coordination.settings import CoordinationSettings

_log = structlog.get_logger(__name__)


class NodeLease:
    """The main loop's side of the lease.

    `run` for the life of the node; its cancellation revokes the lease.
    """

    def __init__(self, settings: CoordinationSettings) -> None:
        self._settings = settings
        self._listeners: list[Callable[[LeaseChange], None]] = []
        self._current: int | None = None
        self._keeper: LeaseKeeper | None = None

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
            self._keeper.tick()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        thread = _Thread(
            self._settings,
            tell=lambda change: loop.call_soon_threadsafe(self._deliver, change),
            ended=lambda error: loop.call_soon_threadsafe(_settle, ended, error),
        )
        self._keeper = thread.keeper
        threading.Thread(target=thread.run, name="etcd-lease", daemon=True).start()
        try:
            while not ended.done():
                self.tick()
                await asyncio.wait({ended}, timeout=self._settings.tick_ms / 1_000)
        finally:
            thread.stop()
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


class _InThread:
    """The lease service for a keeper in a thread: calls block, so nothing ever waits for a loop."""

    def __init__(self, calls: LeaseCalls, stopping: threading.Event) -> None:
        self._calls = calls
        self._stopping = stopping

    async def grant(self, ttl_s: int) -> Grant:
        return self._calls.grant(ttl_s)

    async def renew(self, lease: int) -> int:
        return self._calls.renew(lease)

    async def revoke(self, lease: int) -> None:
        self._calls.revoke(lease)

    async def pause(self, seconds: float) -> bool:
        return self._stopping.wait(seconds)


class _Thread:
    """The thread's side: keeps the lease with blocking calls."""

    def __init__(
        self,
        settings: CoordinationSettings,
        *,
        tell: Callable[[LeaseChange], object],
        ended: Callable[[Exception | None], object],
    ) -> None:
        self._settings = settings
        self._ended = ended
        self._stopping = threading.Event()
        self.keeper = LeaseKeeper(settings, now=time.monotonic, tell=tell)

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        failure: Exception | None = None
        try:
            with LeaseCalls(self._settings) as calls:
                _run_at_once(self.keeper.run(_InThread(calls, self._stopping)))
        except Exception as error:  # noqa: BLE001  (top of the thread: `run` raises it again)
            _log.exception("lease_thread_failed")
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed over our head
            self._ended(failure)


def _run_at_once(coroutine: Coroutine[None, None, None]) -> None:
    """Run a coroutine that blocks instead of waiting."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a keeper in a thread waits for no loop")
