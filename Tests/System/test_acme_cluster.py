"""ACME by several replicas on one store: each certificate is ordered once, while replicas start, die or are stopped."""

from __future__ import annotations

import re
import signal
import time
from datetime import datetime
from typing import Iterable, Optional

import pytest

from acme_authority import IssuingAuthority
from acme_gateways import LEASE_TTL, AcmeGateway, acme_agent, fetch_challenge, served_everywhere, validator
from acme_pebble import Pebble
from acme_scripts import Hold
from acme_stub import Stub
from balancer import Balancer
from harness import IS_LONG, Bench, compiled, during, eventually
from store_contents import FORMAT, files
from test_store_processes import together
from volumes import Volume

ROUNDS = 50 if IS_LONG else 10
pytestmark = pytest.mark.timeout(1_150 if IS_LONG else 150)

APP = "app.example.test"


# -- concurrent start


@pytest.mark.long
def test_eight_that_start_at_once_have_one_account_and_one_order_a_name(bench):
    """Each round uses an empty store. Pebble's validators, three per name, reach the replicas in rotation."""
    delays, seconds = [], []
    with Balancer() as balancer:
        pebble = Pebble(bench, balancer.http_port, balancer.https_port)
        for number in range(ROUNDS):
            one, others = f"one-{number}.example.test", [f"{n}-{number}.example.test" for n in ("two", "three")]
            volume = Volume(bench, f"volume-{number}")
            gateways = [
                AcmeGateway(bench, pebble, [one, others], f"gateway-{number}-{k}", volume=volume) for k in range(8)
            ]
            balancer.targets = gateways
            before, began = pebble.counts, time.monotonic()
            for gateway in gateways:
                gateway.start(wait=False)
            for gateway in gateways:
                gateway.wait_ready(30)
            names = (one, others[0])
            for name in names:
                eventually(lambda: gateways[0].versions(name), 30, f"{name} is published")
            published = [gateways[0].published(name) for name in names]
            for name, (certificate, _) in zip(names, published):
                served = served_everywhere(gateways, name, certificate.serial_number, 10)
            # The orders end independently of each other.
            delays.append(served - max(moment for _, moment in published))
            seconds.append(time.monotonic() - began)
            counts = [new - old for new, old in zip(pebble.counts, before)]
            assert counts == [1, 2, 2], f"round {number}: accounts, orders, certificates {counts}"
            assert len(gateways[0].versions(one)) == 1
            for gateway in gateways:
                gateway.process.kill()
        print(
            f"{ROUNDS} rounds of 8: one account and one order a name each time; from the start to all serving "
            f"{max(seconds):.1f} s at most, from publication {sorted(delays)[len(delays) // 2]:.2f} s, at most "
            f"{max(delays):.2f} s; {sum(balancer.http.values())} validations at {len(balancer.http)} replicas"
        )
    assert max(delays) < 2


# -- the holder of the lease dies


class Trio:
    """Three replicas and a stub whose validators use only those that do not hold the lease."""

    def __init__(self, bench: Bench, stub: Stub, challenge: str = "http-01"):
        self.stub, volume = stub, Volume(bench)
        self.gateways = [AcmeGateway(bench, stub, [APP], f"gateway-{n}", [challenge], volume=volume) for n in (1, 2, 3)]
        self.asked: list[tuple[str, str, bool]] = []
        stub.book.validate = validator(self.gateways, self.asked)
        stub.watch(self.gateways)

    def start(self, environments: Iterable[Optional[dict]] = (None, None, None)) -> None:
        """Starts the replicas; the CA does not respond until all are ready and have seen each other, since its
        validators ask each of them."""
        hold = Hold()
        self.stub.script("directory", hold)
        for gateway, environment in zip(self.gateways, environments):
            gateway.start(env=environment, wait=False)
        for gateway in self.gateways:
            gateway.wait_ready(30)
        for gateway in self.gateways:
            eventually(lambda g=gateway: g.admin("/v1/status")["replicas"] == 3, 10, f"{gateway.name} knows the others")
        hold.let_go()

    def stop_holder(self, kind: str) -> AcmeGateway:
        """Starts the replicas, and stops the holder of the lease when the CA has processed its request of this kind and
        has not responded yet."""
        hold = Hold(is_processed=True)
        self.stub.script(kind, hold)
        self.start()
        holder = self.of(hold.wait_reached(30).pid)
        holder.process.suspend()
        hold.let_go()
        return holder

    def of(self, pid: int) -> AcmeGateway:
        return next(gateway for gateway in self.gateways if gateway.process.pid == pid)

    def others(self, than: AcmeGateway) -> list[AcmeGateway]:
        return [gateway for gateway in self.gateways if gateway is not than]


MOMENTS = {
    # The request during which the holder dies; whether the CA has processed it; the kind of challenge.
    "after newOrder": ("authorization", False, "http-01"),
    "after the token": ("challenge", False, "tls-alpn-01"),
    "during the validation": ("challenge", True, "http-01"),
    "after finalize": ("finalize", True, "http-01"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_holder_that_is_killed_has_a_successor_without_a_second_order(bench, tmp_path, moment: str):
    kind, is_processed, challenge = MOMENTS[moment]
    with Stub(tmp_path / "stub") as stub:
        trio = Trio(bench, stub, challenge)
        hold = Hold(is_processed)
        stub.script(kind, hold)
        trio.start()
        holder = trio.of(hold.wait_reached(30).pid)
        killed_at, killed = time.time(), time.monotonic()
        holder.process.kill()
        hold.drop()
        rest = trio.others(holder)
        certificate = rest[0].wait_issued(APP, LEASE_TTL + 15)
        _, published = rest[0].published(APP)
        served = served_everywhere(rest, APP, certificate.serial_number, 3)
        taken, spread = published - killed_at, served - published
        print(
            f"{moment}: killed, published by another after {taken:.2f} s, served by both {spread:.2f} s later; "
            f"validators asked {len(trio.asked)} times"
        )
        assert len(stub.orders()) == 1 and len(stub.certificates()) == 1, "no second order"
        assert len(stub.book.accounts) == 1
        successors = {
            call.pid for call in stub.calls if call.at > killed and call.pid not in (None, holder.process.pid)
        }
        assert len(successors) == 1, "one of the others continues, and only one"
        # All replicas without the lease respond to the validators.
        assert trio.asked and all(is_right for _, _, is_right in trio.asked), trio.asked
        assert {kind for kind, _, _ in trio.asked} == {challenge}
        assert stub.violations == []
        # A replica that returns finds the certificate and orders nothing.
        holder.start()
        eventually(lambda: holder.leaf(APP).serial_number == certificate.serial_number, 3, "it serves it, too")
        assert len(stub.orders()) == 1
        assert taken < LEASE_TTL + 2 and spread < 2


# -- the holder is stopped


def test_a_holder_that_was_stopped_and_wakes_up_publishes_nothing_older(bench, tmp_path):
    """The holder is stopped while it receives the certificate; meanwhile another replica publishes that one and then a
    newer one."""
    with Stub(tmp_path / "stub") as stub:
        trio = Trio(bench, stub)
        sleeper = trio.stop_holder("certificate")
        began = time.monotonic()
        rest = trio.others(sleeper)
        first = rest[0].wait_issued(APP, LEASE_TTL + 15)
        taken = time.monotonic() - began
        assert len(stub.orders()) == 1, "the successor finishes the order"
        served_everywhere(rest, APP, first.serial_number, 3)
        rest[0].cli("cert", "renew", APP)
        second = rest[0].wait_issued(APP, 10, than=first)
        served_everywhere(rest, APP, second.serial_number, 3)
        versions = [path.name for path in rest[0].versions(APP)]

        sleeper.process.signal(signal.SIGCONT)
        woken = time.time()
        served = served_everywhere(trio.gateways, APP, second.serial_number, 5)
        # It had time to publish its certificate, and did not.
        sleeper.wait_ready(10)
        for _ in during(3):
            assert {gateway.leaf(APP).serial_number for gateway in trio.gateways} == {second.serial_number}
        assert [path.name for path in rest[0].versions(APP)] == versions
        assert len(stub.orders()) == 2 and len(stub.book.accounts) == 1
        print(
            f"stopped: another published after {taken:.1f} s; woken: it served the newer one after "
            f"{served - woken:.1f} s and published nothing"
        )


@pytest.mark.long
def test_a_holder_that_wakes_up_changes_no_record(bench, tmp_path):
    """It is stopped with the response to its finalization, for half a minute in the long form, and woken while another
    replica is in the middle of the next order, so that the records of the name are those of that order."""
    with Stub(tmp_path / "stub") as stub:
        trio = Trio(bench, stub)
        sleeper = trio.stop_holder("finalize")
        end = time.monotonic() + (30 if IS_LONG else 0)
        rest = trio.others(sleeper)
        first = rest[0].wait_issued(APP, LEASE_TTL + 15)
        eventually(lambda: time.monotonic() > end, 31, "it was stopped for long")
        second = Hold()
        stub.script("finalize", second)
        renewing = rest[0].begin_cli("cert", "renew", APP)
        second.wait_reached()
        records = records_of(rest[0], APP)
        assert records

        sleeper.process.signal(signal.SIGCONT)
        sleeper.wait_ready(10)
        for _ in during(4):
            assert records_of(rest[0], APP) == records
        second.let_go()
        newer = rest[0].wait_issued(APP, 10, than=first)
        served_everywhere(trio.gateways, APP, newer.serial_number, 3)
        assert renewing.wait(10) == 0
        assert len(stub.orders()) == 2 and len(stub.book.accounts) == 1 and stub.violations == []


def records_of(gateway: AcmeGateway, name: str) -> dict[str, bytes]:
    """The files of a name in the store, without its lease."""
    store = gateway.data / FORMAT
    return {
        str(path.relative_to(store)): content
        for kind in ("acme/names", "acme/orders", "certs")
        for path, content in files(store / kind / name)
    }


# -- the time to live of a lease


def test_a_lease_lasts_as_long_as_its_holder_has_set(bench, tmp_path):
    """The holder moves its lease every 20 s. A replica that would take leases after 2 s, and a command, leave it."""
    volume = Volume(bench)
    chain, key = IssuingAuthority(tmp_path / "issuer").server(APP)
    with Stub(tmp_path / "stub") as stub:
        slow, quick = (
            AcmeGateway(bench, stub, [APP], f"{ttl}-gateway", volume=volume, lease_ttl=ttl) for ttl in ("60s", "2s")
        )
        stub.watch([slow, quick])
        hold = Hold()
        stub.script("newOrder", hold)
        slow.start()
        hold.wait_reached()
        quick.start()
        words = ("cert", "import", "--cert", str(chain), "--key", str(key), "--name", APP)
        importing, renewing = quick.begin_cli(*words), quick.begin_cli("cert", "renew", APP, "--wait", "15s")
        holder = rf"the lease \S+/locks/certs/{APP}, held by \S+ \(process {slow.process.pid}\), for at most \d+ s\."
        for _ in during(19):  # until shortly before the holder moves its lease
            assert stub.count("newOrder") == 1, "the other replica takes no lease"
            assert importing.alive, "the command takes no lease"
        for command in (importing, renewing):
            assert len(re.findall(f"Waiting for {holder}", command.log())) == 1, command.log()
        assert f"(process {slow.process.pid})" in renewing.log().splitlines()[-1], "the error names the holder"
        hold.let_go()
        leaf = slow.wait_issued(APP)
        assert {call.pid for call in stub.of("newOrder")} == {slow.process.pid}
        assert importing.wait(30) == 0, importing.log()
        eventually(lambda: slow.leaf(APP) != leaf, 3, "the import follows the order")
        assert len(stub.certificates()) == 1


# -- clocks


def test_replicas_whose_clocks_are_an_hour_off_are_members_like_any_other(bench, tmp_path):
    """One is an hour ahead, one an hour behind: each certificate is ordered once, whichever replica does it, is renewed
    at the same time everywhere, and no replica counts as dead."""
    library = compiled("clockshift", bench.tools, flags=("-shared", "-fPIC"))
    with Stub(tmp_path / "stub") as stub:
        trio = Trio(bench, stub)
        shifts = (0, 1, -1)
        trio.start({"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(3_600 * hours)} for hours in shifts)
        for gateway, hours in zip(trio.gateways, shifts):
            ts = datetime.fromisoformat(gateway.process.log_objects()[0]["ts"])
            assert abs(ts.timestamp() - 3_600 * hours - time.time()) < 60, "its clock is off"
        leaf = trio.gateways[0].wait_issued(APP)
        for gateway in trio.gateways:
            gateway.cli("cert", "renew", APP)
            leaf = gateway.wait_issued(APP, 10, than=leaf)
            served_everywhere(trio.gateways, APP, leaf.serial_number, 3)
        token = trio.gateways[0].create_token("demo")
        agents = [acme_agent(gateway, f"agent-{number}", token, 1, APP) for number, gateway in enumerate(trio.gateways)]
        for agent in agents:
            agent.start()
        for _ in during(6):
            assert [gateway.admin("/v1/status")["replicas"] for gateway in trio.gateways] == [3, 3, 3]
            assert len(stub.orders()) == 4, "no certificate is ordered again"
        renewals = [gateway.renewal(APP) for gateway in trio.gateways]
        assert max(renewals) - min(renewals) < 60, renewals
        assert len(stub.book.accounts) == 1 and stub.violations == []


# -- responses of any replica


def test_requests_with_unknown_tokens_are_cheap_and_forwarded(bench, tmp_path):
    """Requests with unknown tokens are redirected to HTTPS on hosts with routes, and get 404 on others."""
    with Stub(tmp_path / "stub") as stub:
        trio = Trio(bench, stub)
        trio.start()
        trio.gateways[0].wait_issued(APP)
        gateway = trio.gateways[0]

        def ask(host: str, number: int) -> int:
            return fetch_challenge(gateway, host, f"{number:043}")[0]

        statuses, began = [], time.monotonic()
        for host, expected in ((APP, {301, 308}), ("unknown.example.test", {404})):
            for _ in range(5):
                found = together([lambda n=n: ask(host, n) for n in range(40)])
                assert set(found) <= expected, (host, found)
                statuses += found
        seconds = time.monotonic() - began
        assert gateway.total("acme_http_challenges_total", result="unknown") == len(statuses)
        for bad in ("..%2f..%2fkeys", "a" * 129, "", "a.b"):
            assert fetch_challenge(gateway, APP, bad)[0] in (301, 307, 308, 400, 404), bad
        print(f"{len(statuses)} unknown tokens in {seconds:.2f} s")
        assert gateway.ops("/readyz", quiet=True) == 200
