from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from controlplane.api.listeners import Listener, ListenerError, TlsFiles, open_port


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:80", "[::1]:1", "127.8.0.1:65535"])
def test_this_machine_needs_no_encryption(address: str) -> None:
    assert Listener(address).address == address


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "example.org:80"])
def test_the_outside_needs_encryption(address: str) -> None:
    with pytest.raises(ListenerError, match="give a certificate"):
        Listener(address)
    files = TlsFiles(Path("c"), Path("k"))
    assert Listener(address, files).tls is files


@pytest.mark.parametrize("address", ["", "127.0.0.1", ":80", "127.0.0.1:x", "127.0.0.1:65536"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ListenerError, match="write host:port"):
        Listener(address)


async def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    with pytest.raises(ListenerError, match=r"key\.pem"):
        open_port(grpc.aio.server(), Listener("127.0.0.1:0", files))
