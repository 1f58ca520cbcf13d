"""Drives an agent's core by hand: events with a clock of the test, what was said picked apart."""

from __future__ import annotations

from agent.core import entries, events
from agent.core.actions import Action, OpenSession, Record, Send, Spawn
from agent.core.agent import SESSIONS_A_START, AgentConfig, AgentCore
from agent.core.records import JournalState, StartOfAgent
from agent.core.types import NOTHING, Amount, Containment, EndCause, ExecSpec, Now, Outcome

INCARNATION = b"i" * 16
HOLDER = b"h" * 16
BOOT = "boot-1"
CORE = Amount(1000, 1 << 20)
WALL_US = 1_700_000_000_000_000
LEASE_MS = 6_000
FIRST = SESSIONS_A_START


def cores(number: int) -> Amount:
    return Amount(1000 * number, number << 20)


def attempt_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def spec(**fields) -> ExecSpec:
    return ExecSpec(**{"argv": ("true",), "request": CORE, "grace_ms": 500, **fields})


def leadership(shard: int, epoch: int = 1, holder: bytes = HOLDER, batch: int = 0):
    return entries.Leadership(shard, epoch, holder, batch)


def assignment(number: int, shard: int = 0, epoch: int = 1, **fields) -> entries.Assign:
    values = {"batch": 1, "incarnation": INCARNATION, "spec": spec(), **fields}
    return entries.Assign(shard, epoch, attempt_id=attempt_id(number), **values)


def journal(*records, number: int = 1, boot_id: str = BOOT) -> JournalState:
    """What was recorded in the first boot, read by a later start."""
    state = JournalState(INCARNATION)
    state.read([StartOfAgent(number - 1, BOOT, 0), *records, StartOfAgent(number, boot_id, 0)])
    return state


def claimed(number: int) -> events.Claimed:
    return events.Claimed(attempt_id(number), WALL_US + number)


def spawned(number: int) -> events.ProcessSpawned:
    return events.ProcessSpawned(attempt_id(number), WALL_US + number, 100 + number, 7)


def failed(number: int, message: str = "no", cause: EndCause = EndCause.NONE) -> events.SpawnFailed:
    return events.SpawnFailed(attempt_id(number), message, WALL_US + 50, cause)


def ended(number: int, code: int = 0, ended_by: int = 0, **fields) -> events.ProcessExited:
    return events.ProcessExited(attempt_id(number), code, ended_by, WALL_US + 99, **fields)


class Driver:
    """An agent of four cores; `now_ms` is its clock. Unless told otherwise its supervisor has
    answered, and runs nothing.
    """

    def __init__(
        self,
        seeds: tuple[str, ...] = ("h:1",),
        state: JournalState | None = None,
        *,
        supervised: bool = True,
    ) -> None:
        self.now_ms = 1_000
        self.records: list[object] = []
        held = journal() if state is None else state
        config = AgentConfig("a-1", cores(4), seeds, held, "0.1")
        self.core = AgentCore(config, self._now())
        self.last: list[Action] = []
        if supervised:
            self.supervisor()

    def _now(self) -> Now:
        return Now(WALL_US + self.now_ms * 1_000, self.now_ms)

    def handle(self, event: events.Event) -> list[Action]:
        """`last` is what there is to do but for records, which `records` has."""
        done = self.core.handle(event, self._now())
        self.records = [(a.record, a.synced) for a in done if isinstance(a, Record)]
        self.last = [a for a in done if not isinstance(a, Record)]
        self.all = done
        return self.last

    def supervisor(self, *known: events.Supervised) -> list[Action]:
        return self.handle(events.SupervisorReady(Containment.NAMESPACE, known))

    def tick(self, after_ms: int = 0) -> list[Action]:
        self.now_ms += after_ms
        return self.handle(events.Tick(NOTHING))

    def opened(self) -> list[tuple[str, int]]:
        return [(a.address, a.session) for a in self.last if isinstance(a, OpenSession)]

    def said(self, address: str, kind: type | None = None) -> list:
        sent = [
            e for a in self.last if isinstance(a, Send) and a.address == address for e in a.entries
        ]
        return [e for e in sent if kind is None or isinstance(e, kind)]

    def did(self, kind: type) -> list:
        return [a for a in self.last if isinstance(a, kind)]

    def frame(self, stream: tuple[str, int], **fields) -> list[Action]:
        return self.handle(events.Frame(*stream, entries.NodeFrame(**fields)))

    def welcome(
        self, stream, node="n1", *claims, peers=(), heartbeat_ms=1_000, lease_ms=LEASE_MS
    ) -> list[Action]:
        text = entries.Welcome(node, claims, tuple(peers), heartbeat_ms, stream[1], lease_ms)
        return self.frame(stream, welcome=text)

    def greet(self, stream: tuple[str, int], node: str = "n1", *claims, **fields) -> None:
        """Says hello in a session that was opened, and has it welcomed."""
        self.handle(events.NodeConnected(*stream))
        self.welcome(stream, node, *claims, **fields)

    def connect(self, node="n1", *claims, peers=(), after_ms: int = 0) -> tuple[str, int]:
        """Opens the session that is due, and has it welcomed."""
        self.tick(after_ms)
        stream = self.opened()[0]
        self.greet(stream, node, *claims, peers=peers)
        return stream

    def assign(self, stream: tuple[str, int], *assigns: entries.Assign) -> list[Action]:
        return self.frame(stream, assigns=assigns)

    def spawn(self, number: int) -> list[Action]:
        return self.handle(spawned(number))

    def exit(self, number: int, code: int = 0, ended_by: int = 0, **fields) -> list[Action]:
        return self.handle(ended(number, code, ended_by, **fields))

    def run(self, stream: tuple[str, int], assign: entries.Assign) -> None:
        """Assigns and spawns."""
        self.assign(stream, assign)
        assert [s.assign for s in self.did(Spawn)] == [assign]
        self.spawn(int.from_bytes(assign.attempt_id, "big"))

    def result(self, address: str = "h:1") -> tuple[Outcome, int, int, str]:
        (result,) = self.said(address, entries.Result)
        return result.outcome, result.exit_code, result.signal, result.message
