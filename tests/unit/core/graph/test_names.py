"""Which texts are ids and free text, and how much of a bad one a message repeats."""

from __future__ import annotations

import pytest

from controlplane.core.graph.names import MAX_ID_LENGTH, id_problem, shown, shown_bare, text_problem


@pytest.mark.parametrize("text", ["a", "extract", "x.y_z-1", "9", "a" * MAX_ID_LENGTH])
def test_an_id_has_letters_digits_dots_underscores_and_dashes(text):
    assert id_problem(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is missing; give it an id of 1 to 200 characters"),
        ("-a", "'-a' is not an id"),
        ("a b", "'a b' is not an id"),
        ("a\n", r"'a\n' is not an id"),
        ("ü", "'ü' is not an id"),
        ("a\0b", r"'a\x00b' is not an id"),
        ("a" * 201, "is too long; an id has at most 200 characters"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text, words):
    assert words in id_problem(text)


def test_a_message_about_a_megabyte_stays_short():
    for problem in (id_problem("x" * 1_000_000), text_problem("x" * 1_000_000, 1_000)):
        assert "… (1,000,000 characters)" in problem
        assert len(problem) < 200


def test_what_is_short_is_shown_whole():
    assert shown("a'b") == '"a\'b"'
    assert shown("x" * 60) == repr("x" * 60)
    assert shown("x" * 61) == repr("x" * 60) + "… (61 characters)"


def test_free_text_may_have_lines_but_no_control_characters():
    assert text_problem("two\nlines\tand\r", 100) is None
    assert text_problem("12345", 4) == "'12345' is too long; at most 4 characters are kept"
    assert text_problem("a\x07", 9) == r"'a\x07' holds a control character; remove it"


def test_in_a_row_of_names_there_are_no_quotes():
    assert shown_bare("a\n") == r"a\n"
    assert shown_bare("x" * 61) == "x" * 60 + "… (61 characters)"
