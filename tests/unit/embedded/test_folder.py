from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from controlplane.embedded.errors import AlreadyRunning, FolderError, NewerLayoutError
from controlplane.embedded.folder import LAYOUT, DataFolder, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_has_its_tree_for_the_owner_alone(tmp_path):
    with DataFolder(tmp_path / "a" / "data") as data:
        for folder in (data.path, data.pg, data.etcd, data.logs, data.objects, data.run):
            assert mode(folder) == 0o700
        assert mode(data.admin_token_file) == 0o600
        assert mode(data.path / "lock") == 0o600


def test_the_admin_token_is_random_and_made_once(tmp_path):
    with DataFolder(tmp_path / "one") as first, DataFolder(tmp_path / "two") as other:
        token = first.admin_token
        assert len(token) >= 43
        assert token != other.admin_token
    with DataFolder(tmp_path / "one") as again:
        assert again.admin_token == token


def test_a_second_holder_is_told_who_holds_the_folder_and_where_it_serves(tmp_path):
    with DataFolder(tmp_path / "data") as data:
        data.announce("127.0.0.1:7700")
        with pytest.raises(AlreadyRunning) as refused:
            DataFolder(data.path)
    assert (refused.value.pid, refused.value.address) == (os.getpid(), "127.0.0.1:7700")
    assert "127.0.0.1:7700" in str(refused.value)
    assert "--data" in str(refused.value)


def test_a_second_holder_before_the_announcement_learns_the_process(tmp_path):
    with DataFolder(tmp_path / "data") as data, pytest.raises(AlreadyRunning) as refused:
        DataFolder(data.path)
    assert (refused.value.pid, refused.value.address) == (os.getpid(), None)


def test_a_lock_that_says_nothing_yet_still_refuses(tmp_path):
    with DataFolder(tmp_path / "data") as data:
        os.truncate(data.path / "lock", 0)
        with pytest.raises(AlreadyRunning, match="another process") as refused:
            DataFolder(data.path)
    assert refused.value.pid is None


def test_a_closed_folder_can_be_held_again(tmp_path):
    data = DataFolder(tmp_path / "data")
    data.close()
    data.close()
    with DataFolder(tmp_path / "data"):
        pass


def test_the_announcement_is_private_and_ends_with_the_holder(tmp_path):
    with DataFolder(tmp_path / "data") as data:
        data.announce("127.0.0.1:7700")
        said = json.loads(data.client_file.read_text())
        assert mode(data.client_file) == 0o600
        assert said["address"] == "127.0.0.1:7700"
        assert Path(said["token_file"]).read_text().strip() == data.admin_token
    assert not data.client_file.exists()


def test_the_lock_is_not_inherited_by_children(tmp_path):
    with DataFolder(tmp_path / "data") as data:
        assert not os.get_inheritable(data._lock_fd)


def test_loosened_permissions_are_tightened(tmp_path):
    with DataFolder(tmp_path / "data") as data:
        data.tokens.chmod(0o755)
        data.path.chmod(0o755)
    with DataFolder(tmp_path / "data") as data:
        assert (mode(data.tokens), mode(data.path)) == (0o700, 0o700)


def test_a_newer_layout_is_refused(tmp_path):
    with DataFolder(tmp_path / "data") as data:
        write_private(data.path / "layout", f"{LAYOUT + 1}\n")
    with pytest.raises(NewerLayoutError, match="Upgrade Mainspring") as refused:
        DataFolder(tmp_path / "data")
    assert (refused.value.found, refused.value.known) == (LAYOUT + 1, LAYOUT)


def test_a_damaged_layout_is_refused_and_leaves_no_lock(tmp_path):
    with DataFolder(tmp_path / "data") as data:
        write_private(data.path / "layout", "what\n")
    for _ in range(2):
        with pytest.raises(FolderError, match="damaged"):
            DataFolder(tmp_path / "data")


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    tmp_path.chmod(0o755)
    with pytest.raises(FolderError, match="not empty"):
        DataFolder(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    assert mode(tmp_path) == 0o755


def test_a_first_boot_that_died_at_its_first_write_is_taken_up_again(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / ".layout.1234abcd").touch()
    with DataFolder(tmp_path) as data:
        assert data.pg.is_dir()


@pytest.mark.parametrize("place", ["file/data", "file"])
def test_a_folder_that_cannot_be_made_names_path_reason_and_way_out(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(FolderError) as refused:
        DataFolder(tmp_path / place)
    assert refused.value.path == tmp_path / place
    assert refused.value.reason in ("Not a directory", "File exists")
    assert "--data" in refused.value.advice


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(FolderError, match="another user"):
        DataFolder(tmp_path / "data")
