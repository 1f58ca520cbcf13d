"""Decides which error becomes which status, in one table, and what its details hold.

Details are google.rpc messages in the trailer `grpc-status-details-bin`. A trailer must fit what
the client accepts for headers, 8 KB where nothing else is agreed: a client that takes more says so
(`DETAILS_LIMIT_KEY`), else the list of refused fields is cut and says by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from controlplane.objectstore.logs import LogStoreError
from controlplane.services.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServiceError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Violation,
)
from controlplane.store.errors import (
    CommitUnknown,
    NotInitialised,
    RequestConflict,
    SchemaError,
    StoreUnavailable,
)

DOMAIN = "mainspring"
DETAILS_KEY = "grpc-status-details-bin"
DETAILS_LIMIT_KEY = "mainspring-details-limit"
DEFAULT_DETAILS_BYTES = 5_000
MOST_DETAILS_BYTES = 512 * 1_024
_MAX_MESSAGE = 1_000
_CODE = grpc.StatusCode

_TABLE: tuple[tuple[type[Exception], grpc.StatusCode, str], ...] = (
    (InvalidArgument, _CODE.INVALID_ARGUMENT, ""),
    (NotFound, _CODE.NOT_FOUND, ""),
    (AlreadyExists, _CODE.ALREADY_EXISTS, ""),
    (FailedPrecondition, _CODE.FAILED_PRECONDITION, ""),
    (Unavailable, _CODE.UNAVAILABLE, ""),
    (Unauthenticated, _CODE.UNAUTHENTICATED, ""),
    (PermissionDenied, _CODE.PERMISSION_DENIED, ""),
    (TooLarge, _CODE.RESOURCE_EXHAUSTED, ""),
    (RequestConflict, _CODE.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    (StoreUnavailable, _CODE.UNAVAILABLE, "STORE_UNAVAILABLE"),
    (CommitUnknown, _CODE.UNAVAILABLE, "OUTCOME_UNKNOWN"),
    (NotInitialised, _CODE.FAILED_PRECONDITION, "NOT_INITIALISED"),
    (SchemaError, _CODE.FAILED_PRECONDITION, "SCHEMA"),
    (LogStoreError, _CODE.UNAVAILABLE, "LOG_STORE_UNAVAILABLE"),
)
_SENTENCES = {
    "REQUEST_ID_REUSED": "the request id was used before with another body; choose another",
    "STORE_UNAVAILABLE": "the store does not answer; the same request may succeed later",
    "OUTCOME_UNKNOWN": "the store did not say whether the request took effect; "
    "repeat it with the same request id",
}


class Status(NamedTuple):
    """What ends a call that failed."""

    code: grpc.StatusCode
    message: str
    details: bytes


def status_of(error: Exception, limit: int = DEFAULT_DETAILS_BYTES) -> Status | None:
    """The status of an error that was raised on purpose, None for any other."""
    for kind, code, known_reason in _TABLE:
        if isinstance(error, kind):
            reason = error.reason if isinstance(error, ServiceError) else known_reason
            metadata = error.metadata if isinstance(error, ServiceError) else {}
            message = _SENTENCES.get(reason, str(error))[:_MAX_MESSAGE]
            info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
            return Status(code, message, _details(code, message, info, error, limit))
    return None


def internal(number: str) -> Status:
    """The status of a defect: all that a client learns is the number that the log has too."""
    message = f"a defect of the server; its log has more under {number}"
    info = error_details_pb2.ErrorInfo(reason="DEFECT", domain=DOMAIN, metadata={"id": number})
    return Status(_CODE.INTERNAL, message, _packed(_CODE.INTERNAL, message, [info]))


def details_limit(metadata: Sequence[tuple[str, str | bytes]]) -> int:
    """How many bytes of details the client of a call takes."""
    for key, value in metadata:
        if key == DETAILS_LIMIT_KEY and isinstance(value, str) and value[:9].isdecimal():
            return min(max(int(value[:9]), DEFAULT_DETAILS_BYTES), MOST_DETAILS_BYTES)
    return DEFAULT_DETAILS_BYTES


def _details(
    code: grpc.StatusCode,
    message: str,
    info: error_details_pb2.ErrorInfo,
    error: Exception,
    limit: int,
) -> bytes:
    if not isinstance(error, InvalidArgument):
        return _packed(code, message, [info])
    return _packed(code, message, [info, _bad_request(error.violations, limit)])


def _bad_request(violations: Sequence[Violation], limit: int) -> error_details_pb2.BadRequest:
    """The refused fields, as many as fit."""
    answer = error_details_pb2.BadRequest()
    size = 0
    for position, violation in enumerate(violations):
        size += len(violation.field.encode()) + len(violation.description.encode()) + 12
        if size > limit and position:
            left = f"and {len(violations) - position:,} more problems, which do not fit"
            answer.field_violations.add(field=violation.field.split("[")[0], description=left)
            break
        answer.field_violations.add(field=violation.field, description=violation.description)
    return answer


def _packed(code: grpc.StatusCode, message: str, details: Sequence[Message]) -> bytes:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    packed_status: bytes = status.SerializeToString()
    return packed_status
