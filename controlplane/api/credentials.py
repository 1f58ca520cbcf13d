"""Decides who calls, and what that caller may call: nothing that is not in a table here.

A token is looked up by its SHA-256 hash, so that no comparison depends on how much of a guess was
right; what was found, or not found, is remembered for a few
seconds, so a withdrawn token works for at most that long. The tenant of a call is that of its
credential. Does not know gRPC.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from controlplane.services.errors import PermissionDenied, Unauthenticated
from controlplane.store.records import TokenItem
from controlplane.telemetry.clock import Clock

KNOWN_FOR_MS = 10_000
UNKNOWN_FOR_MS = 1_000
MOST_REMEMBERED = 10_000
MAX_TOKEN = 512

_SCHEME = "bearer "
_OPEN = frozenset({"grpc.health.v1.Health"})
# The admin's token of the first boot may do everything.
_ROLES: dict[str, frozenset[str]] = {
    "mainspring.v1.DagService": frozenset({"admin"}),
    "mainspring.v1.RunService": frozenset({"admin"}),
    "mainspring.v1.ApprovalService": frozenset({"admin"}),
    "mainspring.v1.AdminService": frozenset({"admin"}),
    "mainspring.internal.v1.NodeService": frozenset({"admin", "node"}),
    "mainspring.agent.v1.AgentSessionService": frozenset({"admin", "node", "agent"}),
    "grpc.reflection.v1alpha.ServerReflection": frozenset({"admin", "node", "agent"}),
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls."""

    tenant: str
    name: str
    role: str


class Tokens(Protocol):
    """The tokens that are known, by the SHA-256 of their text."""

    async def read_token(self, hashed: bytes) -> TokenItem | None: ...


_caller: ContextVar[Identity] = ContextVar("caller")


def caller() -> Identity:
    """Who made the call that is being served."""
    return _caller.get()


def enter(identity: Identity) -> None:
    """Notes who made the call that is served from here on in this task."""
    _caller.set(identity)


class Gatekeeper:
    """Knows tokens."""

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._remembered: OrderedDict[bytes, tuple[Identity | None, int]] = OrderedDict()

    async def admit(
        self, method: str, metadata: Sequence[tuple[str, str | bytes]]
    ) -> Identity | None:
        """Who calls `method` (`/package.Service/Method`); None: it is open to everybody.

        Raises Unauthenticated or PermissionDenied.
        """
        service = method.strip("/").rpartition("/")[0]
        if service in _OPEN:
            return None
        identity = await self._identify(_token_of(metadata))
        if identity.role not in _ROLES.get(service, frozenset({"admin"})):
            message = f"a token of role {identity.role!r} may not call {service or method}"
            raise PermissionDenied("ROLE", message)
        return identity

    async def _identify(self, token: str) -> Identity:
        digest = sha256(token.encode()).digest()
        now_ms = self._clock.now().mono_ms
        found = self._remembered.get(digest)
        if found is None or found[1] <= now_ms:
            identity = await self._look_up(digest)
            keep_ms = UNKNOWN_FOR_MS if identity is None else KNOWN_FOR_MS
            found = self._remember(digest, identity, now_ms + keep_ms)
        if found[0] is None:
            raise Unauthenticated("WRONG_TOKEN", "the token is not known here")
        return found[0]

    async def _look_up(self, digest: bytes) -> Identity | None:
        row = await self._tokens.read_token(digest)
        return None if row is None else Identity(row.tenant, row.name, row.role)

    def _remember(
        self, digest: bytes, identity: Identity | None, until_ms: int
    ) -> tuple[Identity | None, int]:
        self._remembered.pop(digest, None)
        found = self._remembered[digest] = (identity, until_ms)
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return found


def _token_of(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    given = [value for key, value in metadata if key == "authorization"]
    if not given:
        raise Unauthenticated("NO_TOKEN", "a token is needed: authorization: Bearer TOKEN")
    value = given[0]
    if len(given) > 1 or not isinstance(value, str) or len(value) > MAX_TOKEN:
        raise Unauthenticated("BAD_TOKEN", "one token is needed: authorization: Bearer TOKEN")
    if not value.lower().startswith(_SCHEME):
        raise Unauthenticated("BAD_TOKEN", "the token is given as: authorization: Bearer TOKEN")
    return value[len(_SCHEME) :].strip()
