"""`node`: one process of the control plane, until a signal ends it.

Decides how the parts of a node are put together, and in which order it starts and stops: the store,
then the doors, then the campaign; at the end the shards are handed over before the doors close.
Promises one sentence for a foreseeable error, and that what runs in the background ends the process
when it fails, so that whoever started it starts another. Does not know what the parts do.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
from collections.abc import Sequence
from importlib.metadata import version

import structlog
import uvloop
from mainspring.cli.exit_codes import ExitCode
from mainspring.cli.output import say

from controlplane.api.admin_servicer import AdminServicer
from controlplane.api.approval_servicer import ApprovalServicer
from controlplane.api.credentials import Gatekeeper
from controlplane.api.dag_servicer import DagServicer
from controlplane.api.listeners import Listener, ListenerError
from controlplane.api.node_servicer import NodeServicer
from controlplane.api.peers import Peers
from controlplane.api.run_servicer import RunServicer
from controlplane.api.server import Built, Extra, Servicers, build_server
from controlplane.coordination.client import EtcdClient
from controlplane.coordination.errors import AccessDenied, CertificateRefused, EtcdError
from controlplane.coordination.keys import Keyspace
from controlplane.coordination.membership import NodeInfo
from controlplane.coordination.settings import CoordinationSettings
from controlplane.core.types import day_of
from controlplane.leader.node import LeadingNode
from controlplane.leader.sessions.servicer import SERVICE as SESSIONS
from controlplane.leader.times import LeaderTimes
from controlplane.objectstore.logs import LogStore
from controlplane.services.approvals import ApprovalService
from controlplane.services.cluster import ClusterService, Server
from controlplane.services.dags import DagService
from controlplane.services.log_reading import LogService
from controlplane.services.notices import Notices
from controlplane.services.pictures import Pictures
from controlplane.services.runs import RunService
from controlplane.services.versions import Versions
from controlplane.services.waiting import Commands
from controlplane.services.watching import WatchService
from controlplane.settings.node import NodeSettings, SettingsError, parse_node_settings
from controlplane.store.errors import NotInitialised, SchemaError, StoreError
from controlplane.store.store import Store
from controlplane.telemetry.clock import EntropySource, SystemClock
from controlplane.telemetry.logs import configure_logs
from controlplane.telemetry.stats import Stats

_log = structlog.get_logger(__name__)

UPKEEP_S = 3_600.0
DAYS_BEHIND, DAYS_AHEAD = 1, 2
CLOSE_GRACE_S = 0.2
DEFAULT_LEADER_LEASE_MS = 5_000
_FIELDS = {
    "heartbeat": "heartbeat_ms",
    "attempt-lease": "attempt_lease_ms",
    "lease-grace": "lease_grace_ms",
    "lease-drift": "lease_drift_ms",
}
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A step makes many small objects that live as long as their run: look for cycles seldom.
_GC_THRESHOLDS = (50_000, 50, 50)


def main(arguments: Sequence[str]) -> int:
    """Runs a node; 0 after a clean stop."""
    try:
        settings = parse_node_settings(vars_of(arguments))
        coordination, times = times_of(settings)
        listener = Listener(settings.listen)
    except SettingsError as error:
        for flag, reason in error.problems:
            say(f"error: {flag} {reason}")
        return ExitCode.USAGE
    except ValueError as error:
        say(f"error: {error}")
        return ExitCode.USAGE
    except ListenerError as error:
        say(f"error: --listen {error}")
        return ExitCode.NOT_ALLOWED
    configure_logs(settings.log_level)
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(settings, coordination, times, listener))
    except ListenerError as error:
        say(f"error: --listen {error}")
        return ExitCode.CONFLICT
    except (SchemaError, NotInitialised) as error:
        say(f"error: {error}; run the migrations of this version first")
        return ExitCode.CONFLICT
    except StoreError as error:
        say(f"error: {error}")
        return ExitCode.UNREACHABLE
    except EtcdError as error:
        say(f"error: {error.message}")
        return ExitCode.NOT_ALLOWED


def times_of(settings: NodeSettings) -> tuple[CoordinationSettings, LeaderTimes]:
    """What a node is timed by. Raises ValueError with all that does not fit, by flag."""
    given = dict(settings.times_ms)
    lease_ttl_ms = given.pop("leader-lease", DEFAULT_LEADER_LEASE_MS)
    others = {_FIELDS[flag]: time_ms for flag, time_ms in given.items()}
    faults: list[str] = []
    try:
        coordination = CoordinationSettings.of_lease(
            settings.cluster, settings.etcd, lease_ttl_ms, settings.etcd_access
        )
    except ValueError as error:
        faults.append(str(error))
    try:
        times = LeaderTimes.of_leader_lease(lease_ttl_ms, **others)
    except ValueError as error:
        faults.append(str(error))
    if faults:
        text = "; ".join(faults).replace("lease_ttl_ms", "--leader-lease")
        for flag, field in _FIELDS.items():
            text = text.replace(field, f"--{flag}")
        raise ValueError(text)
    return coordination, times


def vars_of(arguments: Sequence[str]) -> dict[str, str]:
    """The flags by name; what is missing or wrong in them is judged elsewhere, all at once."""
    parser = argparse.ArgumentParser(
        prog="python -P -m controlplane.cli node",
        description="Run one node of the control plane.",
        epilog="example: … node --node n1 --cluster main --listen 127.0.0.1:7070 --dsn-file dsn"
        " --etcd 127.0.0.1:2379 --token-file token --objects file:///var/lib/mainspring",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--node", metavar="ID", help="id of the node, unique in the cluster")
    add("--cluster", metavar="ID", help="id of the cluster: names its keys in etcd")
    add("--listen", metavar="HOST:PORT", help="where to serve")
    add("--advertise", metavar="HOST:PORT", help="what others are told (default: as --listen)")
    add("--dsn-file", metavar="FILE", help="file with the URL of PostgreSQL")
    add("--etcd", metavar="[https://]HOST:PORT[,…]", help="members of etcd")
    add("--etcd-ca", metavar="FILE", help="authority of etcd's certificates; default: public ones")
    add("--etcd-cert", metavar="FILE", help="certificate that this node shows to etcd")
    add("--etcd-key", metavar="FILE", help="its key")
    add("--etcd-user", metavar="NAME", help="user of etcd")
    add("--etcd-password-file", metavar="FILE", help="file with the password of that user")
    add("--token-file", metavar="FILE", help="file with this node's token")
    add("--objects", metavar="URL", help="object store of logs")
    add("--heartbeat", metavar="TIME", help="between two heartbeats of an agent; default: 5s")
    add("--attempt-lease", metavar="TIME", help="how long attempts outlive an answer; default: 2m")
    add("--lease-grace", metavar="TIME", help="within it agents have killed; default: 10s")
    add("--lease-drift", metavar="TIME", help="between two clocks at its end; default: 2s")
    add("--leader-lease", metavar="TIME", help="of this node in etcd, whole seconds; default: 5s")
    add("--log-level", default="info", help="debug, info or warning")
    options = vars(parser.parse_args(arguments))
    return {name.replace("_", "-"): text or "" for name, text in options.items()}


async def _run(
    settings: NodeSettings,
    coordination: CoordinationSettings,
    times: LeaderTimes,
    listener: Listener,
) -> int:
    stop = asyncio.Event()
    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = await Store.open(settings.dsn)
    try:
        shards = await store.count_shards()
        await _ask_etcd(coordination, settings.node)
        node = NodeProcess(settings, coordination, times, store, shards)
        await node.serve(listener, stop)
    finally:
        await store.close()
    return ExitCode.OK


async def _ask_etcd(coordination: CoordinationSettings, node: str) -> None:
    """Raises EtcdError when etcd refuses this node; one that is away may come later."""
    async with EtcdClient.from_settings(coordination) as client:
        try:
            await client.get(Keyspace(coordination.cluster).node(node))
        except (AccessDenied, CertificateRefused):
            raise
        except EtcdError as error:
            _log.warning("etcd_does_not_answer", error=str(error))


class NodeProcess:
    """Everything of one node, put together. `serve` once."""

    def __init__(
        self,
        settings: NodeSettings,
        coordination: CoordinationSettings,
        times: LeaderTimes,
        store: Store,
        shards: int,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock, self._entropy, self._stats = SystemClock(), EntropySource(), Stats()
        started_at_ms = self._clock.now().wall_us // 1_000
        self._leading = LeadingNode(
            NodeInfo(settings.node, settings.advertise, started_at_ms),
            shards,
            store.shards,
            store.api,
            coordination,
            self._clock,
            self._entropy,
            self._stats,
            times,
        )
        self._peers = Peers(
            self._leading.leaderships, store.shards, self._clock, token=settings.token
        )
        self._commands = Commands(store.api, self._peers, self._clock)
        self._server = Server(version("mainspring-server"), settings.cluster, settings.node, shards)

    async def serve(self, listener: Listener, stop: asyncio.Event) -> None:
        """Serves and leads until `stop` is set. Raises ListenerError before that."""
        gatekeeper = Gatekeeper(self._store.api, self._clock)
        extra = Extra(SESSIONS, self._leading.sessions.register)
        built = build_server(self._servicers(), gatekeeper, [listener], [extra])
        await self._make_partitions()
        await built.server.start()
        _log.info("serving", node=self._settings.node, address=self._settings.advertise)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(work)
                    for work in (self._leading.run(), self._commands.run(), self._upkeep())
                ]
                await stop.wait()
                await self._hand_over(built)
                for task in tasks:
                    task.cancel()
        finally:
            await built.server.stop(None)
            await self._peers.close()

    async def _hand_over(self, built: Built) -> None:
        """New calls are refused at once; what runs gets a moment while the shards are resigned."""
        _log.info("stopping", node=self._settings.node)
        await built.health.enter_graceful_shutdown()
        await self._leading.stop()
        await built.server.stop(CLOSE_GRACE_S)

    def _servicers(self) -> Servicers:
        api, clock, leading = self._store.api, self._clock, self._leading
        membership = leading.coordination.membership
        versions = Versions(api)
        pictures = Pictures(api, versions)
        hub, leases = leading.hub, leading.times.leases
        notices = Notices(api, self._store.shards, leading.fleet, hub.absences, membership, leases)
        runs = RunService(api, self._commands, pictures, notices, clock, self._entropy)
        logs = LogService(api, pictures, LogStore(self._settings.objects), hub.tails, clock)
        return Servicers(
            dags=DagServicer(DagService(api, self._commands, clock)),
            runs=RunServicer(runs, WatchService(pictures, runs, leading.news, clock), logs),
            approvals=ApprovalServicer(ApprovalService(api, self._commands, pictures, versions)),
            admin=AdminServicer(ClusterService(api, leading.fleet, membership, self._server)),
            node=NodeServicer(leading.leaderships, self._stats),
        )

    async def _upkeep(self) -> None:
        """Keeps the tables in shape."""
        while True:
            await asyncio.sleep(UPKEEP_S)
            await self._make_partitions()

    async def _make_partitions(self) -> None:
        """Without a partition rows go to the default one: late is no loss."""
        now_us = self._clock.now().wall_us
        today = day_of(now_us)
        try:
            await self._store.ensure_partitions(range(today - DAYS_BEHIND, today + DAYS_AHEAD + 1))
            await self._store.forget_expired(now_us)
        except StoreError as error:
            _log.warning("upkeep_failed", error=str(error))
