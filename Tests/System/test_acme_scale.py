"""ACME with thousands of names: a CA that is down, an account that is rate-limited, and a client with random names.
The long form has 2,500 names and an outage of ten minutes."""

from __future__ import annotations

import random
import re
import socket
import ssl
import string
import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from acme_gateways import AcmeGateway, acme_agent
from acme_scripts import Hold, refuse
from acme_stub import ANY, Stub
from fleet import events
from harness import IS_LONG, Bench, Origin, during, eventually
from store_contents import FORMAT
from volumes import Volume

NAMES, OUTAGE = (2_500, 600) if IS_LONG else (250, 30)
LIMITED = 50  # names of the account that is rate-limited
PAUSE = 12  # seconds for which the CA limits it; dates of a CA are whole seconds
pytestmark = pytest.mark.timeout(4_000 if IS_LONG else 400)  # more than the deadlines in the tests add up to


# -- outages and limits of a CA, which take a while and are observed at the same time


@dataclass
class Trouble:
    """Two replicas and their CA."""

    stub: Stub
    gateways: list[AcmeGateway]
    began: float
    marks: dict[str, int]

    @classmethod
    def begin(cls, bench: Bench, stub: Stub, name: str, count: int) -> Trouble:
        names = [f"{name}-{number}.example.test" for number in range(count)]
        volume = Volume(bench, name)
        gateways = [
            AcmeGateway(bench, stub, names, f"{name}-gateway-{n}", volume=volume, lease_ttl="15s") for n in (1, 2)
        ]
        began = time.monotonic()
        for gateway in gateways:
            gateway.start(wait=False)
        for gateway in gateways:
            gateway.wait_ready(30)
        return cls(stub, gateways, began, {gateway.name: gateway.process.log_start for gateway in gateways})

    def records(self) -> list[str]:
        """The CAs that are recorded as not to be asked."""
        return [path.name for path in (self.gateways[0].data / FORMAT / "acme" / "authorities").glob("[!.]*")]

    def lines(self, gateway: AcmeGateway) -> list[dict]:
        """The gateway's log lines about the CA."""
        found = events(gateway, self.marks[gateway.name])
        return [line for line in found if line["level"] in ("warning", "error") or "ca" in line]


class AccountLimit(Hold):
    """Refuses orders for a while, and holds those that come after it."""

    until = 0.0

    def before(self, call):
        self.until = self.until or call.at + PAUSE
        if call.at < self.until - 2:
            return refuse(429, "rateLimited", "too many orders", str(PAUSE)).before(call)
        return super().before(call)


@pytest.fixture(scope="module")
def troubles(module_bench, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stubs")
    with ExitStack() as stubs:
        down, limit = (stubs.enter_context(Stub(folder / name)) for name in ("down", "limit"))
        down.go_down()
        limit.script("newOrder", AccountLimit(), times=ANY)
        yield {
            "down": Trouble.begin(module_bench, down, "down", NAMES),
            "limit": Trouble.begin(module_bench, limit, "limit", LIMITED),
        }


def test_a_limit_of_the_account_is_one_record_and_one_retry_for_all_names(troubles):
    """The names wait for the CA together, and one order tries whether it accepts orders again. Then all are issued."""
    trouble = troubles["limit"]
    stub = trouble.stub
    first = eventually(lambda: stub.of("newOrder"), 20, "an order is refused")[0].at
    eventually(lambda: time.monotonic() > first + PAUSE - 3, PAUSE, "the limit has almost passed")
    # Those that were on their way when the first one was refused.
    early = stub.of("newOrder")
    assert all(call.at < first + 5 for call in early), [call.at - first for call in early]
    assert len(trouble.records()) == 1
    for gateway in trouble.gateways:
        loud = [line for line in trouble.lines(gateway) if line["level"] != "info"]
        assert len(loud) <= 1, loud

    again = eventually(lambda: stub.of("newOrder", since=first + PAUSE - 2), PAUSE + 20, "the CA is asked again")[0]
    for _ in during(4):
        assert len(stub.of("newOrder", since=first + PAUSE - 2)) == 1, "it is one retry"
    stub.forget_scripts()
    eventually(stub.certificates, 10, "the retry is an order like any other")
    eventually(lambda: len(stub.certificates()) == LIMITED, 90, "all certificates are issued")
    assert stub.violations == [] and len(stub.orders()) == LIMITED
    print(f"{len(early)} orders refused at first; then one after {again.at - first:.1f} s")


@pytest.mark.long
def test_an_outage_of_the_ca_is_reported_once_a_minute_and_ends_for_all_names(troubles):
    """The first attempts take half a minute. Then the replica that made them reports it, for all."""
    trouble = troubles["down"]
    stub, gateways = trouble.stub, trouble.gateways
    lines = lambda: [line for gateway in gateways for line in trouble.lines(gateway)]  # noqa: E731
    eventually(lines, 60, "the outage is reported")
    eventually(lambda: time.monotonic() > trouble.began + OUTAGE, OUTAGE, "the outage lasted")
    down = time.monotonic() - trouble.began
    assert len(lines()) <= 1 + down // 60, (len(lines()), lines()[:5])
    assert all(gateway.ops("/readyz", quiet=True) == 200 for gateway in gateways)
    assert len(trouble.records()) == 1
    gateway = trouble.gateways[0]
    status = gateway.cli("status").stdout

    back = time.monotonic()
    stub.come_back()
    eventually(lambda: stub.orders(), 60, "orders start within a minute")
    started = time.monotonic() - back
    eventually(lambda: len(stub.certificates()) == NAMES, 30 + NAMES, "all certificates are issued")
    issued = time.monotonic() - back
    print(f"{NAMES} names, an outage of {down:.0f} s: orders after {started:.1f} s, all issued after {issued:.1f} s")
    assert len(stub.orders()) == NAMES and stub.violations == []
    states = re.findall(r"(\d+) (?:failing|not issued)", status)
    assert sum(map(int, states)) == NAMES and "accepts no orders" in status, status


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
