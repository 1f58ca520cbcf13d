"""Whatever happens to a shard, in whatever order: the rules hold, and a new leader goes on alike.

After every step the bench compares memory with `derive` over the rows, and the store refuses a
second live attempt, a second use of an id, a second end.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.core.effects import WaitKind
from tests.property.core.stories import Player, moves, versions

STORIES = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@STORIES
@given(versions(), moves, st.sampled_from([1, 2, 64]))
def test_every_run_ends_when_its_attempts_end(version, story, size):
    player = Player(version, size)
    for move in story:
        player.play(move)
    player.finish_everything()
    book = player.bench.shard._book
    assert all(row.state.final for row in player.bench.store.runs.values())
    assert {row.kind for row in player.bench.store.waits.values()} <= {WaitKind.MARK}
    assert all(kept.run is None for kept in book.late._of.values())
    assert not book.attempts
    assert all(head.active == 0 for head in book.dags.values())
    assert all((room.used_cpu, room.used_memory) == (0, 0) for room in player.bench.fleet.rooms())


@STORIES
@given(versions(), moves)
def test_the_rows_tell_a_new_leader_what_the_old_one_knows(version, story):
    player = Player(version)
    for move in story:
        player.play(move)
        player.expect_same_memory()


@STORIES
@given(versions(), moves, st.sets(st.integers(0, 39)))
def test_a_new_leader_has_the_same_future(version, story, takeovers):
    straight, broken = Player(version), Player(version)
    for place, move in enumerate(story):
        straight.play(move)
        broken.play(move)
        if place in takeovers:
            broken.recover()
        assert straight.outcome() == broken.outcome()
    straight.finish_everything()
    broken.finish_everything()
    assert straight.outcome() == broken.outcome()
