"""etcd with certificates and users: what works, what is refused, and how a refusal is told."""

import asyncio
from contextlib import AsyncExitStack, aclosing

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controlplane.cli.node import _ask_etcd
from controlplane.coordination.client import EtcdClient
from controlplane.coordination.errors import AccessDenied, CertificateRefused
from controlplane.coordination.keepalive import LeaseCalls
from controlplane.coordination.records import Changed, LeaseGranted
from controlplane.settings.etcd import EtcdAccess
from tests.contract.coordination.harness import PATIENCE_S, Node, running, short_settings
from tests.contract.coordination.secured import ROOT, USER, SecuredEtcd, pem
from tests.servers.certificates import Authority
from tests.servers.etcd import EtcdServer, free_port

NEVER_MS = 3_600_000
SHARDS = range(4)


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """Tokens that end a second after they were given, however much they are used."""
    folder = tmp_path_factory.mktemp("signed")
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "token.key", folder / "token.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    how = f"jwt,pub-key={public},priv-key={private},sign-method=ES256,ttl=1s"
    made = SecuredEtcd(folder, auth_token=how)
    made.start()
    yield made
    made.server.stop()


@pytest.fixture
def simple(tmp_path):
    """Tokens that etcd forgets when it restarts, or after a second without use."""
    made = SecuredEtcd(tmp_path, auth_token_ttl="1")
    made.start()
    yield made
    made.server.stop()


def client_of(etcd, access=None, **more):
    access = access or etcd.access()
    return EtcdClient([etcd.server.endpoint], deadline_ms=2_000, access=access, **more)


def key(cluster, name="k"):
    return f"/mainspring/{cluster}/{name}"


async def heard(node, name, said):
    """Wait until the node sees what a node says of itself."""

    def seen(_):
        member = node.membership.members.get(name)
        return member is not None and member.info.committed_at_ms >= said

    await node.journal.until(seen)


# What works


@pytest.mark.parametrize("token_renew_ms", [300, NEVER_MS], ids=["in time", "when refused"])
async def test_nodes_go_on_past_several_lives_of_their_tokens(signed, cluster, token_renew_ms):
    settings = short_settings(
        cluster, signed.server.endpoint, access=signed.access(), token_renew_ms=token_renew_ms
    )
    async with AsyncExitStack() as stack:
        first, second = [Node(settings, name, shards=len(SHARDS)) for name in ("a", "b")]
        for node in (first, second):
            await stack.enter_async_context(running(node.coordination.run()))
            await node.journal.until(lambda _, n=node: n.lease.current)
        leases = [node.lease.current for node in (first, second)]
        said = 0
        while first.coordination.client._pool._asked < 4:
            said += 1
            first.membership.publish(committed_at_ms=said)
            await heard(second, "a", said)
        await first.journal.until(
            lambda _: {*first.election.held, *second.election.held} == set(SHARDS)
        )
        assert [node.lease.current for node in (first, second)] == leases
    for node in (first, second):
        changes = [entry[1] for entry in node.journal.entries if entry[0] == "lease"]
        assert [type(change) for change in changes] == [LeaseGranted]
    async with client_of(signed) as client:
        assert [await client.lease_ttl_s(lease) for lease in leases] == [-1, -1]


async def test_tokens_that_a_restarted_server_has_forgotten_are_replaced(simple, cluster):
    settings = short_settings(
        cluster, simple.server.endpoint, access=simple.access(), lease_ttl_ms=10_000
    )
    node = Node(settings, "a", shards=len(SHARDS))
    async with running(node.coordination.run()):
        await node.holds(*SHARDS)
        held, lease = dict(node.election.held), node.lease.current
        await asyncio.to_thread(simple.server.kill)
        await asyncio.to_thread(simple.server.start)
        node.membership.publish(committed_at_ms=7)
        await heard(node, "a", 7)
        assert (dict(node.election.held), node.lease.current) == (held, lease)


async def test_a_watch_whose_token_is_forgotten_goes_on_without_a_gap(simple, cluster):
    async with (
        client_of(simple) as watcher,
        client_of(simple) as writer,
        aclosing(watcher.watch_prefix(key(cluster, ""), poll_ms=NEVER_MS)) as changes,
    ):
        async with asyncio.timeout(PATIENCE_S):
            await anext(changes)
            await writer.put(key(cluster), b"1")
            assert (await anext(changes)).record.value == b"1"
            pending = asyncio.ensure_future(anext(changes))
            await asyncio.to_thread(simple.server.kill)
            await asyncio.to_thread(simple.server.start)
            await writer.put(key(cluster), b"2")
            change = await pending
        assert isinstance(change, Changed)
        assert change.record.value == b"2"


async def test_a_token_older_than_the_rules_for_users_is_replaced(signed, cluster):
    async with client_of(signed) as client:
        await client.put(key(cluster), b"a")
        await asyncio.to_thread(signed.server.control, "role", "add", cluster, user=ROOT)
        assert (await client.get(key(cluster))).value == b"a"


async def test_a_user_is_named_before_users_are_asked_for(simple, cluster):
    """So nodes are told their user first, and users are switched on when all nodes have one."""
    await asyncio.to_thread(simple.server.control, "auth", "disable", user=ROOT)
    async with client_of(simple) as client:
        await client.put(key(cluster), b"a")
        await asyncio.to_thread(simple.server.control, "auth", "enable")
        assert (await client.get(key(cluster))).value == b"a"


async def test_the_name_in_a_certificate_is_a_user(simple, cluster):
    access = simple.access(client=simple.authority.certify(USER), user="", password="")
    async with client_of(simple, access) as client:
        await client.put(key(cluster), b"a")
        with pytest.raises(AccessDenied, match="the user of our certificate"):
            await client.get("/elsewhere")


# What is refused


async def test_a_wrong_password_is_told(signed, cluster):
    access = signed.access(password="not this one")
    async with client_of(signed, access) as client:
        with pytest.raises(AccessDenied, match=r"'mainspring' .*--etcd-password-file"):
            await client.get(key(cluster))


async def test_a_node_that_is_refused_says_so_at_its_start(signed, cluster):
    endpoint = signed.server.endpoint
    await _ask_etcd(short_settings(cluster, endpoint, access=signed.access()), "a")
    refused = short_settings(cluster, endpoint, access=signed.access(password="not this one"))
    with pytest.raises(AccessDenied, match="--etcd-password-file"):
        await _ask_etcd(refused, "a")


async def test_a_node_starts_although_etcd_is_away(cluster):
    await _ask_etcd(short_settings(cluster, f"127.0.0.1:{free_port()}"), "a")


async def test_the_lease_says_what_is_refused(signed, cluster):
    access = signed.access(password="not this one")
    settings = short_settings(cluster, signed.server.endpoint, access=access)

    def grant():
        with LeaseCalls(settings) as calls:
            calls.grant(1)

    with pytest.raises(AccessDenied, match=r"--etcd-password-file"):
        await asyncio.to_thread(grant)


async def test_what_a_user_may_not_do_is_told(signed):
    async with client_of(signed) as client:
        with pytest.raises(AccessDenied, match=r"the user 'mainspring' .*permission denied"):
            await client.get("/elsewhere")


async def test_many_calls_with_a_wrong_password_fail_together(signed, cluster):
    async with client_of(signed, signed.access(password="not this one")) as client:
        calls = [client.get(key(cluster)) for _ in range(8)]
        failures = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(failure) for failure in failures} == {AccessDenied}
        assert client._pool._asked == 1


async def test_an_authority_that_did_not_sign_is_told(signed, cluster, tmp_path):
    access = signed.access(ca=Authority(tmp_path, "another").ca)
    async with client_of(signed, access) as client:
        with pytest.raises(CertificateRefused, match=r"another\.pem \(--etcd-ca\)"):
            await client.get(key(cluster))


async def test_an_expired_certificate_of_ours_is_told(signed, cluster):
    access = signed.access(client=signed.authority.certify("late", expired=True))
    async with client_of(signed, access) as client:
        with pytest.raises(CertificateRefused, match=r"late\.pem \(--etcd-cert\)"):
            await client.get(key(cluster))


async def test_no_certificate_of_ours_is_told(signed, cluster):
    access = EtcdAccess(ca=pem(signed.authority.ca))
    async with client_of(signed, access) as client:
        with pytest.raises(CertificateRefused, match="give --etcd-cert and --etcd-key"):
            await client.get(key(cluster))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"expired": True}, "certificate has expired"),
        ({"host": "127.0.0.2"}, "for another host"),
    ],
)
async def test_a_certificate_of_etcd_that_is_no_good_is_told(tmp_path, made, words):
    authority = Authority(tmp_path)
    server = EtcdServer(tmp_path / "data", certified=authority.certify("etcd", **made))
    server.start()
    try:
        access = EtcdAccess(ca=pem(authority.ca))
        async with EtcdClient([server.endpoint], deadline_ms=2_000, access=access) as client:
            with pytest.raises(CertificateRefused, match=words):
                await client.get("/k")
    finally:
        server.stop()


async def test_a_member_that_is_not_to_be_trusted_is_left_for_the_next(signed, cluster, tmp_path):
    false = EtcdServer(tmp_path / "data", certified=Authority(tmp_path, "false").certify("etcd"))
    false.start()
    try:
        endpoints = [false.endpoint, signed.server.endpoint]
        async with EtcdClient(endpoints, deadline_ms=2_000, access=signed.access()) as client:
            await client.put(key(cluster), b"a")
    finally:
        false.stop()
