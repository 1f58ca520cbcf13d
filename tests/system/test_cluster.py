"""A start that fails says why and leaves nothing: real servers, stand-ins for nodes and agents."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest

from controlplane.embedded import cluster as module
from controlplane.embedded import plan
from controlplane.embedded.cluster import EmbeddedCluster
from controlplane.embedded.errors import NotReadyError, ProcessStartError, ShardsFixedError
from controlplane.embedded.etcd import free_ports
from controlplane.embedded.folder import DataFolder
from controlplane.embedded.plan import ClusterSettings
from controlplane.embedded.process import processes_in

NODE_COMMAND = plan.node_command
LISTENS = (
    "import signal, socket, sys\n"
    "host, port = sys.argv[sys.argv.index('--listen') + 1].split(':')\n"
    "held = socket.create_server((host, int(port)))\n"
    "signal.pause()"
)


@pytest.fixture
def folder(tmp_path):
    with DataFolder(tmp_path / "data") as held:
        yield held


def stand_in(monkeypatch, script: str) -> None:
    """Nodes run `script` with the arguments of a node."""

    def command(*arguments):
        built = NODE_COMMAND(*arguments)
        given = built.argv[built.argv.index("node") + 1 :]
        return replace(built, argv=(sys.executable, "-c", script, *given))

    monkeypatch.setattr(plan, "node_command", command)


def cluster(folder: DataFolder, **more) -> EmbeddedCluster:
    settings = ClusterSettings(folder.path, port=free_ports().client, agents=0, **more)
    return EmbeddedCluster(settings, folder, os.environ, print)


def assert_nothing_left(folder: DataFolder) -> None:
    assert processes_in(folder.pg / "data", "postgres") == ()
    assert processes_in(folder.etcd, "etcd") == ()
    assert processes_in(folder.path, os.path.basename(os.path.realpath(sys.executable))) == ()  # noqa: PTH119
    assert not folder.client_file.exists()


async def test_a_node_that_ends_at_once_is_told_with_its_last_lines(folder, monkeypatch):
    stand_in(monkeypatch, "raise SystemExit('a wrong setting')")
    with pytest.raises(ProcessStartError, match="node-1 did not start: exit status 1") as refused:
        await cluster(folder).start()
    assert "a wrong setting" in str(refused.value)
    assert_nothing_left(folder)


async def test_what_is_missing_is_told_when_time_is_up(folder, monkeypatch):
    monkeypatch.setattr(module, "READY_DEADLINE_S", 1.0)
    stand_in(monkeypatch, "import signal; signal.pause()")
    with pytest.raises(NotReadyError, match="node-1 does not listen on"):
        await cluster(folder).start()
    assert_nothing_left(folder)
    stand_in(monkeypatch, LISTENS)
    with pytest.raises(NotReadyError, match="nobody leads 4 shards"):
        await cluster(folder).start()
    with pytest.raises(ShardsFixedError, match="has 4 shards, not 7"):
        await cluster(folder, shards=7).start()
    assert_nothing_left(folder)
