"""Which migrations a database still needs, and which programs may work with it."""

from __future__ import annotations

import pytest

from controlplane.store.errors import SchemaError
from controlplane.store.migrations import (
    Applied,
    Migration,
    check,
    missing,
    own_migrations,
    parse_migration,
)

ONE = Migration(1, "one", "a", 1)
TWO = Migration(2, "two", "b", 1)
BREAKING = Migration(3, "three", "c", 3)


def had(*migrations: Migration) -> list[Applied]:
    return [Applied(m.number, m.name, m.checksum, m.oldest_node) for m in migrations]


def test_a_file_says_its_number_and_whom_it_serves():
    text = "-- node versions: 4\nSELECT 1;"
    assert parse_migration("0007_more.sql", text) == Migration(7, "more", text, 4)


@pytest.mark.parametrize(
    ("name", "text"), [("7_more.sql", "-- node versions: 4\n"), ("0007_more.sql", "SELECT 1;")]
)
def test_a_file_that_does_not_say_it_is_refused(name, text):
    with pytest.raises(ValueError, match="not a migration"):
        parse_migration(name, text)


def test_our_own_are_numbered_from_one():
    assert [item.number for item in own_migrations()] == list(range(1, len(own_migrations()) + 1))


def test_what_was_not_applied_is_missing():
    assert missing([ONE, TWO], []) == [ONE, TWO]
    assert missing([ONE, TWO], had(ONE)) == [TWO]
    assert missing([ONE, TWO], had(ONE, TWO)) == []


def test_a_changed_one_is_refused():
    with pytest.raises(SchemaError, match="0001"):
        missing([ONE._replace(text="changed"), TWO], had(ONE))


def test_a_newer_database_is_not_migrated():
    with pytest.raises(SchemaError, match="newer program"):
        missing([ONE], had(ONE, TWO))


def test_a_program_works_with_its_own_and_with_newer_databases_that_serve_it():
    check([ONE, TWO], had(ONE, TWO))
    check([ONE], had(ONE, TWO))
    check([ONE, TWO, BREAKING], had(ONE, TWO, BREAKING))


def test_a_program_is_refused_by_an_older_database():
    with pytest.raises(SchemaError, match="migrate it"):
        check([ONE, TWO], had(ONE))


def test_a_program_is_refused_by_a_database_that_left_it_behind():
    with pytest.raises(SchemaError, match="upgrade it"):
        check([ONE, TWO], had(ONE, TWO, BREAKING))
