import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controlplane.settings.etcd import (
    ACCESS_FLAGS,
    Endpoint,
    EtcdAccess,
    etcd_problems,
    parse_endpoint,
    read_access,
)
from tests.servers.certificates import Authority

TLS = "https://h:2379"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One of each, by what it is."""
    folder = tmp_path_factory.mktemp("pem")
    authority = Authority(folder)
    me, other = authority.certify("me"), authority.certify("other")
    (folder / "password").write_text("hush\n")
    (folder / "nothing").write_text("")
    locked = folder / "locked.key"
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
    )
    return {
        "ca": str(authority.ca),
        "cert": str(me.cert),
        "key": str(me.key),
        "other": str(other.key),
        "locked": str(locked),
        "password": str(folder / "password"),
        "nothing": str(folder / "nothing"),
        "nowhere": str(folder / "nowhere"),
    }


def texts(etcd, **flags):
    given = {name.replace("_", "-"): text for name, text in flags.items()}
    return {"etcd": etcd, **dict.fromkeys(ACCESS_FLAGS, ""), **given}


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:2379", Endpoint("127.0.0.1:2379", tls=False)),
        ("http://127.0.0.1:2379/", Endpoint("127.0.0.1:2379", tls=False)),
        ("https://etcd.example:2379", Endpoint("etcd.example:2379", tls=True)),
        ("https://[::1]:2379", Endpoint("[::1]:2379", tls=True)),
    ],
)
def test_endpoints_are_read(text, endpoint):
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text", ["", "host", ":2379", "host:", "ftp://host:2379", "host:2379/x", "host:0", "host:65536"]
)
def test_other_endpoints_are_refused(text):
    with pytest.raises(ValueError, match="is not host:port"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [("127.0.0.9:1", True), ("[::1]:1", True), ("localhost:1", True), ("etcd:1", False)],
)
def test_what_stays_on_this_machine_is_known(text, local):
    assert parse_endpoint(text).local is local


def test_access_is_read_from_files(files):
    flags = texts(
        f"{TLS},https://g:2379",
        etcd_ca=files["ca"],
        etcd_cert=files["cert"],
        etcd_key=files["key"],
        etcd_user="u",
        etcd_password_file=files["password"],
    )
    assert list(etcd_problems(flags)) == []
    access = read_access(flags)
    assert (access.user, access.password) == ("u", "hush")
    assert access.key.path == files["key"]
    assert b"PRIVATE KEY" in access.key.content
    assert "hush" not in repr(access)
    assert "PRIVATE" not in repr(access)


def test_without_flags_there_is_nothing_to_show():
    assert list(etcd_problems(texts("h:1"))) == []
    assert read_access(texts("h:1")) == EtcdAccess()


@pytest.mark.parametrize(
    ("etcd", "flags", "told"),
    [
        ("", {}, ("--etcd", "is missing")),
        ("h:1,h", {}, ("--etcd", "'h' is not host:port")),
        ("h:1,https://g:1", {}, ("--etcd", "use one of both for all")),
        ("h:1", {"etcd_ca": "ca"}, ("--etcd-ca", "--etcd names none")),
        (TLS, {"etcd_ca": "nowhere"}, ("--etcd-ca", "cannot be read: No such file")),
        (TLS, {"etcd_ca": "nothing"}, ("--etcd-ca", "holds no certificate in PEM")),
        (TLS, {"etcd_cert": "cert"}, ("--etcd-key", "is missing: it belongs to --etcd-cert")),
        (TLS, {"etcd_key": "key"}, ("--etcd-cert", "is missing: it belongs to --etcd-key")),
        (TLS, {"etcd_cert": "cert", "etcd_key": "nowhere"}, ("--etcd-key", "cannot be read")),
        (
            TLS,
            {"etcd_cert": "cert", "etcd_key": "other"},
            ("--etcd-cert", "is not the certificate of"),
        ),
        (TLS, {"etcd_cert": "cert", "etcd_key": "locked"}, ("--etcd-cert", "without a password")),
        (TLS, {"etcd_cert": "nothing", "etcd_key": "key"}, ("--etcd-cert", "must both be PEM")),
        (TLS, {"etcd_password_file": "password"}, ("--etcd-user", "is missing")),
    ],
)
def test_what_does_not_fit_is_told_with_its_flag(files, etcd, flags, told):
    given = texts(etcd, **{name: files[which] for name, which in flags.items()})
    [(flag, reason)] = list(etcd_problems(given))
    assert flag == told[0]
    assert told[1] in reason


def test_a_user_needs_a_password_and_a_line_that_nobody_listens_to(files):
    assert [flag for flag, _ in etcd_problems(texts("127.0.0.1:1", etcd_user="u"))] == [
        "--etcd-password-file"
    ]
    user = {"etcd_user": "u", "etcd_password_file": files["password"]}
    assert list(etcd_problems(texts("127.0.0.1:1", **user))) == []
    [(flag, reason)] = etcd_problems(texts("127.0.0.1:1,h:1", **user))
    assert flag == "--etcd-user"
    assert "in the clear" in reason
    [(flag, _)] = etcd_problems(texts(TLS, **{**user, "etcd_user": "u" * 129}))
    assert flag == "--etcd-user"
    [(flag, _)] = etcd_problems(texts(TLS, **{**user, "etcd_password_file": files["nothing"]}))
    assert flag == "--etcd-password-file"
