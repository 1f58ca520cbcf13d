"""Decides why work of a run that could go on does not: each notice is a sentence for a person.

Promises a short list, whatever the size of the run. Does not know how the run is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from controlplane.codec.durations import MICROS_PER_S
from controlplane.codec.runs import RunView
from controlplane.core.shard.restored import EVERYTHING
from controlplane.core.states import RunState, TaskState
from controlplane.core.time.leases import LeaseTimes
from controlplane.core.types import Resources, uuid_text
from controlplane.services import delays
from controlplane.services.pictures import Picture
from controlplane.services.ports import Absences, Membership, Rooms
from controlplane.store.api import ApiStore
from controlplane.store.ports import ShardStore
from controlplane.store.records import AgentItem, AttemptItem, ShardState

MOST_AGENTS = 1_000
MOST_NOTICES = 20


class Notices:
    """Looks at shards, agents and sessions as this node sees them."""

    def __init__(
        self,
        store: ApiStore,
        shards: ShardStore,
        rooms: Rooms,
        absences: Absences,
        membership: Membership,
        leases: LeaseTimes,
    ) -> None:
        self._store = store
        self._shards = shards
        self._rooms = rooms
        self._absences = absences
        self._membership = membership
        self._leases = leases

    async def of_pending(self, run: RunView) -> list[str]:
        """Why a command is not applied."""
        return self._of_shard(await self._shards.read_shard(run.shard))

    async def of_run(self, picture: Picture) -> list[str]:
        """Why a run does not go on; nothing for a final one."""
        if RunState(picture.run.state).final:
            return []
        shard = await self._shards.read_shard(picture.run.shard)
        found = [*self._of_shard(shard), *_of_approvals(picture)]
        ready = picture.ready()
        if picture.rows.live or ready:
            agents = {each.agent: each for each in await self._store.list_agents("", MOST_AGENTS)}
            found += self._of_sessions(picture, agents, shard)
            if picture.run.state == RunState.RUNNING and shard.hold != EVERYTHING:
                found += self._of_requests(picture, ready, agents)
        return found[:MOST_NOTICES]

    async def of_tasks(self, picture: Picture, numbers: list[int]) -> dict[int, str]:
        """Why each of these task instances of a run waits, where it does."""
        version, states = picture.version.compiled, picture.states
        waiting = {each for each in numbers if states[each] == TaskState.WAITING}
        found = delays.for_others(version, states, waiting) if waiting else {}
        ready = [each for each in numbers if states[each] == TaskState.READY]
        if ready and (held := _held(await self._shards.read_shard(picture.run.shard))):
            found.update(dict.fromkeys(ready, held))
        elif ready and picture.run.state == RunState.RUNNING:
            known = await self._store.list_agents("", MOST_AGENTS)
            present = self._present({each.agent: each for each in known})
            requests = {version.tasks[number].request for number in ready}
            said = {request: delays.for_room(request, present) for request in requests}
            found.update((each, said[version.tasks[each].request]) for each in ready)
        return found

    def _of_shard(self, state: ShardState) -> list[str]:
        shard = f"shard {state.shard}"
        if not state.node:
            return [f"{shard} has never had a leader: it waits for a node"]
        members = self._membership.members
        if members and state.node not in members:
            return [f"{shard} has no leader: node {state.node} is gone, another one takes over"]
        if held := _held(state):
            return [f"{shard}: tasks that are ready wait: {held}"]
        return []

    def _of_sessions(
        self, picture: Picture, agents: Mapping[str, AgentItem], shard: ShardState
    ) -> Iterator[str]:
        connected = {room.agent for room in self._rooms.rooms() if room.connected}
        away: dict[str, list[AttemptItem]] = defaultdict(list)
        forgotten: dict[str, list[AttemptItem]] = defaultdict(list)
        for attempt in picture.rows.live:
            known = agents.get(attempt.agent)
            if known is not None and known.incarnation != attempt.incarnation:
                forgotten[attempt.agent].append(attempt)
            elif attempt.agent not in connected:
                away[attempt.agent].append(attempt)
        for agent, attempts in sorted(away.items()):
            left_us = self._absences.left_us(agent)
            since = "" if left_us is None else f" since {_when(left_us)}"
            limit = self._limit(picture, attempts, left_us, shard)
            stay = f"{_attempts(picture, attempts)} until it returns, or {limit}"
            yield f"agent {agent} has no session with this node{since}: {stay}"
        for agent, attempts in sorted(forgotten.items()):
            began_us = agents[agent].connected_us
            limit = self._limit(picture, attempts, began_us, shard)
            what = f"agent {agent} began anew with an empty journal at {_when(began_us)}"
            yield f"{what}: {_attempts(picture, attempts)} {limit}"

    def _limit(
        self, picture: Picture, attempts: list[AttemptItem], heard_us: int | None, shard: ShardState
    ) -> str:
        """When the attempts of an agent are given up at the latest, if it was last heard then.

        A leader that took over later begins to count when the last word of the one before it may
        have been said.
        """
        tasks = picture.version.compiled.tasks
        longest_ms = max(self._leases.lost_after_ms(tasks[each.task]) for each in attempts)
        if heard_us is None:
            return f"at most {_span(longest_ms)} after it was last heard"
        led_us = shard.taken_over_us + self._leases.authority_ms * 1_000
        return f"until {_when(max(heard_us, led_us) + longest_ms * 1_000)} at the latest"

    def _of_requests(
        self, picture: Picture, ready: list[int], agents: dict[str, AgentItem]
    ) -> Iterator[str]:
        if not ready:
            return
        if not any(room.connected for room in self._rooms.rooms()):
            are = "1 task is" if len(ready) == 1 else f"{len(ready):,} tasks are"
            yield f"{are} ready, and {delays.NO_AGENT}"
            return
        tasks = picture.version.compiled.tasks
        wanting: dict[Resources, list[str]] = defaultdict(list)
        for number in ready:
            wanting[tasks[number].request].append(tasks[number].task)
        present = self._present(agents)
        for request, names in wanting.items():
            if why := delays.for_room(request, present):
                more = f" and {len(names) - 1:,} more:" if len(names) > 1 else ""
                yield f"task {names[0]}{more} {why}"

    def _present(self, agents: Mapping[str, AgentItem]) -> list[AgentItem]:
        """The agents that could be given work now; all of them while none is connected."""
        connected = {room.agent for room in self._rooms.rooms() if room.connected}
        return [each for name, each in agents.items() if name in connected or not connected]


def _held(state: ShardState) -> str:
    """Why no task of a shard is assigned now; empty where some are."""
    if state.hold != EVERYTHING:
        return ""
    until = f"until {_when(state.hold_until_us)}" if state.hold_until_us else "for a while"
    return f"the store went back in time, and what it has forgotten may run {until}"


def _attempts(picture: Picture, attempts: list[AttemptItem]) -> str:
    tasks = picture.version.compiled.tasks
    first = attempts[0]
    said = f"attempt {first.number} of task {tasks[first.task].task}"
    if len(attempts) == 1:
        return f"{said} stays live"
    return f"{said} and {len(attempts) - 1:,} more stay live"


def _of_approvals(picture: Picture) -> Iterator[str]:
    """What waits for a person, and the command that decides."""
    waits = picture.approvals()
    if not waits:
        return
    run = f"{picture.run.dag}/{uuid_text(picture.run.run_id)}"
    task = picture.version.compiled.tasks[waits[0].task].task
    why = f"task {task} waits for an approval: {waits[0].reason}"
    yield f"{why}; `mainspring approval approve {run}/{task} --reason TEXT` (or reject) decides"
    if len(waits) > 1:
        tasks = "1 more task waits" if len(waits) == 2 else f"{len(waits) - 1:,} more tasks wait"
        yield f"{tasks} for approvals: `mainspring approval list {run}`"


def _span(span_ms: int) -> str:
    """A span of time, to the second, never less than it is."""
    minutes, seconds = divmod(-(-span_ms // 1_000), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def _when(instant_us: int) -> str:
    return f"{datetime.fromtimestamp(instant_us // MICROS_PER_S, UTC):%Y-%m-%d %H:%M:%SZ}"
