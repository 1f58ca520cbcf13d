"""The clock of a silent agent: what is answered, what counts as an answer, and when it is over."""

from __future__ import annotations

from controlplane.core.effects import AssignMessage
from controlplane.core.events import AgentGone, Beat
from controlplane.core.run.run import LiveAttempt
from controlplane.core.shard.shard import Shard
from controlplane.core.time.leases import LeaseTimes
from controlplane.core.time.wheel import MAX_DEADLINE_MS
from controlplane.core.types import OnDisconnect
from tests.unit.core.bench import LEASES, LOST_MS, ShardBench, cores, dag, running

OVERTIME_MS = 600_000
# What it adds to the wait: itself, and the drift of two clocks meanwhile.
LONGER_MS = 610_000


def deadline(bench):
    """The exact moment of the next look: the wheel's answer is a lower bound."""
    watches = bench.shard._attempts._leases._watches
    return min(watch.due_ms for lives in watches.values() for watch in lives.values())


def watches(bench):
    """The agents and incarnations that are watched."""
    known = bench.shard._attempts._leases._watches
    return [(agent, life) for agent, lives in known.items() for life in lives]


# Answered


def test_a_beat_of_an_agent_with_attempts_is_answered():
    bench = running()
    assert bench.beat().messages
    assert bench.extended == ["ant"]


def test_a_beat_of_an_agent_without_attempts_is_not_answered():
    bench = running()
    bench.agent("bee")
    bench.beat("bee")
    assert bench.extended == []
    bench.finish("a")
    bench.beat()
    assert bench.extended == []


def test_each_shard_answers_for_itself():
    one = running()
    two = ShardBench(2, one.fleet)
    two.inventory(live={})
    two.beat()
    assert two.extended == []
    one.beat()
    assert one.extended == ["ant"]


def test_a_beat_before_the_inventory_of_its_session_is_not_answered():
    bench = running()
    bench.gone()
    bench.connect()
    bench.beat()
    assert bench.extended == []
    bench.inventory()
    assert bench.extended == ["ant"], "the inventory is a sign of life as well"
    bench.beat()
    assert bench.extended == ["ant"]


def test_an_agent_is_silent_once_its_session_has_ended():
    bench = running()
    bench.step(AgentGone("ant"), Beat("ant", b"life-1-of-ant"))
    assert bench.extended == []


def test_the_beat_of_another_incarnation_extends_nothing():
    bench = running()
    bench.beat(incarnation=b"life 2")
    assert bench.extended == []
    bench.gone()
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.inventory(live={})
    assert bench.extended == []
    bench.beat(incarnation=b"life-1-of-ant")
    assert bench.extended == []


def test_attempts_of_an_old_incarnation_are_given_up_while_the_new_one_beats():
    bench = running({"a": "", "b": "", "c": "a b"})
    bench.finish("b")
    bench.gone()
    bench.fleet.connect("ant", b"life 2", cores(1))
    bench.fleet.grant("ant", cores(1))
    bench.inventory(live={})
    bench.trigger()
    assert bench.assigned == ["a"]
    for _ in range(4):
        bench.live_on(LOST_MS // 4)
    assert bench.extended == ["ant"]
    assert len(bench.store.live) == 2
    bench.live_on(1)
    assert [row.incarnation for row in bench.store.live.values()] == [b"life 2"]


def test_after_a_takeover_nothing_is_extended_before_the_inventory():
    bench = running()
    bench.recover()
    bench.beat()
    assert bench.extended == []
    bench.inventory()
    bench.beat()
    assert bench.extended == ["ant"]


# Given up


def test_an_answer_counts_for_everything_that_the_agent_runs():
    bench = running({"a": "", "b": ""})
    for _ in range(8):
        bench.live_on(LOST_MS // 2)
    bench.wait(LOST_MS)
    assert len(bench.store.live) == 2
    bench.wait(1)
    assert not bench.effects.messages
    assert len(bench.store.history) == 2


def test_an_assignment_counts_for_itself():
    bench = running({"a": "", "b": "a"})
    bench.trigger()
    bench.wait(1_000)
    bench.finish("a")
    bench.gone()
    bench.wait(LOST_MS - 999)
    assert len(bench.store.live) == 1
    bench.wait(999)
    assert len(bench.store.live) == 1
    bench.wait(1)
    assert not bench.store.live


def test_what_is_sent_again_counts_from_then():
    bench = running({"a": "", "b": ""})
    _, unseen = bench.holder("a")
    bench.gone()
    bench.wait(10_000)
    bench.connect()
    bench.inventory(live={bench.holder("b")[1]: 0})
    assert [message.attempt_id for message in bench.of(AssignMessage)] == [unseen]
    bench.gone()
    bench.wait(LOST_MS)
    assert len(bench.store.live) == 2
    bench.wait(1)
    assert not bench.store.live


def test_an_inventory_that_is_not_adopted_sends_again_but_extends_nothing():
    """Of what the agent holds there is no news: only what is sent again lives longer."""
    bench = running({"a": "", "b": ""})
    _, held = bench.holder("b")
    _, unseen = bench.holder("a")
    bench.gone()
    bench.wait(10_000)
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.inventory(live={held: 0}, incarnation=b"life-1-of-ant")
    assert bench.extended == []
    bench.wait(LOST_MS - 10_000 + 1)
    assert [row.attempt_id for row in bench.store.live.values()] == [unseen]


def test_an_agent_that_beats_and_is_not_adopted_is_given_up():
    bench = running()
    bench.gone()
    bench.connect()
    for _ in range(4):
        bench.live_on(LOST_MS // 4 + 1)
    assert bench.tasks() == {"a": "READY"}


def test_overtime_is_waited_for():
    bench = running(
        {"short": "", "long": ""}, disconnect={"long": (OnDisconnect.CONTINUE, OVERTIME_MS)}
    )
    bench.gone()
    bench.wait(LOST_MS + 1)
    assert bench.tasks() == {"short": "READY", "long": "ASSIGNED"}
    bench.wait(LONGER_MS - 1)
    assert bench.tasks() == {"short": "READY", "long": "ASSIGNED"}
    bench.wait(1)
    assert bench.tasks() == {"short": "READY", "long": "READY"}


def test_a_shorter_wait_that_begins_later_moves_the_timer():
    bench = running(
        {"long": "", "short": "x", "x": ""},
        disconnect={
            "long": (OnDisconnect.CONTINUE, OVERTIME_MS),
            "x": (OnDisconnect.CONTINUE, OVERTIME_MS),
        },
    )
    assert deadline(bench) == bench.now.mono_ms + LOST_MS + LONGER_MS + 1
    bench.finish("x")
    assert deadline(bench) == bench.now.mono_ms + LOST_MS + 1
    bench.gone()
    bench.wait(LOST_MS + 1)
    assert bench.tasks() == {"long": "ASSIGNED", "short": "READY", "x": "SUCCEEDED"}


def test_the_next_look_is_at_the_end_of_what_was_sent_first():
    bench = running({"a": "", "b": "a", "c": ""})
    first_ms = bench.now.mono_ms
    bench.wait(5_000)
    bench.finish("a")
    assert deadline(bench) == first_ms + LOST_MS + 1
    bench.finish("c")
    bench.wait(LOST_MS - 5_000 + 1)
    assert deadline(bench) == first_ms + 5_000 + LOST_MS + 1
    assert len(bench.store.live) == 1
    assert bench.shard.next_deadline() <= deadline(bench)


def test_following_the_deadlines_of_the_shard_gives_up_in_time():
    bench = running()
    begun_ms = bench.now.mono_ms
    bench.gone()
    while (due_ms := bench.shard.next_deadline()) is not None:
        bench.wait(due_ms - bench.now.mono_ms)
    assert bench.now.mono_ms == begun_ms + LOST_MS + 1
    assert bench.tasks() == {"a": "READY"}


def test_after_a_takeover_the_authority_of_the_leader_before_is_waited_for():
    bench = running()
    bench.wait(LOST_MS)
    bench.recover()
    assert deadline(bench) == bench.now.mono_ms + LEASES.authority_ms + LOST_MS + 1
    bench.wait(LEASES.authority_ms + LOST_MS)
    assert bench.tasks() == {"a": "ASSIGNED"}
    bench.wait(1)
    assert bench.tasks() == {"a": "READY"}


def test_what_is_answered_soon_after_a_takeover_is_waited_for_as_long():
    """The leader before may have answered the agent after the new one did."""
    bench = running()
    bench.recover()
    recovered_ms = bench.now.mono_ms
    bench.wait(1_000)
    bench.inventory(live={})
    bench.gone()
    bench.wait(LEASES.authority_ms + LOST_MS - 1_000)
    assert bench.now.mono_ms == recovered_ms + LEASES.authority_ms + LOST_MS
    assert bench.tasks() == {"a": "ASSIGNED"}
    bench.wait(1)
    assert bench.tasks() == {"a": "READY"}


def test_the_times_are_settings():
    bench = ShardBench()
    times = LeaseTimes(lease_ms=6_000, grace_ms=2_000, drift_ms=10, authority_ms=1_000)
    bench.shard = Shard(0, bench.fleet, bench.now, times)
    bench.agent()
    bench.start(dag({"a": ""}))
    assert deadline(bench) == bench.now.mono_ms + 8_011


def test_nothing_is_watched_where_nothing_runs():
    bench = running()
    bench.finish("a")
    assert watches(bench) == [("ant", b"life-1-of-ant")], "kept for the next attempt"
    bench.wait(LOST_MS + 1)
    assert watches(bench) == []
    assert bench.shard.next_deadline() is None


def test_an_incarnation_is_forgotten_while_another_runs_something():
    bench = running()
    bench.gone()
    bench.fleet.connect("ant", b"life 2", cores(4))
    bench.fleet.grant("ant", cores(4))
    bench.inventory(live={})
    bench.wait(1)
    bench.trigger()
    bench.wait(LOST_MS)
    assert watches(bench) == [("ant", b"life 2")]


class Counted(dict[bytes, LiveAttempt]):
    """Attempts that count how often one is looked at."""

    looks = 0

    def values(self):
        for attempt in super().values():
            type(self).looks += 1
            yield attempt


def test_a_beat_costs_the_same_however_many_attempts_the_agent_has():
    bench = ShardBench()
    names = [f"t{number}" for number in range(2_000)]
    bench.agent(size=cores(2_000))
    bench.start(dag(dict.fromkeys(names, "")))
    bench.check = lambda: None
    while bench.shard.want or bench.shard.next_deadline() <= bench.now.mono_ms:
        bench.step()
    assert bench.shard.live_attempts == len(names)
    ((watch,),) = [
        list(lives.values()) for lives in bench.shard._attempts._leases._watches.values()
    ]
    (lane,) = watch.lanes.values()
    lane.attempts = counted = Counted(lane.attempts)
    for attempt in bench.shard._book.attempts.values():
        attempt.lane = counted
    for _ in range(40):
        bench.live_on(LOST_MS // 4)
    looks_of_the_timer = 10
    assert 0 < Counted.looks <= looks_of_the_timer
    assert watch.due_ms < MAX_DEADLINE_MS
    bench.wait(LOST_MS + 1)
    assert bench.shard.live_attempts == 0


def test_an_agent_nobody_knows_is_not_answered():
    assert ShardBench().step(Beat("who", b"1")).messages == []
