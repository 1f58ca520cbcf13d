"""What the link makes of the words of a supervisor, and what it does when none can be had."""

from __future__ import annotations

import asyncio
import sys

from agent.core.events import (
    Claimed,
    ProcessExited,
    ProcessSpawned,
    SpawnFailed,
    Supervised,
    SupervisorReady,
)
from agent.core.types import EndCause
from agent.runtime import link as link_module
from agent.runtime.link import SupervisorLink, supervised
from agent.supervisor import start

ID = b"\0" * 15 + b"\1"
SPAWNED = {"id": ID.hex(), "at_us": 2, "pid": 3, "ticks": 4}
ENDED = {"id": ID.hex(), "code": -1, "signal": 15, "at_us": 5, "stdout": 6, "stderr": 7}
ENDED |= {"message": "", "cause": "timed_out"}
FAILED = {"id": ID.hex(), "message": "no", "at_us": 5, "cause": "lease"}


def known(**more) -> Supervised:
    return supervised({"id": ID.hex(), "claimed_at_us": 1, **more})


def test_what_is_known_of_an_attempt():
    claimed = Claimed(ID, 1)
    spawned = ProcessSpawned(ID, 2, 3, 4)
    ended = ProcessExited(ID, -1, 15, 5, 6, 7, "", EndCause.TIMED_OUT)
    assert known() == Supervised(claimed)
    assert known(spawned=SPAWNED) == Supervised(claimed, spawned)
    assert known(spawned=SPAWNED, ended=ENDED) == Supervised(claimed, spawned, ended)
    failed = SpawnFailed(ID, "no", 5, EndCause.LEASE)
    assert known(failed=FAILED) == Supervised(claimed, failed=failed)


async def test_a_start_that_fails_is_tried_again(tmp_path, monkeypatch, capsys):
    """The first start says why it cannot be; the second is a real one."""
    real, marker = start.PYTHON, tmp_path / "failed-once"
    script = "import os, pathlib, sys; first = pathlib.Path(sys.argv[1]); tried = first.exists()\n"
    script += "first.touch(); tried or sys.exit('no luck')\n"
    script += f"os.execv({real[0]!r}, [*{list(real)!r}, *sys.argv[2:]])"
    monkeypatch.setattr(start, "PYTHON", (sys.executable, "-c", script, str(marker)))
    told: asyncio.Queue = asyncio.Queue()
    folder = tmp_path / "supervisor"
    link = SupervisorLink(asyncio.get_running_loop(), folder, {}, told.put_nowait)
    running = asyncio.ensure_future(link.run())
    async with asyncio.timeout(10):
        assert isinstance(await told.get(), SupervisorReady)
    assert "no luck" in capsys.readouterr().out
    await link.end()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_start_that_takes_too_long_is_given_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(link_module, "START_S", 0.1)
    monkeypatch.setattr(start, "PYTHON", ("sleep", "600"))
    folder = tmp_path / "supervisor"
    said = asyncio.Event()
    monkeypatch.setattr(link_module.log_lines, "error", lambda *_, **__: said.set(), raising=False)
    link = SupervisorLink(asyncio.get_running_loop(), folder, {}, lambda _: None)
    running = asyncio.ensure_future(link.run())
    async with asyncio.timeout(10):
        await said.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
