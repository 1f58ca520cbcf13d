"""YAML: documents, aliases within bounds, and no trust in depth or length."""

from __future__ import annotations

import pytest
import yaml
from mainspring.definition import yaml_source
from mainspring.definition.nodes import Mapping, Null, Scalar, Sequence, described
from mainspring.definition.problems import SourceError
from mainspring.definition.yaml_source import yaml_documents


def test_scalars_keep_their_words() -> None:
    (node,) = yaml_documents("no: [2024, 'on', ~, ]\n? yes\n: \n")
    assert node == Mapping(
        0,
        [
            (
                Scalar(0, "no", plain=True),
                Sequence(
                    4,
                    [
                        Scalar(5, "2024", plain=True),
                        Scalar(11, "on", plain=False),
                        Scalar(17, "~", plain=True),
                    ],
                ),
            ),
            (Scalar(24, "yes", plain=True), Null(29)),
        ],
    )


def test_empty_documents_are_left_out() -> None:
    assert len(list(yaml_documents("a: b\n---\n---\nc: d\n---\n# nothing\n"))) == 2


def test_alias_stands_for_the_anchored_value() -> None:
    (node,) = yaml_documents("- &x {a: b}\n- *x\n- &y z\n- *y\n- &z\n- *z\n")
    assert isinstance(node, Sequence)
    first, second, third, fourth, fifth, sixth = node.items
    assert first is second
    assert third is fourth
    assert fifth is sixth


def test_anchor_ends_with_its_document() -> None:
    with pytest.raises(SourceError, match=r"alias \*x has no anchor"):
        list(yaml_documents("- &x a\n---\n- *x\n"))


def test_alias_bomb_is_refused_at_the_alias_that_bursts_it() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    with pytest.raises(SourceError, match="more than 4,000,000 values, aliases written out"):
        list(yaml_documents("\n".join(lines)))


@pytest.mark.parametrize("text", ["[a, b, c, d]", "- [[], [], []]\n- x"])
def test_values_are_counted(text: str) -> None:
    assert len(list(yaml_documents(text, max_nodes=6))) == 1
    with pytest.raises(SourceError, match="more than 3 values"):
        list(yaml_documents(text, max_nodes=3))


def test_collections_without_scalars_are_counted() -> None:
    with pytest.raises(SourceError, match="more than 2 values"):
        list(yaml_documents("[[], []]", max_nodes=2))


def test_next_line_characters_and_marks_inside_do_not_shift_places() -> None:
    text = "dag: é🌙\nx: [a, 🌙, &b c]\n"
    (node,) = yaml_documents(text)
    assert isinstance(node, Mapping)
    value = node.pairs[1][1]
    assert isinstance(value, Sequence)
    assert [text[item.offset] for item in value.items] == ["a", "🌙", "&"]


def test_parser_without_libyaml_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "dag: a\ntasks:\n  - &t {task: no, x: |\n      [}\n  - *t\n".replace("|\n      [}", "1}")
    fast = list(yaml_documents(text))
    monkeypatch.setattr(yaml_source, "_LOADER", yaml.SafeLoader)
    assert list(yaml_documents(text)) == fast


def test_long_plain_text_is_described_without_itself() -> None:
    assert described(Scalar(0, "a" * 41, plain=True)) == "a text"
