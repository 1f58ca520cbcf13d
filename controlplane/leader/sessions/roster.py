"""Which agents connected, as rows: written behind, never on the path of a hop.

Promises that the last session of each agent is written while the store answers. Decides nothing.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from controlplane.leader.sessions.session import Session
from controlplane.store.errors import StoreError
from controlplane.store.records import AgentRow
from controlplane.telemetry.pauses import Pauses

_log = structlog.get_logger(__name__)

RETRY_MIN_MS, RETRY_MAX_MS = 500, 5_000


class AgentRows(Protocol):
    """Where rows of agents are kept."""

    async def put_agent(self, agent: AgentRow) -> None: ...


class Roster:
    """`run` for the life of the node."""

    def __init__(self, rows: AgentRows, seed: bytes = b"") -> None:
        self._rows = rows
        self._pauses = Pauses(seed, RETRY_MIN_MS, RETRY_MAX_MS)
        self._unwritten: dict[str, AgentRow] = {}
        self._news = asyncio.Event()

    def connected(self, session: Session, wall_us: int) -> None:
        """A session began."""
        self._unwritten[session.agent] = AgentRow(
            session.agent,
            session.incarnation,
            session.boot_id,
            session.version,
            session.capacity.cpu_millis,
            session.capacity.memory_bytes,
            wall_us,
            session.containment,
        )
        self._news.set()

    async def run(self) -> None:
        """Writes rows until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._unwritten:
                agent, row = self._unwritten.popitem()
                if await self._write(row):
                    self._pauses.reset()
                    continue
                self._unwritten.setdefault(agent, row)
                await asyncio.sleep(self._pauses.next_s())

    async def _write(self, row: AgentRow) -> bool:
        try:
            await self._rows.put_agent(row)
        except StoreError as error:
            _log.info("agent_not_written", agent=row.agent, error=str(error))
            return False
        return True
