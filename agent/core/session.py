"""The sessions of an agent, one per node, and the memory of epochs.

Decides: to which addresses a stream is opened and when again, which stream of a node counts, when a
silent node is given up, which shards a node may speak for.

Promises: what belongs to an older session is never handled; a shard speaks only under the highest
epoch ever seen for it, and the same epoch from another holder is refused; whoever claims a shard is
told what was seen of it before; what is seen of a shard is recorded before the inventory that
answers it; a shard is reported as newly led exactly when a node leads it in an epoch that this
session was not told of before; an attempt lease counts from the sending of a heartbeat of the same
session.

Does not know: attempts and grants; what is in an inventory.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.core.actions import CloseSession, Note, OpenSession, Record
from agent.core.entries import Heartbeat, Leadership, ShardMemory, Welcome
from agent.core.turn import Turn
from agent.core.types import Amount

HANDSHAKE_MS = 5_000
BACKOFF_FIRST_MS = 100
BACKOFF_LAST_MS = 5_000
HEARTBEAT_DEFAULT_MS = 5_000
HEARTBEAT_LEAST_MS = 100
# A node that sent no frame for this many heartbeats is given up.
SILENT_BEATS = 3
# Beats whose times of sending are kept: an answer to an older one extends nothing.
BEATS_KEPT = 16
# The number of a session's hello among its beats.
HELLO_BEAT = 0


class EpochMemory:
    """The highest (epoch, holder, batch) seen of each shard."""

    def __init__(self, seen: Iterable[Leadership] = ()) -> None:
        self._seen = {claim.shard: claim for claim in seen}

    def note(self, claim: Leadership) -> bool:
        """Remembers a claim; False: it is refused, because a later one or another holder is known.

        A claim that is repeated may carry a lower batch: the higher one is kept.
        """
        seen = self._seen.get(claim.shard)
        if seen is not None:
            if claim.epoch < seen.epoch:
                return False
            if claim.epoch == seen.epoch and claim.holder != seen.holder:
                return False
            if claim.epoch == seen.epoch and claim.batch <= seen.batch:
                return True
        self._seen[claim.shard] = claim
        return True

    def note_batch(self, shard: int, batch: int) -> None:
        """Remembers a batch of the epoch that is in force."""
        seen = self._seen[shard]
        if batch > seen.batch:
            self._seen[shard] = Leadership(shard, seen.epoch, seen.holder, batch)

    def get(self, shard: int) -> Leadership | None:
        return self._seen.get(shard)

    def told(self) -> tuple[ShardMemory, ...]:
        """What a hello says of it."""
        return tuple(map(_memory, self._seen.values()))


class LinkState(enum.Enum):
    """IDLE: waits to be opened. ALIAS: another address reaches the same node."""

    IDLE = "IDLE"
    OPENING = "OPENING"
    WELCOMED = "WELCOMED"
    ALIAS = "ALIAS"


_WAITING = (LinkState.IDLE, LinkState.OPENING)


@dataclass(slots=True)
class Link:
    """What the agent knows of one address. `due_ms`: IDLE: when to open; OPENING: when to give
    up; WELCOMED: the next heartbeat. `leads`: shard → epoch, as accepted from this session. `sent`:
    beat of this session → when it was sent.
    """

    address: str
    due_ms: int
    number: int = 0
    state: LinkState = LinkState.IDLE
    node: str = ""
    leads: dict[int, int] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    heartbeat_ms: int = HEARTBEAT_DEFAULT_MS
    attempt_lease_ms: int = 0
    beat: int = HELLO_BEAT
    sent: dict[int, int] = field(default_factory=dict)
    heard_ms: int = 0
    failures: int = 0

    @property
    def stream(self) -> tuple[str, int]:
        return (self.address, self.number)

    @property
    def open(self) -> bool:
        return self.state is LinkState.WELCOMED or self.state is LinkState.OPENING

    def deadline(self) -> int | None:
        """When this link wants to be looked at next."""
        if self.state is LinkState.ALIAS:
            return None
        due_ms = self.due_ms
        if self.state is LinkState.WELCOMED and (silent_ms := self.silent_ms()) < due_ms:
            return silent_ms
        return due_ms

    def silent_ms(self) -> int:
        return self.heard_ms + SILENT_BEATS * self.heartbeat_ms

    def beats(self, beat: int, mono_ms: int) -> None:
        """A beat goes out now."""
        self.beat = beat
        self.sent[beat] = mono_ms
        if len(self.sent) > BEATS_KEPT:
            del self.sent[next(iter(self.sent))]

    def lease_until_ms(self, beat: int) -> int:
        """The end of an attempt lease that answers a beat; 0 for a beat that is not known."""
        sent_ms = self.sent.get(beat)
        return 0 if sent_ms is None else sent_ms + self.attempt_lease_ms


class Sessions:
    """All links. `first_session` must be higher than any session number of an earlier start."""

    def __init__(
        self,
        seeds: tuple[str, ...],
        first_session: int,
        mono_ms: int,
        seen: Iterable[Leadership] = (),
    ) -> None:
        self.epochs = EpochMemory(seen)
        self._seeds = seeds
        self._number = first_session - 1
        self._links = {seed: Link(seed, mono_ms) for seed in seeds}
        self._nodes: dict[str, Link] = {}
        self._leaders: dict[int, Link] = {}

    def current(self, address: str, session: int) -> Link | None:
        """The link that an event belongs to; None: it belongs to an older session."""
        link = self._links.get(address)
        return link if link and link.open and link.number == session else None

    def leader(self, shard: int) -> Link | None:
        """The session through which the leader of a shard is reached now."""
        return self._leaders.get(shard)

    def of_node(self, node: str) -> Link | None:
        return self._nodes.get(node)

    @property
    def untried(self) -> bool:
        """Whether there is an address that was neither reached nor found unreachable so far."""
        links = self._links
        if len(links) == len(self._nodes):
            # All are reached.
            return False
        return any(not link.failures and link.state in _WAITING for link in links.values())

    def welcomed(self) -> list[Link]:
        return list(self._nodes.values())

    def any_open(self) -> bool:
        """Whether a stream is up, or is being opened."""
        return any(link.open for link in self._links.values())

    def may_speak(self, link: Link, shard: int, epoch: int) -> bool:
        """Whether a message of this session, for this shard and epoch, is to be obeyed."""
        return link.leads.get(shard) == epoch and self._leaders.get(shard) is link

    def heard(self, link: Link, mono_ms: int) -> None:
        link.heard_ms = mono_ms

    def give_way(self, link: Link, reason: str, turn: Turn) -> None:
        """Closes the stream of an address because another one reaches its node, and leaves it alone
        for as long, like those that were left alone before.

        The node keeps the newest session of an agent: its addresses would push each other out for
        ever.
        """
        turn.act(CloseSession(link.address, link.number, reason))
        self._leave(link)
        link.state = LinkState.ALIAS

    def welcome(self, link: Link, welcome: Welcome, turn: Turn) -> list[int]:
        """Takes a Welcome in; returns the shards that the node leads newly."""
        told = link.state is not LinkState.WELCOMED
        if told:
            self._first_welcome(link, welcome.node, turn.now.mono_ms)
        link.peers = welcome.peers
        link.heartbeat_ms = max(HEARTBEAT_LEAST_MS, welcome.heartbeat_ms or HEARTBEAT_DEFAULT_MS)
        link.attempt_lease_ms = welcome.attempt_lease_ms
        link.due_ms = min(link.due_ms, turn.now.mono_ms + link.heartbeat_ms)
        newly = self._take_claims(link, welcome.shards, turn, told=told)
        self._refresh(turn)
        return newly

    def lost(self, link: Link, turn: Turn) -> None:
        """The stream of a link is gone: what it led has no leader here until the next Welcome."""
        if link.state is LinkState.WELCOMED:
            self._leave(link)
            self._wake_aliases(link.node, turn)
        link.state = LinkState.IDLE
        link.due_ms = turn.now.mono_ms + _backoff_ms(link)
        link.failures += 1
        self._refresh(turn)

    def give_up(self, link: Link, reason: str, turn: Turn) -> None:
        """Closes a stream from this side."""
        turn.act(CloseSession(link.address, link.number, reason))
        self.lost(link, turn)

    def due(self, turn: Turn, used: Amount) -> list[Link]:
        """Opens and beats where it is time; returns the links whose node is to be given up."""
        mono_ms, silent = turn.now.mono_ms, []
        for link in self._links.values():
            deadline = link.deadline()
            if deadline is None or deadline > mono_ms:
                continue
            if link.state is LinkState.IDLE:
                self._open(link, turn)
            elif link.state is LinkState.OPENING or link.silent_ms() <= mono_ms:
                silent.append(link)
            else:
                self._beat(link, turn, used)
        return silent

    def next_deadline(self) -> int | None:
        links = self._links.values()
        return min([due for link in links if (due := link.deadline()) is not None], default=None)

    def _open(self, link: Link, turn: Turn) -> None:
        self._number += 1
        link.number = self._number
        link.state = LinkState.OPENING
        link.sent = {}
        link.due_ms = turn.now.mono_ms + HANDSHAKE_MS
        turn.act(OpenSession(link.address, link.number))

    def _beat(self, link: Link, turn: Turn, used: Amount) -> None:
        link.beats(link.beat + 1, turn.now.mono_ms)
        link.due_ms = turn.now.mono_ms + link.heartbeat_ms
        turn.send(link.stream, Heartbeat(link.beat, used))

    def _first_welcome(self, link: Link, node: str, mono_ms: int) -> None:
        assert node not in self._nodes, "a rival is laid to rest first"
        link.state = LinkState.WELCOMED
        link.node = node
        link.leads = {}
        link.failures = 0
        link.heard_ms = mono_ms
        link.due_ms = mono_ms
        self._nodes[node] = link

    def _take_claims(
        self, link: Link, claims: tuple[Leadership, ...], turn: Turn, *, told: bool
    ) -> list[int]:
        """`told`: the node has just heard, in a hello, what was seen of its shards so far."""
        before = link.leads
        self._forget_claims(link)
        link.leads = {}
        newly = []
        for claim in claims:
            seen = self.epochs.get(claim.shard)
            if (
                seen is not None
                and not told
                and (seen.epoch, seen.holder) != (claim.epoch, claim.holder)
            ):
                turn.send(link.stream, _memory(seen))
            if not self.epochs.note(claim):
                text = f"{link.node} claims epoch {claim.epoch}, which is over or held by another"
                turn.act(Note(text, link.address, claim.shard))
                continue
            if self.epochs.get(claim.shard) is not seen:
                turn.act(Record(claim, synced=True))
            link.leads[claim.shard] = claim.epoch
            self._leaders[claim.shard] = link
            if before.get(claim.shard) != claim.epoch:
                newly.append(claim.shard)
        return newly

    def _leave(self, link: Link) -> None:
        """A node is not reached through this link any more."""
        del self._nodes[link.node]
        self._forget_claims(link)

    def _forget_claims(self, link: Link) -> None:
        for shard in link.leads:
            if self._leaders.get(shard) is link:
                del self._leaders[shard]

    def _wake_aliases(self, node: str, turn: Turn) -> None:
        for other in self._links.values():
            if other.state is LinkState.ALIAS and other.node == node:
                other.state = LinkState.IDLE
                other.due_ms = turn.now.mono_ms + _backoff_ms(other)

    def _refresh(self, turn: Turn) -> None:
        """Learns new addresses; forgets those that no connected node names any more."""
        if not self._nodes:
            return
        wanted = dict.fromkeys(self._seeds)
        for node_link in self._nodes.values():
            wanted.update(dict.fromkeys(node_link.peers))
        for address in wanted:
            if address not in self._links:
                self._links[address] = Link(address, turn.now.mono_ms)
        for link in list(self._links.values()):
            if link.state is LinkState.IDLE and link.address not in wanted:
                del self._links[link.address]


def _memory(seen: Leadership) -> ShardMemory:
    return ShardMemory(seen.shard, seen.epoch, seen.batch, seen.holder)


def _backoff_ms(link: Link) -> int:
    """Doubles with every failure. Spread over half of itself by a hash, so that the agents of a
    node that died do not come back all at once.
    """
    base = min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS << min(link.failures, 10))
    digest = hashlib.blake2b(f"{link.address}/{link.number}".encode(), digest_size=4).digest()
    return base // 2 + int.from_bytes(digest, "big") % (base // 2 + 1)
