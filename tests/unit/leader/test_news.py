from __future__ import annotations

from controlplane.core.effects import LiveRow, SealedRow, Writes
from controlplane.leader.news import RunNews


def ended(run: int) -> Writes:
    return Writes(sealed=[SealedRow(1, run, b"")])


def assigned(run: int) -> Writes:
    return Writes(live=[LiveRow(1, run, 0, 0, b"", 1, "a", b"", 0)])


def test_a_follower_of_an_end_hears_of_the_end_of_its_run_only():
    news = RunNews()
    with news.ends(7) as mine, news.ends(8) as other:
        news.publish(assigned(7))
        assert not mine.is_set()
        news.publish(ended(7))
        assert mine.is_set()
        assert not other.is_set()


def test_a_follower_of_changes_hears_of_each():
    news = RunNews()
    with news.changes(7) as one, news.changes(7) as another:
        news.publish(assigned(7))
        assert one.is_set()
        assert another.is_set()
        one.clear()
        news.publish(assigned(8))
        assert not one.is_set()


def test_who_does_not_follow_any_more_is_forgotten():
    news = RunNews()
    with news.ends(7) as event:
        pass
    news.publish(ended(7))
    assert not event.is_set()


def test_the_end_of_a_leadership_wakes_everybody():
    news = RunNews()
    news.lead(3)
    assert news.leads(3)
    with news.ends(7) as end, news.changes(8) as change:
        news.withdraw(3)
        assert end.is_set()
        assert change.is_set()
    assert not news.leads(3)
