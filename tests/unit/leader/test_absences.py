from __future__ import annotations

from controlplane.leader.sessions.absences import MOST_KEPT, Absences


def test_an_agent_is_absent_from_its_last_session_on() -> None:
    absences = Absences()
    assert absences.left_us("ant") is None
    absences.left("ant", 5)
    absences.left("ant", 7)
    assert absences.left_us("ant") == 7
    absences.came("ant")
    absences.came("bee")
    assert absences.left_us("ant") is None


def test_who_left_first_is_forgotten_first() -> None:
    absences = Absences()
    for number in range(MOST_KEPT):
        absences.left(f"agent-{number}", number)
    absences.left("agent-0", MOST_KEPT)
    absences.left("one-more", MOST_KEPT)
    assert absences.left_us("agent-0") == MOST_KEPT
    assert absences.left_us("agent-1") is None
    assert absences.left_us("agent-2") == 2
