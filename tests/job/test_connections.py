"""Connections to servers of notices: names, addresses, proxies and TLS, within the time limit."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from keepfit.job.notices.custom import WatchedUrl
from keepfit.job.notices.imds import InstanceMetadata
from keepfit.job.notices.source import SourceUnavailable
from tests import imds
from tests.servers import misbehaving as bad
from tests.servers.misbehaving import OK, dripping, flooding, sending

TIMEOUT = 0.3
PATIENCE = 20.0
"""Seconds for what takes some milliseconds, on a machine with other work."""


def test_a_name_that_is_found_late(monkeypatch):
    """The look-up ends in time, is not begun again meanwhile, and its late result is used."""
    found, lookups, real = threading.Event(), [], socket.getaddrinfo

    def slow(host, port, *args, flags=0, **kwargs):
        if flags & socket.AI_NUMERICHOST:
            return real(host, port, *args, flags=flags, **kwargs)
        lookups.append(threading.current_thread())
        found.wait()
        return real("127.0.0.1", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with bad.serving(sending(OK, b"\r\ngo")) as server:
        url = server.url.replace("127.0.0.1", "late.example")
        source = WatchedUrl(url, 30.0, timeout=0.1)
        for _ in range(3):
            with pytest.raises(SourceUnavailable, match=r"late\.example is not found in time"):
                source.fetch()
        assert len(lookups) == 1
        assert lookups[0].daemon, "it would delay the exit of the process"
        found.set()
        lookups[0].join()
        (message,) = source.fetch()
    assert (message.text, len(lookups)) == ("go", 1)


def test_a_name_that_is_none():
    """A name that can't be looked up is a failure like others."""
    for host in ("a..b", "x" * 64):
        with pytest.raises(SourceUnavailable, match="does not answer"):
            WatchedUrl(f"http://{host}/", 30.0, timeout=PATIENCE).fetch()


def test_an_address_that_does_not_answer_has_its_share(monkeypatch):
    """The next address of the name is tried while there is time."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        bad.serving(sending(OK, b"\r\ngo")) as server,
        ExitStack() as waiting,
    ):
        for _ in range(3):  # its queue is full: further connections get no answer
            waiting.enter_context(client := socket.socket()).setblocking(False)
            client.connect_ex(full.getsockname())
        port = int(server.url.rsplit(":", 1)[1].partition("/")[0])
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        targets = [(*kind, full.getsockname()), (*kind, ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: targets)
        (message,) = WatchedUrl("http://two.example/", 30.0, timeout=1.0).fetch()
    assert message.text == "go"


def test_a_proxy_is_used(monkeypatch):
    """The environment's proxy is asked for a watched address, but not for the metadata."""
    with bad.serving(sending(OK, b"\r\ngo")) as server, imds.serving(imds.Machine()) as service:
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setenv("no_proxy", "")
        (message,) = WatchedUrl("http://name.example/", 30.0, timeout=PATIENCE).fetch()
        assert message.text == "go"
        assert InstanceMetadata(service, timeout=PATIENCE).get(imds.MAINTENANCE) == "[]"
    assert server.connections == 1


def test_a_handshake_that_drips():
    """The time of TLS is a part of the whole."""
    with bad.serving(dripping(b"\x16\x03\x03\x40\x00")) as server:
        began = time.monotonic()
        with pytest.raises(SourceUnavailable, match="does not answer"):
            WatchedUrl(server.url.replace("http", "https"), 30.0, timeout=TIMEOUT).fetch()
        assert time.monotonic() - began < PATIENCE


@pytest.fixture
def secure(tmp_path, monkeypatch):
    """Return a function that makes a server speak TLS, with a certificate that is trusted here."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    return partial(context.wrap_socket, server_side=True)


def test_tls(secure):
    """A notice arrives by TLS, under the same limits."""
    with bad.serving(sending(OK, b"\r\ngo"), secure) as server:
        url = server.url.replace("http://127.0.0.1", "https://localhost")
        (message,) = WatchedUrl(url, 30.0, timeout=PATIENCE).fetch()
        assert message.text == "go"
        server.talk = dripping(b"x", OK)
        with pytest.raises(SourceUnavailable, match=r"within 0\.3 s"):
            WatchedUrl(url, 30.0, timeout=TIMEOUT).fetch()
        server.talk = flooding(b"x" * 9000, OK + b"\r\n")
        with pytest.raises(SourceUnavailable, match="more than 65536 bytes"):
            WatchedUrl(url, 30.0, timeout=PATIENCE).fetch()
        with pytest.raises(SourceUnavailable, match="certificate verify failed"):
            WatchedUrl(url.replace("localhost", "127.0.0.1"), 30.0, timeout=PATIENCE).fetch()


def test_a_tunnel(secure, monkeypatch):
    """A proxy is asked for a tunnel to an https:// address; its answer has the same limits."""

    def accept(connection):
        assert connection.recv(65536).startswith(b"CONNECT localhost:443 ")
        connection.sendall(OK + b"\r\n")
        return secure(connection)

    monkeypatch.setenv("no_proxy", "")
    with bad.serving(sending(OK, b"\r\ngo"), accept) as server:
        monkeypatch.setenv("https_proxy", server.url)
        (message,) = WatchedUrl("https://localhost/", 30.0, timeout=PATIENCE).fetch()
        assert message.text == "go"
    with bad.serving(dripping(b"x", OK)) as server:
        monkeypatch.setenv("https_proxy", server.url)
        with pytest.raises(SourceUnavailable) as failure:
            WatchedUrl("https://localhost/", 30.0, timeout=TIMEOUT).fetch()
    assert failure.value.kind == "too_slow"
