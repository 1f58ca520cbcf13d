"""The token that proves to etcd which user calls.

Decides when a token is to be asked for: before the first call, from time to time, and when etcd
refuses the one that a call carried. Promises that a call is repeated once at most, with another
token than the refused one. A pure value: the time is an argument, and asking is done by `pool` and
`keepalive`, each in its own kind of I/O.
"""

from __future__ import annotations

from controlplane.coordination.dial import METADATA
from controlplane.coordination.errors import AccessDenied, TokenRefused
from controlplane.settings.etcd import EtcdAccess

Metadata = tuple[tuple[str, str], ...]

# After this part of the usual time a token that could not be renewed is asked for again.
_RETRY_SHARE = 0.05


class Tokens:
    """The token of one client; times are in seconds."""

    def __init__(self, access: EtcdAccess, renew_s: float) -> None:
        self.access = access
        self._renew_s = renew_s
        self._token = ""
        self._due_at: float | None = None  # None = now

    @property
    def metadata(self) -> Metadata:
        """What a call carries now."""
        return (*METADATA, ("token", self._token)) if self._token else METADATA

    @property
    def usable(self) -> bool:
        """Whether there is a token that etcd has not refused."""
        return bool(self._token)

    def due(self, now: float) -> bool:
        """Whether a token should be asked for before the next call."""
        return bool(self.access.user) and (self._due_at is None or now >= self._due_at)

    def got(self, token: str, now: float) -> None:
        """The answer; "" = etcd asks nobody for a user."""
        self._token = token
        self._due_at = now + self._renew_s

    def missed(self, now: float) -> None:
        """No answer: the token that is there may still do."""
        self._due_at = now + _RETRY_SHARE * self._renew_s

    def refused(self, error: AccessDenied, sent: Metadata) -> bool:
        """A call that carried this was refused; returns whether to try with another token.

        A call without a token may have been taken for one of the user in our certificate.
        """
        if sent != METADATA and not isinstance(error, TokenRefused):
            return False
        if sent == self.metadata:
            self._token = ""
            self._due_at = None
        return bool(self.access.user)
