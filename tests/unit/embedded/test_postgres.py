from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess

import pytest

from controlplane.embedded import postgres
from controlplane.embedded.errors import FolderError, ProgramMissingError, UserMappingError
from controlplane.embedded.postgres import (
    EmbeddedPostgres,
    binaries,
    lent_user_id,
    render_settings,
    server_user,
    short_socket_folder,
    socket_path,
)


def test_settings_are_rendered_with_quotes_doubled():
    text = render_settings({"b": "it's", "a": r"C:\x"})
    assert text.splitlines()[1:] == [r"a = 'C:\\x'", "b = 'it''s'"]


@pytest.mark.parametrize(
    ("known", "lent"), [((0, 1, 1000), 1000), ((0, 2, 65534), 2), ((7, 3, 0), 3)]
)
def test_the_lent_user_is_neither_root_nor_nobody(known, lent):
    assert lent_user_id(known) == lent


def test_a_machine_that_knows_only_root_cannot_lend_a_user():
    with pytest.raises(UserMappingError, match="no user but root"):
        lent_user_id((0, 65534))


def test_an_ordinary_user_with_an_account_runs_directly(monkeypatch):
    account = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
    monkeypatch.setattr(os, "geteuid", lambda: account.pw_uid)
    assert server_user() == ()


@pytest.mark.parametrize("user_id", [0, 123_456_789])
def test_root_and_users_without_an_account_are_mapped(monkeypatch, user_id):
    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    assert server_user()[:2] == ("unshare", "--user")


def test_forbidden_user_namespaces_are_told_with_the_ways_out(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    refused = subprocess.CompletedProcess((), 1, "", "unshare failed: Operation not permitted")
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: refused)
    with pytest.raises(UserMappingError, match=r"Operation not permitted.*--dsn"):
        server_user()


def test_a_missing_unshare_is_told(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(UserMappingError, match="not installed"):
        server_user()


def test_a_short_path_keeps_the_socket_where_it_was_wanted(tmp_path):
    assert short_socket_folder(tmp_path, tmp_path / "memo") == tmp_path


def test_a_long_path_gets_one_private_folder_and_keeps_it(tmp_path):
    wanted = tmp_path / ("x" * 100)
    made = short_socket_folder(wanted, tmp_path / "memo")
    try:
        assert len(os.fsencode(socket_path(made))) <= 107
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        assert short_socket_folder(wanted, tmp_path / "memo") == made
    finally:
        made.rmdir()


@pytest.mark.parametrize("spoil", ["gone", "open to others", "a link"])
def test_a_remembered_folder_that_is_not_ours_alone_is_not_used(tmp_path, spoil):
    memo, known = tmp_path / "memo", tmp_path / "known"
    memo.write_text(f"{known}\n")
    if spoil == "open to others":
        known.mkdir()
        known.chmod(0o755)
    elif spoil == "a link":
        known.symlink_to(tmp_path)
    made = short_socket_folder(tmp_path / ("x" * 100), memo)
    try:
        assert made != known
    finally:
        made.rmdir()


def test_a_wheel_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(postgres.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ProgramMissingError, match=r"not installed.*--dsn"):
        binaries()


def test_binaries_of_another_version_are_refused(monkeypatch):
    other = subprocess.CompletedProcess((), 0, "postgres (PostgreSQL) 17.2\n", "")
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: other)
    with pytest.raises(ProgramMissingError, match=r"17\.2, not 18"):
        binaries()


async def test_data_of_another_version_are_refused_before_anything_runs(tmp_path):
    server = EmbeddedPostgres(tmp_path / "pg")
    server.data.mkdir(parents=True)
    (server.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(FolderError, match="PostgreSQL 17 made it"):
        await server.start()
    assert server.pid is None
