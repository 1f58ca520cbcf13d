"""Frames: whole or not at all."""

from __future__ import annotations

import pytest

from agent.supervisor.protocol import FRAME_MOST, BrokenFrame, FrameReader, body, frame, parse

TWO = frame("spawn", {"argv": ["sh", "-c", "ä\n"]}) + frame("end", {})


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_messages_come_whole_however_they_are_cut(size: int):
    reader = FrameReader()
    read = []
    for at in range(0, len(TWO), size):
        read += reader.feed(TWO[at : at + size])
    assert read == [("spawn", {"argv": ["sh", "-c", "ä\n"]}), ("end", {})]


def test_a_body_is_one_line_and_keeps_bytes_that_are_no_text():
    argument = b"\xff\n".decode("utf-8", "surrogateescape")
    line = body("spawn", argument)
    assert b"\n" not in line
    assert parse(line) == ("spawn", argument)


@pytest.mark.parametrize(
    "sent",
    [
        (FRAME_MOST + 1).to_bytes(4, "big"),
        b"\0\0\0\1{",
        b"\0\0\0\2[]",
        b"\0\0\0\2{}",
        b"\0\0\0\2\xff\xff",
        b"\0\x00\xff\xff" + b"[" * 0xFFFF,
    ],
)
def test_what_cannot_be_a_frame_is_refused(sent: bytes):
    with pytest.raises(BrokenFrame):
        FrameReader().feed(sent)
