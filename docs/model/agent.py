"""What an agent and its supervisor do."""

from __future__ import annotations

from docs.model.search import Rules
from docs.model.state import (
    ACCEPTED,
    DEAD,
    EXITED,
    LEASE,
    LOST,
    NAME,
    NEVER,
    RUNS,
    SUCCEEDED,
    Message,
    Node,
    Steps,
    World,
    firsts,
)


def hear_node(s: World, on: Rules) -> Steps:
    """The agent handles the first message of a session."""
    for n, node in enumerate(s.nodes):
        for message in firsts(node.down):
            rest = list(node.down)
            rest.remove(message)
            after = s.node(n, down=tuple(rest))
            void = message.epoch < s.seen and "refuse_lower_epoch" in on
            line = f"the agent handles {message.kind} of {NAME[n]}"
            if message.kind == "ResultAck":
                done = s.journal in (SUCCEEDED, LOST, NEVER)
                yield line, pruned(after) if done else after
            elif void:
                yield f"{line}: a lower epoch", after
            elif message.kind == "Welcome":
                kept = message.epoch if "epoch_on_disk" in on else s.kept
                after = after._replace(seen=message.epoch, kept=kept, leader=n)
                yield (
                    f"{line}, epoch {message.epoch}",
                    after.up(n, "Inventory", message.epoch, s.journal),
                )
            elif message.kind == "Answer":
                yield line, extended(after, message, on)
            else:
                yield from handle_assign(after, n, message, on)


def pruned(s: World) -> World:
    return s._replace(journal="", disk="", claim="", asked=False)


def extended(s: World, message: Message, on: Rules) -> World:
    lease = LEASE - message.age if "lease_from_beat" in on else LEASE
    return s._replace(lease=lease) if s.journal and lease > max(s.lease, 0) else s


def handle_assign(s: World, n: int, message: Message, on: Rules) -> Steps:
    """Refuse, or answer the journalled state, or journal ACCEPTED."""
    line = f"the agent handles Assign of {NAME[n]}"
    lease = LEASE - message.age if "lease_from_beat" in on else LEASE
    if s.incarnation != s.whose or (lease <= 0 and "start_in_lease" in on):
        yield f"{line}: refused", s.up(n, "Rejected")
    elif s.journal:
        yield f"{line}: has it", s
    else:
        if s.left.refusals:
            yield f"{line}: no room, refused", s.spend("refusals").up(n, "Rejected")
        disk = ACCEPTED if "accepted_on_disk" in on else ""
        yield f"{line}: ACCEPTED", s._replace(journal=ACCEPTED, disk=disk, lease=lease)


def run(s: World, on: Rules) -> Steps:
    """The agent asks; the supervisor claims, spawns, sees the end, or kills at the deadline."""
    leased = s.lease > 0 or "start_in_lease" not in on
    if s.journal == ACCEPTED and not s.asked and not s.claim and leased:
        yield "the agent asks for the spawn", s._replace(asked=True)
    if s.asked and leased and not s.claim:
        after = s._replace(asked=False, claim=RUNS, spawns=s.spawns + 1)
        yield "the supervisor claims x and spawns it", after
    if s.claim == RUNS:
        yield "x exits with 0", s._replace(claim=EXITED)
        if s.lease <= 0:
            yield "the supervisor kills x", s._replace(claim=DEAD)
    if s.orphan is not None and s.orphan <= 0:
        yield "the old supervisor kills x", s._replace(orphan=None)


def tell(s: World, on: Rules) -> Steps:
    """Exit status ─▶ journal FINISHED (fsync) ─▶ Result, to whoever leads."""
    outcome = {EXITED: SUCCEEDED, DEAD: LOST}.get(s.claim, "")
    unasked = not s.asked or "end_unasked_only" not in on
    if not s.claim and unasked and s.lease <= 0:
        outcome = NEVER
    if s.journal == ACCEPTED and outcome:
        after = s._replace(journal=outcome)
        if "end_on_disk" in on:
            after = after._replace(disk=outcome, synced=outcome == SUCCEEDED)
        after = after.up(s.leader, "Result", 0, outcome)
        yield (
            f"the agent journals {outcome} and tells it",
            (after if "prune_after_ack" in on else pruned(after)),
        )


def connect(s: World, on: Rules) -> Steps:
    """Sessions are numbered; the newest wins. A heartbeat at a time."""
    for n, node in enumerate(s.nodes):
        if not node.open:
            after = s.node(n, opened=node.opened + 1, open=True)
            yield f"the agent opens a session with {NAME[n]}", after.up(n, "Hello", s.incarnation)
        elif s.left.clock and s.leader == n and node.beat and not s.x_end and not on_way(node):
            yield f"the agent sends {NAME[n]} a beat", s.up(n, "Beat")


def on_way(node: Node) -> bool:
    return any(each.kind in ("Hello", "Beat", "Answer") for each in node.up + node.down)
