"""The language of the golden stories: one line in, what the shard commits and sends out.

    # A remark.
    dag etl                 the tasks follow, indented: `name: parents  option=value …`
    agent ant cores=4       connects and says that it holds nothing
    trigger                 and: cancel, pause, resume, takeover, unplug ant, plug ant, wait 5s
    approve a REASON        and: deny a REASON, start a, reject a, beat ant
    finish a + cancel       several events in one step
    ----
    commit: …               the rows of the step, then the messages that leave after the commit
    send ant: …

An attempt is called `task #number`; a prime marks another id of the same number. Tasks of later
runs are called `run-2/task`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from controlplane.core.effects import (
    AssignMessage,
    CancelMessage,
    CommandOutcome,
    Effects,
    InstantOutcome,
    LeaseMessage,
    WaitKind,
)
from controlplane.core.events import Beat, Event, Finished, PauseDag, Rejected, Started
from controlplane.core.states import AttemptState, RunState
from controlplane.core.time.deadlines import Now
from controlplane.core.types import DagKey, OnDisconnect, Resources
from tests.unit.core.bench import ShardBench, cores, dag, finished, retries

NOTHING = "nothing"
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
ENDS = {
    "finish": AttemptState.SUCCEEDED,
    "fail": AttemptState.FAILED,
    "stopped": AttemptState.CANCELLED,
}


def in_ms(text: str) -> int:
    number = text.rstrip("hms")
    return int(float(number) * UNITS_MS[text[len(number) :]])


def cut_off(text: str) -> tuple[OnDisconnect, int]:
    """`continue-10m`: the policy, and how long an attempt may run on."""
    policy, _, overtime = text.partition("-")
    return OnDisconnect[policy.upper()], in_ms(overtime)


def clock(instant_us: int) -> str:
    return datetime.fromtimestamp(instant_us / 1e6, UTC).strftime("%H:%M:%S").removesuffix(":00")


class Script:
    """Plays lines on a bench and tells what came of them."""

    def __init__(self) -> None:
        self.bench = ShardBench()
        self.names: dict[bytes, str] = {}
        self.sizes: dict[str, Resources] = {}

    def play(self, line: str, body: list[str]) -> str:
        """One line with what is indented under it; several events joined by `+` are one step."""
        parts = [shlex.split(part) for part in line.split(" + ")]
        verb, *rest = parts[0]
        act: Callable[..., str | None] | None = getattr(self, f"_do_{verb}", None)
        if act is not None:
            told = act(*rest) if not body else act(*rest, body=body)
            return told if told is not None else self.tell(self.bench.effects)
        events = [event for part in parts for event in self._events(*part)]
        return self.tell(self.bench.step(*events))

    # What is done

    def _do_dag(self, name: str, *options: str, body: list[str]) -> None:
        chosen = dict(option.split("=", 1) for option in options)
        tasks = [line.partition(":") for line in body]
        settings = {
            task.strip(): dict(o.split("=") for o in rest.split() if "=" in o)
            for task, _, rest in tasks
        }
        version = dag(
            {t.strip(): " ".join(p for p in rest.split() if "=" not in p) for t, _, rest in tasks},
            name=name,
            retry=retries(int(chosen.get("attempts", 1)), in_ms(chosen.get("backoff", "1s"))),
            after_all=[t for t, own in settings.items() if own.get("after") == "all"],
            requests={t: cores(float(own.get("cores", 1))) for t, own in settings.items()},
            priorities={t: int(own.get("priority", 0)) for t, own in settings.items()},
            schedules={n: chosen[n] for n in ("hourly", "minutely") if n in chosen},
            run_timeout_ms=in_ms(chosen.get("timeout", "0s")),
            max_active_runs=int(chosen.get("runs", 0)),
            once=[t for t, own in settings.items() if "once" in own],
            disconnect={t: cut_off(own["cut"]) for t, own in settings.items() if "cut" in own},
        )
        self.bench.apply(version)

    def _do_agent(self, agent: str, size: str) -> None:
        self.sizes[agent] = cores(float(size.removeprefix("cores=")), 16)
        self.bench.agent(agent, self.sizes[agent])

    def _do_unplug(self, agent: str) -> None:
        self.bench.gone(agent)

    def _do_plug(self, agent: str, *ended: str) -> None:
        """The agent is back and tells what it holds, and what ended meanwhile."""
        self.bench.connect(agent, self.sizes[agent])
        self.bench.inventory(agent, finished=list(self._ends("finish", ended)))

    def _do_lose(self, task: str) -> str:
        """The assignment of a task never arrives."""
        agent, attempt_id = self._find(task)
        del self.bench.held[agent][attempt_id]
        return ""

    def _do_reborn(self, agent: str) -> None:
        """The agent comes back without memory, as another incarnation."""
        self.bench.held.pop(agent, None)
        capacity = self.sizes[agent]
        self.bench.fleet.connect(agent, b"reborn", capacity)
        self.bench.fleet.grant(agent, capacity)
        self.bench.inventory(agent)

    def _do_trigger(self, name: str = "etl") -> None:
        self.bench.trigger(name)

    def _do_wait(self, time: str) -> None:
        self.bench.wait(in_ms(time))

    def _do_takeover(self, after: str = "0s") -> None:
        """Nobody leads for a while; then another leader reads the store."""
        ms = in_ms(after)
        now = self.bench.now
        self.bench.now = Now(now.wall_us + ms * 1_000, now.mono_ms + ms)
        self.bench.recover()
        self.bench.step()

    def _do_show(self) -> str:
        return "\n".join(
            f"{self._run(row.run)} {RunState(row.state).name}: "
            + ", ".join(f"{t} {s}" for t, s in self.bench.tasks(row.run_id).items())
            for row in self.bench.store.runs.values()
        )

    def _events(self, verb: str, *rest: str) -> Iterator[Event]:
        now_us = self.bench.now.wall_us
        if verb in ENDS:
            yield from self._ends(verb, rest)
        elif verb == "start":
            agent, attempt_id = self._find(rest[0])
            self.bench.held[agent][attempt_id] = now_us
            yield Started(agent, attempt_id, now_us)
        elif verb == "reject":
            agent, attempt_id = self._find(rest[0])
            self.bench.held[agent].pop(attempt_id, None)
            yield Rejected(agent, attempt_id, " ".join(rest[1:]))
        elif verb == "beat":
            yield Beat(rest[0], self.bench.fleet.room(rest[0]).incarnation)
        elif verb in ("approve", "deny"):
            yield self.bench.deciding(
                rest[0], approved=verb == "approve", reason=" ".join(rest[1:])
            )
        elif verb == "cancel":
            yield self.bench.cancelling(self._run_id(rest[0]) if rest else b"")
        else:
            number = next(self.bench.serials)
            paused = {"pause": True, "resume": False}[verb]
            yield PauseDag(number, DagKey("acme", "etl"), paused, "maintenance")

    def _ends(self, verb: str, tasks: Iterable[str]) -> Iterator[Finished]:
        for task in tasks:
            agent, attempt_id = self._find(task)
            self.bench.held.get(agent, {}).pop(attempt_id, None)
            yield finished(agent, attempt_id, ENDS[verb], self.bench.now.wall_us)

    def _find(self, name: str) -> tuple[str, bytes]:
        """Agent and id of an attempt, or of the newest of a task, live or not."""
        names = self.names.items()
        attempt_id = [i for i, known in names if f"{known} ".startswith(f"{name} ")][-1]
        agent = next(
            m.agent
            for m in self.bench.messages
            if isinstance(m, AssignMessage) and m.attempt_id == attempt_id
        )
        return agent, attempt_id

    def _run_id(self, name: str) -> bytes:
        return next(r.run_id for r in self.bench.store.runs.values() if self._run(r.run) == name)

    # What is told

    def tell(self, effects: Effects) -> str:
        """The rows in the order of the store, then the messages."""
        writes = effects.writes
        lines = [f"commit: {text}" for text in self._rows(writes)]
        for message in effects.messages:
            if isinstance(message, LeaseMessage):
                lines.append(f"send {message.agent}: attempts may run on")
                continue
            verb = {AssignMessage: "assign", CancelMessage: "cancel"}.get(type(message), "ack")
            name = self.names.get(message.attempt_id, "an unknown attempt")
            lines.append(f"send {message.agent}: {verb} {name}")
        return "\n".join(lines) or NOTHING

    def _rows(self, writes: Any) -> Iterator[str]:
        for row in writes.applied:
            yield f"command {CommandOutcome(row.outcome).name} {row.detail}".rstrip()
        for row in writes.instants:
            outcome = InstantOutcome(row.outcome).name
            yield f"{row.schedule} {clock(row.instant_us)} {outcome} {row.reason}".rstrip()
        for row in writes.schedules:
            due = clock(row.next_us) if row.next_us is not None else "never again"
            yield f"{row.schedule} is next due {due}"
        for row in writes.runs:
            yield f"{self._run(row.run)} begins {RunState(row.state).name}"
        for row in writes.done:
            text = f"{self.names[row.attempt_id]} {AttemptState(row.state).name} {row.message}"
            yield text.rstrip()
        for row in writes.late:
            text = f"{self.names[row.attempt_id]} ended late: {AttemptState(row.state).name}"
            yield f"{text}, adopted" if row.adopted else text
        for row in writes.live:
            yield f"{self._name(row)} live on {row.agent}"
        for row in writes.started:
            yield f"{self._task(row)} runs since {clock(row.started_us)}"
        for row in writes.waits_gone:
            yield f"{self._task(row)} waits no more"
        for row in writes.waits:
            yield f"{self._task(row)} {self._wait(row)}"
        for row in writes.run_changes:
            yield f"{self._run(row.run)} is {RunState(row.state).name} {row.reason}".rstrip()

    def _wait(self, row: Any) -> str:
        if row.kind is WaitKind.BACKOFF:
            return f"waits until {clock(row.due_us)} for #{row.number}"
        marked = row.kind is WaitKind.MARK
        return (
            f"has failed by hand: {row.reason}" if marked else f"waits for approval: {row.reason}"
        )

    def _run(self, number: int) -> str:
        return f"run-{sorted(self.bench.store.runs).index(number) + 1}"

    def _task(self, row: Any) -> str:
        version = self.bench.store.version_of(self.bench.store.runs[row.run])
        task = version.tasks[row.task].task
        run = self._run(row.run)
        return task if run == "run-1" else f"{run}/{task}"

    def _name(self, row: Any) -> str:
        name = f"{self._task(row)} #{row.number}"
        while name in self.names.values():
            name += "'"
        return self.names.setdefault(row.attempt_id, name)
