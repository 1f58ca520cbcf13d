"""Links inside the documents lead somewhere, and no file names a private place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy.sources import ROOT, expect_none, texts

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+\s+(.+?)\s*#*$", re.MULTILINE)
OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:")
# The brackets keep this file from finding itself.
PRIVATE = re.compile(
    r"(?<![\w.~-])/(hom[e]|wor[k]|roo[t]|User[s])/\w"
    r"|\"resolve[d]\":"
    r"|--(extra-)?index-ur[l]|--find-link[s]"
    r"|^\s*registr[y]\s*=",
    re.MULTILINE,
)


def anchor(heading: str) -> str:
    """The fragment that renderers derive from a heading."""
    words = re.sub(r"[^\w\- ]", "", heading.replace("`", "")).strip().lower()
    return words.replace(" ", "-")


def anchors(text: str) -> set[str]:
    return {anchor(match) for match in HEADING.findall(FENCE.sub("", text))}


def dead_links(path: str, text: str, root: Path) -> Iterator[str]:
    for groups in LINK.findall(FENCE.sub("", text)):
        target = groups[0] or groups[1]
        if OUTSIDE.match(target):
            continue
        name, _, fragment = target.partition("#")
        file = (root / path).parent / name if name else root / path
        if not file.exists():
            yield f"{path}: {target} does not exist"
        elif fragment and file.suffix == ".md" and fragment not in anchors(file.read_text()):
            yield f"{path}: {target} has no such heading"


def private_places(path: str, text: str) -> list[str]:
    return [f"{path}: {match.group(0)}" for match in PRIVATE.finditer(text)]


def test_links_in_the_documents_resolve() -> None:
    documents = [(path, text) for path, text in texts() if path.endswith(".md")]
    expect_none(found for path, text in documents for found in dead_links(path, text, ROOT))


def test_no_file_names_a_private_place() -> None:
    expect_none(found for path, text in texts() for found in private_places(path, text))


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One, two: `three`\n")
    text = "[a](other.md) [b](gone.md) [c](other.md#one-two-three) [d](other.md#four) [e](#five)"
    found = list(dead_links("page.md", text, tmp_path))
    assert found[0] == "page.md: gone.md does not exist"
    assert found[1] == "page.md: other.md#four has no such heading"


def test_links_in_code_and_to_the_outside_are_not_followed(tmp_path: Path) -> None:
    text = "```\n[a](gone.md)\n```\n[b](https://example.org/x) [c](mailto:a@example.org)"
    assert list(dead_links("page.md", text, tmp_path)) == []


@pytest.mark.parametrize(
    "spaced",
    [
        "path = '/ho me/someone'",
        "cd /wo rk/there",
        '"reso lved": "https://registry.example/x.tgz"',
        "pip install --index -url https://mirror.example",
        "regis try=https://mirror.example",
    ],
)
def test_a_private_place_is_found(spaced: str) -> None:
    assert len(private_places("a.py", re.sub(r"(?<=\w) (?=\w|-u)", "", spaced))) == 1


def test_paths_inside_the_repository_pass() -> None:
    assert private_places("a.md", "see tests/work/x and https://example.org/home/x") == []
