"""ACME with thousands of names."""

from __future__ import annotations

import random
import socket
import ssl
import string
import time

from acme_gateways import AcmeGateway, acme_agent
from acme_stub import Stub
from harness import Origin
from store_contents import FORMAT

# -- names that a client makes up


def client_hello(name: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def begin_handshakes(gateway: AcmeGateway, zone: str, count: int) -> None:
    """Begins handshakes with random names below a zone, and waits for the ServerHello of each."""
    for _ in range(count):
        name = "".join(random.choices(string.ascii_lowercase, k=12))
        with socket.create_connection(("127.0.0.1", gateway.https_port), timeout=10) as connection:
            connection.sendall(client_hello(f"{name}.{zone}"))
            assert connection.recv(1) == b"\x16"


def test_random_names_below_an_agents_wildcard_cost_nothing(bench, tmp_path):
    """An agent offers a wildcard and one host: only the host gets a certificate on demand."""
    zone, app = "customers.example.test", "app.example.test"
    host = f"real.{zone}"
    with Stub(tmp_path / "stub") as stub:
        on_demand = {"on_demand": {"hosts": [f"*.{zone}"], "per_minute": 1_000}}
        gateway = AcmeGateway(bench, stub, [app], acme=on_demand).start()
        gateway.wait_issued(app)
        token = gateway.create_token("guest", hosts=[f"*.{zone}"])
        acme_agent(gateway, "guest", token, Origin(bench).port, app, hosts=[f"*.{zone}", host]).start()
        gateway.wait_issued(host)
        begin_handshakes(gateway, zone, 2_000)
        before = gateway.process.resident
        began = time.monotonic()
        begin_handshakes(gateway, zone, 10_000)
        seconds = time.monotonic() - began
        grown = gateway.process.resident - before
        print(f"10,000 random names in {seconds:.1f} s: resident {before >> 20} MiB, grown by {grown >> 10} KiB")
        assert {order.names for order in stub.orders()} == {(app,), (host,)}
        assert grown < 8 << 20
        names = {path.name for path in (gateway.data / FORMAT / "acme" / "names").glob("[!.]*")}
        assert names == {app, host}
        assert gateway.request("GET", "/bytes/10", host=host).status == 200
