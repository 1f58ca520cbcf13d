from controlplane.telemetry.pauses import Pauses


def drawn(pauses, count):
    return [pauses.next_s() for _ in range(count)]


def test_pauses_grow_within_their_bounds():
    found = drawn(Pauses(b"seed", 100, 400), 200)
    assert all(0.1 <= pause <= 0.4 for pause in found)
    assert found[0] <= 0.3
    assert max(found) == 0.4


def test_two_seeds_are_not_in_step():
    one, other = (drawn(Pauses(seed, 100, 100_000), 20) for seed in (b"one", b"other"))
    assert not set(one) & set(other)
    assert one == drawn(Pauses(b"one", 100, 100_000), 20)


def test_what_worked_makes_pauses_short_again():
    pauses = Pauses(b"seed", 100, 100_000)
    drawn(pauses, 50)
    pauses.reset()
    assert pauses.next_s() <= 0.3
