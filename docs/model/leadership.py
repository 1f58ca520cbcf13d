"""Two nodes, one shard: who leads it, and what becomes of the batches that a leader sends.

Models: the key in etcd, which may vanish at any time; the shard's row in PostgreSQL and its lock;
transactions that arrive late, or whose answer nobody hears; nodes that die. A pause needs no step
of its own: whoever pauses takes none. What a batch holds is one attempt to be spoken of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from docs.model.search import Model, Rules

RULES = {
    "fence": ("paused", "A batch begins with a fence: the row must have the leader's epoch."),
    "row_lock": ("paused", "The fence locks the row until its batch has committed."),
    "commit_then_speak": ("paused", "Nothing is said before the batch has committed."),
    "compare_epoch": ("paused", "A takeover succeeds only from the epoch that was read."),
    "verify_key": ("paused", "After the epoch was read, etcd is asked if the key is still ours."),
    "batch_number": ("unknown", "The fence counts: only batch n-1 is followed by batch n."),
    "same_batch_again": ("unknown", "After an unknown outcome the same batch is sent again."),
    "own_nonce": ("unknown", "A takeover of unknown outcome was ours if our nonce is in the row."),
    "end_blockers": ("unknown", "Whoever waits for the row ends the backend that has locked it."),
}
NAME = "AB"
IDLE, WON, READ, VERIFIED, LEADING = "idle", "has won", "has read", "has verified", "leads"
SENT, FENCED, HUNG = "sent", "fenced", "hung"
Steps = Iterator[tuple[str, "World"]]


class Node(NamedTuple):
    """`won`: when it won the key, which is its nonce too. `trying`: what its batch holds, or 0."""

    stage: str = IDLE
    won: int = 0
    epoch: int = 0
    batch: int = 0
    trying: int = 0


class Transaction(NamedTuple):
    """`batch` 0: a takeover that expects `epoch`. `what`: the nonce, or what the batch holds."""

    node: int
    epoch: int
    batch: int
    what: int
    phase: str = SENT
    heard: bool = True


class World(NamedTuple):
    """`key`: (node, when it won). `holder`: the nonce in the row. `wrong`: a broken invariant."""

    losses: int
    unknowns: int
    deaths: int
    attempts: int
    key: tuple[int, int] | None = None
    wins: int = 0
    epoch: int = 0
    holder: int = 0
    batch: int = 0
    wire: frozenset[Transaction] = frozenset()
    nodes: tuple[Node, ...] = (Node(), Node())
    made: int = 0
    stored: frozenset[int] = frozenset()
    said: frozenset[int] = frozenset()
    wrong: str = ""

    def node(self, n: int, **changes: Any) -> World:
        nodes = list(self.nodes)
        nodes[n] = nodes[n]._replace(**changes)
        return self._replace(nodes=tuple(nodes))

    def send(self, n: int, epoch: int, batch: int, what: int) -> World:
        return self._replace(wire=self.wire | {Transaction(n, epoch, batch, what)})

    def gone(self, tx: Transaction, *, left: Transaction | None = None) -> World:
        return self._replace(wire=self.wire - {tx} | ({left} if left else set()))

    def awaits(self, n: int) -> bool:
        return any(tx.node == n and tx.heard for tx in self.wire)

    def gives_up(self, n: int) -> World:
        """Deletes its key, if it is still the one it won, and starts over."""
        mine = self.key == (n, self.nodes[n].won)
        return self._replace(key=None if mine else self.key).node(n, **Node()._asdict())


def campaign(s: World, on: Rules) -> Steps:
    """The key in etcd decides who tries: win the key → read the epoch → is the key still mine?"""
    if s.key and s.nodes[s.key[0]].won != s.key[1]:
        yield "the key of a dead node expires", s._replace(key=None)
    for n, node in enumerate(s.nodes):
        if node.stage == IDLE and s.key is None:
            won = s.wins + 1
            yield (
                f"{NAME[n]} wins the key",
                s._replace(key=(n, won), wins=won).node(n, stage=WON, won=won),
            )
        elif node.stage == WON:
            yield f"{NAME[n]} reads epoch {s.epoch}", s.node(n, stage=READ, epoch=s.epoch)
        elif node.stage == READ and (s.key == (n, node.won) or "verify_key" not in on):
            yield f"{NAME[n]} goes on: the key is its own", s.node(n, stage=VERIFIED)
        elif node.stage == READ:
            yield f"{NAME[n]} finds the key lost", s.gives_up(n)


def send(s: World, on: Rules) -> Steps:
    """One transaction at a time: the takeover, then batches, numbered."""
    for n, node in enumerate(s.nodes):
        if s.awaits(n):
            continue
        if node.stage == VERIFIED:
            yield (
                f"{NAME[n]} sends its takeover of epoch {node.epoch}",
                s.send(n, node.epoch, 0, node.won),
            )
        elif node.stage == LEADING:
            again = node.trying and "same_batch_again" in on
            what = node.trying if again else s.made + 1
            if what <= s.attempts:
                after = s._replace(made=max(s.made, what)).node(n, trying=what)
                if "commit_then_speak" not in on:
                    after = after._replace(said=s.said | {what})
                line = f"{NAME[n]} sends batch {node.epoch}.{node.batch + 1}: attempt {what}"
                yield line, after.send(n, node.epoch, node.batch + 1, what)


def arrive(s: World, on: Rules) -> Steps:
    """PostgreSQL decides who leads: the condition is tested when the row's lock is had."""
    locked = any(tx.phase != SENT for tx in s.wire) and "row_lock" in on
    for tx in s.wire:
        if tx.phase != SENT or locked:
            continue
        if tx.batch:
            counted = s.batch == tx.batch - 1 or "batch_number" not in on
            fits = (s.epoch == tx.epoch and counted) or "fence" not in on
        else:
            fits = s.epoch == tx.epoch or "compare_epoch" not in on
        if not fits:
            yield f"{name(tx)} is refused", refused(s.gone(tx), tx, on)
        elif tx.batch:
            yield f"{name(tx)} passes the fence", s.gone(tx, left=tx._replace(phase=FENCED))
        else:
            yield f"{name(tx)} commits", taken(s.gone(tx), tx)


def commit(s: World, on: Rules) -> Steps:
    """What has passed the fence commits some time, whether its node still listens or not."""
    for tx in s.wire:
        if tx.phase == FENCED:
            wrong = s.wrong
            if tx.epoch < s.epoch:
                wrong = "I2: a commit of an epoch follows the takeover of the next"
            elif tx.batch <= s.batch:
                wrong = "I8: a batch is applied twice, or over another"
            after = s.gone(tx)._replace(batch=tx.batch, stored=s.stored | {tx.what}, wrong=wrong)
            yield f"{name(tx)} commits", committed(after, tx)


def end_blockers(s: World, on: Rules) -> Steps:
    """Blockers are found with pg_blocking_pids and their backends terminated."""
    if "end_blockers" in on and any(tx.phase == SENT for tx in s.wire):
        for tx in s.wire:
            if tx.phase != SENT:
                yield f"{name(tx)} is ended: another waits for its lock", s.gone(tx)


def name(tx: Transaction) -> str:
    what = f"batch {tx.epoch}.{tx.batch}" if tx.batch else f"takeover of epoch {tx.epoch}"
    return f"the {what} of {NAME[tx.node]}"


def taken(s: World, tx: Transaction) -> World:
    wrong = s.wrong
    if tx.epoch + 1 <= s.epoch:
        wrong = "I1: the epochs of the shard do not grow"
    elif tx.what < s.holder:
        wrong = "the key: a leader is deposed by one that had lost the key before"
    after = s._replace(epoch=tx.epoch + 1, holder=tx.what, batch=0, wrong=wrong)
    return leads(after, tx) if tx.heard else after


def leads(s: World, tx: Transaction) -> World:
    return s.node(tx.node, stage=LEADING, epoch=tx.epoch + 1, batch=0, trying=0)


def committed(s: World, tx: Transaction) -> World:
    if not tx.heard:
        return s
    return s._replace(said=s.said | {tx.what}).node(tx.node, batch=tx.batch, trying=0)


def refused(s: World, tx: Transaction, on: Rules) -> World:
    """The row tells why: it is there already, or another one leads."""
    if not tx.heard:
        return s
    if tx.batch:
        there = (s.epoch, s.batch) == (tx.epoch, tx.batch)
        return committed(s, tx) if there else s.gives_up(tx.node)
    mine = s.epoch == tx.epoch + 1 and (s.holder == tx.what or "own_nonce" not in on)
    return leads(s, tx) if mine else s.gives_up(tx.node)


def faults(s: World, on: Rules) -> Steps:
    if s.losses and s.key:
        yield "etcd loses the key", s._replace(key=None, losses=s.losses - 1)
    for tx in s.wire:
        unheard = s._replace(unknowns=s.unknowns - 1)
        if s.unknowns and tx.heard:
            line = f"{NAME[tx.node]} loses the connection with {name(tx)}"
            yield line, unheard.gone(tx, left=tx._replace(heard=False))
            if tx.phase == FENCED:
                hung = tx._replace(heard=False, phase=HUNG)
                yield f"{line}, which hangs", unheard.gone(tx, left=hung)
    for n, node in enumerate(s.nodes):
        if s.deaths and node.stage != IDLE:
            after = s._replace(
                deaths=s.deaths - 1,
                wire=frozenset(tx._replace(heard=tx.heard and tx.node != n) for tx in s.wire),
            )
            yield f"{NAME[n]} dies, and starts again", after.node(n, **Node()._asdict())


def broken(s: World) -> str:
    leading = [node.epoch for node in s.nodes if node.stage == LEADING]
    if s.wrong:
        return s.wrong
    if len(set(leading)) < len(leading):
        return f"I2: two nodes lead epoch {leading[0]}"
    if s.said - s.stored:
        return "I5: an attempt is assigned that is not committed"
    return ""


def good(s: World) -> bool:
    """The leader of the present epoch has nothing in its way."""
    leads = any(node.stage == LEADING and node.epoch == s.epoch for node in s.nodes)
    return leads and all(tx.phase == SENT for tx in s.wire)


MODEL = Model(
    RULES,
    {
        "paused": (World(1, 0, 1, 1), World(2, 0, 1, 2)),
        "unknown": (World(1, 1, 0, 2), World(2, 2, 0, 2)),
    },
    (campaign, send, arrive, commit, end_blockers),
    (faults,),
    broken,
    good,
)
