from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.journal.lock import FolderTaken, lock_folder


def test_a_folder_has_one_agent(tmp_path: Path):
    held = lock_folder(tmp_path)
    with pytest.raises(FolderTaken, match=f"{tmp_path}: process {os.getpid()}$"):
        lock_folder(tmp_path)
    os.close(held)
    os.close(lock_folder(tmp_path))


def test_the_lock_is_not_handed_to_children(tmp_path: Path):
    held = lock_folder(tmp_path)
    assert not os.get_inheritable(held)
    os.close(held)
