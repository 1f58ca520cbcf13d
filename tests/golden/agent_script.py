"""The language of the agent's golden stories: one line in, what the agent does about it.

    start               the agent starts with its journal; nothing has answered yet
    supervisor          one answers, a new one if there is none
    connect             the leader of the shard welcomes the agent
    assign a b          and: cancel a, ack a, end a [status], extend, wait 3s, stop, hand-over
    kill agent          and: kill supervisor, reboot, lose-journal, cut (the stream)
    slow-disk           what is to be synced waits for `sync`
    later assign a      nothing is heard of the supervisor until the next line
    ----
    journal: …          a record; with `!` what follows waited for the disk
    spawn a · stop a · adopt a · forget a
    say: …              what the node is told

An attempt is called by a letter.
"""

from __future__ import annotations

from agent.core import actions, entries, events
from agent.core.records import (
    AcceptedRecord,
    AckedRecord,
    JournalState,
    StartedRecord,
)
from tests.golden.script import NOTHING, in_ms
from tests.unit.agent.core.driver import spec
from tests.unit.agent.core.host import SHARD, Host


def id_of(name: str) -> bytes:
    return name.encode().rjust(16, b"\0")


def name_of(attempt_id: bytes) -> str:
    return attempt_id.strip(b"\0").decode()


class AgentScript:
    """Plays lines on a host and tells what the agent did."""

    def __init__(self) -> None:
        self.host = Host(self._watch)
        self.told: list[str] = []

    def play(self, line: str) -> str:
        self.told = []
        verb, *rest = line.split()
        later = verb == "later"
        if later:
            verb, *rest = rest
        getattr(self, f"_do_{verb.replace('-', '_')}")(*rest)
        while not later and self.host.deliver():
            pass
        return "\n".join(self.told) or NOTHING

    # What is done

    def _do_start(self) -> None:
        state = JournalState(self.host.incarnation)
        state.read(self.host.disk)
        self.host.start_agent()
        self.told.append(f"holds: {' '.join(map(name_of, state.held)) or NOTHING}")

    def _do_supervisor(self) -> None:
        self.host.answer()

    def _do_connect(self) -> None:
        self.host.connect()

    def _do_assign(self, *names: str) -> None:
        node, incarnation = self.host.node, self.host.incarnation
        assigns = (
            entries.Assign(SHARD, node.epoch, 1, id_of(n), incarnation, node.beat, spec=spec())
            for n in names
        )
        self.host.frame(assigns=tuple(assigns))

    def _do_cancel(self, name: str) -> None:
        self.host.frame(cancels=(entries.Cancel(SHARD, self.host.node.epoch, id_of(name)),))

    def _do_ack(self, *names: str) -> None:
        self.host.frame(result_acks=tuple(map(id_of, names)))

    def _do_end(self, name: str, status: str = "0") -> None:
        self.host.end(id_of(name), int(status))

    def _do_extend(self) -> None:
        extension = entries.LeaseExtension(SHARD, self.host.node.epoch, self.host.node.beat)
        self.host.frame(lease_extensions=(extension,))

    def _do_wait(self, time: str) -> None:
        self.host.wait(in_ms(time))

    def _do_stop(self) -> None:
        self.host.feed(events.StopRequested())

    def _do_hand_over(self) -> None:
        self.host.feed(events.StopRequested(handing_over=True))

    def _do_kill(self, *victims: str) -> None:
        if "agent" in victims:
            self.host.kill_agent()
        if "supervisor" in victims:
            self.host.kill_supervisor()

    def _do_reboot(self) -> None:
        self.host.reboot()

    def _do_lose_journal(self) -> None:
        self.host.lose_journal()

    def _do_cut(self) -> None:
        self.host.cut()

    def _do_slow_disk(self) -> None:
        self.host.slow = True

    def _do_sync(self) -> None:
        self.host.sync()

    # What is told

    def _watch(self, action: actions.Action) -> None:
        match action:
            case actions.Record():
                mark = "!" if action.synced else ""
                self.told.append(f"journal{mark}: {_record(action.record)}")
            case actions.Send():
                self.told += [f"say: {line}" for line in map(_entry, action.entries) if line]
            case actions.Spawn():
                asked = self.host.connected and action.supervisor == self.host.generation
                late = "" if asked else ", passed over"
                self.told.append(f"spawn {name_of(action.assign.attempt_id)}{late}")
            case actions.Stop():
                cause = action.cause.name
                self.told.append(f"stop {name_of(action.attempt_id)}, {cause}, {action.grace_ms}ms")
            case actions.Forget():
                self.told.append(f"forget {name_of(action.attempt_id)}")
            case actions.Adopted():
                over = ", over" if action.over else ""
                self.told.append(f"adopt {name_of(action.assign.attempt_id)}{over}")
            case actions.ExtendLeases():
                self.told.append(f"extend shard {action.shard}")
            case actions.EndSupervisor():
                self.told.append("end the supervisor")
            case actions.Exit():
                self.told.append("exit")
            case actions.Note():
                self.told.append(f"note: {action.text}")


def _record(record: object) -> str:
    match record:
        case entries.Leadership():
            return f"epoch {record.epoch} of shard {record.shard}"
        case AcceptedRecord():
            return f"ACCEPTED {name_of(record.assign.attempt_id)}"
        case StartedRecord():
            return f"STARTED {name_of(record.attempt_id)}"
        case AckedRecord():
            return f"ACKED {name_of(record.attempt_id)}"
        case entries.Result():
            return f"FINISHED {_result(record)}"
    return type(record).__name__


def _result(result: entries.Result) -> str:
    ran = "" if result.started_at_us else ", never ran"
    why = f" ({result.message})" if result.message else ""
    return f"{name_of(result.attempt_id)} {result.outcome.name}{ran}{why}"


def _entry(entry: entries.Entry) -> str:
    match entry:
        case entries.Hello():
            return f"hello, session {entry.session}"
        case entries.Inventory():
            running = [
                f"{name_of(a.attempt_id)}{' runs' if a.started_at_us else ''}" for a in entry.live
            ]
            over = [_result(result) for result in entry.finished]
            return f"inventory: {'; '.join(running + over) or NOTHING}"
        case entries.Accepted() | entries.Started():
            return f"{type(entry).__name__.lower()} {name_of(entry.attempt_id)}"
        case entries.Rejected():
            return f"rejected {name_of(entry.attempt_id)}, {entry.reason.name}"
        case entries.Result():
            return f"result {_result(entry)}"
    return ""
