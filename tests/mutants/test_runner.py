"""What the runner says of a mutant: caught by whom, survived, or that it does not apply.

On a tree of two files, with the real checkers.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.__main__ import Trial, Verdict, all_caught, summary, table, try_all, try_out
from tests.mutants.checkers import Seeds, Seen, Suite, Unreliable, general, of_core
from tests.mutants.copies import Copy
from tests.mutants.patches import Mutant

LAMP = "# A lamp.\n\n\ndef on():\n    return True\n"
HEAD = "--- a/lamp.py\n+++ b/lamp.py\n"
OFF = "@@ -4,2 +4,2 @@\n def on():\n-    return True\n+    return False\n"
BROKEN = Mutant("lamp-off", "It is on.", HEAD + OFF)
HARMLESS = Mutant("other-words", "None.", f"{HEAD}@@ -1,2 +1,2 @@\n-# A lamp.\n+# A light.\n \n")
OTHER = Mutant("of-another-tree", "None.", f"{HEAD}@@ -1,1 +1,1 @@\n-# A candle.\n+# A torch.\n")
SEEDS = """
import sys, lamp
print("seed 1", "seed 2", sep="\\n")
if not lamp.on():
    sys.exit("seed 2: I0: it is dark")
"""
ALL = (Suite("all", ("test_lamp.py",)),)


@pytest.fixture
def intact(tmp_path: Path) -> Copy:
    folder = tmp_path / "intact"
    for name in ("tests/mutants", "clients/python"):
        (folder / name).mkdir(parents=True)
    (folder / "lamp.py").write_text(LAMP)
    (folder / "test_lamp.py").write_text("import lamp\n\ndef test_on():\n    assert lamp.on()\n")
    (folder / "tests/mutants/seeds.py").write_text(SEEDS)
    return Copy(folder)


@pytest.fixture
def copy(intact: Copy, tmp_path: Path) -> Copy:
    return intact.clone(tmp_path / "mutated")


def test_caught_survived_or_not_applied(intact: Copy, copy: Copy):
    told: list[Verdict] = []
    trials = [Trial(mutant, ALL) for mutant in (BROKEN, HARMLESS, OTHER)]
    verdicts = try_all(trials, [copy], intact, told.append)
    caught, survived, other = verdicts
    assert (caught.checker, caught.seen and caught.seen.by) == ("all", "test_lamp.py::test_on")
    assert (survived.caught, survived.words) == (False, "SURVIVED")
    assert (other.caught, other.words[:14]) == (False, "DOES NOT APPLY")
    assert sorted(told, key=verdicts.index) == verdicts
    assert not all_caught(verdicts)
    assert all_caught([caught])
    assert not all_caught([])
    assert summary(verdicts) == "1 of 3 mutants caught (1 by all)"
    assert "lamp-off" in table(verdicts)
    assert (copy.folder / "lamp.py").read_text() == LAMP


def test_the_first_checker_that_sees_it_is_named(intact: Copy, copy: Copy):
    blind = Suite("blind", ("test_nothing.py",))
    verdict = try_out(Trial(BROKEN, (blind, Seeds(), *ALL)), copy, intact)
    assert verdict.words == "simulation: seed 2"
    assert verdict.seen == Seen("seed 2", "I0: it is dark")


def test_what_fails_without_the_mutant_sees_nothing(
    intact: Copy, copy: Copy, capsys: pytest.CaptureFixture[str]
):
    for each in (intact, copy):
        (each.folder / "test_lamp.py").write_text("def test_on():\n    raise OSError\n")
        (each.folder / "tests/mutants/seeds.py").write_text("raise OSError\n")
    verdict = try_out(Trial(BROKEN, (*ALL, Seeds())), copy, intact)
    assert not verdict.caught
    assert capsys.readouterr().out.count("it fails without the mutant too") == 2


def test_what_fails_once_sees_nothing(intact: Copy, copy: Copy):
    first = "not pathlib.Path('seen').exists()"
    lines = ("import pathlib", "def test_on():", f"    first = {first}", "    open('seen', 'w')")
    (copy.folder / "test_lamp.py").write_text("\n".join((*lines, "    assert not first", "")))
    seen = ALL[0].look(copy, intact)
    assert seen == Unreliable("test_lamp.py::test_on", "it does not fail each time")


def test_who_looks_at_what():
    def names(*paths: str) -> list[str]:
        return [checker.name for checker in general(paths)]

    assert names("agent/core/work.py") == ["simulation", "failure table", "contract", "unit"]
    assert names("agent/journal/file.py") == ["contract", "unit"]
    assert names("agent/supervisor/attempts.py")[0] == "simulation"
    assert general(["controlplane/store/sql/fence.sql"])[-1] == Suite("unit", ("tests/unit/store",))
    own, every, _ = of_core("controlplane/core/shard/late.py")
    assert own == Suite("its unit tests", ("tests/unit/core/shard/test_late.py",))
    assert every == Suite("unit", ("tests/unit/core",))
