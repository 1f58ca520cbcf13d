"""Decides in which words a task instance is said to wait: for others, for room, for its next try.

Promises that a request which no agent could ever take reads differently from one that waits for
its turn. Does not know where agents and tasks are read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from controlplane.codec.durations import MICROS_PER_S
from controlplane.core.states import TaskState
from controlplane.core.types import DagVersion, Resources
from controlplane.store.records import AgentItem

NO_AGENT = "no agent has a session with this node"
MOST_PARENTS = 3
_GIB = 1 << 30


def for_room(request: Resources, agents: Sequence[AgentItem]) -> str:
    """Why a task that is ready is not placed on one of these agents; empty when there are none."""
    if not agents:
        return ""
    rooms = [Resources(each.cpu_millis, each.memory_bytes) for each in agents]
    if any(request.fits(room) for room in rooms):
        total = sum(room.cpu_millis for room in rooms)
        live = sum(each.live_attempts for each in agents)
        are = "attempt is" if live == 1 else "attempts are"
        offer = f"{_agents(len(agents))} {_cores(total)}"
        return f"waits for a free slot: {offer}, {live:,} {are} live"
    return (
        f"asks for {amount(request)}; {_best(request, rooms)}; "
        "lower its resources or add a larger agent"
    )


def for_others(
    version: DagVersion, states: Sequence[int], asked: Collection[int]
) -> dict[int, str]:
    """For each of the asked tasks the parents that have not ended, three of them by name."""
    edges, tasks = version.edges, version.tasks
    names: dict[int, list[str]] = defaultdict(list)
    more: dict[int, int] = defaultdict(int)
    for parent, state in enumerate(states):
        if TaskState(state).final:
            continue
        for child in edges.children[edges.starts[parent] : edges.starts[parent + 1]]:
            if child not in asked:
                continue
            if len(names[child]) < MOST_PARENTS:
                names[child].append(tasks[parent].task)
            else:
                more[child] += 1
    return {
        child: f"waits for {', '.join(known)}"
        + (f" and {more[child]:,} more" if more[child] else "")
        for child, known in names.items()
    }


def for_next_attempt(reason: str, number: int, due_us: int) -> str:
    """What ended the last attempt, and when the next one comes."""
    due = datetime.fromtimestamp(due_us // MICROS_PER_S, UTC).strftime("%H:%M:%SZ")
    said = f"attempt {number + 1} is due at {due}"
    return f"{reason}; {said}" if reason else said


def amount(asked: Resources) -> str:
    """Cores and memory, without what is zero."""
    told = [_cores(asked.cpu_millis)] if asked.cpu_millis or not asked.memory_bytes else []
    if asked.memory_bytes:
        told.append(f"{asked.memory_bytes / _GIB:.3g} GiB")
    return " and ".join(told)


def _best(request: Resources, rooms: Sequence[Resources]) -> str:
    """The most that an agent has of what the request asks for."""
    cpu = max(room.cpu_millis for room in rooms) if request.cpu_millis else 0
    memory = max(room.memory_bytes for room in rooms) if request.memory_bytes else 0
    if request.fits(Resources(cpu, memory)):
        return "no agent offers both together"
    who = "the only agent offers" if len(rooms) == 1 else "the largest agent offers"
    return f"{who} {amount(Resources(cpu, memory))}"


def _agents(count: int) -> str:
    return "1 agent offers" if count == 1 else f"{count:,} agents offer"


def _cores(millis: int) -> str:
    return f"{millis / 1_000:g} {'core' if millis == 1_000 else 'cores'}"
