"""An agent whose parts die at random: what a supervisor claimed is never asked for again, what was
accepted ends, and a result that was told stays what it is.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core import actions, entries, events
from agent.core.records import AckedRecord, JournalState
from agent.core.types import Amount, Outcome
from tests.unit.agent.core.driver import LEASE_MS, attempt_id, spec
from tests.unit.agent.core.host import SHARD, Host

ATTEMPTS = 40
SMALL = Amount(1, 1)


class World:
    """A host, and a leader that sends and cancels what it likes. `host` itself refuses a second
    spawn of what was claimed.
    """

    def __init__(self) -> None:
        self.host = Host(self.watch)
        self.told: dict[bytes, entries.Result] = {}
        self.handed_back: set[bytes] = set()
        self.exits: dict[bytes, int] = {}

    # What must hold

    def watch(self, action: actions.Action) -> None:
        """Sees each action as it is performed."""
        match action:
            case actions.Send():
                for entry in action.entries:
                    self.hear(entry)
            case actions.Record(AckedRecord(attempt_id), synced=True):
                self.handed_back.add(attempt_id)

    def hear(self, entry: entries.Entry) -> None:
        match entry:
            case entries.Inventory():
                for result in entry.finished:
                    self.hear(result)
            case entries.Accepted():
                assert entry.attempt_id in self.journal().held, "told before it was recorded"
            case entries.Result():
                self.hear_result(entry)

    def hear_result(self, result: entries.Result) -> None:
        known = self.told.setdefault(result.attempt_id, result)
        assert known == result, "what was told has changed"
        held = self.journal().held[result.attempt_id]
        assert held.result == result, "told before it was recorded"
        if result.outcome is Outcome.SUCCEEDED:
            assert self.exits[result.attempt_id] == 0

    def journal(self) -> JournalState:
        state = JournalState(self.host.incarnation)
        state.read(self.host.disk)
        return state

    def check(self) -> None:
        host = self.host
        assert len(set(host.spawns)) == len(host.spawns), "spawned twice"
        for spawned in host.spawns:
            told = self.told.get(spawned)
            never_ran = told is not None and told.outcome is Outcome.LOST
            assert not (never_ran and told.started_at_us == 0), "it did run"
            assert spawned not in host.node.rejected, "it was handed back"

    # What can happen

    def act(self, kind: str, number: int) -> None:
        """What is no method here is one of the host."""
        if hasattr(self, kind):
            getattr(self, kind)(number)
        else:
            getattr(self.host, kind)()
        self.check()

    def assign(self, number: int) -> None:
        """A first sending or another one; what is over for the leader is not sent again."""
        host, new = self.host, attempt_id(number % ATTEMPTS + 1)
        over = new in host.node.results or new in host.node.rejected
        if host.core is not None and host.node.taking and not over:
            beat, task = max(0, host.node.beat - number % 2), spec(request=SMALL)
            epoch, incarnation = host.node.epoch, host.incarnation
            assign = entries.Assign(SHARD, epoch, 1, new, incarnation, beat, spec=task)
            host.frame(assigns=(assign,))

    def cancel(self, number: int) -> None:
        if self.host.node.taking:
            unwanted = attempt_id(number % ATTEMPTS + 1)
            cancel = entries.Cancel(SHARD, self.host.node.epoch, unwanted)
            self.host.frame(cancels=(cancel,))

    def ack(self, number: int) -> None:
        """Sooner or later all results are acknowledged, in any order."""
        results = list(self.host.node.results)
        if self.host.node.taking and results:
            self.host.frame(result_acks=(results[number % len(results)],))

    def end(self, number: int) -> None:
        running = self.host.running()
        if self.host.supervisor_lives and running:
            ended = running[number % len(running)]
            self.exits[ended] = number % 2
            self.host.end(ended, number % 2)

    def extend(self, _: int) -> None:
        if self.host.node.taking:
            node = self.host.node
            extension = entries.LeaseExtension(SHARD, node.epoch, node.beat)
            self.host.frame(lease_extensions=(extension,))

    def wait(self, number: int) -> None:
        self.host.wait(number * 50)

    def deliver(self, number: int) -> None:
        for _ in range(number % 4 + 1):
            self.host.deliver()

    def pace(self, _: int) -> None:
        self.host.slow = not self.host.slow

    def start(self, _: int) -> None:
        if self.host.core is None:
            self.host.start_agent()
            self.host.answer()

    def connect(self, _: int) -> None:
        """A session, under a new epoch now and then, if one can be had now."""
        host = self.host
        if host.core is None or host.core.next_deadline() is None or not host.connected:
            return
        if any(link.state.value == "IDLE" for link in host.core.sessions._links.values()):
            host.connect()

    def failover(self, _: int) -> None:
        """Another node leads from the next session on."""
        self.host.node.epoch += 1
        self.host.cut()
        self.host.node.taking = False

    def cut(self, _: int) -> None:
        self.host.cut()
        self.host.node.taking = False

    def kill_agent(self, _: int) -> None:
        self.host.kill_agent()
        self.host.node.taking = False

    def reboot(self, _: int) -> None:
        self.host.reboot()
        self.host.node.taking = False

    def stop(self, number: int) -> None:
        if self.host.core is not None:
            self.host.feed(events.StopRequested(handing_over=number % 2 == 0))
            self.host.node.taking = self.host.core is not None and self.host.node.taking

    def heal(self) -> None:
        """Nothing fails any more; no lease is extended."""
        host = self.host
        host.slow = False
        for _ in range(3):
            self.start(0)
            host.answer()
            host.settle()
            host.wait(LEASE_MS)
            host.settle()
        host.kill_agent()
        host.start_agent()
        host.answer()
        host.settle()


STEPS = [
    *["assign"] * 14,
    *["deliver"] * 10,
    *["connect", "start", "sync"] * 6,
    *["end", "answer", "ack", "extend"] * 4,
    *["cancel", "wait"] * 3,
    *["kill_agent", "kill_supervisor", "cut", "failover", "pace", "reboot", "stop"],
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 60)),
        min_size=40,
        max_size=160,
    )
)
def test_nothing_is_spawned_twice_and_all_that_was_accepted_ends(steps):
    world = World()
    for kind in ("start", "deliver", "connect"):
        world.act(kind, 3)
    for kind, number in steps:
        world.act(kind, number)
    world.heal()
    world.check()
    held = world.journal().held
    assert all(attempt.result is not None for attempt in held.values())
    # What was handed back with nobody to tell is sent again by a leader that misses it.
    ended = held.keys() | world.told.keys() | world.handed_back
    assert world.host.node.accepted <= ended
