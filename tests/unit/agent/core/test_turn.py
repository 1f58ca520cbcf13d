from __future__ import annotations

from agent.core.actions import EndSupervisor, Exit, Note, Send
from agent.core.entries import Accepted, Heartbeat
from agent.core.turn import Turn
from agent.core.types import NOTHING, Now


def test_what_is_said_to_one_node_is_one_send_between_the_actions_and_the_end():
    turn = Turn(Now(0, 0))
    turn.send(("h:1", 1), Accepted(0, b"a"))
    turn.act(Note("x"))
    turn.send(("h:2", 4), Heartbeat(1, NOTHING))
    turn.send(("h:1", 1), Accepted(0, b"b"))
    turn.end(EndSupervisor(), Exit())
    assert turn.actions() == [
        Note("x"),
        Send("h:1", 1, (Accepted(0, b"a"), Accepted(0, b"b"))),
        Send("h:2", 4, (Heartbeat(1, NOTHING),)),
        EndSupervisor(),
        Exit(),
    ]
