import pytest

from loadtest.samples import at_rank, distribution


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [(1, 50, 1), (1, 99, 1), (2, 50, 1), (3, 50, 2), (20, 99, 20), (100, 99, 99), (200, 99, 198)],
)
def test_a_rank_is_the_nearest_one_that_covers_the_percentage(count, percent, rank):
    assert at_rank(range(count, 0, -1), percent) == rank


def test_a_distribution_tells_how_many_samples_it_has():
    assert distribution([4.0, 1.0, 3.0, 2.0]) == (2.0, 4.0, 4.0, 4)


def test_no_samples_are_no_distribution():
    with pytest.raises(ValueError, match="no samples"):
        distribution([])
