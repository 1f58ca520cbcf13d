"""Working folders: empty for whoever gets one."""

from __future__ import annotations

import os
from pathlib import Path

from agent.supervisor.folders import SPARES_MOST, Folders


def made(root: Path) -> tuple[Folders, set[int]]:
    helpers: set[int] = set()
    return Folders(str(root), helpers), helpers


def reap(helpers: set[int]) -> None:
    for pid in helpers:
        os.waitpid(pid, 0)


def test_an_empty_folder_serves_again(tmp_path: Path):
    folders, helpers = made(tmp_path / "f")
    inode = Path(folders.make("aa")).stat().st_ino
    folders.give_back("aa")
    assert not Path(folders.path("aa")).exists()
    assert Path(folders.make("bb")).stat().st_ino == inode
    assert helpers == set()


def test_any_other_is_removed(tmp_path: Path):
    folders, helpers = made(tmp_path / "f")
    deep = Path(folders.make("aa")) / "x" / "y"
    deep.mkdir(parents=True)
    Path(folders.make("bb")).chmod(0o755)
    folders.give_back("aa")
    folders.give_back("bb")
    folders.give_back("cc")
    reap(helpers)
    assert list((tmp_path / "f").iterdir()) == []


def test_a_file_in_its_place_is_removed(tmp_path: Path):
    folders, helpers = made(tmp_path / "f")
    Path(folders.path("aa")).write_text("")
    folders.give_back("aa")
    reap(helpers)
    assert list((tmp_path / "f").iterdir()) == []


def test_only_some_are_kept(tmp_path: Path):
    folders, helpers = made(tmp_path / "f")
    for number in range(SPARES_MOST + 1):
        folders.make(str(number))
    for number in range(SPARES_MOST + 1):
        folders.give_back(str(number))
    reap(helpers)
    assert len(list((tmp_path / "f").iterdir())) == SPARES_MOST


def test_spares_that_somebody_removed_are_made_anew(tmp_path: Path):
    folders, _ = made(tmp_path / "f")
    folders.make("aa")
    folders.give_back("aa")
    for spare in (tmp_path / "f").iterdir():
        spare.rmdir()
    assert Path(folders.make("bb")).is_dir()


def test_what_earlier_supervisors_left_is_removed(tmp_path: Path):
    (tmp_path / "f" / "old" / "deep").mkdir(parents=True)
    _, helpers = made(tmp_path / "f")
    reap(helpers)
    assert list((tmp_path / "f").iterdir()) == []
