"""What a node does: the shard's side of the protocol."""

from __future__ import annotations

from docs.model.search import Rules
from docs.model.state import (
    AUTHORITY,
    GRACE,
    LEASE,
    LOST,
    NAME,
    NEVER,
    REJECTED,
    SUCCEEDED,
    Message,
    Node,
    Steps,
    World,
    firsts,
)

DEPOSED = {"epoch": 0, "live": "", "fenced": 0, "quiet": 0, "adopted": False}


def may_speak(node: Node, on: Rules) -> bool:
    return bool(node.epoch) and (node.fenced <= AUTHORITY or "authority_ends" not in on)


def assign(s: World, on: Rules) -> Steps:
    """Commit attempt_live, then Assign: at most one live attempt of a task instance."""
    for n, node in enumerate(s.nodes):
        if not s.leads(n) or s.live or SUCCEEDED in (s.x_end, s.y_end):
            continue
        if s.whose:
            after = s._replace(live="y", elsewhere=True).node(n, live="y", fenced=0)
            yield f"{NAME[n]} commits y, which starts elsewhere", after
        elif node.adopted:
            after = s._replace(live="x", whose=node.whose)
            after = after.node(n, live="x", fenced=0, quiet=0)
            yield f"{NAME[n]} commits x and assigns it to the agent", after.down(n, "Assign", on)


def y_ends(s: World, on: Rules) -> Steps:
    """A second attempt does what a first one should."""
    for n in range(2):
        if s.elsewhere and s.leads(n):
            after = s._replace(elsewhere=False)
            if s.live == "y":
                after = after._replace(live="", y_end=SUCCEEDED).node(n, live="")
            yield "y ends elsewhere", after


def hear_agent(s: World, on: Rules) -> Steps:
    """A node handles the first message of a session."""
    for n, node in enumerate(s.nodes):
        for message in firsts(node.up):
            rest = list(node.up)
            rest.remove(message)
            after = s.node(n, up=tuple(rest))
            yield f"{NAME[n]} handles {message.kind}", HANDLERS[message.kind](after, n, message, on)


def hello(s: World, n: int, message: Message, on: Rules) -> World:
    """Hello(agent, incarnation) ─▶ Welcome{shard, epoch}; what is older is dropped."""
    node, kept = s.nodes[n], s.nodes[n].up
    if "node_drops_old_session" in on:
        kept = tuple(each for each in kept if each.session >= message.session)
    after = s.node(
        n, session=message.session, whose=message.epoch, adopted=False, beat=message.age, up=kept
    )
    return after.down(n, "Welcome", on) if node.epoch else after


def beat(s: World, n: int, message: Message, on: Rules) -> World:
    """The answer echoes the beat; what is quiet for long is lost."""
    s = s.node(n, beat=message.age)
    node = s.nodes[n]
    if node.adopted and node.live == "x" and node.whose == s.whose and may_speak(node, on):
        return s.node(n, quiet=min(node.quiet, 0)).down(n, "Answer", on)
    return s


def inventory(s: World, n: int, message: Message, on: Rules) -> World:
    """It adopts what runs, takes results, re-sends assignments the agent never saw."""
    node = s.nodes[n]
    if message.epoch != node.epoch:
        return s
    s = s.node(n, adopted=True)
    if message.says in (SUCCEEDED, LOST, NEVER):
        return result(s, n, message, on) if "tell_ends_again" in on else s
    unseen = node.live == "x" and not message.says and "resend_unseen" in on
    if unseen and (node.whose == s.whose or "own_incarnation" not in on) and may_speak(node, on):
        return s.node(n, quiet=min(node.quiet, 0)).down(n, "Assign", on)
    return s


def result(s: World, n: int, message: Message, on: Rules) -> World:
    """Shard commits (delete live, append history; only if live) ─▶ ResultAck."""
    if not s.leads(n):
        s = s.node(n, **DEPOSED)
        return s if "ack_after_commit" in on else s.down(n, "ResultAck", on)
    return end(s, n, message.says, on).down(n, "ResultAck", on)


def refusal(s: World, n: int, message: Message, on: Rules) -> World:
    """The attempt is final; the next one has another id."""
    node = s.nodes[n]
    known = node.whose == s.whose or "own_incarnation" not in on
    if not known or not (node.adopted or "inventory_then_refusals" not in on):
        return s
    return end(s, n, REJECTED, on) if s.leads(n) and s.live == "x" else s


def end(s: World, n: int, outcome: str, on: Rules) -> World:
    """Records the end of x in a commit of node n."""
    s = s.node(n, fenced=0)
    if s.live == "x":
        return s._replace(live="", x_end=outcome).node(n, live="")
    if s.live == "y" and "only_if_live" not in on:
        return s._replace(live="", y_end=outcome).node(n, live="")
    return s


HANDLERS = {
    "Hello": hello,
    "Beat": beat,
    "Inventory": inventory,
    "Result": result,
    "Rejected": refusal,
}


def lose(s: World, on: Rules) -> Steps:
    """LOST only after more than lease + grace since the last answer or Assign sent."""
    wait = LEASE + GRACE if "wait_for_kill" in on else LEASE
    for n, node in enumerate(s.nodes):
        if s.leads(n) and s.live == "x" and node.quiet > wait:
            yield f"{NAME[n]} gives x up as LOST", end(s, n, LOST, on)


def fence(s: World, on: Rules) -> Steps:
    """The idle leader commits an empty batch every second; a deposed one learns it from that."""
    for n, node in enumerate(s.nodes):
        if node.epoch and not s.leads(n):
            yield f"{NAME[n]} finds itself deposed", s.node(n, **DEPOSED)
