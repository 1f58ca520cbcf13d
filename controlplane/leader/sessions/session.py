"""One session of one agent, and the rules of its first frame.

Decides whether a Hello is well formed, and which heartbeat a message echoes: the newest one that
had been received when the message was decided. An attempt lease then never counts from a moment
after the decision, however late the message is written or arrives. Does not know other sessions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mainspring.agent.v1 import session_pb2 as pb

from controlplane.codec.agents import resources
from controlplane.codec.errors import CodecError
from controlplane.core.graph.names import id_problem, text_problem
from controlplane.core.types import Resources
from controlplane.leader.sessions.outbox import Outbox
from controlplane.store.records import ShardWord

PROTOCOL_VERSION = 2
# A restore leaps over the epochs that agents name: there must be room for it, and for all to come.
MOST_EPOCH = 2**62
# Of what was received longer ago, the hello is echoed: an attempt lease only becomes shorter.
BEATS_KEPT = 16
_INCARNATION_BYTES = 16
_MAX_TEXT = 255
_CONTAINMENT = {pb.CONTAINMENT_NAMESPACE: "namespace", pb.CONTAINMENT_PROCESS: "process"}


class Refused(Exception):  # noqa: N818  (the name says what is so; it is used as a state)
    """The session is not accepted."""

    def __init__(self, reason: pb.RefusalReason.ValueType, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Session:
    """What a node knows of a session. `number` is the agent's own; `live` ends for good."""

    __slots__ = (
        "_beats",
        "agent",
        "boot_id",
        "capacity",
        "containment",
        "grant_number",
        "heard_ms",
        "incarnation",
        "live",
        "number",
        "opened_ms",
        "outbox",
        "regranted",
        "told",
        "version",
        "words",
    )

    def __init__(self, hello: pb.Hello, capacity: Resources, now_ms: int) -> None:
        self.agent = hello.agent
        self.incarnation = hello.incarnation
        self.number = hello.session
        self.boot_id = hello.boot_id
        self.version = hello.version
        self.containment = _CONTAINMENT.get(hello.containment, "")
        self.capacity = capacity
        self.outbox = Outbox()
        self.live = True
        self.opened_ms = self.heard_ms = now_ms
        # Number and time of receipt of the last heartbeats, the oldest first.
        self._beats: deque[tuple[int, int]] = deque(maxlen=BEATS_KEPT)
        self.words = words_of(hello.memories)
        self.grant_number = 0
        # The demand that the agent was told of, and whether its grant changed since.
        self.told = pb.Demand()
        self.regranted = False

    @property
    def beat(self) -> int:
        """The newest heartbeat; 0: the hello."""
        return self._beats[-1][0] if self._beats else 0

    def beat_came(self, beat: int, now_ms: int) -> None:
        """A heartbeat was received; one that is not newer than the last one changes nothing."""
        if beat > self.beat:
            self._beats.append((beat, now_ms))

    def beat_at(self, decided_ms: int) -> int | None:
        """The newest heartbeat received by then, 0: the hello; None: not even that was."""
        for beat, received_ms in reversed(self._beats):
            if received_ms <= decided_ms:
                return beat
        return 0 if self.opened_ms <= decided_ms else None


def words_of(memories: Iterable[pb.ShardMemory]) -> list[ShardWord]:
    """What an agent says that it has seen of shards; of an epoch that none can be in, nothing."""
    return [
        ShardWord(each.shard, each.epoch, each.holder, each.batch)
        for each in memories
        if each.epoch <= MOST_EPOCH
    ]


def greeted(frame: pb.SessionRequest, now_ms: int) -> Session:
    """The session that a first frame begins; raises Refused."""
    if not frame.HasField("hello"):
        raise Refused(pb.REFUSAL_REASON_BAD_HELLO, "the first frame of a session must be a hello")
    hello = frame.hello
    if hello.protocol_version != PROTOCOL_VERSION:
        theirs = hello.protocol_version
        text = f"this node speaks version {PROTOCOL_VERSION} of the protocol, the agent {theirs}"
        raise Refused(pb.REFUSAL_REASON_VERSION, f"{text}; install the same release on both")
    try:
        capacity = resources(hello.capacity)
    except CodecError as error:
        raise Refused(pb.REFUSAL_REASON_BAD_HELLO, str(error)) from error
    if problem := _problem(hello):
        raise Refused(pb.REFUSAL_REASON_BAD_HELLO, problem)
    return Session(hello, capacity, now_ms)


def _problem(hello: pb.Hello) -> str:
    if reason := id_problem(hello.agent):
        return f"the agent's name {reason}"
    if len(hello.incarnation) != _INCARNATION_BYTES:
        return f"an incarnation has {_INCARNATION_BYTES} bytes, not {len(hello.incarnation)}"
    for name in ("boot_id", "version"):
        if reason := text_problem(getattr(hello, name), _MAX_TEXT):
            return f"{name} {reason}"
    return ""
