"""One task instance, one agent: where its attempts run, and what is recorded of them.

Attempt x goes to the agent, which is modelled whole; y follows when x is over, and goes elsewhere,
where all is well. A, B, C lead in epochs 1, 2, 3. A commit is one step: `leadership` shows that it
may be. Lease, grace and authority last a tick each. Who pauses or is dead takes no steps.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

SCENES = {
    "network": ("takeover cut refusal restart", "takeover takeover cut cut refusal restart"),
    "host": ("restart reboot", "takeover restart reboot"),
    "wipe": ("wipe clock", "wipe takeover clock"),
    "lease": ("takeover clock", "takeover cut clock"),
}
LEASE = GRACE = AUTHORITY = 1


class Message(NamedTuple):
    n: int  # which leader's; (n, to, session) is a stream, first in, first out
    to: str
    session: int
    kind: str
    says: str = ""  # of a Hello: the incarnation; else what the journal has of x
    age: int = 0  # ticks since the agent sent the beat that this is or echoes


class Leader(NamedTuple):
    live: str = ""  # when it was deposed: what it still takes for live
    adopted: bool = False  # whether it has the inventory of the session
    quiet: int = 0  # ticks since it spoke to the agent; if deposed, since its last fence
    session: int = 1  # of the agent, as it knows: session, incarnation, ticks since the last beat
    whose: str = "disk 1"
    beat: int = 0


class World(NamedTuple):
    left: str  # faults that may still happen, and whether time passes
    off: str = ""  # the rule that is taken out
    leaders: tuple[Leader, ...] = (Leader(adopted=True),)  # by epoch; the last one is in the store
    live: str = ""  # the store: the live attempt, the end of x, the incarnation x was assigned to
    x_end: str = ""
    whose: str = ""
    wire: tuple[Message, ...] = ()
    session: int = 1  # the agent: session, incarnation, highest epoch, journal of x
    incarnation: str = "disk 1"
    seen: int = 0
    journal: str = ""
    claim: str = ""  # the supervisor: what became of x, and the ticks of lease left
    lease: int = 0
    spawns: int = 0
    y: str = ""

    def leader(self, n: int, **changes: Any) -> "World":
        leader = self.leaders[n]._replace(**changes)
        return self._replace(leaders=(*self.leaders[:n], leader, *self.leaders[n + 1 :]))

    def send(self, n: int, to: str, kind: str, says: str = "") -> "World":
        """In the newest session that the sender knows. Both sides drop what is of an older one."""
        me, agent = self.leaders[n], to == "agent"
        new = Message(n, to, me.session if agent else self.session, kind, says, me.beat * agent)
        newest = {(n, "agent"): self.session, (n, "node"): me.session}
        void = [m for m in (*self.wire, new) if m.session < newest.get(m[:2], 0)]
        keeps = [m for m in (*self.wire, new) if m not in void or self.off == f"{m.to}_drops_old"]
        quiet = min(me.quiet, 0) if agent and me is self.leaders[-1] else me.quiet
        wire = tuple(sorted(keeps, key=lambda m: m[:3]))
        return self._replace(wire=wire).leader(n, quiet=quiet)

    def opened(self) -> "World":
        """The agent opens newer sessions. What is on its way in the old ones may still come."""
        after = self._replace(session=self.session + 1)
        for n in range(len(self.leaders)):
            after = after.send(n, "node", "Hello", self.incarnation)
        return after

    def steps(self) -> Iterator[tuple[str, "World"]]:
        """The first message of a stream is handled; or shard, host or clock go on by themselves."""
        for i, m in enumerate(self.wire):
            if m[:3] not in [each[:3] for each in self.wire[:i]]:
                after = self._replace(wire=self.wire[:i] + self.wire[i + 1 :])
                letter = "ABCD"[m.n]
                who = f"the agent handles {letter}'s" if m.to == "agent" else f"{letter} handles"
                for how, then in after.agent(m) if m.to == "agent" else [("", after.node(m))]:
                    yield f"{who} {m.kind} {m.says}".rstrip() + how, then
        yield from chain(self.shard(), self.host(), self.clock() if "clock" in self.left else ())

    def shard(self) -> Iterator[tuple[str, "World"]]:
        """Commit attempt_live, then Assign. LOST only after more than lease + grace of silence."""
        n, me = len(self.leaders) - 1, self.leaders[-1]
        if self.live == "x" and me.quiet > LEASE + (GRACE if self.off != "wait_for_kill" else 0):
            yield f"{'ABCD'[n]} gives x up as LOST", self._replace(live="", x_end="LOST")
        if self.y == "runs":
            yield "y ends, and is recorded", self._replace(live="", y="over")
        free = not self.y and (not self.live or self.off == "one_live_attempt")
        if free and self.whose and self.x_end != "SUCCEEDED":
            yield f"{'ABCD'[n]} commits y, which starts", self._replace(live="y", y="runs")
        elif free and not self.whose and (me.adopted or self.off == "assign_after_inventory"):
            after = self._replace(live="x", whose=me.whose).send(n, "agent", "Assign")
            yield f"{'ABCD'[n]} commits x and assigns it to the agent", after

    def node(self, m: Message) -> "World":
        """Hello ─▶ Welcome. Inventory ─▶ adopt, send again, take results. Commit ─▶ ResultAck."""
        leader, leads, s = self.leaders[m.n], m.n == len(self.leaders) - 1, self
        live = (s.live if leads else leader.live) == "x"
        known = live and (leader.whose == s.whose or s.off == "own_incarnation")
        speaks = leads or leader.quiet <= AUTHORITY or s.off == "authority_ends"
        if m.kind == "Hello":
            s = s.leader(m.n, session=m.session, whose=m.says, adopted=False, beat=m.age)
            return s.send(m.n, "agent", "Welcome")
        if m.kind == "Beat":
            s = s.leader(m.n, beat=m.age)
            return s.send(m.n, "agent", "Answer") if leader.adopted and known and speaks else s
        if m.kind == "Rejected":
            return s._replace(live="", x_end="REJECTED") if leads and known else s
        if m.kind == "Inventory":
            s = s.leader(m.n, adopted=True)
            if live and not m.says and speaks and s.off != "resend_unseen":
                return s.send(m.n, "agent", "Assign")
            if m.says in ("", "ACCEPTED") or s.off == "tell_ends_again":
                return s
        if leads and (s.live == "x" or s.off == "only_if_live"):
            s = s._replace(live="", x_end=m.says if s.live == "x" else s.x_end)
        return s.send(m.n, "agent", "ResultAck") if leads or s.off == "ack_after_commit" else s

    def agent(self, m: Message) -> Iterator[tuple[str, "World"]]:
        """Welcome ─▶ epoch on disk ─▶ Inventory. Assign ─▶ refuse, or answer, or journal it."""
        lease = LEASE if self.off == "lease_from_beat" else LEASE - m.age
        if m.kind == "ResultAck":
            yield "", self._replace(journal="", claim="")
        elif m.n < self.seen and self.off != "refuse_lower_epoch":
            yield ": a lower epoch", self
        elif m.kind == "Welcome":
            yield "", self._replace(seen=m.n).send(m.n, "node", "Inventory", self.journal)
        elif m.kind == "Answer":
            yield "", self._replace(lease=max(lease, self.lease)) if lease > 0 else self
        elif self.incarnation != self.whose and self.off != "refuse_incarnation":
            yield ": meant for another incarnation", self.send(m.n, "node", "Rejected")
        elif self.journal:
            yield ": it has x", self
        elif lease <= 0 and self.off != "start_in_lease":
            yield ": too late", self.send(m.n, "node", "Rejected")
        else:
            if "refusal" in self.left:
                after = self._replace(left=self.left.replace("refusal", "", 1))
                yield ": no room", after.send(m.n, "node", "Rejected")
            claim = self.claim if self.incarnation == self.whose else ""
            yield ": ACCEPTED", self._replace(journal="ACCEPTED", lease=lease, claim=claim)

    def host(self) -> Iterator[tuple[str, "World"]]:
        """Claim and spawn; exit status or kill ─▶ journal FINISHED (fsync) ─▶ Result."""
        leased = self.lease > 0 or self.off == "start_in_lease"
        if self.journal == "ACCEPTED" and not self.claim and leased:
            after = self._replace(claim="runs", spawns=self.spawns + 1)
            yield "the supervisor claims x and spawns it", after
        elif self.claim == "runs":
            yield "x exits with 0", self._replace(claim="exited")
            if self.lease <= 0:
                yield "the supervisor kills x", self._replace(claim="dead")
            if self.off == "cancel_own_shard":
                yield "the leader of another shard cancels x", self._replace(claim="cancelled")
        elif self.journal == "ACCEPTED" and self.claim:
            end = "SUCCEEDED" if self.claim == "exited" else "LOST"
            early: Any = {"end_on_disk": {}, "prune_after_ack": {"journal": "", "claim": ""}}
            after = self._replace(**early.get(self.off, {"journal": end}))
            yield f"the agent tells {end}", after.send(self.seen, "node", "Result", end)

    def clock(self) -> Iterator[tuple[str, "World"]]:
        """Supervisors have killed within the grace; else time would not go on."""
        seen, on_way = self.seen, [m for m in self.wire if m.kind in ("Hello", "Beat", "Answer")]
        if self.leaders[seen].beat and not self.x_end and not on_way:
            yield f"the agent sends {'ABCD'[seen]} a beat", self.send(seen, "node", "Beat")
        if self.off == "lease_of_shard" and self.journal == "ACCEPTED":
            yield "the leader of another shard answers a beat", self._replace(lease=LEASE)
        if self.claim != "runs" or self.lease > -GRACE or self.off == "supervisor_kills":
            wire = tuple(m._replace(age=LEASE) for m in self.wire)
            old = [each._replace(quiet=min(each.quiet + 1, 3), beat=1) for each in self.leaders]
            lease = max(self.lease - 1, -GRACE)
            yield "time passes", self._replace(lease=lease, wire=wire, leaders=tuple(old))

    def faults(self) -> Iterator[tuple[str, str, "World"]]:
        n, waited = len(self.leaders), 0 if self.off == "new_leader_waits" else -AUTHORITY
        old, new = self.leader(n - 1, live=self.live, quiet=0).leaders, Leader(quiet=waited)
        new = new._replace(session=self.session, whose=self.incarnation)
        after = self._replace(leaders=(*old, new)).send(n, "agent", "Welcome")
        yield "takeover", f"{'ABCD'[n]} takes over", after
        yield "cut", "the agent opens other sessions", self.opened()
        lost: Any = {"epoch_on_disk": {"seen": 0}, "claim_file": {"claim": ""}}.get(self.off, {})
        yield "restart", "the agent is killed and starts again", self._replace(**lost).opened()
        for claim in sorted({self.claim.replace("runs", "dead"), ""}):
            known = {"accepted_on_disk": "", "boot_id": "ACCEPTED"}.get(self.off, "LOST")
            unsure = self.journal == "ACCEPTED" and claim != "exited"
            after = self._replace(journal=known if unsure else self.journal, claim=claim).opened()
            yield "reboot", f"the host reboots, with {'the' if claim else 'no'} claim of x", after
        wiped = self._replace(incarnation="disk 2", journal="", seen=0)
        yield "wipe", "the agent's disk is lost", wiped.opened()

    def broken(self) -> dict[str, bool]:
        return {
            "I3: two attempts of the task instance are alive": self.claim == self.y == "runs",
            "I4: x is spawned twice": self.spawns > 1,
            "I11: x is cancelled, and it is live": self.claim == "cancelled" and self.live == "x",
            "I12: what ran is recorded as never run": self.x_end == "REJECTED" and self.spawns > 0,
            "I12: what is said of x is recorded of y": self.y == "runs" and self.live != "y",
            "I18: unjournalled success": (self.x_end, self.journal) == ("SUCCEEDED", "ACCEPTED"),
        }

    def good(self) -> bool:
        return self.x_end == "SUCCEEDED" or self.y == "over"
