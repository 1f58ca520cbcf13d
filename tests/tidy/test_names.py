"""A module is named after what it decides; names that could mean anything are refused."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from tests.tidy.sources import expect_none, sources

MEANINGLESS = {"util", "common", "helper", "manager", "base", "misc", "tool", "stuff", "lib"}
TOP_LEVEL = {
    *("proto", "controlplane", "agent", "clients", "tests", "loadtest", "web", "docs"),
    *("deploy", "examples", ".ci"),
}


def meaningless(path: str) -> bool:
    names = PurePath(path).with_suffix("").parts
    words = {word for name in names for word in name.split("_")}
    return any(word in MEANINGLESS or word.removesuffix("s") in MEANINGLESS for word in words)


def test_every_module_has_a_telling_name() -> None:
    expect_none(source.path for source in sources() if meaningless(source.path))


def test_top_level_folders_are_those_of_the_layout() -> None:
    folders = {PurePath(source.path).parts[0] for source in sources()}
    assert folders - TOP_LEVEL == set()


@pytest.mark.parametrize(
    "path",
    ["controlplane/utils.py", "agent/base.py", "tests/helpers/x.py", "agent/task_manager.py"],
)
def test_a_meaningless_name_is_found(path: str) -> None:
    assert meaningless(path)


def test_a_telling_name_passes() -> None:
    assert not meaningless("controlplane/core/time/wheel.py")
