from __future__ import annotations

import grpc
import pytest

from controlplane.api.statuses import (
    DEFAULT_DETAILS_BYTES,
    MOST_DETAILS_BYTES,
    details_limit,
    internal,
    status_of,
)
from controlplane.services.errors import InvalidArgument, NotFound, Violation, refused
from controlplane.store.errors import CommitUnknown, RequestConflict, StoreUnavailable


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (refused("f", "why"), grpc.StatusCode.INVALID_ARGUMENT, b"BAD_REQUEST"),
        (NotFound("DAG", "no"), grpc.StatusCode.NOT_FOUND, b"DAG"),
        (RequestConflict("x"), grpc.StatusCode.ALREADY_EXISTS, b"REQUEST_ID_REUSED"),
        (StoreUnavailable("x"), grpc.StatusCode.UNAVAILABLE, b"STORE_UNAVAILABLE"),
        (CommitUnknown("x"), grpc.StatusCode.UNAVAILABLE, b"OUTCOME_UNKNOWN"),
    ],
)
def test_an_error_has_its_status(error: Exception, code: grpc.StatusCode, reason: bytes) -> None:
    status = status_of(error)
    assert status is not None
    assert status.code is code
    assert reason in status.details


def test_other_errors_have_none() -> None:
    assert status_of(RuntimeError("x")) is None
    assert internal("17").code is grpc.StatusCode.INTERNAL


def test_details_fit_the_limit_of_the_client() -> None:
    error = InvalidArgument([Violation(f"f[{n}]", "x" * 100) for n in range(1_000)])
    small, large = status_of(error), status_of(error, MOST_DETAILS_BYTES)
    assert small is not None
    assert large is not None
    assert len(small.details) < DEFAULT_DETAILS_BYTES + 1_000
    assert b"more problems" in small.details
    assert b"f[999]" in large.details


def test_one_violation_is_told_whatever_its_size() -> None:
    status = status_of(InvalidArgument([Violation("f", "x" * 10_000)]))
    assert status is not None
    assert b"more problems" not in status.details


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("100000", 100_000),
        ("1", DEFAULT_DETAILS_BYTES),
        ("999999999999", MOST_DETAILS_BYTES),
        ("x", DEFAULT_DETAILS_BYTES),
        (b"9999", DEFAULT_DETAILS_BYTES),
    ],
)
def test_a_client_says_how_much_it_takes(value: str | bytes, limit: int) -> None:
    assert details_limit((("other", "1"), ("mainspring-details-limit", value))) == limit
    assert details_limit(()) == DEFAULT_DETAILS_BYTES
