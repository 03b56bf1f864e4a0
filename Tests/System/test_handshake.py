"""The TLS port before a request: fragmented hellos, other protocols, and unexpected validators. Expected validations
are tested in GatewayTests, with third-party clients."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time

from harness import Gateway


def offering(*protocols: str) -> ssl.SSLContext:
    """A client that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


def handshake(gateway: Gateway, context: ssl.SSLContext, piece: int, limit: float = 10) -> ssl.SSLObject:
    """Performs a handshake whose bytes are sent in chunks of `piece` bytes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="app.localhost")
    deadline = time.monotonic() + limit
    with socket.create_connection(("127.0.0.1", gateway.https_port), timeout=limit) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < deadline:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            data = outgoing.read()
            for start in range(0, len(data), piece):
                plain.sendall(data[start : start + piece])
            if done:
                return tls
            incoming.write(plain.recv(65536))
    raise AssertionError(f"no handshake within {limit:g} s")


def test_a_hello_byte_by_byte_is_a_handshake(bench):
    gateway = Gateway(bench).start()
    for piece in (1, 3, 100):
        assert handshake(gateway, offering("http/1.1"), piece).selected_alpn_protocol() == "http/1.1"


def test_an_unexpected_validator_is_served_the_usual_certificate(bench):
    gateway = Gateway(bench).start()
    assert handshake(gateway, offering("acme-tls/1"), 1 << 14).selected_alpn_protocol() is None
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.https_port}", "-alpn", "acme-tls/1"]
        + ["-servername", "app.localhost"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=20,
    ).stdout
    assert "No ALPN negotiated" in shown
    assert "HopGate development" in shown


def test_what_is_not_tls_ends_the_connection(bench):
    gateway = Gateway(bench).start()
    for garbage in (
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
        b"\xff" * 30_000,
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
    ):
        with socket.create_connection(("127.0.0.1", gateway.https_port), timeout=10) as plain:
            plain.sendall(garbage)
            answer = b""
            try:
                while data := plain.recv(4096):
                    answer += data
            except ConnectionResetError:
                pass
            assert not answer or answer[0] == 21, "an alert or nothing"
    assert handshake(gateway, offering("http/1.1"), 1 << 14).selected_alpn_protocol() == "http/1.1"
