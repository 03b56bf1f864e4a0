"""A hostile network: floods at the tunnel port while an agent serves."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time

import pytest

from dtls import UNKNOWN_SESSION, HalfOpen, client_hello, fragment, protected
from harness import Agent, Stack, compiled, eventually
from test_streaming import open_websocket


@pytest.mark.bulk
def test_a_flood_of_ten_seconds_changes_nothing(bench, tools):
    """Garbage, foreign records, source port 0, hellos from all of 127/8 and half-open handshakes at 20,000 datagrams
    a second: no crash, less than 64 MiB more, no session lost; requests and new agents work within 5 s after it."""
    stack = Stack(bench)
    gateway, agent = stack.gateway.process, stack.agent.process
    hello = bench.folder / "hello"
    hello.write_bytes(client_hello())
    flood = compiled("flood", tools)
    idle = gateway.resident
    gateway.reset_peak()
    since = agent.mark()

    with open_websocket(stack, ping_timeout=None) as held, stack.connect(timeout=30) as drip:
        drip.start("GET", "/drip?n=120&ms=100")
        drip.head()
        run = bench.start("flood", [flood, str(stack.gateway.https_port), "10", "20000", hello])
        answered = 0
        while run.alive:
            # A request may be slow now, but none may fail.
            assert stack.request("GET", "/bytes/1000", timeout=15).status == 200
            answered += 1
        ended = time.monotonic()
        stack.gateway.wait_serving(timeout=5)
        recovered = time.monotonic() - ended
        held.send("still the same session")
        assert held.recv(timeout=5) == "still the same session"
        Agent(bench, stack.gateway, stack.token, stack.origin.port, name="newcomer").start(
            timeout=ended + 5 - time.monotonic()
        )
        assert drip.finish().complete

    print(
        run.log().strip(),
        f"; {answered} requests answered meanwhile, serving {recovered:.2f} s after the end, "
        f"{(gateway.peak - idle) / (1 << 20):.1f} MiB more at the peak",
    )
    assert gateway.alive and agent.alive
    assert gateway.peak - idle < 64 << 20
    assert "half-open" in run.log()
    assert "reconnect" not in agent.log(since).lower()


ATTACKS = {
    "nothing": lambda n: None,
    "records of epoch 1": lambda n: protected(22, n),
    "records after a key exchange": lambda n: protected(22, n) if n else fragment(16, 33, 9, 0, bytes(33), record=2),
    "fragments of large hellos": lambda n: fragment(1, 32_768, 1 + n % 10, n, bytes(8), record=2 + n),
}


@pytest.mark.bulk
@pytest.mark.parametrize("attack", ATTACKS)
def test_500_half_open_sessions_add_at_most_64_mib(bench, attack: str):
    """Each peer sends as many datagrams after its cookie as a half-open session survives."""
    stack = Stack(bench)
    gateway = stack.gateway.process
    idle = gateway.resident
    gateway.reset_peak()
    opened = most = 0
    peers = []
    for number in range(500):
        peer = HalfOpen(stack.gateway.https_port, f"127.0.1.{1 + number // 16}")
        peers.append(peer)
        opened += peer.open()
        for datagram in map(ATTACKS[attack], range(46)):
            if datagram:
                peer.send(datagram)
        if number % 100 == 99:
            most = max(most, stack.gateway.metrics()["hopgate_tunnel_sessions_half_open"])
    print(f"{opened} sessions, {most:.0f} at once, {attack}: {(gateway.peak - idle) / (1 << 20):.1f} MiB more")
    assert opened >= 350
    assert gateway.peak - idle < 64 << 20
    assert stack.request("GET", "/bytes/10").status == 200


def test_the_answer_to_an_unverified_hello_is_smaller_than_the_hello(stack: Stack):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(5)
        hello = client_hello()
        peer.sendto(hello, ("127.0.0.1", stack.gateway.https_port))
        reply = peer.recv(65_536)
        assert reply[0] == 22 and reply[13] == 3, "a HelloVerifyRequest"
        assert len(reply) < len(hello)


def test_a_record_of_an_unknown_session_is_answered_by_one_small_alert_a_second(stack: Stack):
    record = b"\x17\xfe\xfd\x00\x01" + bytes(5) + b"\x07\x00\x20" + os.urandom(32)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(0.3)
        replies = []
        for _ in range(50):
            peer.sendto(record, ("127.0.0.1", stack.gateway.https_port))
        try:
            while True:
                replies.append(peer.recv(65_536))
        except TimeoutError:
            pass
    assert len(replies) <= 1
    assert all(reply[0] == 21 and len(reply) == 15 for reply in replies)


def test_datagrams_of_every_length_are_harmless(stack: Stack):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        hello = client_hello()
        for length in range(0, len(hello)):
            peer.sendto(hello[:length], ("127.0.0.1", stack.gateway.https_port))
        for length in (1_400, 16_384, 65_507):
            peer.sendto(os.urandom(length), ("127.0.0.1", stack.gateway.https_port))
        for at in range(0, len(hello)):
            peer.sendto(
                hello[:at] + bytes([hello[at] ^ 0xFF]) + hello[at + 1 :], ("127.0.0.1", stack.gateway.https_port)
            )
    assert stack.request("GET", "/bytes/10").length == 10


def test_forged_alerts_while_the_gateway_is_stalled_end_no_request(bench):
    """15 bytes with the gateway's address, while it does not answer for three probe timeouts, at most 500 ms."""
    stack = Stack(bench)
    gateway, agent = stack.gateway.process, stack.agent.process
    [attached] = [line for line in gateway.log_objects() if line["msg"] == "agent attached"]
    ports = (stack.gateway.https_port, int(attached["remote"].rpartition(":")[2]))
    datagram = struct.pack("!4H", *ports, 8 + len(UNKNOWN_SESSION), 0) + UNKNOWN_SESSION
    with stack.connect(timeout=30) as drip, socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        drip.start("GET", "/drip?n=40&ms=100")
        drip.head()
        gateway.suspend()
        raw.sendto(datagram, ("127.0.0.1", 0))
        agent.wait_log("gateway may have lost the tunnel", 2)
        gateway.signal(signal.SIGCONT)
        eventually(lambda: agent.log().count('"attached"') == 2, 5, "a second tunnel")
        assert drip.finish().complete
    assert "tunnel lost" not in agent.log()
    agent.wait_log("replaced tunnel closed", 10)
    eventually(lambda: stack.gateway.metrics()["hopgate_agents_connected"] == 1, 5, "one tunnel is left")


@pytest.mark.bulk
def test_a_thousand_silent_tls_connections_delay_no_request(stack: Stack):
    """At the HTTPS port: half of them stop before the handshake, half after it."""
    idle = []
    try:
        for number in range(600):
            if number % 2:
                idle.append(socket.create_connection(("127.0.0.1", stack.gateway.https_port), 5))
            else:
                idle.append(stack.connect())
        began = time.monotonic()
        assert stack.request("GET", "/bytes/10").length == 10
        assert time.monotonic() - began < 1
    finally:
        for connection in idle:
            connection.close()
