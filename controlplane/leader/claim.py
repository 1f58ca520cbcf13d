"""What a leader speaks in the name of, and what it needs from the world.

Decides nothing: values and protocols that the parts of the shell share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from controlplane.core.effects import Message
from controlplane.core.shard.queue import Want
from controlplane.leader.mailbox import Mailbox, Source
from controlplane.telemetry.clock import Clock, Ticker


class Claim(NamedTuple):
    """The leadership of a shard in one epoch; `holder` is the random id of its takeover."""

    shard: int
    epoch: int
    holder: bytes


class LeaderClock(Clock, Ticker, Protocol):
    """Reads time and measures it."""


class Batches(Protocol):
    """The number of the last batch that is known to be committed."""

    @property
    def batch(self) -> int: ...


class Speaker(Protocol):
    """Whom a leader tells what is committed: the sessions of agents on this node."""

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
    ) -> None:
        """Hands messages to the sessions that the shard knows its agents by.

        `received_us`: when the oldest result that led to them arrived; 0: none did.
        """

    def stepped(self, shard: int, want: Want) -> None:
        """A step is over: what the shard would use, and others may find room now."""
