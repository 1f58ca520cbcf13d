from __future__ import annotations

from agent.journal.frames import Framed, frame, frames, goes_on

ONE, TWO = frame(b"one"), frame(b"second")


def test_records_are_found_with_their_places():
    assert list(frames(ONE + TWO)) == [Framed(0, 11, b"one"), Framed(11, 25, b"second")]


def test_a_hole_of_zeros_is_no_record():
    assert list(frames(ONE + bytes(64))) == [Framed(0, 11, b"one")]
    assert not goes_on(ONE + bytes(64), 11)


def test_every_cut_leaves_the_records_before_it():
    data = ONE + TWO
    for length in range(len(data) + 1):
        found = [framed.record for framed in frames(data[:length])]
        assert found == [b"one", b"second"][: (length >= 11) + (length >= 25)]
        end = max((framed.end for framed in frames(data[:length])), default=0)
        assert not goes_on(data[:length], end)


def test_a_whole_record_behind_an_unreadable_one_tells_damage_from_a_cut():
    for at in range(11):
        damaged = bytearray(ONE + TWO)
        damaged[at] ^= 1
        assert list(frames(bytes(damaged))) == []
        assert goes_on(bytes(damaged), 0)
