"""Makes commands durable, tells their leaders, and waits for outcomes within bounds.

A command that is stored is applied sooner or later; whoever needs its outcome waits here, at most a
few seconds. When no leader is reached, the store is asked again now and then, so that a failover in
between costs its own time only. Does not know what a command does.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256

import structlog
from google.protobuf.message import Message

from controlplane.core.effects import CommandOutcome
from controlplane.core.types import DagKey, bucket_of
from controlplane.services.errors import FailedPrecondition, NotFound, Unavailable
from controlplane.services.ports import Leaders
from controlplane.services.requests import MAX_REQUEST_ID, check_text
from controlplane.store.api import ApiStore
from controlplane.store.records import Appended, CommandState, RequestKey
from controlplane.telemetry.clock import Clock

OUTCOME_WAIT_MS = 5_000
_LOOK_AGAIN_MS = 100

_log = structlog.get_logger(__name__)


class Commands:
    """The inboxes, as services use them. `run` lives as long as the node."""

    def __init__(
        self,
        store: ApiStore,
        leaders: Leaders,
        clock: Clock,
        *,
        outcome_wait_ms: int = OUTCOME_WAIT_MS,
    ) -> None:
        self._store = store
        self._leaders = leaders
        self._clock = clock
        self._outcome_wait_ms = outcome_wait_ms
        self._news: set[int] = set()
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Pokes the leaders of commands that nobody waits for."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            shards, self._news = self._news, set()
            try:
                await self._leaders.poke(shards, (), 0)
            except Exception:  # noqa: BLE001  (a poke is an optimisation)
                # Leaders look into their inboxes by themselves as well, only later.
                _log.exception("poke_failed", shards=sorted(shards))

    async def append(
        self,
        key: DagKey,
        body: bytes,
        request: RequestKey | None,
        *,
        run_id: bytes | None = None,
        version: tuple[bytes, bytes] | None = None,
    ) -> Appended:
        """Makes a command for the leader of a DAG durable. Follow it by `outcome` or `tell`."""
        return await self._store.append_command(
            key.tenant, bucket_of(key), body, run_id=run_id, version=version, request=request
        )

    def tell(self, appended: Appended) -> None:
        """Has the leader told of a command whose outcome nobody waits for."""
        self._news.add(appended.shard)
        self._woken.set()

    async def outcome(self, appended: Appended) -> CommandState | None:
        """What became of a command; None: it is not applied yet, and the wait is over."""
        end_ms = self._clock.now().mono_ms + self._outcome_wait_ms
        while True:
            left_ms = max(end_ms - self._clock.now().mono_ms, 0)
            await self._leaders.poke((appended.shard,), (appended.command,), left_ms)
            state = await self._store.read_command(appended.command)
            if state is not None and state.outcome is not None:
                return state
            if state is None or self._clock.now().mono_ms >= end_ms:
                return None
            await asyncio.sleep(min(_LOOK_AGAIN_MS, left_ms) / 1_000)


def applied(state: CommandState | None, shard: int) -> CommandState:
    """The outcome of a command that must have been applied. Raises what else became of it."""
    if state is None:
        message = (
            f"the command is stored, and shard {shard} has no leader that answers: it is applied "
            "once there is one"
        )
        raise Unavailable("NOT_APPLIED_YET", message, metadata={"shard": str(shard)})
    match state.outcome:
        case CommandOutcome.APPLIED:
            return state
        case CommandOutcome.NOT_FOUND:
            raise NotFound("NOT_FOUND", state.detail)
        case CommandOutcome.CONFLICT:
            raise FailedPrecondition("ETAG", state.detail)
        case CommandOutcome.QUARANTINED:
            message = f"the command could not be carried out and was set aside: {state.detail}"
            raise FailedPrecondition("QUARANTINED", message)
        case _:
            raise FailedPrecondition("REFUSED", state.detail)


def request_key(method: str, request_id: str, request: Message) -> RequestKey | None:
    """What makes a request repeatable, None when its caller did not ask for that.

    `request`: the request without its id.
    """
    if not request_id:
        return None
    check_text("request_id", request_id, MAX_REQUEST_ID)
    body = sha256(method.encode() + b"\0" + request.SerializeToString(deterministic=True))
    return RequestKey(sha256(request_id.encode()).digest(), body.digest())
