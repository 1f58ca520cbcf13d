"""How often a process that keeps ending is started, and what is said of its end."""

from __future__ import annotations

from controlplane.embedded.supervision import LONGEST_PAUSE_S, described, pause_s


def test_pauses_double_up_to_the_longest():
    pauses = [pause_s(ends) for ends in range(1, 6)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert pause_s(12) == pause_s(10_000) == LONGEST_PAUSE_S


def test_an_end_is_described():
    assert described(0) == "exit status 0"
    assert described(70) == "exit status 70"
    assert described(-9) == "killed by SIGKILL"
    assert described(-63) == "signal 63"
