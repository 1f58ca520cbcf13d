"""What a leader speaks in the name of, and what it needs from the world.

Decides nothing: values and protocols that the parts of the shell share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from controlplane.core.effects import Message
from controlplane.core.shard.queue import Want
from controlplane.leader.mailbox import Mailbox, Source
from controlplane.store.ports import ShardStore
from controlplane.store.records import ShardWord
from controlplane.telemetry.clock import Clock, Ticker


class Claim(NamedTuple):
    """The leadership of a shard in one epoch; `holder` is the random id of its takeover.

    `restored_epoch`: the first one since the store went back in time; 0: it never did.
    """

    shard: int
    epoch: int
    holder: bytes
    restored_epoch: int = 0


class LeaderClock(Clock, Ticker, Protocol):
    """Reads time and measures it."""


class Batches(Protocol):
    """The last batch that is known to be committed."""

    @property
    def batch(self) -> int:
        """Its number; 0: none of this epoch."""
        ...

    @property
    def sent_ms(self) -> int:
        """When the last fence that passed was sent, on the monotonic clock."""
        ...


class Witness(Protocol):
    """What agents that speak with this node remember."""

    def words(self, shard: int) -> list[ShardWord]:
        """Of one shard."""

    async def run(self, store: ShardStore) -> None:
        """Puts what concerns the shards that are led here before the store, until cancelled."""


class Speaker(Protocol):
    """Whom a leader tells what is committed: the sessions of agents on this node."""

    @property
    def memories(self) -> Witness: ...

    def lead(self, claim: Claim, mailbox: Mailbox, batches: Batches) -> None:
        """The claim is in force here: agents are told, and what they say goes to the mailbox."""

    def withdraw(self, claim: Claim) -> None:
        """The claim is not in force here any more."""

    def speak(
        self,
        claim: Claim,
        batch: int,
        messages: Sequence[Message],
        sessions: Mapping[str, Source],
        received_us: int,
        decided_ms: int,
    ) -> None:
        """Hands messages to the sessions that the shard knows its agents by.

        `received_us`: when the oldest result that led to them arrived; 0: none did. `decided_ms`:
        the monotonic time that the core was told when it decided them; attempt leases count from
        a heartbeat that was received no later.
        """

    def stepped(self, shard: int, want: Want) -> None:
        """A step is over: what the shard would use, and others may find room now."""
