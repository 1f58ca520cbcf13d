"""A day in the life of a shard that has everything that rows can tell of."""

from __future__ import annotations

from controlplane.core.states import AttemptState
from tests.contract.verify.history import History
from tests.unit.core.bench import LOST_MS, cores, dag, retries

MINUTE_MS = 60_000
PARENTS = {"a": "", "b": "a", "c": "a", "d": "b c", "e": "d"}


def everything() -> History:
    """Retries, refusals, losses, late results, approvals, schedules, skips, cancels, a takeover."""
    day = History()
    day.agent("ant", cores(64, 64))
    retried(day)
    given_up(day)
    doubted(day)
    scheduled(day)
    stopped(day)
    unfinished(day)
    return day


def retried(day: History) -> None:
    """b fails once, c for good: d is blocked, e is not (ALL_DONE)."""
    day.start(dag(PARENTS, retry=retries(2), after_all=["e"]))
    day.reject("a")
    day.wait(10_000)
    day.finish("a")
    day.fail("b", "c")
    day.wait(10_000)
    day.finish("b")
    day.fail("c")
    day.finish("e")


def given_up(day: History) -> None:
    """Attempts are lost to silence; one success comes late and decides, one comes too late."""
    day.start(dag({"a": "", "b": "", "c": "a b"}, name="etl"))
    late_a, late_b = day.result("a"), day.result("b")
    day.fleet.disconnect("ant")
    day.gone()
    day.wait(LOST_MS + 1)
    day.step(late_a)
    day.agent("ant", cores(64, 64))
    day.wait(10_000)
    day.step(late_b)
    day.finish("b")
    day.finish("c")


def doubted(day: History) -> None:
    """Two outcomes are unknown: one is approved, one is refused; a leader changes in between."""
    day.start(dag({"a": "", "b": "", "c": "a b"}, once=["a", "b"], after_all=["c"]))
    day.started("a")
    day.started("b")
    day.step(day.result("a", AttemptState.LOST), day.result("b", AttemptState.LOST))
    day.recover()
    day.inventory("ant", live={})
    day.wait(10_000)
    day.decide("a", approved=True)
    day.decide("b", approved=False)
    day.finish("a")
    day.finish("c")


def scheduled(day: History) -> None:
    """An instant becomes a run, some are missed and skipped, some fall into a pause."""
    day.apply(dag({"a": ""}, name="tick", schedules={"often": f"interval {MINUTE_MS}"}))
    fire(day)
    fire(day)
    day.pause(name="tick")
    day.wait(3 * MINUTE_MS)
    day.pause(paused=False, name="tick")
    fire(day)
    day.recover()
    day.wait(4 * MINUTE_MS)
    day.inventory("ant", live={})
    fire(day)


def fire(day: History) -> None:
    """A minute later the run of an instant ends well."""
    day.wait(MINUTE_MS)
    while day.store.live:
        (run, _), row = next(iter(day.store.live.items()))
        del row
        day.finish("a", run_id=day.store.runs[run].run_id)


def stopped(day: History) -> None:
    """One run is cancelled while it works, one while it waits, one runs into its timeout."""
    day.start(dag({"a": "", "b": "a"}, max_active_runs=1))
    first = day.run_id
    day.started("a")
    day.trigger()
    second = day.run_id
    day.cancel(second)
    day.cancel(first)
    day.run_id = first
    day.stopped("a")
    day.start(dag({"a": "", "b": "a"}, run_timeout_ms=5_000))
    day.wait(6_000)
    day.stopped("a")


def unfinished(day: History) -> None:
    """What is live when somebody looks: an attempt, a backoff, an approval, a queued run."""
    day.start(dag({"a": "", "b": "", "c": "", "d": "a"}, retry=retries(3), once=["c"]))
    day.started("a")
    day.fail("b")
    day.started("c")
    day.step(day.result("c", AttemptState.LOST))
    day.start(dag({"a": ""}, name="one", max_active_runs=1))
    day.trigger("one")


def restored() -> History:
    """The store goes back to when the first attempt of a task was live; its agent runs the second
    one by now. A task that must not be done twice is asked for.
    """
    day = History()
    day.agent("ant", cores(64, 64))
    day.start(dag({"a": "", "b": "a", "c": ""}, retry=retries(3), once=["b"]))
    day.finish("c")
    backup = day.backup()
    day.fail("a")
    day.wait(10_000)
    day.started("a")
    day.put_back_backup(backup)
    day.inventory()
    day.wait(1_000)
    day.finish("a")
    day.wait(3_600_000)
    day.decide("b", approved=True)
    return day
