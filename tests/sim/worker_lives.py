"""Workers that do not live as they should: a process that dies of a seed, and one that hangs.

Decides nothing. Not in a module of tests, because a new process imports it by its name.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

from tests.sim.many import run_seed

CRASHING = 2


def crash_once(pipe: Connection) -> None:
    """Dies of one seed."""
    while (job := pipe.recv()) is not None:
        if job.seed == CRASHING:
            os._exit(3)
        pipe.send(run_seed(job))


def never_answer(pipe: Connection) -> None:
    """Waits for what does not come."""
    while True:
        pipe.recv()
