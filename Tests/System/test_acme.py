"""Certificates by ACME from Pebble: every kind of challenge, renewal under load, a CA that is unavailable or has lost
its state, hosts of agents, and the commands."""

from __future__ import annotations

import json
import re
import time
from typing import Optional

import pytest

from acme_dns import ProgramHook, ServerHook
from acme_gateways import AcmeGateway, acme_agent, is_issued
from acme_pebble import BLOCKED, EAB_KEY, EAB_KEY_ID, Pebble
from balancer import Balancer
from client import Connection, trusting
from fleet import SteadyLoad, events
from harness import Background, Origin, during, eventually
from volumes import Volume

APP = "app.example.test"


@pytest.fixture
def balancer():
    with Balancer() as balancer:
        yield balancer


def verified(gateway: AcmeGateway, name: str) -> int:
    """Sends a request with trust in the CA only; returns its status."""
    with gateway.connect(name) as connection:
        return connection.request("GET", "/").status


def log_lines(gateway: AcmeGateway, name: str, words: str = "", level: str = "") -> list[dict]:
    """The gateway's log lines about a certificate."""
    lines = [line for line in events(gateway, gateway.process.log_start) if name in json.dumps(line)]
    return [l for l in lines if words in json.dumps(l) and level in ("", l.get("level"))]


def wait_total(gateways: list[AcmeGateway], orders: int) -> None:
    """Waits until exactly this many successful orders are counted, shortly after the certificates are served."""
    total = lambda: sum(gateway.total("acme_orders_total", result="issued") for gateway in gateways)  # noqa: E731
    eventually(lambda: total() >= orders, 5, f"{orders} orders are counted")
    assert total() == orders


def secrets_in(gateway: AcmeGateway) -> list[str]:
    """The private keys and MAC keys found in the log, the metrics or the admin port's answers."""
    shown = [gateway.process.log(), gateway.ops("/metrics").text, json.dumps(gateway.admin("/v1/certificates"))]
    return [word for text in shown for word in ("PRIVATE KEY", EAB_KEY[:20]) if word in text]


# -- from nothing to a certificate


def test_every_kind_of_challenge_with_half_of_all_nonces_refused(bench, balancer):
    """An external account is required too: a gateway without one reports the remedy."""
    pebble = Pebble(bench, balancer.http_port, balancer.https_port, nonce_reject=50, needs_eab=True)
    eab = {"eab": {"kid": EAB_KEY_ID, "key": EAB_KEY}}
    program = ProgramHook(bench, pebble.dns)
    with ServerHook(bench, pebble.dns, token="hook-secret") as server:
        kinds = {
            "http-01": {"exec": str(program.path)},
            "tls-alpn-01": {"hook": server.url, "hook_token_file": str(server.token_file)},
        }
        for kind, hook in kinds.items():
            zone = f"{kind}.example.test"
            names = [f"app.{zone}", [f"one.{zone}", f"two.{zone}"], [zone, f"*.{zone}"]]
            acme = {**eab, "dns": {**hook, "propagation": "100ms"}}
            challenge = [kind, "dns-01"]
            before = pebble.counts
            gateway = AcmeGateway(bench, pebble, names, f"gateway-{kind}", challenge, acme=acme)
            balancer.targets = [gateway]
            began = time.monotonic()
            gateway.start()
            for name in (f"app.{zone}", f"one.{zone}", f"two.{zone}", zone, f"any.{zone}"):
                gateway.wait_issued(name)
                assert verified(gateway, name) in (404, 503)
            print(f"{kind}: 5 names in 3 certificates after {time.monotonic() - began:.1f} s")
            assert [new - old for new, old in zip(pebble.counts, before)] == [1, 3, 3]
            wait_total([gateway], 3)
            assert gateway.total("acme_orders_total", result="failed") == 0
            # A certificate is stored under the first of its names.
            for name in (f"app.{zone}", f"one.{zone}", zone):
                eventually(lambda: gateway.report(name)["ca"] == pebble.directory, 5, f"the status of {name}")
                assert gateway.report(name)["last_error"] is None
                assert len(log_lines(gateway, name, level="warning")) == 0
                assert gateway.gauge("certificate_version", name) >= 1
                renewal = gateway.renewal(name)
                end = gateway.gauge("certificate_not_after_timestamp_seconds", name)
                assert time.time() + 50 * 86_400 < renewal < end - 25 * 86_400
            listed = json.loads(gateway.cli("cert", "list", "--json").stdout)
            assert [entry["origin"] for entry in listed if entry["state"] == "good"].count("acme") == 3, listed
            assert secrets_in(gateway) == []
        # Only for the wildcard; all records were removed from the DNS again.
        for calls, zone in ((program.calls, "http-01"), (server.calls, "tls-alpn-01")):
            record = f"_acme-challenge.{zone}.example.test"
            presented = {call[1:] for call in calls if call[0] == "present"}
            removed = {call[1:] for call in calls if call[0] == "cleanup"}
            assert presented == removed and {name for name, _ in presented} == {record}, calls
        assert server.refused == 0
    assert set(balancer.http) == {"gateway-http-01"} and set(balancer.https) == {"gateway-tls-alpn-01"}

    stranger = AcmeGateway(bench, pebble, ["app.stranger.example.test"], "stranger").start()
    error = stranger.wait_error("app.stranger.example.test", "externalAccountRequired")
    assert "acme.eab" in error["remedy"]
    blocked = AcmeGateway(bench, pebble, [BLOCKED], "blocked", acme=eab).start()
    error = blocked.wait_error(BLOCKED, "rejectedIdentifier")
    assert "another name" in error["remedy"]
    for gateway, code in ((stranger, "externalAccountRequired"), (blocked, "rejectedIdentifier")):
        # What concerns all names is reported two seconds later, with their number.
        eventually(lambda: gateway.total("acme_failures_total", code=code) == 1, 5, f"{code} is reported")
        assert gateway.ops("/readyz", quiet=True) == 200
        assert len([line for line in events(gateway, 0) if code in json.dumps(line)]) == 1


# -- renewal


class Handshakes(Background):
    """Requests on new connections. Any failed request is a failure."""

    def __init__(self, gateways: list[AcmeGateway], host: str, rate: float = 10):
        super().__init__()
        self.gateways, self.host, self.pause = gateways, host, 1 / rate
        self.failures: list[str] = []
        self.serials: list[set[int]] = [set() for _ in gateways]
        self.count = 0

    def run(self) -> None:
        contexts = [trusting(gateway.ca_file) for gateway in self.gateways]
        while not self.stopping.wait(self.pause):
            number = self.count % len(self.gateways)
            self.count += 1
            try:
                address = ("127.0.0.1", self.gateways[number].https_port)
                with Connection(address, self.host, contexts[number], timeout=5) as connection:
                    self.serials[number].add(int(connection.socket.getpeercert()["serialNumber"], 16))
                    response = connection.request("GET", "/bytes/100")
                    assert (response.status, response.length) == (200, 100)
            except Exception as error:  # noqa: BLE001 — any exception is visible to clients
                self.failures.append(repr(error))


@pytest.mark.bulk
@pytest.mark.timeout(200)
def test_certificates_of_sixty_seconds_are_renewed_three_times_under_load(bench, balancer):
    """On two replicas, with agents that trust only the CA: no request fails, no tunnel ends, and an agent that connects
    later gets the current certificate."""
    pebble = Pebble(bench, balancer.http_port, balancer.https_port, lifetime=60)
    volume, origin = Volume(bench), Origin(bench)
    gateways = [AcmeGateway(bench, pebble, [APP], f"gateway-{n}", volume=volume) for n in (1, 2)]
    balancer.targets = gateways
    token = gateways[0].create_token("demo")
    for gateway in gateways:
        gateway.start(wait=False)
    for gateway in gateways:
        gateway.wait_ready()
    certificate = gateways[0].wait_issued(APP)
    gateways[1].wait_issued(APP, timeout=3)
    agents = [acme_agent(g, f"agent-{g.name}", token, origin.port, APP).start() for g in gateways]
    for gateway in gateways:
        gateway.wait_serving(host=APP)
    reconnects = [agent.metrics()["hopagent_reconnects_total"] for agent in agents]

    class Load(SteadyLoad):
        def __init__(self):
            super().__init__(gateways, 150)
            self.loads = [gateway.load(APP) for gateway in gateways]

    serials, delays, began = [certificate.serial_number], [], time.monotonic()
    with Load() as load, Handshakes(gateways, APP) as handshakes:
        for _ in range(3):
            certificate = gateways[0].wait_issued(APP, timeout=50, than=certificate)
            serials.append(certificate.serial_number)
            moment = gateways[0].published(APP)[1]
            gateways[1].wait_issued(APP, 3, than=None)
            eventually(
                lambda: gateways[1].leaf(APP).serial_number == serials[-1], 3, "the other replica serves it, too"
            )
            delays.append(time.time() - moment)
        # New connections get the last one, and accept it.
        for gateway in gateways:
            acme_agent(gateway, f"late-{gateway.name}", token, origin.port, APP).start()
        is_seen = lambda: all(serials[-1] in seen for seen in handshakes.serials)  # noqa: E731
        eventually(is_seen, 5, "visitors of both are shown the last one")
        seconds = time.monotonic() - began
    assert load.failures == [] and handshakes.failures == [], (load.failures[:3], handshakes.failures[:3])
    assert [agent.metrics()["hopagent_reconnects_total"] for agent in agents] == reconnects
    assert all(set(serials) <= seen for seen in handshakes.serials), "each replica has shown every certificate"
    assert pebble.counts == (1, 4, 4)
    wait_total(gateways, 4)
    assert max(delays) < 2
    assert len({gateway.gauge("certificate_version", APP) for gateway in gateways}) == 1
    print(
        f"3 renewals in {seconds:.0f} s, served by both after {max(delays):.2f} s at most; {load.verdict()}; "
        f"{handshakes.count} new connections, {len(handshakes.failures)} failed"
    )


# -- an unavailable CA


def account_key(gateway: AcmeGateway) -> Optional[str]:
    """The private key of the account, from the store."""
    for path in (gateway.data / "v2" / "acme" / "accounts").rglob("*"):
        if path.is_file():
            found = re.search(rb'"key"\s*:\s*"([^"]+)"', path.read_bytes())
            if found:
                return found[1].decode()
    return None


def test_a_start_does_not_wait_for_the_authority_and_its_loss_of_memory_is_mended(bench, balancer):
    pebble = Pebble(bench, balancer.http_port, balancer.https_port, start=False)
    gateway = AcmeGateway(bench, pebble, [APP])
    balancer.targets = [gateway]
    began = time.monotonic()
    gateway.start()
    ready = time.monotonic() - began
    assert ready < 5 and not is_issued(gateway.leaf(APP)), "the development certificate until there is a better one"
    pebble.start()
    came = time.monotonic()
    first = gateway.wait_issued(APP, 40)
    print(
        f"ready after {ready:.2f} s without the CA; served its certificate "
        f"{time.monotonic() - came:.1f} s after it came"
    )
    assert verified(gateway, APP) == 503 and pebble.counts == (1, 1, 1)
    key = account_key(gateway)

    # It loses the account: the same key is registered again, and the order continues.
    pebble.stop()
    pebble.start()
    output = gateway.cli("cert", "renew", APP).stdout
    second = gateway.wait_issued(APP, 10, than=first)
    assert pebble.counts == (1, 1, 1) and key and account_key(gateway) == key
    assert APP in output
    assert len(gateway.versions(APP)) == 2 and gateway.published(APP)[0] == second

    # It stops: the certificates stay served, and the command reports the problem.
    pebble.stop()
    failed = gateway.cli("cert", "renew", "unknown.example.test", check=False)
    assert failed.returncode != 0 and "unknown.example.test" in failed.stderr
    assert gateway.leaf(APP) == second and gateway.ops("/readyz", quiet=True) == 200


# -- on demand


def test_hosts_of_agents_get_certificates_within_a_budget(bench, balancer):
    """Only if a pattern allows it and the token of an attached agent covers the host; one token may use half of the
    four orders a minute."""
    pebble = Pebble(bench, balancer.http_port, balancer.https_port)
    origin = Origin(bench)
    zone = "apps.example.test"
    on_demand = {"on_demand": {"hosts": [f"*.{zone}"], "per_minute": 4}}
    gateway = AcmeGateway(bench, pebble, [APP], acme=on_demand)
    balancer.targets = [gateway]
    gateway.start()
    gateway.wait_issued(APP)
    wanted = [f"{name}.{zone}" for name in ("one", "two", "three")]
    elsewhere = "one.elsewhere.example.test"
    strangers = [f"stranger.{zone}", "other.example.test", elsewhere]
    # No agent serves them: requests cause no orders.
    for name in wanted + strangers:
        assert gateway.issued(name) is None
    token = gateway.create_token("guest", hosts=[f"*.{zone}", "*.elsewhere.example.test"])
    acme_agent(gateway, "guest", token, origin.port, APP, hosts=[*wanted, elsewhere]).start()

    def served() -> list[str]:
        return [name for name in wanted if gateway.issued(name)]

    eventually(lambda: len(served()) == 2, 20, "two of three hosts have a certificate")
    for name in served():
        gateway.wait_serving(host=name)
    for _ in during(3):
        for name in wanted + strangers:
            gateway.leaf(name)
        assert pebble.orders == 3, "the budget of this minute is used up"
    assert not any(gateway.issued(name) for name in strangers)
    assert pebble.counts == (1, 3, 3)
