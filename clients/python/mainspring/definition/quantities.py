"""Durations, amounts of memory and numbers: from the words of a file and back.

Decides which texts are quantities (`1h30m`, `512MiB`, `0.25`) and what they amount to, exactly: a
duration is whole nanoseconds, memory is whole bytes. Promises that what it writes it reads back as
the same amount. Does not know which limits a key has.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

NANOS_PER_MILLISECOND = 1_000_000
NANOS_PER_SECOND = 1_000_000_000
NANOS_PER_DAY = 86_400 * NANOS_PER_SECOND
# The longest duration of the wire format, about 10,000 years.
MAX_DURATION_NS = 315_576_000_000 * NANOS_PER_SECOND
# A quantity needs no more characters; longer ones are not even parsed.
MAX_CHARACTERS = 64

_AMOUNT = r"[0-9]+(?:\.[0-9]+)?"
DURATION_PATTERN = (
    rf"(?:{_AMOUNT}|(?=[0-9])(?:{_AMOUNT}d)?(?:{_AMOUNT}h)?(?:{_AMOUNT}m)?"
    rf"(?:{_AMOUNT}s)?(?:{_AMOUNT}ms)?)"
)
SIZE_PATTERN = rf"{_AMOUNT} ?(?:[kKmMgGtTpP](?:[iI][bB]?|[bB])|[bB])?"
NUMBER_PATTERN = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"

_DURATION = re.compile(DURATION_PATTERN)
_DURATION_PART = re.compile(rf"({_AMOUNT})(ms|[dhms]|$)")
_SIZE = re.compile(rf"({_AMOUNT}) ?([a-zA-Z]*)")
_NUMBER = re.compile(NUMBER_PATTERN)
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NOT_FINITE = re.compile(r"[-+]?\.?(?:inf|infinity|nan)", re.IGNORECASE)

_UNIT_NS = {
    "d": NANOS_PER_DAY,
    "h": 3_600 * NANOS_PER_SECOND,
    "m": 60 * NANOS_PER_SECOND,
    "s": NANOS_PER_SECOND,
    "ms": NANOS_PER_MILLISECOND,
    "": NANOS_PER_SECOND,
}
_PREFIXES = "kmgtp"
_UNIT_BYTES = {"": 1, "b": 1}
for _power, _prefix in enumerate(_PREFIXES, start=1):
    _UNIT_BYTES |= {
        f"{_prefix}b": 1_000**_power,
        f"{_prefix}i": 1_024**_power,
        f"{_prefix}ib": 1_024**_power,
    }


class QuantityError(ValueError):
    """A text that is not the expected quantity: what is wrong and how to write it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def _refuse_odd(text: str, what: str, hint: str) -> None:
    """Refuses what no quantity can be, with the most telling reason."""
    if len(text) > MAX_CHARACTERS:
        raise QuantityError(f"expected {what}, found {len(text):,} characters", hint)
    if _NOT_FINITE.fullmatch(text):
        raise QuantityError(f"{text} is not a finite number", hint)
    if text.startswith("-") and text[1:2].isdigit() and float_or_none(text) != 0:
        raise QuantityError(f"must not be negative, found {text}", hint)


def float_or_none(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


@lru_cache(maxsize=4_096)
def parse_duration(text: str) -> int:
    """Nanoseconds of `500ms`, `90s`, `1h30m` or a plain number of seconds."""
    hint = 'write it as "500ms", "90s", "5m", "1h30m" or a number of seconds'
    _refuse_odd(text, "a duration", hint)
    if not _DURATION.fullmatch(text):
        raise QuantityError(f"{text!r} is not a duration", hint)
    amount = sum(
        Decimal(part.group(1)) * _UNIT_NS[part.group(2)] for part in _DURATION_PART.finditer(text)
    )
    if amount != int(amount):
        raise QuantityError(f"{text!r} is finer than a nanosecond")
    if amount > MAX_DURATION_NS:
        raise QuantityError(f"{text!r} is longer than 10,000 years")
    return int(amount)


def format_duration(nanos: int) -> str:
    """The shortest usual way to write a duration: `1h30m`, `500ms`, `0.000001s`."""
    parts = []
    for unit in ("d", "h", "m"):
        amount, nanos = divmod(nanos, _UNIT_NS[unit])
        if amount:
            parts.append(f"{amount}{unit}")
    seconds, rest = divmod(nanos, NANOS_PER_SECOND)
    if rest % _UNIT_NS["ms"]:
        parts.append(f"{seconds}.{rest:09}".rstrip("0") + "s")
    else:
        parts.append(f"{seconds}s" if seconds else "")
        parts.append(f"{rest // _UNIT_NS['ms']}ms" if rest else "")
    return "".join(parts) or "0s"


@lru_cache(maxsize=4_096)
def parse_size(text: str) -> int:
    """Bytes of `512MiB`, `2GB`, `1Gi` or a plain number of bytes."""
    hint = 'write it as "512MiB", "2GB" or a whole number of bytes'
    _refuse_odd(text, "an amount of memory", hint)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise QuantityError(f"{text!r} is not an amount of memory", hint)
    unit = match.group(2).lower()
    if unit in _PREFIXES and unit:
        either = f"{unit.upper()}B or {unit.upper()}iB"
        raise QuantityError(f"{text!r} may mean powers of 1,000 or of 1,024", f"write {either}")
    if unit not in _UNIT_BYTES:
        raise QuantityError(f"{text!r} has an unknown unit", hint)
    amount = Decimal(match.group(1)) * _UNIT_BYTES[unit]
    if amount != int(amount):
        raise QuantityError(f"{text!r} is not a whole number of bytes", hint)
    return int(amount)


def format_size(size: int) -> str:
    """Bytes in the largest binary unit that divides them."""
    power = 0
    while size and size % 1_024 == 0 and power < len(_PREFIXES):
        size //= 1_024
        power += 1
    return f"{size}{_PREFIXES[power - 1].upper()}iB" if power else str(size)


def parse_number(text: str) -> float:
    """A finite number as JSON writes it."""
    if _NOT_FINITE.fullmatch(text):
        raise QuantityError(f"{text} is not a finite number")
    if len(text) > MAX_CHARACTERS or not _NUMBER.fullmatch(text):
        raise QuantityError(f"expected a number, found {text[:MAX_CHARACTERS]!r}")
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise QuantityError(f"{text} is too large")
    return number


def parse_whole(text: str) -> int:
    """A whole number as JSON writes it."""
    if len(text) > MAX_CHARACTERS or not _WHOLE.fullmatch(text):
        raise QuantityError(f"expected a whole number, found {text[:MAX_CHARACTERS]!r}")
    return int(text)
