"""ACME with a scripted CA: features that Pebble lacks (waits, rate limits, profiles, renewal windows) and misbehaviour.

Cases that take a minute of waiting begin with the first test and are checked by the last ones.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from acme_authority import IssuingAuthority, renewal_id
from acme_gateways import AcmeGateway
from acme_malice import DOORS, FOR_A_DAY, begin, is_processing, malice, named, no_nonces, slow, stubborn
from acme_records import Window
from acme_scripts import Edit, Ordinary, broken, refuse
from acme_stub import ANY, Stub
from harness import Bench, during, eventually
from volumes import Volume

HOUR, DAY = 3_600, 86_400
WHY = "https://example.test/why"


class AMinute:
    """The cases that take a minute, concurrently."""

    def __init__(self, bench: Bench, folder: Path, stubs: ExitStack):
        def stub(name: str, *arguments) -> Stub:
            return stubs.enter_context(Stub(folder / name, *arguments))

        self.began = time.monotonic()
        self.stubborn_cases = stubborn()
        self.stubborn_stub = stub("stubborn")
        names = begin(self.stubborn_stub, self.stubborn_cases)
        self.stubborn = AcmeGateway(bench, self.stubborn_stub, names, "stubborn").start()

        self.speechless_stub = stub("speechless")
        no_nonces(self.speechless_stub)
        self.speechless = AcmeGateway(bench, self.speechless_stub, [named("nonce")], "speechless").start()

        # The first CA fails; the second one works.
        self.first, self.second = stub("down"), stub("up", "Stub B")
        self.first.script("newOrder", broken(503), times=ANY)
        self.down = AcmeGateway(bench, [self.first, self.second], [named("down")], "down").start()

        self.limit = stub("limit")
        self.limit.script("newOrder", refuse(429, "rateLimited", "in a moment", "2"))
        self.limited = AcmeGateway(bench, self.limit, [named("soon")], "soon").start()

        # The first certificate is due in a month, until renewal information may be requested again after a minute.
        self.hurried = stubs.enter_context(Stub(folder / "hurried", has_renewal_info=True))
        self.hurried.book.window = self.window
        self.is_hurry = False
        volume = Volume(bench)
        self.replicas = [AcmeGateway(bench, self.hurried, [named("app")], f"app-{n}", volume=volume) for n in (1, 2)]
        for gateway in self.replicas:
            gateway.start()
        self.first_leaf = self.replicas[0].wait_issued(named("app"))
        eventually(lambda: self.hurried.count("renewalInfo"), 5, "the CA is asked for the window")
        self.is_hurry = True

    def window(self, order) -> Window:
        if order is self.hurried.certificates(named("app"))[0]:
            return Window(-2 * HOUR, -HOUR, "60", WHY) if self.is_hurry else Window(30 * DAY, 40 * DAY, "60")
        return Window(30 * DAY, 40 * DAY)


@pytest.fixture(scope="module", autouse=True)
def a_minute(module_bench, tmp_path_factory):
    with ExitStack() as stubs:
        yield AMinute(module_bench, tmp_path_factory.mktemp("stubs"), stubs)


# -- a CA that is slow, busy or partly unavailable


def test_waits_are_kept_and_faults_are_got_over(bench, tmp_path):
    """Both forms of Retry-After in every place, bursts of server errors, connections that end before, within and after
    the response, rejected nonces: every order yields its certificate, with the requested profile."""
    with Stub(tmp_path / "stub", profiles=["classic", "short"]) as stub:
        cases = slow()
        gateway = AcmeGateway(bench, stub, begin(stub, cases), acme={"profile": "short"}).start()
        began = time.monotonic()
        for case in cases:
            gateway.wait_issued(named(case), 60)
        seconds = time.monotonic() - began
        for case, what in cases.items():
            calls = [call for call in stub.calls if named(case) in call.names]
            orders = stub.orders(named(case))
            assert len(orders) == what.orders, (case, [str(call) for call in calls])
            assert {order.profile for order in orders} == {"short"}
            if what.gap:
                scripted = [call for call in calls if call.kind == what.kind][len(what.actions) - 1]
                after = next(call for call in calls if call.kind == what.then and call.at > scripted.at)
                assert what.gap - 0.1 <= after.at - scripted.at < what.gap + 4, (case, after.at - scripted.at)
        assert len(stub.book.accounts) == 1 and stub.violations == []
        assert gateway.total("acme_orders_total", result="failed") == 0
        print(f"{len(cases)} orders in {seconds:.1f} s, {len(stub.calls)} requests: {dict(stub.tally())}")


def test_a_profile_that_is_not_offered_costs_the_ca_no_order(bench, tmp_path):
    with Stub(tmp_path / "stub", profiles=["classic"]) as stub:
        name = named("app")
        gateway = AcmeGateway(bench, stub, [name], acme={"profile": "short"}).start()
        error = gateway.wait_error(name, "profileNotOffered")
        assert "classic" in error["message"] and "acme.profile" in error["remedy"]
        assert stub.count("newOrder") == 0 and stub.count("newAccount") <= 1


# -- renewal requested by the CA


def test_a_window_that_lies_in_the_past_from_the_start_renews_nothing_within_a_minute(bench, tmp_path):
    """A CA with errors is not flooded with requests."""
    with Stub(tmp_path / "stub", has_renewal_info=True) as stub:
        name = named("app")
        stub.book.window = lambda order: Window(-2 * HOUR, -HOUR, "0")
        gateway = AcmeGateway(bench, stub, [name]).start()
        gateway.wait_issued(name)
        issued = time.time()
        for _ in during(3):
            assert 55 < gateway.renewal(name) - issued < 65
            assert len(stub.orders()) == 1 and stub.count("renewalInfo") == 1
        assert stub.violations == []


def test_the_cas_clock_counts_and_not_ours(bench, tmp_path):
    """Its certificates have expired by our clock: they are not renewed in a loop."""
    with Stub(tmp_path / "stub", skew=-2 * DAY, lifetime=DAY) as stub:
        name = named("app")
        gateway = AcmeGateway(bench, stub, [name]).start()
        gateway.wait_issued(name)
        for _ in during(3):
            assert len(stub.orders()) == 1
        renewal = gateway.renewal(name)
        assert 0.3 * DAY < renewal - (time.time() - 2 * DAY) < 0.6 * DAY


# -- rate limits


def test_a_rate_limit_is_kept_by_all_replicas_and_after_a_restart(bench, tmp_path):
    with Stub(tmp_path / "first") as first, Stub(tmp_path / "second", "Stub B") as second:
        limited, witness, both = named("limited"), named("witness"), named("both")
        # A limit whose text names the name is the name's; another one is the account's.
        first.script("newOrder", refuse(429, "rateLimited", f"too many of them for {limited}", "3600"), name=limited)
        first.script("newOrder", refuse(429, "rateLimited", "too many of them", "3600"), name=both)
        volume = Volume(bench)
        gateways = [AcmeGateway(bench, first, [limited], f"gateway-{n}", volume=volume) for n in (1, 2)]
        gateways[0].start()
        error = gateways[0].wait_error(limited, "rateLimited")
        assert "too many of them" in error["message"]
        assert gateways[0].total("acme_failures_total", code="rateLimited") == 1
        # The command reports the error.
        done = gateways[0].cli("cert", "renew", limited, check=False)
        assert done.returncode != 0 and "too many of them" in done.stderr, done

        # After a restart, with another replica and one more name, the limit is still respected.
        gateways[0].process.kill()
        for gateway in gateways:
            gateway.settings["acme"]["names"] = [limited, witness]
            gateway.write_config()
            gateway.start()
        gateways[1].wait_issued(witness)
        assert first.count("newOrder", limited) == 1

        # The next CA in the list is used at once.
        gateway = AcmeGateway(bench, [first, second], [both], "both").start()
        gateway.wait_issued(both, 15, authority=second)
        eventually(lambda: gateway.report(both)["ca"] == second.directory, 5, "its status names the second CA")
        assert [first.count("newOrder", name) for name in (limited, both)] == [1, 1]


# -- a hostile CA


def test_nothing_that_a_ca_does_harms_the_gateway_or_other_names(bench, tmp_path):
    """Each name has another malicious order, on two replicas: each ends with a clear error, none is retried in a loop,
    and a name with an honest order gets its certificate."""
    with Stub(tmp_path / "stub") as stub:
        cases = malice(stub, IssuingAuthority(tmp_path / "strangers", "Strangers"))
        slow_one, good = named("pending"), named("good")
        stub.script("finalize", Edit(is_processing), name=slow_one)
        stub.script("order", Ordinary(), Edit(is_processing), name=slow_one, times=ANY)
        volume, names = Volume(bench), [slow_one, *begin(stub, cases), good]
        gateways = [AcmeGateway(bench, stub, names, f"gateway-{n}", volume=volume) for n in (1, 2)]
        began = time.monotonic()
        for gateway in gateways:
            gateway.start()
        gateways[0].wait_issued(good, 40)
        honest = time.monotonic() - began
        for case, what in cases.items():
            error = gateways[0].wait_error(named(case), what.code, 40)
            assert error["remedy"], error
            assert len(error["message"]) < 2_500 and not set("\x1b\x07\n") & set(error["message"]), error
        seconds = time.monotonic() - began
        assert seconds < 45, "later some are tried again, as they should be"
        for case, what in cases.items():
            assert stub.count("newOrder", named(case)) == 1, case
            assert len(stub.orders(named(case))) == what.orders, case
            assert not gateways[0].versions(named(case)), case
        # An order that never completes is polled at growing intervals.
        eventually(lambda: stub.count("order", slow_one) >= 4, 20, "it is polled again")
        seconds = time.monotonic() - began
        polls = stub.count("order", slow_one)
        assert polls < 6 + seconds / 2, f"{polls} polls of an order in {seconds:.0f} s"
        for gateway in gateways:
            assert gateway.ops("/readyz", quiet=True) == 200
            assert "PRIVATE KEY" not in gateway.process.log() and "\x1b" not in gateway.process.log()
        lines = [line for g in gateways for line in g.process.log_objects() if line["level"] in ("warning", "error")]
        for case in cases:
            assert len([line for line in lines if named(case) in str(line)]) == 1, case
        # Errors that need an operator are not retried, also after a restart.
        gateways[0].process.kill()
        gateways[0].start().wait_issued(good)
        assert all(stub.count("newOrder", named(case)) == 1 for case in FOR_A_DAY)
        memory = max(gateway.process.peak for gateway in gateways) / 1e6
        assert memory < 250, f"{memory:.0f} MB"
        print(
            f"{len(cases)} kinds of malice in {seconds:.0f} s, the honest name after {honest:.1f} s; "
            f"{polls} polls of the order that stays pending; at most {memory:.0f} MB"
        )


def test_an_authority_that_is_misconfigured_is_reported_in_clear_words(bench, tmp_path):
    """Each case fails at once: these are not retried, since a short wait would not help."""
    with ExitStack() as stubs:
        doors = {}
        for door, (prepare, _) in DOORS.items():
            stub = stubs.enter_context(Stub(tmp_path / door))
            prepare(stub)
            doors[door] = stub, AcmeGateway(bench, stub, [named(door)], door).start(wait=False)
        began = time.monotonic()
        for door, (_, code) in DOORS.items():
            stub, gateway = doors[door]
            gateway.wait_ready(10)
            error = gateway.wait_error(named(door), code, 10)
            assert error["remedy"], error
            assert stub.orders() == []
            assert stub.count("directory") <= 4 and stub.count("newAccount") <= 1, (door, stub.tally())
            assert gateway.ops("/readyz", quiet=True) == 200
            print(f"{door}: {error['message']}")
        print(f"all of that {time.monotonic() - began:.1f} s after the start")


# -- the cases that took a minute


def test_what_never_gets_better_is_given_up_for_a_while(a_minute):
    stub, gateway = a_minute.stubborn_stub, a_minute.stubborn
    # Six attempts, and six more a minute later. In each, a kept connection that ends is replaced by a new one, and a
    # rejected nonce by ten more.
    most = {"dead": 36, "nonce-loop": 132}
    for case, what in a_minute.stubborn_cases.items():
        gateway.wait_error(named(case), what.code, 60)
        tries = stub.count("newOrder", named(case))
        assert tries <= most[case] and len(stub.orders(named(case))) == what.orders, (case, tries)
    error = a_minute.speechless.wait_error(named("nonce"), "badAnswer", 60)
    assert "nonce" in error["message"] and error["remedy"], error
    assert a_minute.speechless_stub.count("newNonce") <= 12 and a_minute.speechless_stub.count("newAccount") == 0
    for gateway in (gateway, a_minute.speechless):
        assert gateway.process.peak < 250e6
        assert "PRIVATE KEY" not in gateway.process.log()


def test_a_short_rate_limit_ends_by_itself_and_another_ca_steps_in_for_one_that_is_down(a_minute):
    a_minute.limited.wait_issued(named("soon"), 40)
    refused, again = a_minute.limit.of("newOrder")[:2]
    assert again.at - refused.at >= 2
    a_minute.down.wait_issued(named("down"), 60, authority=a_minute.second)
    tries, after = a_minute.first.count("newOrder"), a_minute.second.orders()[0].made_at
    assert tries == 6 and len(a_minute.second.orders()) == 1
    print(
        f"a limit of 2 s was kept for {again.at - refused.at:.1f} s; the second CA was asked "
        f"{after - a_minute.began:.0f} s after the start, {tries} tries at the first"
    )


def test_a_window_that_moves_into_the_past_renews_at_once_and_replicas_share_the_next_time(a_minute):
    """A CA moves the window in this way when it is about to revoke the certificate."""
    stub, gateways, name = a_minute.hurried, a_minute.replicas, named("app")
    eventually(lambda: len(stub.certificates(name)) == 2, 90, "it was renewed")
    first, second = stub.certificates(name)
    assert second.replaces == renewal_id(first.leaf) and first.replaces is None
    asked = [call.at for call in stub.of("renewalInfo", name) if renewal_id(first.leaf) == call.item]
    assert len(asked) == 2 and 59 < asked[1] - asked[0] < 70 and second.made_at - asked[1] < 3, asked
    for gateway in gateways:
        eventually(lambda g=gateway: g.leaf(name).serial_number == second.serial, 5, "both serve the second")

    def is_in_window() -> bool:
        moments = {gateway.renewal(name) for gateway in gateways}
        start, end = time.time() + 30 * DAY - 120, time.time() + 40 * DAY + 120
        return len(moments) == 1 and start < moments.pop() < end

    eventually(is_in_window, 10, "both know the same time in the window")
    assert stub.count("newOrder") == 2
    # `replaces` is omitted if the CA rejected it once.
    stub.script("newOrder", refuse(409, "alreadyReplaced"))
    gateways[0].cli("cert", "renew", name)
    third = stub.certificates(name)[2]
    replaced = [call.payload.get("replaces") for call in stub.of("newOrder", name)]
    assert replaced == [None, renewal_id(first.leaf), renewal_id(second.leaf), None]
    for gateway in gateways:
        eventually(lambda g=gateway: g.leaf(name).serial_number == third.serial, 5, "both serve the third")
    # Renewal information of each certificate is requested by one replica at a time.
    assert stub.count("renewalInfo") <= 5, [str(call) for call in stub.of("renewalInfo")]
    assert stub.violations == []
