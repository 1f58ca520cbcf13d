from controlplane.core.events import AgentGone, Rejected, Started
from controlplane.leader.caution import Caution, key_of, keys_of, parts, singles, text_of, without
from controlplane.leader.mailbox import Delivery
from tests.unit.leader.harness import Session, ended, inventory, trigger


def attempt(number):
    return number.to_bytes(16, "big")


def test_sources_have_names():
    assert key_of(trigger(5)) == 5
    assert key_of(ended(1)) == key_of(Started("a", attempt(1), 1)) == attempt(1)
    assert key_of(Rejected("a", attempt(1), "")) == attempt(1)
    assert key_of(inventory()) == "a"
    assert key_of(AgentGone("a")) is None


def test_sources_are_named_to_people():
    assert text_of(trigger(5)) == 5
    assert text_of(ended(1)) == "Finished of attempt " + attempt(1).hex()
    assert text_of(inventory()) == "Inventory of agent a"
    assert text_of(AgentGone("a")) == "AgentGone"


def test_an_inventory_falls_apart_into_its_ends_and_the_rest():
    first, second = ended(1), ended(2)
    whole = inventory(first, second, live=((attempt(3), 0),))
    rest = inventory(live=((attempt(3), 0), (attempt(1), 1), (attempt(2), 1)))
    assert list(parts(whole)) == [first, second, rest]
    assert keys_of([whole]) == {attempt(1), attempt(2), "a"}


def test_a_delivery_falls_apart_and_keeps_its_source():
    source = Session()
    made = singles(Delivery((ended(1), trigger(2)), source, 9))
    assert made == [Delivery((ended(1),), source, 9), Delivery((trigger(2),), source, 9)]


def test_what_was_set_aside_is_passed_over():
    aside = frozenset({5, attempt(1)})
    kept = without([trigger(5), trigger(6), ended(1), ended(2), AgentGone("a")], aside)
    assert kept == [trigger(6), ended(2), AgentGone("a")]


def test_an_end_that_was_set_aside_counts_as_held():
    kept = without([inventory(ended(1), ended(2))], frozenset({attempt(1)}))
    assert kept == [inventory(ended(2), live=((attempt(1), 1),))]


def test_caution_lasts_until_all_suspects_have_passed():
    caution = Caution([ended(1), trigger(2)], until_ms=100)
    caution.passed([ended(1)])
    caution.passed([ended(9)])
    assert not caution.over(0)
    caution.passed([trigger(2)])
    assert caution.over(0)


def test_caution_ends_with_its_time():
    caution = Caution([ended(1)], until_ms=100)
    assert not caution.over(99)
    assert caution.over(100)


def test_after_timers_alone_one_turn_of_caution_is_enough():
    caution = Caution([], until_ms=100)
    assert not caution.over(0)
    caution.passed([])
    assert caution.over(0)
