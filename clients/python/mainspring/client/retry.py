"""Says whether and when a failed call is tried again.

Decides: that only a call without an answer is repeated, after a pause that doubles with every round
over all addresses and varies at random. Promises: it gives up once the patience is over. Does not
know: the clock and the dice; both are arguments. Every call of the SDK may be repeated: it reads,
or it carries a request id.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mainspring.client.errors import DeadlineExceededError, MainspringError, UnavailableError

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


@dataclass(slots=True)
class Tries:
    """The tries of one call over `addresses` addresses, from `started_s` on, for `patience_s`."""

    addresses: int
    patience_s: float
    started_s: float
    failed: int = field(default=0)
    overdue: int = field(default=0)

    def pause_s(self, error: MainspringError, now_s: float, dice: float) -> float | None:
        """The pause before the next try; None: give up. `dice` is in [0, 1).

        An address that did not answer in time has already cost the whole deadline: only the
        other addresses are asked after it.
        """
        self.failed += 1
        if isinstance(error, DeadlineExceededError):
            self.overdue += 1
            return 0.0 if self.overdue < self.addresses else None
        if not isinstance(error, UnavailableError):
            return None
        if self.failed < self.addresses:
            return 0.0
        pause = self._round_pause_s() * (0.5 + dice / 2)
        return pause if now_s + pause - self.started_s <= self.patience_s else None

    def answered(self, now_s: float) -> None:
        """The server spoke: patience starts anew."""
        self.failed = self.overdue = 0
        self.started_s = now_s

    def _round_pause_s(self) -> float:
        rounds = self.failed // self.addresses - 1
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(rounds, 10))
