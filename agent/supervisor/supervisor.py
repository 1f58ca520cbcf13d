"""The one loop of the supervisor.

Decides: the order inside a turn: what the agent asked for (a few spawns at a time, so that news of
ends never wait for a burst), who ended, who must end, what is told. While anything runs it looks at
CLOCK_BOOTTIME at least once a second: epoll sleeps on a clock that stands still with the machine.

Promises: a claim is on file before a process is there, and an end before anybody is told; when an
end is told, the group of the attempt and all that `descendants` knows of it were killed. Leases are
enforced whether an agent is there or not. It ends when it has neither agent nor attempts for a
while, or is asked to; in a PID namespace the kernel then ends everything below it.
"""

from __future__ import annotations

import os
import select
import signal

from agent.supervisor import attempts, proc
from agent.supervisor.attempts import FAR_MS, Attempt
from agent.supervisor.claims import Claims, is_id
from agent.supervisor.descendants import Descendants
from agent.supervisor.door import Door
from agent.supervisor.folders import Folders
from agent.supervisor.protocol import PROTOCOL, body, frame, framed
from agent.supervisor.spawn import Order, Spawner, SpawnError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

NAMESPACE, PROCESS = "namespace", "process"
SPAWNS_A_TURN = 16
LOOK_EVERY_MS = 1_000
SWEEP_AGAIN_MS = 50
END_MS = 3_000
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Supervisor:
    """Supervises until `run` returns. `folder`: WORK/supervisor."""

    def __init__(self, folder: str, containment: str, idle_ms: int) -> None:
        self._boot_id = proc.boot_id()
        self._containment = containment
        self._idle_ms = idle_ms
        self._claims = Claims(f"{folder}/attempts")
        # All that is told to an agent that connects, by attempt.
        self._known: dict[str, dict[str, Any]] = self._claims.read_all()
        self._running: dict[str, Attempt] = {}
        self._pids: dict[int, str] = {}
        self._shards: dict[int, int] = {}
        self._next_ms = FAR_MS
        self._spawner = Spawner(dies_with_us=containment == PROCESS)
        self._descendants = Descendants(os.getpid(), containment == NAMESPACE, self._known)
        work = os.path.dirname(folder)
        self._folders = Folders(f"{work}/attempts", self._descendants.helpers)
        self._sweep_at_ms = FAR_MS
        self._idle_at_ms = 0
        self._end_at_ms = FAR_MS
        self._epoll = select.epoll()
        self._wakeup = self._wake_on_children()
        self._door = Door(folder, self._epoll)

    def run(self) -> None:
        now_ms = proc.boottime_ms()
        self._idle_at_ms = now_ms + self._idle_ms
        while not self._finished(now_ms):
            events = self._epoll.poll(self._wait_ms(now_ms) / 1_000)
            for descriptor, _ in events:
                if descriptor == self._wakeup:
                    _drain(descriptor)
                else:
                    self._door.handle(descriptor, self._welcome)
            now_ms = proc.boottime_ms()
            self._serve(now_ms)
            now_ms = proc.boottime_ms()
            self._enforce(now_ms)
            self._reap(now_ms)
            self._door.flush()
        self._door.close()

    # Time

    def _wait_ms(self, now_ms: int) -> int:
        if self._door.waiting:
            return 0
        deadline_ms = min(self._sweep_at_ms, self._end_at_ms)
        if self._running:
            deadline_ms = min(deadline_ms, self._next_ms, now_ms + LOOK_EVERY_MS)
        elif not self._door.has_agent:
            deadline_ms = min(deadline_ms, self._idle_at_ms)
        return -1 if deadline_ms == FAR_MS else max(0, deadline_ms - now_ms)

    def _finished(self, now_ms: int) -> bool:
        if self._end_at_ms != FAR_MS:
            return not self._running or now_ms >= self._end_at_ms
        if self._running or self._door.has_agent:
            self._idle_at_ms = now_ms + self._idle_ms
        return now_ms >= self._idle_at_ms

    def _enforce(self, now_ms: int) -> None:
        """Signals what is due. The next look is at the earliest deadline of those that run."""
        if now_ms < self._next_ms:
            return
        next_ms = FAR_MS
        for attempt in self._running.values():
            shard_until_ms = self._shards.get(attempt.shard, 0)
            self._signal(attempt, attempt.due(now_ms, shard_until_ms))
            next_ms = min(next_ms, attempt.next_ms(shard_until_ms))
        self._next_ms = next_ms

    def _look_by(self, attempt: Attempt) -> None:
        at_ms = attempt.next_ms(self._shards.get(attempt.shard, 0))
        self._next_ms = min(self._next_ms, at_ms)

    # What an agent asks for

    def _welcome(self) -> list[bytes]:
        hello = {"version": PROTOCOL, "containment": self._containment, "pid": os.getpid()}
        told = [frame("attempt", known) for known in self._known.values()]
        return [frame("hello", hello), *told, frame("listed", {})]

    def _serve(self, now_ms: int) -> None:
        """Does what was asked for, up to some spawns. A request that makes no sense must not take
        the tasks along: its sender is refused.
        """
        spawns = SPAWNS_A_TURN
        waiting = self._door.waiting
        while waiting and spawns:
            kind, content = waiting.popleft()
            spawns -= kind == "spawn"
            try:
                self._perform(kind, content, now_ms)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._door.refuse_agent(f"{kind!r} makes no sense: {error!r}")

    def _perform(self, kind: str, content: dict[str, Any], now_ms: int) -> None:
        if kind == "spawn":
            self._spawn(content)
        elif kind == "extend":
            shard, until_ms = int(content["shard"]), int(content["until_ms"])
            self._shards[shard] = max(self._shards.get(shard, 0), until_ms)
        elif kind == "stop":
            self._stop(content["id"], str(content["cause"]), int(content["grace_ms"]), now_ms)
        elif kind == "forget":
            self._forget(content["id"])
        elif kind == "end":
            self._end(now_ms)
        elif kind == "ping":
            self._door.say([frame("pong", {})])
        else:
            raise ValueError("not known")

    def _spawn(self, request: dict[str, Any]) -> None:
        attempt_id = request["id"]
        if attempt_id in self._known:
            self._door.say([frame(*told) for told in self._told(attempt_id)])
            return
        refusal = self._refusal(request)
        if refusal is not None:
            self._door.say([frame("failed", refusal)])
            return
        attempt = Attempt(attempt_id, request["shard"], request["until_ms"], request["overtime_ms"])
        attempt.has_folder = not request["cwd"]
        attempt.logs = (request["stdout"], request["stderr"])
        try:
            self._start(attempt, request)
        except SpawnError as error:
            self._give_back(attempt)
            failed = _failure(attempt_id, str(error), attempts.NONE)
            self._note(attempt_id, "failed", failed)
            return
        self._running[attempt_id] = attempt
        self._pids[attempt.pid] = attempt_id
        attempt.began(proc.boottime_ms(), request["timeout_ms"], request["grace_ms"])
        self._look_by(attempt)
        spawned = {"at_us": proc.wall_us(), "pid": attempt.pid, "ticks": attempt.ticks}
        self._note(attempt_id, "spawned", {"id": attempt_id, **spawned})

    def _start(self, attempt: Attempt, request: dict[str, Any]) -> None:
        cwd = request["cwd"]
        if attempt.has_folder:
            cwd = self._folders.path(attempt.attempt_id)
            try:
                self._folders.make(attempt.attempt_id)
            except OSError as error:
                raise SpawnError(f"cannot prepare {cwd!r}: {error.strerror}") from error
        order = Order(request["argv"], request["env"], cwd, attempt.logs)
        before_ns = proc.boottime_ns()
        attempt.pid = self._spawner.spawn(order)
        attempt.ticks = proc.ticks_of_new(attempt.pid, before_ns)

    def _give_back(self, attempt: Attempt) -> None:
        if attempt.has_folder:
            self._folders.give_back(attempt.attempt_id)

    def _refusal(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Claims an attempt, or says why it is not begun: nothing is written of it then."""
        attempt_id = request["id"]
        if not is_id(attempt_id):
            return _failure(str(attempt_id), "not the id of an attempt", attempts.NONE)
        if self._end_at_ms != FAR_MS:
            text = "the supervisor is ending"
            return _failure(attempt_id, text, attempts.AGENT_STOPPED)
        until_ms = max(request["until_ms"], self._shards.get(request["shard"], 0))
        if until_ms <= proc.boottime_ms():
            text = "its attempt lease was over before it could start"
            return _failure(attempt_id, text, attempts.LEASE)
        claimed = {"at_us": proc.wall_us(), "boot_id": self._boot_id, "by": self._containment}
        try:
            self._claims.make(attempt_id, claimed)
        except OSError as error:
            text = f"cannot prepare {self._claims.path(attempt_id)!r}: {error.strerror}"
            return _failure(attempt_id, text, attempts.NONE)
        self._known[attempt_id] = {"id": attempt_id, "claimed_at_us": claimed["at_us"]}
        return None

    def _stop(self, attempt_id: str, cause: str, grace_ms: int, now_ms: int) -> None:
        attempt = self._running.get(attempt_id)
        if attempt is not None:
            self._signal(attempt, attempt.stop(cause, grace_ms, now_ms))
            self._look_by(attempt)

    def _forget(self, attempt_id: str) -> None:
        if attempt_id in self._known and attempt_id not in self._running:
            del self._known[attempt_id]
            self._claims.forget(attempt_id)

    def _end(self, now_ms: int) -> None:
        self._end_at_ms = min(self._end_at_ms, now_ms + END_MS)
        for attempt_id in self._running:
            self._stop(attempt_id, attempts.AGENT_STOPPED, 0, now_ms)

    def _signal(self, attempt: Attempt, number: int) -> None:
        if number:
            proc.signal_group(attempt.pid, number)

    # What becomes of attempts

    def _reap(self, now_ms: int) -> None:
        """Takes in all that ended. A group is killed before its number can be used again."""
        over: dict[int, str] = {}
        ends: list[tuple[Attempt, dict[str, Any]]] = []
        orphans = False
        while (pid := _next_dead()) > 0:
            attempt_id = self._pids.pop(pid, None)
            if attempt_id is not None:
                proc.signal_group(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if attempt_id is not None:
                over[pid] = attempt_id
                attempt = self._running.pop(attempt_id)
                ends.append((attempt, _end_of(attempt, status)))
            elif pid in self._descendants.helpers:
                self._descendants.helpers.discard(pid)
            else:
                orphans = True
        if ends or orphans or now_ms >= self._sweep_at_ms:
            self._sweep(over, now_ms)
        for attempt, ended in ends:
            self._note(attempt.attempt_id, "ended", ended)
            self._give_back(attempt)

    def _sweep(self, over: dict[int, str], now_ms: int) -> None:
        """Kills what ended attempts left behind; again soon, until nothing is found."""
        oldest_ticks = min((a.ticks for a in self._running.values()), default=FAR_MS)
        try:
            doomed = self._descendants.doomed(self._pids, over, oldest_ticks)
        except OSError as error:
            proc.complain(f"cannot look at the processes: {error}")
            self._sweep_at_ms = now_ms + LOOK_EVERY_MS
            return
        for pid, ticks in doomed:
            if (descriptor := proc.kill(pid, ticks)) >= 0:
                os.close(descriptor)
        self._sweep_at_ms = FAR_MS
        if doomed:
            self._sweep_at_ms = now_ms + SWEEP_AGAIN_MS
        elif self._running:
            # Also without an end: who is seen while its parents live is never mistaken later.
            self._sweep_at_ms = now_ms + LOOK_EVERY_MS

    def _note(self, attempt_id: str, kind: str, content: dict[str, Any]) -> None:
        """Writes down what became of an attempt, then tells it. A full disk is no reason to be
        silent: what runs is known here for as long as this process lives.
        """
        line = body(kind, content)
        self._known[attempt_id][kind] = content
        try:
            self._claims.append(attempt_id, line)
        except OSError as error:
            proc.complain(f"cannot write the claim of {attempt_id}: {error}")
        self._door.say([framed(line)])

    def _told(self, attempt_id: str) -> list[tuple[str, dict[str, Any]]]:
        """What was told of an attempt so far: the answer to being asked for it again."""
        known = self._known[attempt_id]
        if told := [kind for kind in ("spawned", "failed", "ended") if kind in known]:
            return [(kind, known[kind]) for kind in told]
        text = "it was begun before; nobody knows what became of it"
        return [("failed", _failure(attempt_id, text, attempts.LEASE))]

    def _wake_on_children(self) -> int:
        """A descriptor that can be read when a child ended. The signals of an operator are for
        the agent, which then says what shall become of the tasks.
        """
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        wakes, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        self._epoll.register(wakes, select.EPOLLIN)
        return wakes


def _nothing(number: int, interrupted: FrameType | None) -> None:
    """The wakeup descriptor says it all."""


def _drain(descriptor: int) -> None:
    try:
        os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return


def _next_dead() -> int:
    """A child that ended and was not reaped; 0: none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return found.si_pid if found else 0


def _end_of(attempt: Attempt, status: int) -> dict[str, Any]:
    code, number = -1, 0
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
    else:
        number = os.WTERMSIG(status)
    return {
        "id": attempt.attempt_id,
        "code": code,
        "signal": number,
        "at_us": proc.wall_us(),
        "stdout": _size(attempt.logs[0]),
        "stderr": _size(attempt.logs[1]),
        "message": "",
        "cause": attempt.cause,
    }


def _failure(attempt_id: str, message: str, cause: str) -> dict[str, Any]:
    return {"id": attempt_id, "message": message, "at_us": proc.wall_us(), "cause": cause}


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
