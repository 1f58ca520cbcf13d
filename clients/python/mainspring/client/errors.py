"""What can go wrong in a call, as one typed exception for each thing a caller can do about it.

Decides: the classes, and what each of them carries. Promises: every exception that the SDK raises
on purpose is a `MainspringError` whose text is a sentence for people. Does not know: gRPC (see
`status`), exit codes or terminals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that was refused: its path in the request (`spec.tasks[3].task`) and the reason."""

    field: str
    description: str


class MainspringError(Exception):
    """Anything the SDK raises on purpose.

    `message` is the sentence; `reason` is the short constant of google.rpc.ErrorInfo ("" if the
    server sent none) with its `metadata`; `violations` are the refused fields, if any.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)


class ConfigurationError(MainspringError):
    """The local set-up does not allow the call: token, data folder, certificate or address."""


class InvalidArgumentError(MainspringError):
    """The request is wrong whatever the state of the server; `violations` name the fields."""


class NotFoundError(MainspringError):
    """What the request names does not exist, or not for this tenant."""


class AlreadyExistsError(MainspringError):
    """It exists already, or a request id was used before with another body."""


class FailedPreconditionError(MainspringError):
    """The state of the named thing forbids the request: a stale etag, a final run, a limit."""


class UnauthenticatedError(MainspringError):
    """The token is missing, wrong or expired."""


class PermissionDeniedError(MainspringError):
    """The token is right, but does not allow this call."""


class UnavailableError(MainspringError):
    """No address answered, or what answered cannot serve now; the call may be repeated."""


class DeadlineExceededError(UnavailableError):
    """The answer took longer than the deadline of the call; whether it took effect is unknown."""


class ServerError(MainspringError):
    """The server failed, or does not speak this contract; the message says which."""
