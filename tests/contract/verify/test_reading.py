"""A verification reads what it was asked for, writes nothing, and holds no snapshot for long."""

from __future__ import annotations

import asyncio
import json
import re

import asyncpg
import pytest
from mainspring.cli.exit_codes import ExitCode

from controlplane.cli import verify as command
from controlplane.core.types import uuid_text
from controlplane.store.errors import SchemaError
from controlplane.store.evidence import EVER_US, EvidenceStore, PageSizes
from controlplane.store.queries import query
from controlplane.store.store import migrate_database
from controlplane.verify.findings import Invariant
from controlplane.verify.verification import NoSuchRunError, Verification
from tests.contract.verify.conftest import change, verify
from tests.unit.core.bench import NOON_US

SESSIONS = """
SELECT state, backend_xmin, xact_start FROM pg_stat_activity
WHERE application_name = 'mainspring verify' AND datname = current_database()
"""
SMALL = PageSizes(rows=2, runs=2)


@pytest.fixture
def dsn(copy):
    return copy


@pytest.fixture
def day(story):
    return story


@pytest.fixture
async def admin(dsn):
    made = await asyncpg.connect(dsn)
    yield made
    await made.close()


async def test_between_two_pages_no_transaction_is_open(dsn, day, admin):
    pages = 0
    async with EvidenceStore.opened(dsn, SMALL) as store:
        walks = (
            store.run_pages(EVER_US),
            store.live_pages(),
            store.wait_pages(),
            store.instant_pages(EVER_US),
            store.command_pages(EVER_US),
            store.request_pages(),
            store.version_pages(),
        )
        for walk in walks:
            async for page in walk:
                assert 0 < len(page) <= 2
                [session] = await admin.fetch(SESSIONS)
                assert (session["state"], session["backend_xmin"]) == ("idle", None)
                assert session["xact_start"] is None
                pages += 1
    assert pages > len(day.store.runs) / 2


PAGES = {
    "verify_run_keys": "-1, -1, 0, -1, 100",
    "verify_live_run_keys": "-1, -1, 1, 100",
    "verify_live_page": "-1, -1, -1, -1, 100",
    "verify_wait_page": "-1, -1, -1, -1, -1, 100",
    "verify_instant_page": "'', '', '', -1, -1, 100",
    "verify_command_page": "-1, -1, 100",
    "verify_request_page": "'', '', 100",
    "verify_version_page": "'', '', '', 1",
}


@pytest.mark.parametrize("analysed", [False, True], ids=["no statistics", "statistics"])
@pytest.mark.parametrize("name", PAGES)
async def test_a_page_neither_scans_nor_sorts_what_comes_after_it(dsn, day, admin, name, analysed):
    if analysed:
        await admin.execute("ANALYZE")
    async with EvidenceStore.opened(dsn) as store:
        connection = store._connection
        await connection.execute(f"PREPARE page AS {query(name)}")
        plan = await connection.fetch(f"EXPLAIN EXECUTE page ({PAGES[name]})")
    nodes = [line for (line,) in plan if "quarantine" not in line]
    assert not [line for line in nodes if re.search(r"Seq Scan|Bitmap|\bSort  \(", line)]


async def test_the_session_cannot_write(dsn, day):
    async with EvidenceStore.opened(dsn) as store:
        connection = store._connection
        assert await connection.fetchval("SHOW transaction_read_only") == "on"
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("DELETE FROM attempt")


async def test_the_right_to_read_is_enough(dsn, day, admin):
    role = "only_reads"
    await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'open'")
    await admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    secret = dsn.split("//")[1].split("@")[0]
    try:
        findings = await verify(dsn.replace(secret, f"{role}:open"))
        assert findings.clean
        assert findings.judged[Invariant.I3] > 10
    finally:
        await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


class Meddler:
    """A connection behind whose back the seals of all runs are broken once heads were read."""

    def __init__(self, connection, admin):
        self._connection, self._admin = connection, admin
        self.broke = []

    def __getattr__(self, name):
        return getattr(self._connection, name)

    async def fetch(self, sql, *arguments):
        rows = await self._connection.fetch(sql, *arguments)
        if sql == query("verify_runs"):
            self.broke.append(await self._admin.execute("DELETE FROM sealed_run"))
        return rows


async def test_all_rows_of_a_run_are_of_one_moment(dsn, day, admin):
    async with EvidenceStore.opened(dsn) as store:
        meddler = store._connection = Meddler(store._connection, admin)
        pages = [page async for page in store.run_pages(EVER_US)]
        assert meddler.broke[0] != "DELETE 0"
        finals = [run for page in pages for run in page if run.run.finished_us is not None]
        assert finals
        assert all(run.states is not None for run in finals)
        again = [run async for page in store.run_pages(EVER_US) for run in page]
        assert all(run.states is None for run in again)


async def test_since_leaves_out_what_is_older_but_not_what_is_live(dsn, day, admin):
    whole = await verify(dsn)
    newer = await verify(dsn, since_us=NOON_US * 2)
    live = sum(1 for run in day.store.runs.values() if not run.state.final)
    assert newer.clean
    assert newer.judged[Invariant.I15] < whole.judged[Invariant.I15]
    assert newer.judged[Invariant.I3] < whole.judged[Invariant.I3]
    assert live == 3
    await admin.execute("UPDATE attempt SET number = 5 WHERE run = (SELECT max(run) FROM attempt)")
    assert not (await verify(dsn, since_us=NOON_US * 2)).clean


async def test_one_run_is_judged_alone(dsn, day, admin):
    first, second = sorted(day.store.runs)[:2]
    await admin.execute("UPDATE attempt SET exit_code = 9 WHERE run = $1 AND state = 3", second)
    async with EvidenceStore.opened(dsn) as store:
        good = await Verification(store).one_run(day.store.runs[first].run_id, None)
        bad = await Verification(store).one_run(day.store.runs[second].run_id, "etl")
        assert good.clean
        assert set(bad.found) == {Invariant.I18}
        with pytest.raises(NoSuchRunError):
            await Verification(store).one_run(day.store.runs[second].run_id, "another")
        with pytest.raises(NoSuchRunError):
            await Verification(store).one_run(bytes(16), None)


def told(capsys, *arguments):
    code = command.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_says_what_it_found(copy, day, capsys):
    code, out, _ = told(capsys, f"--dsn={copy}")
    assert code == ExitCode.OK
    assert [line.split()[0] for line in out.splitlines()] == [
        "INVARIANT",
        *(each.name for each in Invariant),
    ]
    run = day.store.runs[min(day.store.runs)].run_id
    asyncio.run(change(copy, "UPDATE attempt SET exit_code = 9 WHERE state = 3"))
    for name in (uuid_text(run), f"etl/{uuid_text(run)}", f"dags/etl/runs/{uuid_text(run)}"):
        code, out, _ = told(capsys, f"--dsn={copy}", f"--run={name}", "--output=json")
        document = json.loads(out)
        assert (code, document["clean"]) == (ExitCode.FAILED, False)
        assert {each["invariant"] for each in document["violations"]} == {"I18"}
        assert document["violations"][0]["evidence"]["attempt"]
    code, out, _ = told(capsys, f"--dsn={copy}", "--since=24h")
    assert code == ExitCode.OK
    assert told(capsys, f"--dsn={copy}", f"--run={uuid_text(bytes(16))}")[0] == 4


def test_a_database_that_is_not_there_is_unreachable(copy, capsys, tmp_path):
    code, _, err = told(capsys, f"--dsn={copy.replace('?host=', '?host=/nowhere')}")
    assert code == ExitCode.UNREACHABLE
    assert "error: cannot connect to PostgreSQL" in err
    code, _, err = told(capsys, f"--dsn-file={tmp_path / 'dsn'}")
    assert code == ExitCode.UNREACHABLE
    assert "mainspring up" in err


async def test_a_database_of_another_schema_is_refused(postgres):
    empty_dsn = postgres.fresh_database()
    with pytest.raises(SchemaError):
        async with EvidenceStore.opened(empty_dsn):
            pass
    await migrate_database(empty_dsn)
    assert (await verify(empty_dsn)).clean
