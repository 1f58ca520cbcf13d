"""What a caller can be told instead of an answer: one type for each thing a caller can do about it.

`reason` is a short constant for programs, the message a sentence for people. Does not know status
codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Violation(NamedTuple):
    """A field of the request that is refused: its path and the reason."""

    field: str
    description: str


class ServiceError(Exception):
    """Everything that a use case raises on purpose."""

    def __init__(
        self, reason: str, message: str, *, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})


class InvalidArgument(ServiceError):  # noqa: N818  (named as the status it becomes)
    """The request is wrong whatever the state of the system; every refused field is listed."""

    def __init__(self, violations: Sequence[Violation], reason: str = "BAD_REQUEST") -> None:
        super().__init__(reason, _sentence(violations))
        self.violations = tuple(violations)


class NotFound(ServiceError):  # noqa: N818
    """What the request names does not exist for this tenant."""


class AlreadyExists(ServiceError):  # noqa: N818
    """The request id was used with another body."""


class FailedPrecondition(ServiceError):  # noqa: N818
    """The state of what is named forbids the request."""


class Unavailable(ServiceError):  # noqa: N818
    """It cannot be done now; the same request may succeed later."""


class Unauthenticated(ServiceError):  # noqa: N818
    """The credential is missing or wrong."""


class PermissionDenied(ServiceError):  # noqa: N818
    """The credential is right and does not allow this."""


class TooLarge(ServiceError):  # noqa: N818
    """The message is beyond its limit."""


def refused(field: str, description: str) -> InvalidArgument:
    """The refusal of one field."""
    return InvalidArgument([Violation(field, description)])


def _sentence(violations: Sequence[Violation]) -> str:
    if len(violations) == 1:
        return f"{violations[0].field}: {violations[0].description}"
    return f"{len(violations):,} fields of the request are refused"
