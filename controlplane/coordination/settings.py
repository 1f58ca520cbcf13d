"""The times of coordination and the relations between them.

Decides nothing at run time. Promises that an instance is consistent: every broken relation is
reported at once, in one ValueError. Knows nothing of where the values came from.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable
from typing import Self

from controlplane.settings.etcd import EtcdAccess, endpoint_problem

# Well below the five minutes for which etcd keeps a token unless told otherwise.
TOKEN_RENEW_MS = 120_000
_DEADLINE_MS, _TICK_MS, _BACKOFF_MAX_MS = 1_000, 250, 1_000
_CLUSTER_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")


@dataclasses.dataclass(frozen=True, slots=True)
class CoordinationSettings:
    """Settings of one node's coordination.

    endpoints: addresses of etcd's members, "host:port" or "https://host:port".
    draw: a random number between two others; for jitter.
    """

    cluster: str
    endpoints: tuple[str, ...]
    lease_ttl_ms: int = 5_000  # etcd counts in seconds
    renew_ms: int = 1_500  # pause between two renewals of the lease
    deadline_ms: int = _DEADLINE_MS  # of one call to one member
    tick_ms: int = _TICK_MS  # how often the main loop shows that it is alive
    max_stall_ms: int = 2_000  # silence of the main loop after which the lease is not renewed
    poll_ms: int = 3_000  # how often keys are read again although the watch is silent
    campaign_pause_ms: int = 300  # head start of a shard's preferred owner
    # How long a node is a member before shards move to it, and a key held before its shard moves.
    handover_after_ms: int = 3_000
    report_ms: int = 1_000  # least time between two changes of a node's own membership record
    backoff_min_ms: int = 50
    backoff_max_ms: int = _BACKOFF_MAX_MS
    token_renew_ms: int = TOKEN_RENEW_MS
    access: EtcdAccess = dataclasses.field(default_factory=EtcdAccess)
    draw: Callable[[float, float], float] = dataclasses.field(
        default=random.uniform, repr=False, compare=False
    )

    @classmethod
    def of_lease(
        cls,
        cluster: str,
        endpoints: tuple[str, ...],
        lease_ttl_ms: int,
        access: EtcdAccess | None = None,
    ) -> Self:
        """Settings with times in proportion to the lease. Raises ValueError."""
        max_stall_ms = lease_ttl_ms * 2 // 5
        return cls(
            cluster,
            endpoints,
            lease_ttl_ms=lease_ttl_ms,
            renew_ms=lease_ttl_ms * 3 // 10,
            deadline_ms=min(_DEADLINE_MS, lease_ttl_ms // 5),
            max_stall_ms=max_stall_ms,
            tick_ms=min(_TICK_MS, max_stall_ms // 4),
            backoff_max_ms=min(_BACKOFF_MAX_MS, lease_ttl_ms // 2),
            access=access or EtcdAccess(),
        )

    def __post_init__(self) -> None:
        faults = [text for holds, text in self._relations() if not holds]
        if faults:
            raise ValueError("coordination settings: " + "; ".join(faults))

    def _relations(self) -> list[tuple[bool, str]]:
        times = [field.name for field in dataclasses.fields(self) if field.name.endswith("_ms")]
        return [
            (_CLUSTER_NAME.fullmatch(self.cluster) is not None, "cluster must be a short name"),
            (bool(self.endpoints), "endpoints must name at least one member"),
            *((not (fault := endpoint_problem(text)), fault) for text in self.endpoints),
            *((getattr(self, name) > 0, f"{name} must be above 0") for name in times),
            (self.lease_ttl_ms % 1_000 == 0, "lease_ttl_ms must be whole seconds"),
            (
                # One member may miss its deadline and the next still answers in time.
                self.renew_ms + 2 * self.deadline_ms <= self.lease_ttl_ms,
                "renew_ms + 2 * deadline_ms must not exceed lease_ttl_ms",
            ),
            (self.max_stall_ms < self.lease_ttl_ms, "max_stall_ms must be below lease_ttl_ms"),
            (4 * self.tick_ms <= self.max_stall_ms, "4 * tick_ms must not exceed max_stall_ms"),
            (
                self.backoff_min_ms <= self.backoff_max_ms < self.lease_ttl_ms,
                "backoff_min_ms <= backoff_max_ms < lease_ttl_ms must hold",
            ),
        ]

    @property
    def backoff(self) -> Backoff:
        return Backoff(self.backoff_min_ms, self.backoff_max_ms, self.draw)


class Backoff:
    """Pauses that double from the least to the most, each drawn from its upper half.

    The draw keeps nodes that lost etcd at the same moment from coming back at the same moment.
    """

    def __init__(
        self, min_ms: int, max_ms: int, draw: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._min_ms = min_ms
        self._max_ms = max_ms
        self._draw = draw
        self._ceiling_ms = min_ms

    def next_s(self) -> float:
        ceiling_ms = self._ceiling_ms
        self._ceiling_ms = min(self._max_ms, 2 * ceiling_ms)
        return self._draw(ceiling_ms / 2, ceiling_ms) / 1_000

    def fresh(self) -> Backoff:
        return Backoff(self._min_ms, self._max_ms, self._draw)

    def reset(self) -> None:
        self._ceiling_ms = self._min_ms
