import json

import pytest

from loadtest.logbook import entries_of, last


def line(second, event, **fields):
    return json.dumps({"timestamp": f"1970-01-01T00:00:{second:06.3f}Z", "event": event, **fields})


def test_lines_become_moments_in_seconds_since_the_epoch():
    (entry,) = entries_of(line(1.5, "recovered", runs=3))
    assert (entry.at, entry.event, entry.fields["runs"]) == (1.5, "recovered", 3)


@pytest.mark.parametrize(
    "text", ["", "Traceback:", "7", '{"event": "no time"}', '{"timestamp": 1}']
)
def test_what_is_no_entry_is_passed_over(text):
    assert [each.event for each in entries_of(f"{text}\n{line(1, 'serving')}")] == ["serving"]


def test_the_last_entry_of_a_kind_is_found():
    text = "\n".join([line(1, "won"), line(2, "won"), line(3, "lost")])
    assert last(entries_of(text), "won").at == 2


def test_a_kind_that_was_never_written_is_an_error():
    with pytest.raises(LookupError, match="no won in the log"):
        last([], "won")
