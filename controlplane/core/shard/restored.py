"""Decides what a shard may do after its store went back in time.

What was committed after the backup is forgotten, but agents may still run it. For one full period
after which the attempts of an unheard agent are given up, counted from the takeover, no task is
assigned; a task instance whose attempt may run on longer is held back by its own overtime. A leader
that comes later in that time begins it anew: of the clock of the one before it knows nothing.

What agents hold and the store has forgotten is a stray. It is neither cancelled nor started again:
it becomes the live attempt of its task instance where that is ready, or once it is. Until then its
agent gets no more leases if the attempt could come to run beside another: one lease is for all
attempts of a shard at an agent.

Nobody remembers what ended after the backup. A task that must not be done twice is therefore asked
for before it is assigned, in every run that may have been there before. Does not know how it was
found out that the store went back.
"""

from __future__ import annotations

from typing import NamedTuple

from controlplane.core.effects import HoldRow
from controlplane.core.events import RestoredRecord, Subject
from controlplane.core.run.run import Run
from controlplane.core.shard.approvals import Approvals
from controlplane.core.shard.book import Book, HeldDue, HoldDue
from controlplane.core.shard.queue import Entry
from controlplane.core.states import FINAL_TASK, STARTING_RUN, TaskState
from controlplane.core.time.leases import LeaseTimes
from controlplane.core.types import RunCause, TaskDef, uuid7_instant_us

UNSURE = "the store went back in time; whether this task has run since is not known"
FORGOTTEN = "the store went back in time, and its agent knows nothing of it any more"

NOTHING, LONG_ONES, EVERYTHING = range(3)
# From these a task instance can take an attempt over that runs already.
_OPEN = (TaskState.READY, TaskState.BACKOFF, TaskState.AWAITING_APPROVAL)
_USUAL = TaskDef("")


class Stray(NamedTuple):
    """An attempt that an agent holds and the store has forgotten; `subject` None: not told."""

    agent: str
    incarnation: bytes
    attempt_id: bytes
    started_us: int
    subject: Subject | None


class Aftermath:
    """What is left of restores in one shard."""

    def __init__(self, book: Book, approvals: Approvals, times: LeaseTimes) -> None:
        self._book = book
        self._approvals = approvals
        self._times = times
        self._hold = NOTHING
        # From when on attempts that nobody hears are counted; until when usual tasks are held back.
        self._since_ms = self._usual_ms = 0
        self._held: dict[int, list[Entry]] = {}
        self._strays: dict[bytes, Stray] = {}
        self._by_agent: dict[tuple[str, bytes], dict[bytes, Stray]] = {}
        self._by_subject: dict[tuple[bytes, str], Stray] = {}
        self._ended: set[bytes] = set()

    @property
    def holding(self) -> bool:
        """Whether agents may hold what the store has forgotten."""
        return self._hold != NOTHING

    def recover(self, record: RestoredRecord, ended: frozenset[bytes]) -> None:
        """A takeover. `ended`: attempts of live runs that are over and decided nothing."""
        book = self._book
        book.restored_us, self._hold, self._ended = record.us, record.hold, set(ended)
        if self.holding:
            self._since_ms = book.now.mono_ms + self._times.authority_ms + 1
            if record.hold == EVERYTHING:
                self._usual_ms = self._since_ms + self._times.lost_after_ms(_USUAL)
            book.wheel.insert(book.now.mono_ms, HoldDue())

    # What waits

    def keeps(self, entry: Entry) -> bool:
        """Whether a ready task must not be assigned now; it comes back when it may."""
        book, run, task = self._book, entry[3], entry[4]
        definition = run.version.tasks[task]
        doubtful = self._is_doubtful(run)
        if doubtful and not definition.idempotent and not book.is_cleared(run, task):
            self._approvals.ask_first(run, task, UNSURE)
            return True
        due_ms = self._usual_ms
        if doubtful and self.holding and definition.overtime_ms:
            due_ms = self._since_ms + self._times.lost_after_ms(definition)
        if due_ms <= book.now.mono_ms:
            return False
        if due_ms not in self._held:
            self._held[due_ms] = []
            book.wheel.insert(due_ms, HeldDue())
        self._held[due_ms].append(entry)
        return True

    def release(self) -> None:
        """A timer: tasks that were held back long enough may go."""
        for due_ms in [ms for ms in self._held if ms <= self._book.now.mono_ms]:
            for entry in self._held.pop(due_ms):
                self._book.queue.give_back(entry)

    def turn(self) -> None:
        """A timer: the store hears what is held back from now on, and until when."""
        book, now_ms = self._book, self._book.now.mono_ms
        last_ms = max(map(self._longest_ms, book.runs.values()), default=0)
        if now_ms < self._usual_ms:
            self._hold, until_ms = EVERYTHING, self._usual_ms
        elif now_ms < last_ms:
            self._hold, until_ms = LONG_ONES, last_ms
        else:
            self._forget_all()
            book.effects.writes.holds.append(HoldRow(NOTHING, 0))
            return
        until_us = book.now.wall_us + (until_ms - now_ms) * 1_000
        book.effects.writes.holds.append(HoldRow(self._hold, until_us))
        book.wheel.insert(until_ms, HoldDue())

    def _longest_ms(self, run: Run) -> int:
        """Until when some task of a run is held back for its overtime."""
        if not self._is_doubtful(run):
            return 0
        longest = max(run.version.tasks, key=lambda item: item.overtime_ms)
        waits_ms = self._times.lost_after_ms(longest)
        return self._since_ms + waits_ms if longest.overtime_ms else 0

    def _is_doubtful(self, run: Run) -> bool:
        """Whether a run may have been there before: its command, or its instant, was."""
        scheduled = run.cause is RunCause.SCHEDULE
        asked_us = run.logical_us if scheduled else uuid7_instant_us(run.run_id)
        return asked_us <= self._book.restored_us

    # What agents hold

    def place_of(self, subject: Subject | None) -> tuple[Run, int] | None:
        """The task instance that an attempt can become the live one of, if there is any now."""
        found = self._instance(subject)
        if found is None or subject is None or subject.attempt_id in self._ended:
            return None
        run, task = found
        if run.state not in STARTING_RUN or run.tasks[task] not in _OPEN:
            return None
        return found if subject.number >= run.next_number(task) else None

    def _instance(self, subject: Subject | None) -> tuple[Run, int] | None:
        run = self._book.runs.get(subject.run_id) if subject else None
        if subject is None or run is None:
            return None
        names = (item.task for item in run.version.tasks)
        task = next((number for number, name in enumerate(names) if name == subject.task), None)
        return None if task is None else (run, task)

    def keep(self, stray: Stray) -> None:
        """An agent holds an attempt that has no place now."""
        self._strays[stray.attempt_id] = stray
        self._by_agent.setdefault((stray.agent, stray.incarnation), {})[stray.attempt_id] = stray
        if stray.subject is not None:
            self._by_subject[stray.subject.run_id, stray.subject.task] = stray

    def over(self, attempt_id: bytes) -> None:
        """An attempt has ended, or is a live one now."""
        stray = self._strays.pop(attempt_id, None)
        if stray is None:
            return
        mine = self._by_agent[stray.agent, stray.incarnation]
        del mine[attempt_id]
        subject = stray.subject
        if subject is not None and self._by_subject.get((subject.run_id, subject.task)) is stray:
            del self._by_subject[subject.run_id, subject.task]

    def gave_up(self, attempt_id: bytes) -> None:
        """An attempt is over for the store, whatever its agent may say later."""
        if self.holding:
            self._ended.add(attempt_id)

    def told_anew(self, agent: str, incarnation: bytes) -> None:
        """An agent says all that it holds: what was known of it is out of date."""
        for attempt_id in list(self._by_agent.pop((agent, incarnation), ())):
            stray = self._strays.pop(attempt_id)
            if stray.subject is not None:
                self._by_subject.pop((stray.subject.run_id, stray.subject.task), None)

    def stray_of(self, run: Run, task: int) -> Stray | None:
        """The stray that is an attempt of a task instance."""
        return self._by_subject.get((run.run_id, run.version.tasks[task].task))

    def withholds(self, agent: str, incarnation: bytes) -> bool:
        """Whether a lease would let a stray live on beside another attempt of its instance."""
        strays = self._by_agent.get((agent, incarnation), {})
        return any(map(self._may_be_doubled, strays.values()))

    def _may_be_doubled(self, stray: Stray) -> bool:
        if stray.subject is None:
            return True
        found = self._instance(stray.subject)
        return found is not None and not FINAL_TASK[found[0].tasks[found[1]]]

    def _forget_all(self) -> None:
        self._hold = NOTHING
        self._ended.clear()
        self._strays.clear()
        self._by_agent.clear()
        self._by_subject.clear()
