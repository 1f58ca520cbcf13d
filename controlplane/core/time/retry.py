"""Decides how long a task instance waits between two attempts.

Exponential backoff with a ceiling; the jitter takes away a share of the wait, and that share
is a hash of (task instance, attempt). So herds spread, while a restart, a replay or another
leader computes the same instant. Does not know which outcomes deserve a retry.
"""

from __future__ import annotations

import math
from hashlib import blake2b

from controlplane.core.types import RetryPolicy

HASH_BITS = 64


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
