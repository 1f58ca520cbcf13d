"""The frames between an agent and its supervisor.

Decides: a frame is its length (4 bytes, big-endian) and a JSON object with one key, the kind of the
message. Both sides begin with {"hello": PROTOCOL, ...}; one that cannot go on says why in
"refused" and closes. Promises: a frame that is not whole is never seen. Does not know what the
messages are about.

The agent says: hello · spawn {id argv env cwd stdout stderr timeout_ms grace_ms overtime_ms shard
until_ms} · extend {shard until_ms} · stop {id cause grace_ms} · forget {id} · end {} · ping {}.
The supervisor says: hello (with containment) · attempt {id claimed_at_us spawned? ended? failed?}
for each that it knows · listed {} · then spawned {id at_us pid ticks} · failed {id message at_us
cause} · ended {id code signal at_us stdout stderr message cause} · pong {}.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

PROTOCOL = 1
LENGTH_BYTES = 4
# Arguments and environment of a task cannot be longer than a few MB anyway.
FRAME_MOST = 16 << 20

_encode = json.JSONEncoder(separators=(",", ":")).encode


class BrokenFrame(Exception):  # noqa: N818 - a fact about the peer
    """What arrived cannot be a frame."""


def body(kind: str, content: Any) -> bytes:
    """The JSON of one message, on one line."""
    return _encode({kind: content}).encode("ascii")


def framed(content: bytes) -> bytes:
    return len(content).to_bytes(LENGTH_BYTES, "big") + content


def frame(kind: str, content: Any) -> bytes:
    return framed(body(kind, content))


def parse(content: bytes) -> tuple[str, Any]:
    """Kind and content of one message."""
    try:
        message = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BrokenFrame(f"not JSON: {error}") from error
    if not isinstance(message, dict) or not message:
        raise BrokenFrame("not an object with the kind of a message as its key")
    return next(iter(message.items()))


class FrameReader:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[str, Any]]:
        """The messages that these bytes complete."""
        buffer = self._buffer
        buffer += data
        messages = []
        at = 0
        while len(buffer) - at >= LENGTH_BYTES:
            size = int.from_bytes(buffer[at : at + LENGTH_BYTES], "big")
            if size > FRAME_MOST:
                raise BrokenFrame(f"a frame of {size} bytes; at most {FRAME_MOST}")
            end = at + LENGTH_BYTES + size
            if len(buffer) < end:
                break
            messages.append(parse(bytes(buffer[at + LENGTH_BYTES : end])))
            at = end
        del buffer[:at]
        return messages
