"""The written mutants fit the tree as it is, and the known equivalents can still be made there."""

from __future__ import annotations

import ast
import fnmatch
import re
import shutil
from pathlib import Path

import pytest

from tests.mutants.copies import Copy, DoesNotApply
from tests.mutants.equivalents import FILE, read_equivalents
from tests.mutants.mistakes import mistakes
from tests.mutants.patches import Mutant, all_patches, read_patch
from tests.tidy.sources import ROOT

PATCHES = all_patches()
DIFF = "--- a/lamp.py\n+++ b/lamp.py\n@@ -1,1 +1,1 @@\n-on = 1\n+on = 2\n"


def copied(folder: Path, paths: tuple[str, ...]) -> Copy:
    """Only these files."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return Copy(folder)


@pytest.mark.parametrize("mutant", PATCHES, ids=lambda mutant: mutant.name)
def test_it_applies_to_the_tree_and_is_taken_out_again(mutant: Mutant, tmp_path: Path):
    copy = copied(tmp_path, mutant.paths)
    before = {path: (tmp_path / path).read_bytes() for path in mutant.paths}
    with copy.changed(mutant.diff, mutant.paths):
        for path, content in before.items():
            now = (tmp_path / path).read_bytes()
            assert now != content
            assert not path.endswith(".py") or ast.parse(now)
    assert {path: (tmp_path / path).read_bytes() for path in mutant.paths} == before


def test_no_two_take_out_the_same():
    assert len({mutant.diff for mutant in PATCHES}) == len(PATCHES)


def test_a_patch_that_does_not_fit_is_found(tmp_path: Path):
    (tmp_path / "lamp.py").write_text("off = 1\n")
    with pytest.raises(DoesNotApply, match="lamp"), Copy(tmp_path).changed(DIFF, ("lamp.py",)):
        raise AssertionError("it was applied")
    with pytest.raises(DoesNotApply), Copy(tmp_path / "none").changed(DIFF, ("lamp.py",)):
        raise AssertionError("it was applied")


def test_a_patch_says_its_rule():
    mutant = read_patch("lamp-off", f"Rule: The lamp\nis on.\n{DIFF}")
    assert (mutant.rule, mutant.diff, mutant.paths) == ("The lamp is on.", DIFF, ("lamp.py",))


@pytest.mark.parametrize("text", [DIFF, f"Rule:\n{DIFF}", "Rule: The lamp is on.\n", f"Oh. {DIFF}"])
def test_a_patch_without_a_rule_or_a_diff_is_none(text: str):
    with pytest.raises(ValueError, match="lamp-off"):
        read_patch("lamp-off", text)


def test_the_page_names_mutants_that_exist():
    named = re.findall(r"ONLY='?([\w*-]+)", (ROOT / "docs/mutants.md").read_text())
    assert named
    assert [name for name in named if not fnmatch.filter([m.name for m in PATCHES], name)] == []


def test_every_equivalent_can_be_made_today():
    known = read_equivalents(FILE.read_text())
    paths = {each.path for each in known}
    made = [found for path in paths for found in mistakes(path, (ROOT / path).read_text())]
    assert [each for each in known if not any(each.is_it(mistake) for mistake in made)] == []


def test_an_equivalent_without_a_reason_is_none():
    entry = '[[equivalent]]\npath="a"\nfunction="f"\nwas="x"\nreads="y"\nreason="{}"\n'
    assert len(read_equivalents(entry.format("they are the same"))) == 1
    with pytest.raises(ValueError, match="no reason"):
        read_equivalents(entry.format(" "))
