"""An etcd that asks who calls: certificates on both sides, users, tokens that end soon."""

from __future__ import annotations

import pathlib

from controlplane.settings.etcd import EtcdAccess, Pem
from tests.servers.certificates import Authority, Certified
from tests.servers.etcd import EtcdServer

USER, PASSWORD = "mainspring", "a long one"
ROOT = "root:root"


def pem(path: pathlib.Path | None) -> Pem | None:
    return None if path is None else Pem(str(path), path.read_bytes())


class SecuredEtcd:
    """`server` runs with the rules of `flags`; the user may write below /mainspring/ only."""

    def __init__(self, folder: pathlib.Path, **flags: str) -> None:
        self.authority = Authority(folder)
        self.certified = self.authority.certify("root")
        self.client = self.authority.certify("node")
        rules = {
            "client-cert-auth": "true",
            "trusted-ca-file": str(self.authority.ca),
            "bcrypt-cost": "4",
            **{name.replace("_", "-"): value for name, value in flags.items()},
        }
        self.server = EtcdServer(folder / "data", certified=self.certified, flags=rules)

    def start(self) -> None:
        self.server.start()
        for words in (
            ("user", "add", ROOT),
            ("user", "grant-role", "root", "root"),
            ("role", "add", "nodes"),
            ("role", "grant-permission", "nodes", "--prefix=true", "readwrite", "/mainspring/"),
            ("user", "add", f"{USER}:{PASSWORD}"),
            ("user", "grant-role", USER, "nodes"),
            ("auth", "enable"),
        ):
            self.server.control(*words)

    def access(
        self,
        *,
        ca: pathlib.Path | None = None,
        client: Certified | None = None,
        user: str = USER,
        password: str = PASSWORD,
    ) -> EtcdAccess:
        """All that it asks for, unless a test gives something else."""
        client = client or self.client
        ca = ca or self.authority.ca
        return EtcdAccess(pem(ca), pem(client.cert), pem(client.key), user, password)
