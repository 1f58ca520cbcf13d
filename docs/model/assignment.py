"""The protocol of assignment: its rules, what time and faults do, and what must always hold.

Commits are single steps here: `leadership` shows that they may be.
"""

from __future__ import annotations

from docs.model.agent import connect, hear_node, pruned, run, tell
from docs.model.search import Model, Rules
from docs.model.shard import assign, fence, hear_agent, lose, y_ends
from docs.model.state import (
    ACCEPTED,
    AUTHORITY,
    DEAD,
    EXITED,
    GRACE,
    LEASE,
    LOST,
    NAME,
    NEVER,
    REJECTED,
    RUNS,
    SUCCEEDED,
    Faults,
    Node,
    Steps,
    World,
)

RULES = {
    "refuse_lower_epoch": ("network", "What names a lower epoch than the agent has seen is void."),
    "epoch_on_disk": (
        "network",
        "An agent syncs a Welcome's epoch, and only then says what it has.",
    ),
    "agent_drops_old_session": ("network", "An agent drops what belongs to an older session."),
    "node_drops_old_session": ("network", "A node drops what belongs to an older session."),
    "inventory_then_refusals": ("leaders", "A refusal counts after the inventory of its epoch."),
    "resend_unseen": ("network", "What the inventory does not hold is sent again, same id."),
    "tell_ends_again": ("network", "An end is told in every inventory until it is acknowledged."),
    "ack_after_commit": ("network", "A result is acknowledged after the commit that records it."),
    "prune_after_ack": ("network", "An end stays in the journal until it is acknowledged."),
    "accepted_on_disk": ("host", "ACCEPTED is on disk before the spawn is asked for."),
    "end_on_disk": ("host", "An end is on disk before it is told."),
    "boot_id": ("host", "After a reboot whatever was accepted counts as begun, and lost."),
    "claim_file": ("host", "A supervisor spawns only what it can claim: one file for an id."),
    "end_unasked_only": ("lease", "Never run is only what no supervisor was asked to spawn."),
    "own_incarnation": ("wipe", "What another incarnation says of an attempt proves nothing."),
    "only_if_live": ("lease", "A result ends an attempt only if that attempt is live."),
    "lease_from_beat": ("lease", "A lease counts from the sending of the beat that it answers."),
    "lease_of_shard": ("lease", "A lease answer extends attempts of its own shard only."),
    "start_in_lease": ("lease", "Nothing is accepted or spawned when its lease is over."),
    "supervisor_kills": ("lease", "A supervisor kills at the end of the lease, agent or no agent."),
    "wait_for_kill": ("lease", "Lost is what was not answered for longer than lease + grace."),
    "new_leader_waits": ("lease", "After a takeover the wait is longer by the authority."),
    "authority_ends": ("lease", "A leader speaks only so long after its last fence that passed."),
}


def tick(s: World, on: Rules) -> Steps:
    """Supervisors have killed within the grace; else time would not go on."""
    held = s.claim == RUNS and s.lease <= -GRACE and "supervisor_kills" in on
    if not s.left.clock or held or (s.orphan is not None and s.orphan <= -GRACE):
        return
    after = s._replace(
        lease=max(s.lease - 1, -GRACE),
        orphan=None if s.orphan is None else s.orphan - 1,
        nodes=tuple(aged(node, leads=s.leads(n)) for n, node in enumerate(s.nodes)),
    )
    yield "time passes", after
    if "lease_of_shard" not in on and s.journal == ACCEPTED:
        yield "time passes; the leader of another shard answers", after._replace(lease=LEASE)


def aged(node: Node, *, leads: bool) -> Node:
    older = [
        tuple(m._replace(age=min(m.age + 1, LEASE)) for m in queue)
        for queue in (node.down, node.up)
    ]
    waited = min(node.quiet + 1, LEASE + GRACE + 1) if leads and node.live == "x" else 0
    fenced = min(node.fenced + 1, AUTHORITY + 1) if node.epoch and not leads else 0
    beaten = min(node.beat + 1, LEASE)
    return node._replace(fenced=fenced, quiet=waited, beat=beaten, down=older[0], up=older[1])


def faults(s: World, on: Rules) -> Steps:
    for n, node in enumerate(s.nodes):
        if s.left.takeovers:
            waited = -AUTHORITY if "new_leader_waits" in on and s.left.clock else 0
            after = s.spend("takeovers").node(1 - n, quiet=0)._replace(epoch=s.epoch + 1)
            after = after.node(
                n, epoch=s.epoch + 1, live=s.live, fenced=0, quiet=waited, adopted=False
            )
            yield f"{NAME[n]} takes over, epoch {after.epoch}", after.down(n, "Welcome", on)
        if s.left.cuts and node.open:
            yield f"the session with {NAME[n]} is cut", cut(s.spend("cuts"), n, on)
    if s.left.deaths and s.claim == RUNS:
        yield "the supervisor dies, and x with it", s.spend("deaths")._replace(claim=DEAD)
    if s.left.restarts:
        yield "the agent is killed and starts again", restarted(s.spend("restarts"), on)
    if s.left.reboots:
        yield from reboot(restarted(s.spend("reboots"), frozenset(RULES)), on)
    if s.left.wipes:
        yield "the agent's disk is lost", wiped(s.spend("wipes"), on)


def cut(s: World, n: int, on: Rules) -> World:
    """The agent ends a session. What is on its way up may still come, if no newer one is first."""
    down = () if "agent_drops_old_session" in on else s.nodes[n].down
    return s.node(n, open=False, down=down)


def restarted(s: World, on: Rules) -> World:
    s = cut(cut(s, 0, on), 1, on)._replace(seen=s.kept, leader=0, asked=False)
    return s if "claim_file" in on else s._replace(claim="")


def reboot(s: World, on: Rules) -> Steps:
    """Processes end with the boot, and what was not synced is gone: claims may be."""
    s = s._replace(journal=s.disk, orphan=None, claim=s.claim and (s.claim.replace(RUNS, DEAD)))
    for claim in {s.claim, ""}:
        after = s._replace(claim=claim)
        if "boot_id" in on and s.journal == ACCEPTED and claim != EXITED:
            after = after._replace(journal=LOST, disk=LOST)
        yield f"the host reboots; claim: {claim or 'none'}", after


def wiped(s: World, on: Rules) -> World:
    orphan = s.lease if s.claim == RUNS else s.orphan
    s = restarted(pruned(s), on)
    return s._replace(incarnation=s.incarnation + 1, seen=0, kept=0, orphan=orphan)


def broken(s: World) -> str:
    if (s.claim == RUNS) + (s.orphan is not None) + s.elsewhere > 1:
        return "I3: two attempts of the task instance are alive"
    if s.spawns > 1:
        return "I4: x is spawned twice"
    if s.x_end in (NEVER, REJECTED) and s.spawns:
        return "I12: it is recorded that x never ran, and it did"
    if s.y_end and s.elsewhere:
        return "I12: the result recorded of y is that of x"
    if s.x_end == SUCCEEDED and not s.synced:
        return "I18: SUCCEEDED without a journalled exit 0"
    return ""


def good(s: World) -> bool:
    return SUCCEEDED in (s.x_end, s.y_end)


def scene(*, clock: bool = False, **left: int) -> World:
    return World(Faults(clock=clock, **left))


MODEL = Model(
    RULES,
    {
        "network": (
            scene(takeovers=1, cuts=1, refusals=1, restarts=1),
            scene(takeovers=1, cuts=2, refusals=1, restarts=1),
        ),
        "leaders": (
            scene(takeovers=2, refusals=1),
            scene(takeovers=3, cuts=1, refusals=1),
        ),
        "host": (
            scene(restarts=1, reboots=1, deaths=1),
            scene(takeovers=1, restarts=1, reboots=1, deaths=1),
        ),
        "wipe": (scene(wipes=1, clock=True), scene(wipes=1, deaths=1, clock=True)),
        "lease": (scene(takeovers=1, clock=True), scene(takeovers=1, deaths=1, clock=True)),
    },
    (assign, y_ends, hear_agent, hear_node, run, tell, connect, lose, fence, tick),
    (faults,),
    broken,
    good,
)
