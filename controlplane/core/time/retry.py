"""Decides how long a task instance waits between two attempts.

Exponential backoff with a ceiling; the jitter takes away a share of the wait, and that share
is a hash of (task instance, attempt). So herds spread, while a restart, a replay or another
leader computes the same instant. Does not know which outcomes deserve a retry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b

HASH_BITS = 64
MAX_BACKOFF_MS = 30 * 24 * 3_600_000


class RetryPolicyError(ValueError):
    """Every field of a retry policy that is out of range: `problems` is (field, reason) pairs."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{field}: {reason}" for field, reason in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a task instance is tried again.

    `max_attempts` counts the first try. `jitter` is the largest share of a wait that may be
    taken away: 0 keeps waits exact, 1 spreads them over the whole wait.
    """

    max_attempts: int = 1
    initial_backoff_ms: int = 1_000
    multiplier: float = 2.0
    max_backoff_ms: int = 3_600_000
    jitter: float = 0.5

    def __post_init__(self) -> None:
        problems = tuple(_problems(self))
        if problems:
            raise RetryPolicyError(problems)


def _problems(policy: RetryPolicy) -> list[tuple[str, str]]:
    rules = (
        ("max_attempts", 1 <= policy.max_attempts <= 1_000_000, "between 1 and 1000000"),
        (
            "initial_backoff_ms",
            0 <= policy.initial_backoff_ms <= MAX_BACKOFF_MS,
            f"between 0 and {MAX_BACKOFF_MS} (30 days)",
        ),
        ("multiplier", 1.0 <= policy.multiplier <= 1_000.0, "between 1 and 1000"),
        (
            "max_backoff_ms",
            policy.initial_backoff_ms <= policy.max_backoff_ms <= MAX_BACKOFF_MS,
            f"at least initial_backoff_ms and at most {MAX_BACKOFF_MS} (30 days)",
        ),
        ("jitter", 0.0 <= policy.jitter <= 1.0, "between 0 and 1"),
    )
    return [
        (field, f"{getattr(policy, field)!r} is refused; it must be {wanted}")
        for field, holds, wanted in rules
        if not holds
    ]


def backoff_ms(policy: RetryPolicy, attempt_number: int, key: bytes) -> int:
    """Milliseconds between the end of attempt `attempt_number` (1 is the first) and the next.

    `key` identifies the task instance.
    """
    assert attempt_number >= 1, attempt_number
    ceiling = _exponential_ms(policy, attempt_number - 1)
    digest = blake2b(
        key, digest_size=HASH_BITS // 8, salt=attempt_number.to_bytes(16, "big")
    ).digest()
    share = int.from_bytes(digest, "big") / (1 << HASH_BITS)
    return ceiling - int(ceiling * policy.jitter * share)


def _exponential_ms(policy: RetryPolicy, doublings: int) -> int:
    if policy.initial_backoff_ms == 0:
        return 0
    # Compared as logarithms: the power itself overflows a float near the thousandth attempt.
    room = math.log(policy.max_backoff_ms / policy.initial_backoff_ms)
    if doublings * math.log(policy.multiplier) >= room:
        return policy.max_backoff_ms
    return int(policy.initial_backoff_ms * policy.multiplier**doublings)
