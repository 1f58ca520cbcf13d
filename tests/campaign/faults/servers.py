"""PostgreSQL and etcd that crash, stand still, forget, or throw their clients out."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import urllib.request
from typing import Any, Self

import asyncpg

from tests.campaign.faults.fault import Fault
from tests.campaign.site import Site

ETCD, POSTGRES = "etcd", "postgres"
_DEADLINE_S = 10.0


class EtcdKill(Fault):
    """SIGKILL; it is started again on its data."""

    kind = "etcd-kill"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(ETCD, dice.choice((0.0, 2.0, 8.0)))

    def begin(self, site: Site) -> None:
        site.etcd.kill()

    def heal(self, site: Site) -> None:
        site.etcd.start()


class EtcdPause(Fault):
    """SIGSTOP; when it goes on, leases have run out that were never renewed."""

    kind = "etcd-pause"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(ETCD, dice.choice((1.5, 4.5, 9.0)))

    def begin(self, site: Site) -> None:
        site.etcd.pause()

    def heal(self, site: Site) -> None:
        site.etcd.resume()


class EtcdWipe(Fault):
    """All data of etcd is lost: leases, keys and the count of revisions."""

    kind = "etcd-wipe"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(ETCD, dice.choice((0.0, 5.0)))

    def begin(self, site: Site) -> None:
        site.etcd.kill()
        site.etcd.wipe()

    def heal(self, site: Site) -> None:
        site.etcd.start()


class EtcdCompact(Fault):
    """The history that watches would resume from is gone."""

    kind = "etcd-compact"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(ETCD, 0.0)

    def begin(self, site: Site) -> None:
        key = base64.b64encode(b"\0").decode()
        answer = ask_etcd(site, "kv/range", {"key": key, "limit": 1})
        revision = int(answer["header"]["revision"])
        if revision > 1:
            ask_etcd(site, "kv/compaction", {"revision": revision, "physical": True})


class PostgresRestart(Fault):
    """An immediate shutdown, as after a crash, and a start that replays the log."""

    kind = "postgres-restart"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(POSTGRES, dice.choice((0.0, 0.5, 3.0)))

    def begin(self, site: Site) -> None:
        site.postgres.end_at_once()

    def heal(self, site: Site) -> None:
        site.postgres.boot()


class PostgresTerminate(Fault):
    """Connections are ended by PostgreSQL, some or all of them, in the middle of what they did."""

    kind = "postgres-terminate"

    def __init__(self, share: float, seed: int) -> None:
        super().__init__(POSTGRES, 0.0)
        self._share = share
        self._dice = random.Random(seed)
        self._ended = 0

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(dice.choice((0.3, 1.0)), dice.getrandbits(32))

    def begin(self, site: Site) -> None:
        self._ended = asyncio.run(self._terminate(site.dsn))

    async def _terminate(self, dsn: str) -> int:
        connection = await asyncpg.connect(dsn, timeout=_DEADLINE_S)
        try:
            rows = await connection.fetch(
                "SELECT pid FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            pids = [row["pid"] for row in rows if self._dice.random() < self._share]
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", pids
            )
            return len(pids)
        finally:
            await connection.close()

    def detail(self) -> dict[str, Any]:
        return {"ended": self._ended}


def ask_etcd(site: Site, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """One call of etcd's JSON door."""
    url = f"http://{site.etcd.endpoint}/v3/{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_DEADLINE_S) as answer:
        answered: dict[str, Any] = json.load(answer)
        return answered


SERVERS: tuple[type[Fault], ...] = (
    EtcdKill,
    EtcdPause,
    EtcdWipe,
    EtcdCompact,
    PostgresRestart,
    PostgresTerminate,
)
