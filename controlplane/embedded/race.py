"""Runs coroutines side by side until the first one ends.

Promises that all of them have ended when it returns, so that nothing goes on unseen. Decides
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def first_end(runners: Iterable[Coroutine[Any, Any, T]]) -> T:
    """The result of the first to end, or its exception; the others are cancelled."""
    first: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_report(each, first)) for each in runners]
        await asyncio.wait({first})
        for task in tasks:
            task.cancel()
    return first.result()


async def _report(runner: Coroutine[Any, Any, T], first: asyncio.Future[T]) -> None:
    try:
        result = await runner
    except Exception as error:  # noqa: BLE001 - handed to the one who waits
        if not first.done():
            first.set_exception(error)
    else:
        if not first.done():
            first.set_result(result)
