"""The model of the protocol holds with all of its rules, and needs every one of them."""

from __future__ import annotations

import re

import pytest

from docs.model import __main__ as model
from docs.model.search import Model, search
from tests.tidy.sources import ROOT

PAGE = (ROOT / "docs/model/README.md").read_text()
SCENES = [(owner, scene) for owner in model.MODELS for scene in owner.scenes]
# How each rule's absence shows first.
SEEN_BY = {
    "fence": "I2",
    "row_lock": "I2",
    "commit_then_speak": "I5",
    "compare_epoch": "I1",
    "verify_key": "the key",
    "batch_number": "I8",
    "same_batch_again": "I5",
    "own_nonce": "I2",
    "end_blockers": "stuck",
    "refuse_lower_epoch": "I12",
    "epoch_on_disk": "I12",
    "agent_drops_old_session": "I12",
    "node_drops_old_session": "I12",
    "inventory_then_refusals": "I12",
    "resend_unseen": "stuck",
    "tell_ends_again": "stuck",
    "ack_after_commit": "I12",
    "prune_after_ack": "I12",
    "accepted_on_disk": "I4",
    "end_on_disk": "I18",
    "boot_id": "I4",
    "claim_file": "I4",
    "end_unasked_only": "I12",
    "own_incarnation": "I12",
    "only_if_live": "I12",
    "lease_from_beat": "I3",
    "lease_of_shard": "I3",
    "start_in_lease": "I3",
    "supervisor_kills": "I3",
    "wait_for_kill": "I3",
    "new_leader_waits": "I3",
    "authority_ends": "I3",
}


@pytest.mark.parametrize(("owner", "scene"), SCENES, ids=[scene for _, scene in SCENES])
def test_a_scene_holds_with_all_rules(owner: Model, scene: str):
    found = model.whole(owner, scene)
    assert (found.broken, found.trace) == ("", ())
    assert found.states > 1_000


def test_every_rule_is_expected_to_be_needed():
    assert set(model.OWNERS) == set(SEEN_BY)


@pytest.mark.parametrize("rule", SEEN_BY)
def test_the_absence_of_a_rule_is_seen(rule: str):
    found = model.without(rule)
    assert found.broken.startswith(SEEN_BY[rule])
    assert len(found.trace) <= 15


def test_the_page_names_every_rule_once():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(model.OWNERS)


def test_the_trace_on_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]):
    assert model.shown("agent_drops_old_session") == 0
    assert capsys.readouterr().out.strip() in PAGE


def counted(limit: int) -> Model[int]:
    """Counts up to the limit; 3 breaks, and only 2 is good."""

    def up(n: int, on: frozenset[str]):
        if n < limit:
            yield f"to {n + 1}", n + 1

    return Model({}, {}, (up,), (), lambda n: "three" if n == 3 else "", lambda n: n == 2)


def test_a_search_ends_at_the_first_violation():
    assert search(counted(9), 0, frozenset()) == ("three", ("to 1", "to 2", "to 3"), 4)


def test_a_search_without_a_finding_has_looked_at_all():
    assert search(counted(2), 0, frozenset()) == ("", (), 3)


def test_a_state_without_a_way_out_is_stuck():
    found = search(counted(1), 0, frozenset())
    assert (found.broken[:5], found.trace) == ("stuck", ())
