"""Turns a failed gRPC call into a typed exception.

Decides: which status code becomes which exception, by one table. Promises: the details that the
server attached (google.rpc.BadRequest, google.rpc.ErrorInfo) are carried over, and details that
cannot be read cost nothing but themselves. Does not know: whether the call is tried again.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from mainspring.client import errors

_DETAILS_KEY = "grpc-status-details-bin"
_BY_CODE: dict[grpc.StatusCode, type[errors.MainspringError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPreconditionError,
    grpc.StatusCode.ABORTED: errors.FailedPreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.FailedPreconditionError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
}


def to_error(failure: grpc.RpcError, address: str) -> errors.MainspringError:
    """The typed exception for a call to `address` that failed."""
    code, text = _code(failure), _text(failure)
    kind = _BY_CODE.get(code, errors.ServerError)
    violations, reason, metadata = _details(failure)
    return kind(
        _sentence(code, text, address), reason=reason, metadata=metadata, violations=violations
    )


def _code(failure: Any) -> grpc.StatusCode:
    code = failure.code() if hasattr(failure, "code") else None
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN


def _text(failure: Any) -> str:
    return (failure.details() if hasattr(failure, "details") else None) or ""


def _sentence(code: grpc.StatusCode, text: str, address: str) -> str:
    if code is grpc.StatusCode.UNAVAILABLE:
        return _unreached(text, address)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer from {address} in time"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"{address} does not know this call: another program, or a version that is older"
    if code in _BY_CODE and text:
        return text
    return f"{address} answered {code.name}: {text or 'no further details'}"


def _unreached(text: str, address: str) -> str:
    """Why there was no answer, in plain words where gRPC's own are known."""
    if "Connection refused" in text:
        return f"connection refused by {address}"
    if "DNS resolution failed" in text or "Domain name not found" in text:
        return f"host name {address.rpartition(':')[0]} not found"
    return f"no answer from {address}: {text or 'the connection failed'}"


def _details(failure: Any) -> tuple[list[errors.Violation], str, dict[str, str]]:
    violations: list[errors.Violation] = []
    reason, metadata = "", {}
    for detail in _attached(failure):
        bad_request = error_details_pb2.BadRequest()
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(bad_request):
            violations += [
                errors.Violation(each.field, each.description)
                for each in bad_request.field_violations
            ]
        elif detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
    return violations, reason, metadata


def _attached(failure: Any) -> list[Any]:
    trailing = failure.trailing_metadata() if hasattr(failure, "trailing_metadata") else None
    for key, value in trailing or ():
        if key == _DETAILS_KEY:
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []
