import asyncio
import threading

from controlplane.core.types import DagKey
from controlplane.leader import recovery
from controlplane.leader.recovery import compiled, compiled_rows
from controlplane.store.records import RecoveredRows, VersionRow
from tests.unit.leader.harness import spec


def version(dag, tasks=1):
    stored, digest = spec(dag, tasks)
    return VersionRow("default", dag, digest, stored)


def rows(*versions):
    return RecoveredRows(versions, ("a dag",), (), ("a run",), (), (), ())


async def test_rows_pass_and_definitions_are_compiled():
    found = await compiled_rows(rows(version("one"), version("two", 3)))
    assert [(each.key, len(each.tasks)) for each in found.versions] == [
        (DagKey("default", "one"), 1),
        (DagKey("default", "two"), 3),
    ]
    assert (found.dags, found.runs) == (("a dag",), ("a run",))


async def test_many_definitions_do_not_hold_up_the_event_loop(monkeypatch):
    threads = set()
    compile_version = recovery.compile_version

    def noting(*given):
        threads.add(threading.current_thread())
        return compile_version(*given)

    monkeypatch.setattr(recovery, "compile_version", noting)
    one = version("one")
    many = [one] * (recovery.LARGE_SPEC_BYTES // len(one.spec) + 1)
    found = await compiled_rows(rows(*many))
    assert len(found.versions) == len(many)
    assert threading.current_thread() not in threads


async def test_a_large_definition_is_compiled_beside_the_event_loop(monkeypatch):
    monkeypatch.setattr(recovery, "LARGE_SPEC_BYTES", 1)
    asking = asyncio.ensure_future(compiled(version("one")))
    await asyncio.sleep(0)
    assert not asking.done()
    assert (await asking).key.dag == "one"


async def test_a_definition_that_cannot_be_read_is_told_and_the_others_are_compiled():
    torn = VersionRow("default", "one", b"d" * 32, b"\xff")
    found = await compiled_rows(rows(torn, version("two")))
    assert [each.key.dag for each in found.versions] == ["two"]
    (unreadable,) = found.unreadable
    assert unreadable[:2] == (DagKey("default", "one"), b"d" * 32)
    assert unreadable.reason
