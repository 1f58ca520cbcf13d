"""The SDK: `Client` calls a Mainspring cluster, with typed answers and typed errors.

Decides: what is public. `Client.open()` finds the server as the command line does (see
`settings`); answers are the messages of the contract in `mainspring.v1`. Promises: gRPC is imported
only when `Client` is used, so that a program may catch errors without paying for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainspring.client.errors import (
    AlreadyExistsError,
    ConfigurationError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MainspringError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
    Violation,
)

if TYPE_CHECKING:
    from mainspring.client.client import Client

__all__ = [
    "AlreadyExistsError",
    "Client",
    "ConfigurationError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "InvalidArgumentError",
    "MainspringError",
    "NotFoundError",
    "PermissionDeniedError",
    "ServerError",
    "UnauthenticatedError",
    "UnavailableError",
    "Violation",
]


def __getattr__(name: str) -> type[Client]:
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mainspring.client.client import Client

    return Client
