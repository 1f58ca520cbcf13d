"""The model of the protocol holds with all of its rules, and needs every one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from docs.model import __main__ as model
from tests.tidy.sources import ROOT

FOLDER = ROOT / "docs/model"
PAGE = (FOLDER / "README.md").read_text()
# rule, scene, steps of the shortest counter-example, how its absence shows first
ROWS = re.findall(r"^\| `(\w+)` \| .+ \| (\w+) \| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)


def test_the_model_is_short_enough_to_be_read():
    assert sum(len(path.read_text().splitlines()) for path in FOLDER.glob("*.py")) <= 400


@pytest.mark.parametrize("scene", model.SCENES)
def test_a_scene_holds_with_all_rules(scene: str):
    broken, steps, states = model.look(scene)
    assert (broken, steps) == ("", ())
    assert states > 200


def test_every_rule_of_the_page_is_looked_for():
    assert [rule for rule, *_ in ROWS] == list(model.RULES)
    assert len(ROWS) >= 30


def test_every_rule_that_the_code_knows_is_on_the_page():
    code = "".join(path.read_text() for path in FOLDER.glob("*.py"))
    named = set(re.findall(r'\boff [!=]= "(\w+)"', code))
    assert named <= set(model.RULES)
    assert len(named) > 20


@pytest.mark.parametrize(("rule", "scene", "length", "shows"), ROWS, ids=[row[0] for row in ROWS])
def test_the_absence_of_a_rule_is_seen(rule: str, scene: str, length: str, shows: str):
    broken, steps, _ = model.look(scene, rule)
    assert broken.startswith(shows)
    assert len(steps) == int(length) <= 15


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr("sys.argv", ["docs.model", *words])
    assert model.main() == 0
    return capsys.readouterr().out


def test_the_trace_on_the_page_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    printed = told(capsys, monkeypatch, "--without", "agent_drops_old")
    assert printed.partition("An agent")[2].strip() in PAGE


def test_the_exit_status_tells_a_rule_that_is_not_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(model.RULES, "no_such_rule", ["Nothing.", "host", "1"])
    monkeypatch.setattr("sys.argv", ["docs.model", "--without", "no_such_rule"])
    assert model.main() == 1
    assert "holds" in capsys.readouterr().out


class Counted(NamedTuple):
    """Counts up to the limit, by itself or by a fault; 3 breaks, and only 2 is good."""

    limit: int
    left: str = ""
    n: int = 0

    def steps(self) -> Iterator[tuple[str, Counted]]:
        if self.n < self.limit:
            yield f"to {self.n + 1}", self._replace(n=self.n + 1)

    def faults(self) -> Iterator[tuple[str, str, Counted]]:
        yield "jump", "to 9", self._replace(n=9)

    def broken(self) -> dict[str, bool]:
        return {"three": self.n == 3}

    def good(self) -> bool:
        return self.n == 2


def test_a_search_ends_at_the_first_violation():
    assert model.search(Counted(9)) == ("three", ("to 1", "to 2", "to 3"), 4)


def test_a_search_without_a_finding_has_looked_at_all():
    assert model.search(Counted(2)) == ("", (), 3)


def test_a_state_without_a_way_out_is_stuck():
    broken, steps, _ = model.search(Counted(1))
    assert (broken[:5], steps) == ("stuck", ())


def test_a_fault_happens_as_often_as_it_may_and_is_no_way_out():
    broken, steps, states = model.search(Counted(2, "jump jump"))
    assert (broken[:5], steps) == ("stuck", ("to 9",))
    assert states == 5  # 0, 1, 2, and 9 after one jump or two
