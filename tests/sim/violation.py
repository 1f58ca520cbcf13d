"""How a broken invariant is told. Decides nothing."""

from __future__ import annotations


class ViolationError(AssertionError):
    """An invariant does not hold."""


def hold(condition: object, invariant: str, evidence: object) -> None:
    """Raises ViolationError unless the condition holds."""
    if not condition:
        raise ViolationError(f"{invariant}: {evidence}")
