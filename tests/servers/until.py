"""Wait for a fact that another process makes true, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    async with asyncio.timeout(deadline_s):
        while True:
            if await asyncio.to_thread(condition):
                return
            await asyncio.sleep(0.005)
