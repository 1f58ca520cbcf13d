"""The one interceptor: every call passes here, whatever its kind, or does not pass at all.

For each call, in this order: credential and role; size of the messages; then the servicer; and
whatever it raises becomes a status. What was not raised on purpose is logged with a number, and the
client learns the number only.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from inspect import isasyncgenfunction
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.message import Message

from controlplane.api.credentials import Gatekeeper, Identity, enter
from controlplane.api.statuses import DETAILS_KEY, details_limit, internal, status_of
from controlplane.services.errors import TooLarge

MAX_MESSAGE_BYTES = 4 * 1_024 * 1_024
MAX_APPLY_BYTES = 64 * 1_024 * 1_024
_LARGE_METHODS = frozenset({"/mainspring.v1.DagService/ApplyDag"})

_log = structlog.get_logger(__name__)
Behaviour = Callable[[Any, Any], Any]


class Door(grpc.aio.ServerInterceptor):
    """Admits calls and ends failed ones."""

    def __init__(self, gatekeeper: Gatekeeper) -> None:
        self._gatekeeper = gatekeeper

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        metadata = tuple(handler_call_details.invocation_metadata or ())
        limit = details_limit(metadata)
        try:
            identity = await self._gatekeeper.admit(method, metadata)
        except Exception as error:  # noqa: BLE001  (every failure ends the call with a status)
            return _refusal(error, method, limit)
        handler = await continuation(handler_call_details)
        return None if handler is None else _guarded(handler, method, identity, limit)


def _refusal(error: Exception, method: str, limit: int) -> Any:
    """A handler that ends the call; the kind of the real one does not matter then."""

    async def refuse(_request: Any, context: Any) -> NoReturn:
        await _end(context, error, method, limit)

    return grpc.stream_unary_rpc_method_handler(refuse)


def _guarded(handler: Any, method: str, identity: Identity | None, limit: int) -> Any:
    """The handler of a method, behind the door."""
    most = MAX_APPLY_BYTES if method in _LARGE_METHODS else MAX_MESSAGE_BYTES
    make, behaviour = _parts(handler)
    answers = _stream_guard if isasyncgenfunction(behaviour) else _single_guard
    guarded = answers(behaviour, method, identity, limit, most)
    parse = handler.request_deserializer
    if handler.request_streaming:
        parse = _measured(parse, most)
    return make(
        guarded, request_deserializer=parse, response_serializer=handler.response_serializer
    )


def _parts(handler: Any) -> tuple[Callable[..., Any], Behaviour]:
    """How a handler of this kind is made, and what it does."""
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler, handler.stream_stream
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler, handler.stream_unary
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler, handler.unary_stream
    return grpc.unary_unary_rpc_method_handler, handler.unary_unary


def _measured(parse: Callable[[bytes], Any] | None, most: int) -> Callable[[bytes], Any]:
    """A parser of the messages of a stream that refuses large ones unread."""

    def measured(raw: bytes) -> Any:
        _check_size(len(raw), most)
        return raw if parse is None else parse(raw)

    return measured


def _check_size(size: int, most: int) -> None:
    if size > most:
        message = f"the message has {size:,} bytes; at most {most:,} are taken here"
        raise TooLarge("MESSAGE_TOO_LARGE", message)


def _single_guard(
    behaviour: Behaviour, method: str, identity: Identity | None, limit: int, most: int
) -> Behaviour:
    """Around a coroutine: it returns one answer, or writes several itself."""

    async def guarded(request: Any, context: Any) -> Any:
        try:
            _enter(request, identity, most)
            return await behaviour(request, context)
        except Exception as error:  # noqa: BLE001
            await _end(context, error, method, limit)

    return guarded


def _stream_guard(
    behaviour: Behaviour, method: str, identity: Identity | None, limit: int, most: int
) -> Behaviour:
    """Around an asynchronous generator of answers."""

    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            _enter(request, identity, most)
            async with aclosing(behaviour(request, context)) as answers:
                async for answer in answers:
                    yield answer
        except Exception as error:  # noqa: BLE001
            await _end(context, error, method, limit)

    return guarded


def _enter(request: Any, identity: Identity | None, most: int) -> None:
    if isinstance(request, Message):
        _check_size(request.ByteSize(), most)
    if identity is not None:
        enter(identity)


async def _end(context: Any, error: Exception, method: str, limit: int) -> NoReturn:
    """Ends a call with the status of what was raised."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    status = status_of(error, limit)
    if status is None:
        number = os.urandom(6).hex()
        _log.error("call_failed", method=method, id=number, exc_info=error)
        status = internal(number)
    await context.abort(status.code, status.message, ((DETAILS_KEY, status.details),))
    raise AssertionError("abort returned")
