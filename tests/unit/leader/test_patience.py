import asyncio

import pytest

from controlplane.leader.patience import GivenUp, Patience
from controlplane.leader.times import LeaderTimes
from tests.unit.leader.harness import virtual

TIMES = LeaderTimes(retry_min_ms=100, retry_max_ms=400)


async def paused_ms(patience):
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await patience.pause()
    return round((loop.time() - begun) * 1_000)


@virtual
async def test_pauses_stay_within_the_times_and_begin_anew():
    patience = Patience(TIMES, b"seed")
    pauses = [await paused_ms(patience) for _ in range(20)]
    assert all(100 <= pause <= 400 for pause in pauses)
    assert max(pauses) == 400
    patience.reset()
    assert await paused_ms(patience) <= 300


@virtual
async def test_giving_up_ends_the_pause_and_all_later_ones():
    patience = Patience(TIMES, b"seed")
    asyncio.get_running_loop().call_later(0.01, patience.give_up)
    for _ in range(2):
        with pytest.raises(GivenUp):
            await patience.pause()
    assert patience.over
