import asyncio

from controlplane.leader.sessions.roster import Roster
from controlplane.leader.sessions.session import greeted
from controlplane.store.errors import StoreUnavailable
from tests.sim.virtual import pass_time
from tests.unit.leader.harness import virtual
from tests.unit.leader.test_session import hello


class Rows:
    def __init__(self, failures=0):
        self.failures = failures
        self.put = []

    async def put_agent(self, agent):
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("x")
        self.put.append(agent)


@virtual
async def test_sessions_are_written_although_the_store_was_away():
    rows = Rows(failures=2)
    roster = Roster(rows)
    task = asyncio.ensure_future(roster.run())
    for name in ("a", "b"):
        roster.connected(greeted(hello(agent=name), 0), 7)
    await pass_time(5)
    assert sorted((row.agent, row.connected_us) for row in rows.put) == [("a", 7), ("b", 7)]
    assert rows.put[0].cpu_millis == 4_000
    assert rows.put[0].containment == ""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtual
async def test_a_newer_session_is_not_overwritten_by_a_failed_write_of_an_older_one():
    rows = Rows(failures=1)
    roster = Roster(rows)
    task = asyncio.ensure_future(roster.run())
    roster.connected(greeted(hello(), 0), 1)
    await pass_time(0.5)
    roster.connected(greeted(hello(), 0), 2)
    await pass_time(5)
    assert [row.connected_us for row in rows.put] == [2]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
