"""What a seed draws for its world: sizes, load, network, clocks, and which faults there are.

Decides that seeds differ in kind and not only in their dice: a fault that is one of thirty hides
what it would show as one of three. Promises that the draw depends on the seed alone. Does not know
what a fault does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

# How often each kind of fault comes, beside the others.
NODE_FAULTS: Mapping[str, int] = {
    "crash-node": 6,
    "stop-node": 6,
    "cut": 6,
    "part": 6,
    "slow": 6,
    "lossy": 3,
    "hide-etcd": 6,
    "hand-over": 6,
    "etcd-down": 3,
    "database-down": 3,
    "steal-keys": 3,
    "restore": 2,
}
ETCD_FAULTS: Mapping[str, int] = {
    "etcd-hangs": 2,
    "etcd-restarts": 2,
    "etcd-wiped": 2,
    "etcd-restored": 2,
    "etcd-lease-ends": 2,
    "etcd-late": 2,
    "etcd-lossy": 2,
    "etcd-compacts": 1,
}
HOST_FAULTS: Mapping[str, int] = {
    "crash-agent": 10,
    "crash-supervisor": 5,
    "stop-agent": 5,
    "stop-supervisor": 5,
    "end-agent": 5,
    "lose-disk": 3,
    "reboot": 3,
    "crash-both": 3,
    "leave-agent-dead": 3,
    "isolate": 3,
    "copy": 3,
}
# Not at a moment, but at the next time that somebody does a certain thing.
TRAPS: Mapping[str, int] = {"at-host": 12, "at-store": 12}
FAULTS: Mapping[str, int] = {**NODE_FAULTS, **ETCD_FAULTS, **HOST_FAULTS, **TRAPS}
MIXES = ("mixed", "mixed", "small", "wide", "deep", "timed")
# Every seed of this kind draws the sizes of its world as well.
SWARM_EVERY = 2


class Net(NamedTuple):
    """A regime of the network: the usual delay, the share of frames that take much longer."""

    usual_s: float = 0.002
    tardy_share: float = 0.03
    tardy_factor: float = 40.0


NETS = {
    "lan": Net(),
    "jittery": Net(0.01, 0.1, 10.0),
    "wan": Net(0.06, 0.05, 5.0),
}


@dataclass(frozen=True)
class Options:
    """A world. `seconds`: how long its first phase lasts; `fault_s` and `wish_s`: mean pauses
    between faults and between wishes of people; `skew_ms` and `drift`: how far clocks are apart.

    `usual_times`: attempt leases and heartbeats as installed, instead of short ones. `only`: the
    indexes of the faults that happen, all if None.
    """

    seconds: float = 60.0
    nodes: int = 3
    shards: int = 4
    agents: int = 20
    dags: int = 8
    wish_s: float = 0.4
    fault_s: float = 1.0
    faults: tuple[str, ...] = tuple(FAULTS)
    net: str = "lan"
    skew_ms: int = 400
    drift: float = 0.008
    mix: str = "mixed"
    poison: float = 0.01
    usual_times: bool = False
    only: frozenset[int] | None = None

    def __str__(self) -> str:
        kinds = "all" if set(self.faults) == set(FAULTS) else ",".join(self.faults) or "none"
        usual = " usual times" if self.usual_times else ""
        only = "" if self.only is None else f" only={','.join(map(str, sorted(self.only)))}"
        return (
            f"nodes={self.nodes} shards={self.shards} agents={self.agents} dags={self.dags}"
            f" seconds={self.seconds:g} wish={self.wish_s:g}s fault={self.fault_s:g}s"
            f" net={self.net} skew={self.skew_ms}ms drift={self.drift:g} mix={self.mix}"
            f" poison={self.poison:g} faults={kinds}{usual}{only}"
        )


def stream(seed: int, name: str) -> Random:
    """A stream of random numbers of its own: nobody else's draws move it."""
    return Random(f"{seed}/{name}")


def drawn(seed: int, base: Options, *, sizes: bool | None = None) -> Options:
    """The world of a seed. `sizes`: whether it draws them too; None: as the seed says."""
    random = stream(seed, "swarm")
    options = replace(
        base,
        wish_s=random.choice((0.2, 0.4, 0.4, 0.8, 2.0)),
        fault_s=random.choice((0.5, 1.0, 1.0, 2.0, 8.0)),
        faults=_some_faults(random),
        net=random.choice(("lan", "lan", "lan", "jittery", "wan")),
        skew_ms=random.choice((0, 100, 400)),
        drift=random.choice((0.0, 0.001, 0.008)),
        mix=random.choice(MIXES),
        poison=random.choice((0.0, 0.0, 0.02)),
    )
    if sizes is False or (sizes is None and seed % SWARM_EVERY):
        return options
    return replace(
        options,
        nodes=random.randint(1, 4),
        shards=random.randint(1, 6),
        agents=random.randint(1, 20),
        dags=random.randint(1, 12),
    )


def _some_faults(random: Random) -> tuple[str, ...]:
    """All, none (for what is promised of a healthy cluster), or a few."""
    chance = random.random()
    if chance < 0.25:
        return tuple(FAULTS)
    if chance < 0.32:
        return ()
    share = random.choice((0.15, 0.3, 0.6))
    return tuple(kind for kind in FAULTS if random.random() < share) or ("crash-node",)


class Fault(NamedTuple):
    """A fault of a plan: its index, its virtual second, its kind, and dice of its own."""

    index: int
    at_s: float
    kind: str
    random: Random


def planned(seed: int, options: Options) -> list[Fault]:
    """The faults of a world in their order. One that is left out moves no other."""
    if not options.faults:
        return []
    random, at_s, plan = stream(seed, "faults"), 0.0, []
    weights = [FAULTS[kind] for kind in options.faults]
    while (at_s := at_s + random.expovariate(1.0 / options.fault_s)) < options.seconds:
        (kind,) = random.choices(options.faults, weights)
        index = len(plan)
        plan.append(Fault(index, at_s, kind, stream(seed, f"fault/{index}")))
    return [each for each in plan if options.only is None or each.index in options.only]
