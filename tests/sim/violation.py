"""How a broken invariant is told. Decides nothing."""

from __future__ import annotations


class ViolationError(AssertionError):
    """An invariant does not hold."""


def hold(condition: object, invariant: str, evidence: object) -> None:
    """Raises ViolationError unless the condition holds. Evidence that takes long to write down is
    a function, and is written when there is something to tell.
    """
    if not condition:
        raise ViolationError(f"{invariant}: {evidence() if callable(evidence) else evidence}")
