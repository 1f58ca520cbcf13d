"""Two nodes, one shard: who leads it, and what becomes of the batches that a leader sends.

Models: the key in etcd, which may vanish; the shard's row in PostgreSQL; transactions that arrive
late, or whose answer nobody hears. Who pauses or is dead takes no steps.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

SCENES = {
    "paused": ("loss attempt", "loss loss loss attempt attempt attempt"),
    "unknown": ("loss unknown attempt attempt", "loss loss unknown unknown attempt attempt"),
}


class Row(NamedTuple):
    epoch: int = 0  # of the shard; a takeover writes the next one, and batch 0
    batch: int = 0
    what: int = 0  # the nonce of a takeover; the attempt that a batch assigns

    def __str__(self) -> str:
        return f"{'batch' if self.batch else 'takeover'} {self.epoch}.{self.batch}"


class Node(NamedTuple):
    stage: str = "idle"
    nonce: int = 0  # which winning of the key was its own
    row: Row = Row()  # as it was read or written last
    sent: Row = Row()  # what is sent and not answered


class World(NamedTuple):
    left: str  # faults that may still happen, and attempts that may still be assigned
    off: str = ""  # the rule that is taken out
    key: int = 0  # the nonce of who holds it
    made: int = 0  # nonces and attempts so far
    log: tuple[Row, ...] = (Row(-1), Row())  # what the row was; the last is what it is
    wire: frozenset[tuple[int, Row, bool]] = frozenset()  # whose, what, if it hears the answer
    nodes: tuple[Node, ...] = (Node(), Node())
    said: frozenset[int] = frozenset()  # attempts that were spoken of

    def node(self, n: int, **changes: Any) -> "World":
        node = self.nodes[n]._replace(**changes)
        return self._replace(nodes=(*self.nodes[:n], node, *self.nodes[n + 1 :]))

    def send(self, n: int, row: Row) -> tuple[str, "World"]:
        after = self._replace(wire=self.wire | {(n, row, True)}).node(n, sent=row)
        return f"{'AB'[n]} sends {row}", after

    def steps(self) -> Iterator[tuple[str, "World"]]:
        for n, node in enumerate(self.nodes):
            if not any(heard for whose, _, heard in self.wire if whose == n):
                yield from self.campaign(n, node)
        for n, row, heard in self.wire:
            gone = self._replace(wire=self.wire - {(n, row, heard)})
            yield gone.arrive(n, row, heard=heard)

    def campaign(self, n: int, node: Node) -> Iterator[tuple[str, "World"]]:
        """Win the key → read the epoch → is the key still mine? → take over → commit → speak."""
        row, made = self.log[-1], self.made + 1
        if node.stage == "idle" and not self.key:
            after = self._replace(made=made, key=made)
            yield f"{'AB'[n]} wins the key", after.node(n, stage="won", nonce=made)
        elif node.stage == "won":
            yield f"{'AB'[n]} reads epoch {row.epoch}", self.node(n, stage="read", row=row)
        elif node.stage == "read" and self.key != node.nonce and self.off != "verify_key":
            yield f"{'AB'[n]} finds its key lost", self.node(n, **Node()._asdict())
        elif node.stage == "read":
            yield self.node(n, stage="tries").send(n, Row(node.row.epoch + 1, 0, node.nonce))
        elif node.sent.epoch and (self.off != "same_batch_again" or node.stage == "tries"):
            yield self.send(n, node.sent)
        elif node.stage == "leads" and "attempt" in self.left:
            said = self.said | ({made} if self.off == "commit_then_speak" else set())
            after = self._replace(left=self.left.replace("attempt", "", 1), made=made, said=said)
            yield after.send(n, Row(node.row.epoch, node.row.batch + 1, made))

    def arrive(self, n: int, new: Row, *, heard: bool) -> tuple[str, "World"]:
        """The row decides, and tells the node that listens whether what it sent is there."""
        old, fits = self.log[-1], self.log[-1].epoch == new.epoch - 1 or self.off == "compare_epoch"
        if new.batch:
            counts = old.batch == new.batch - 1 or self.off == "batch_number"
            fits = (old.epoch == new.epoch and counts) or self.off == "fence"
        row, after = (new, self._replace(log=(*self.log, new))) if fits else (old, self)
        ours = new.batch or row == new or self.off == "own_nonce"
        if heard and row[:2] == new[:2] and ours:
            said = self.said | ({new.what} if new.batch else set())
            after = after._replace(said=said).node(n, stage="leads", row=row, sent=Row())
        elif heard:
            key = 0 if self.key == self.nodes[n].nonce else self.key
            after = after._replace(key=key).node(n, **Node()._asdict())
        return f"{'AB'[n]}'s {new} {'commits' if fits else 'is refused'}", after

    def faults(self) -> Iterator[tuple[str, str, "World"]]:
        yield "loss", "etcd loses the key", self._replace(key=0)
        for n, row, heard in self.wire:
            wire = self.wire - {(n, row, heard)} | {(n, row, False)}
            yield "unknown", f"{'AB'[n]} hears no more of its {row}", self._replace(wire=wire)

    def broken(self) -> dict[str, bool]:
        old, new = self.log[-2:]
        leading = [node.row.epoch for node in self.nodes if node.stage == "leads"]
        nonces = [row.what for row in self.log if not row.batch]
        return {
            "I1: an epoch comes twice": not new.batch and new.epoch <= old.epoch,
            "I2: a commit of an epoch follows the takeover of the next": new.epoch < old.epoch,
            "I2: two nodes lead an epoch": len(set(leading)) < len(leading),
            "I5: said, not committed": not self.said <= {row.what for row in self.log if row.batch},
            "I8: a batch is applied twice": new[:2] <= old[:2],
            "the key: who had lost it deposes who won it later": nonces != sorted(nonces),
        }

    def good(self) -> bool:
        return any(node.stage == "leads" and node.row == self.log[-1] for node in self.nodes)
