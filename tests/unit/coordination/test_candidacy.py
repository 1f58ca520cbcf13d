from controlplane.coordination.candidacy import (
    Candidacy,
    Electorate,
    LeaderKey,
    LossReason,
    ShardLeader,
    leader_value,
)
from controlplane.coordination.keys import Keyspace
from controlplane.coordination.records import Changed, Record, Removed, Snapshot
from controlplane.coordination.rendezvous import preferred

ME, OTHER = "node-a", "node-b"
MY_LEASE, OTHER_LEASE = 11, 22
KEYS = Keyspace("main")
SHARDS = range(8)
MINE = [shard for shard in SHARDS if preferred(shard, [ME, OTHER]) == ME]
THEIRS = [shard for shard in SHARDS if preferred(shard, [ME, OTHER]) == OTHER]


def record(shard, revision, *, lease=MY_LEASE, node=ME):
    return Record(KEYS.leader(shard), leader_value(node, "h:1"), revision, revision, lease)


def electorate(*, eligible=True, live=(ME, OTHER), stable=()):
    return Electorate(ME, eligible, frozenset(live), frozenset(stable))


def candidacy(*records, revision=10):
    made = Candidacy("main", len(SHARDS))
    made.apply(Snapshot(revision, records))
    return made


def review(subject, now=0.0, *, lease=MY_LEASE, voters=None, pause_s=0.5):
    return subject.review(now, lease=lease, electorate=voters or electorate(), pause_s=pause_s)


def handed_over(shards):
    return tuple((shard, LossReason.HANDED_OVER) for shard in shards)


def test_nothing_is_planned_before_the_first_snapshot():
    plan = review(Candidacy("main", 4))
    assert (plan.campaigns, plan.elected, plan.review_at) == ((), (), None)


def test_the_preferred_owner_campaigns_at_once_and_the_others_after_a_pause():
    subject = candidacy()
    plan = review(subject, 100.0)
    assert plan.campaigns == tuple(MINE)
    assert plan.review_at == 100.5
    assert set(review(subject, 100.5).campaigns) == set(SHARDS)


def test_an_occupied_shard_is_left_alone_and_its_pause_starts_anew():
    shard = THEIRS[0]
    subject = candidacy()
    review(subject, 0.0)
    subject.apply(Changed(record(shard, 11, lease=OTHER_LEASE, node=OTHER)))
    assert shard not in review(subject, 1.0).campaigns
    subject.apply(Removed(KEYS.leader(shard), 12))
    assert shard not in review(subject, 1.0).campaigns
    assert shard in review(subject, 1.5).campaigns


def test_without_a_lease_or_eligibility_there_is_no_campaign():
    assert review(candidacy(), lease=None).campaigns == ()
    assert review(candidacy(), voters=electorate(eligible=False)).campaigns == ()


def test_who_may_not_campaign_has_nothing_to_wait_for():
    """A head start that ended meanwhile is no reason to look again, at once and for ever."""
    subject = candidacy()
    assert review(subject, 100.0).review_at == 100.5
    assert review(subject, 101.0, lease=None).review_at is None
    assert review(subject, 101.0, voters=electorate(eligible=False)).review_at is None


def test_a_key_bound_to_our_lease_is_won_however_it_came_about():
    subject = candidacy()
    subject.saw(record(2, 11))
    assert review(subject).elected == ((2, LeaderKey(KEYS.leader(2), 11, MY_LEASE)),)
    assert review(subject).elected == ()
    assert subject.held == {2: LeaderKey(KEYS.leader(2), 11, MY_LEASE)}


def test_the_lost_lease_loses_every_key():
    subject = candidacy(record(0, 5), record(1, 6))
    review(subject)
    plan = review(subject, lease=None)
    assert plan.lost == ((0, LossReason.LOST_LEASE), (1, LossReason.LOST_LEASE))
    assert review(subject, lease=None).lost == ()


def test_another_lease_means_that_the_old_one_was_lost():
    subject = candidacy(record(0, 5))
    review(subject)
    plan = review(subject, lease=99)
    assert plan.lost == ((0, LossReason.LOST_LEASE),)
    assert plan.elected == ()


def test_a_deleted_key_is_reported_and_fought_for_again():
    subject = candidacy(record(0, 5))
    review(subject)
    subject.apply(Removed(KEYS.leader(0), 11))
    plan = review(subject, voters=electorate(live=[ME]))
    assert plan.lost == ((0, LossReason.KEY_GONE),)
    assert 0 in plan.campaigns


def test_a_key_of_another_candidacy_is_reported_as_taken():
    subject = candidacy(record(0, 5))
    review(subject)
    subject.apply(Changed(record(0, 11, lease=OTHER_LEASE, node=OTHER)))
    assert review(subject).lost == ((0, LossReason.KEY_TAKEN),)


def test_old_news_changes_nothing():
    subject = candidacy()
    subject.saw(record(0, 20))
    review(subject)
    subject.apply(Removed(KEYS.leader(0), 19))
    subject.apply(Snapshot(19, ()))
    assert review(subject).lost == ()


def test_a_wiped_store_makes_the_knowledge_of_it_void():
    subject = candidacy(record(0, 500), revision=500)
    review(subject)
    subject.apply(Snapshot(2, ()))
    assert review(subject).lost == ((0, LossReason.KEY_GONE),)
    subject.saw(record(0, 3))
    assert review(subject).elected == ((0, LeaderKey(KEYS.leader(0), 3, MY_LEASE)),)


def test_a_revision_that_is_given_out_again_is_another_candidacy():
    subject = candidacy(record(0, 5), revision=500)
    review(subject)
    subject.apply(Snapshot(5, (record(0, 5, lease=OTHER_LEASE, node=OTHER),)))
    assert review(subject).lost == ((0, LossReason.KEY_TAKEN),)
    assert subject.held == {}


def test_what_was_resigned_is_not_deleted_when_its_revision_is_anothers():
    subject = candidacy(record(0, 5), revision=500)
    review(subject)
    subject.resign(0, barred_until=1.0)
    subject.apply(Snapshot(5, (record(0, 5, lease=OTHER_LEASE, node=OTHER),)))
    assert review(subject).resignations == ()


def test_a_key_that_a_restored_store_brings_back_is_won_again():
    subject = candidacy(record(0, 5), revision=500)
    review(subject)
    subject.resign(0, barred_until=0.0)
    subject.saw_absent(KEYS.leader(0), 501)
    review(subject)
    subject.apply(Snapshot(7, (record(0, 5),)))
    assert review(subject).elected == ((0, LeaderKey(KEYS.leader(0), 5, MY_LEASE)),)


def test_a_shard_moves_once_its_preferred_owner_is_stable():
    subject = candidacy(*(record(shard, 5) for shard in SHARDS))
    assert review(subject).lost == ()
    stable = electorate(stable=[ME, OTHER])
    plan = review(subject, voters=stable)
    assert plan.lost == handed_over(THEIRS)
    assert {key.key for key in plan.resignations} == {KEYS.leader(shard) for shard in THEIRS}
    assert set(subject.held) == set(MINE)
    again = review(subject, voters=stable)
    assert (again.lost, again.elected) == ((), ())
    assert again.resignations == plan.resignations


def test_a_shard_that_its_heir_does_not_take_is_won_back():
    subject = candidacy(record(THEIRS[0], 5))
    stable = electorate(stable=[ME, OTHER])
    review(subject, 0.0, voters=stable)
    subject.apply(Removed(KEYS.leader(THEIRS[0]), 11))
    plan = review(subject, 0.1, voters=stable)
    assert (plan.resignations, THEIRS[0] in plan.campaigns) == ((), False)
    assert THEIRS[0] in review(subject, 0.7, voters=stable).campaigns
    subject.apply(Changed(record(THEIRS[0], 12)))
    won = ((THEIRS[0], LeaderKey(KEYS.leader(THEIRS[0]), 12, MY_LEASE)),)
    plan = subject.review(0.8, lease=MY_LEASE, electorate=stable, pause_s=0.5, keep_s=3.0)
    assert (plan.elected, plan.lost) == (won, ())


def test_a_key_is_kept_for_a_while_before_its_shard_moves():
    subject = candidacy(*(record(shard, 5) for shard in SHARDS))
    stable = electorate(stable=[ME, OTHER])

    def lost(now):
        plan = subject.review(now, lease=MY_LEASE, electorate=stable, pause_s=0.5, keep_s=3.0)
        return plan.lost

    assert [lost(now) for now in (10.0, 12.9)] == [(), ()]
    assert lost(13.0) == handed_over(THEIRS)


def test_a_node_that_may_not_lead_hands_everything_over_if_somebody_may():
    subject = candidacy(*(record(shard, 5) for shard in SHARDS))
    alone = electorate(eligible=False, live=[ME], stable=[ME])
    assert review(subject, voters=alone).lost == ()
    both = electorate(eligible=False, stable=[ME, OTHER])
    assert review(subject, voters=both).lost == handed_over(SHARDS)


def test_a_resigned_key_is_no_loss_and_is_deleted_until_it_is_gone():
    subject = candidacy(record(0, 5))
    review(subject)
    key = subject.resign(0, barred_until=1.0)
    assert key == LeaderKey(KEYS.leader(0), 5, MY_LEASE)
    plan = review(subject)
    assert (plan.lost, plan.elected, plan.resignations) == ((), (), (key,))
    subject.saw_absent(KEYS.leader(0), 11)
    assert review(subject).resignations == ()


def test_nobody_campaigns_for_a_shard_while_barred_from_it():
    subject = candidacy(record(MINE[0], 5))
    review(subject)
    subject.resign(MINE[0], barred_until=3.0)
    subject.saw_absent(KEYS.leader(MINE[0]), 11)
    assert MINE[0] not in review(subject, 2.9).campaigns
    assert MINE[0] in review(subject, 3.0).campaigns


def test_resigning_what_is_not_held_only_bars():
    subject = candidacy()
    assert subject.resign(MINE[0], barred_until=3.0) is None
    assert MINE[0] not in review(subject, 0.0).campaigns


def test_a_resigned_shard_can_be_won_again():
    subject = candidacy(record(0, 5))
    review(subject)
    subject.resign(0, barred_until=0.0)
    subject.saw_absent(KEYS.leader(0), 11)
    review(subject)
    subject.saw(record(0, 12))
    assert review(subject).elected == ((0, LeaderKey(KEYS.leader(0), 12, MY_LEASE)),)


def test_leaders_are_the_readable_records():
    broken = Record(KEYS.leader(1), b"not json", 6, 6, OTHER_LEASE)
    subject = candidacy(record(0, 5), broken)
    assert subject.leaders == {0: ShardLeader(0, ME, "h:1")}


def test_keys_of_no_shard_of_ours_are_passed_over():
    subject = candidacy(record(0, 5))
    subject.apply(Changed(record(99, 11)))
    subject.apply(Changed(Record(KEYS.shards + "x", b"", 12, 12, MY_LEASE)))
    assert review(subject).elected == ((0, LeaderKey(KEYS.leader(0), 5, MY_LEASE)),)
