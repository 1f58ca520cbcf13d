from loadtest.survival import Row, shown, table


def test_a_value_is_told_in_three_digits_and_never_with_an_exponent():
    values = (0.012345, 4.5678, 999.4, 1_234.5)
    assert [shown(value) for value in values] == ["0.0123", "4.57", "999", "1,234"]


def test_a_figure_is_told_as_the_median_with_all_its_runs():
    assert Row("it", "s", "< 1", [0.3, 0.1, 0.21234]).measured() == "0.212 s (0.3, 0.1, 0.212)"


def test_a_distribution_is_told_by_its_ranks_and_its_size():
    row = Row("it", "s", "< 1", [float(n) for n in range(1, 101)], spread=True)
    assert row.measured() == "50 / 99 / 100 s, n = 100"


def test_a_table_says_nothing_where_there_is_no_target():
    lines = table([Row("a", "s", "< 1", [0.5]), Row("b", "MB", "", [2.0])]).splitlines()
    assert lines[2:] == ["| a | 0.5 s (0.5) | < 1 s |", "| b | 2 MB (2) |  |"]
