"""What can be wrong with bytes or messages that somebody else wrote."""

from __future__ import annotations


class CodecError(ValueError):
    """Bytes or a message that stand for no value of the core; the text says what and where."""
