"""Tests of the CAs used by the other tests, with a small ACME client."""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509

from acme_authority import renewal_id
from acme_client import Client, Refused
from acme_dns import ProgramHook, ServerHook
from acme_jose import record_value, unb64
from acme_pebble import BLOCKED, EAB_KEY, EAB_KEY_ID, Pebble, ask
from acme_records import Window
from acme_scripts import Answer, Cut, Edit, Flood, Hold, Replace, Say, broken, http_date, redirect, refuse
from acme_stub import ANY, Stub
from balancer import Balancer
from sockets import connected


class Responder:
    """Responds to http-01 like a gateway."""

    def __init__(self, name: str, answers: dict[str, str]):
        self.name, self.https_port = name, 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                found = answers.get(self.path.rpartition("/")[2])
                self.send_response(200 if found else 404)
                self.end_headers()
                self.wfile.write((found or "").encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http_port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def is_signed(chain: list[x509.Certificate], root_file) -> bool:
    """Verifies each certificate with the following one, and the last with the root."""
    root = x509.load_pem_x509_certificate(root_file.read_bytes())
    for certificate, issuer in zip(chain, [*chain[1:], root]):
        certificate.verify_directly_issued_by(issuer)
    return True


@pytest.fixture
def stub(tmp_path):
    with Stub(tmp_path / "stub", has_renewal_info=True, profiles=["classic", "short"]) as stub:
        yield stub


# -- Pebble


def test_pebble_validates_through_the_balancer_and_counts(bench):
    answers: dict[str, str] = {}
    responders = [Responder(f"responder-{number}", answers) for number in range(3)]
    with Balancer(responders) as balancer:
        pebble = Pebble(bench, balancer.http_port, balancer.https_port, nonce_reject=50, lifetime=60)
        client = Client(pebble.directory, pebble.ca_bundle)
        client.register()
        present = lambda name, token, authorization: answers.update({token: authorization})  # noqa: E731
        chain = client.obtain("a.example.test", "b.example.test", present=present)
        assert is_signed(chain, pebble.root) and client.bad_nonces > 0
        assert (chain[0].not_valid_after_utc - chain[0].not_valid_before_utc).total_seconds() in (59, 60)
        assert pebble.counts == (1, 1, 1)
        # Two names, three validators each.
        assert sum(balancer.http.values()) == 6 and len(balancer.http) == 3, balancer.http
        with pytest.raises(Refused, match="rejectedIdentifier"):
            client.order(BLOCKED)
        # There is no response: the authorization becomes invalid.
        balancer.may_serve = lambda target: target is responders[0]
        with pytest.raises(AssertionError, match="invalid"):
            client.obtain("c.example.test")
        assert pebble.counts == (1, 2, 1)

        # It loses its state and keeps its address.
        root = pebble.root.read_bytes()
        pebble.stop()
        pebble.start()
        assert pebble.counts == (0, 0, 0) and pebble.root.read_bytes() != root
        with pytest.raises(Refused, match="accountDoesNotExist"):
            client.order("a.example.test")
        client.register()
        assert is_signed(client.obtain("a.example.test", present=present), pebble.root)


def test_pebble_wants_external_accounts_and_its_dns_takes_records_from_hooks(bench):
    with ServerHook(bench, None, token="secret") as hook:
        pebble = Pebble(bench, 1, 1, needs_eab=True)
        hook.dns = pebble.dns
        client = Client(pebble.directory, pebble.ca_bundle)
        with pytest.raises(Refused, match="externalAccountRequired"):
            client.register()
        client.register((EAB_KEY_ID, unb64(EAB_KEY)))

        program = ProgramHook(bench, pebble.dns)

        def by_program(name, token, authorization):
            words = ["present", f"_acme-challenge.{name}", record_value(authorization)]
            subprocess.run([program.path, *words], check=True, timeout=20)

        def by_server(name, token, authorization):
            record = {"fqdn": f"_acme-challenge.{name}.", "value": record_value(authorization)}
            ask(f"{hook.url}/present", data=record, token="secret")

        for number, present in enumerate((by_program, by_server)):
            chain = client.obtain(f"*.zone-{number}.example.test", kind="dns-01", present=present)
            assert is_signed(chain, pebble.root)
        with pytest.raises(OSError, match="401"):
            ask(f"{hook.url}/present", data={"fqdn": "x.", "value": "y"}, token="wrong")
        assert [call[0] for call in program.calls + hook.calls] == ["present", "present"] and hook.refused == 1
        subprocess.run([program.path, "cleanup", "_acme-challenge.zone-0.example.test", "x"], check=True, timeout=20)
        with pytest.raises(AssertionError, match="invalid"):
            client.obtain("*.zone-0.example.test", kind="dns-01")


# -- the stub as a good CA


def test_the_stub_issues_what_is_asked_for(stub):
    client = Client(stub.directory, stub.ca_bundle)
    client.account = f"{stub.url}/account/unknown"
    with pytest.raises(Refused, match="accountDoesNotExist"):
        client.order("a.example.test")
    url = client.register()
    assert client.register() == url and len(stub.book.accounts) == 1
    chain = client.obtain("a.example.test", "*.a.example.test", kind="dns-01", profile="short")
    assert is_signed(chain, stub.root)
    order = stub.orders("a.example.test")[0]
    assert (order.names, order.profile, order.serial) == (
        ("a.example.test", "*.a.example.test"),
        "short",
        chain[0].serial_number,
    )
    kinds = [call.kind for call in stub.of_order(order)]
    assert kinds == ["newOrder"] + 2 * ["authorization", "challenge", "authorization"] + [
        "order",
        "finalize",
        "order",
        "certificate",
    ]
    stub.book.processing_polls = 2
    client.obtain("b.example.test")
    assert stub.count("order", "b.example.test") == 3
    assert stub.violations == []


def test_the_stub_validates_as_scripted(tmp_path):
    asked = []

    def validate(kind, name, token, authorization, call):
        asked.append((kind, name, authorization.startswith(token)))
        return ("unauthorized", "no answer") if name.startswith("bad") else None

    with Stub(tmp_path / "stub", validate=validate) as stub:
        client = Client(stub.directory, stub.ca_bundle)
        client.register()
        client.obtain("good.example.test")
        with pytest.raises(AssertionError, match="no answer"):
            client.obtain("bad.example.test", kind="tls-alpn-01")
        assert asked == [("http-01", "good.example.test", True), ("tls-alpn-01", "bad.example.test", True)]


def test_the_stub_suggests_when_to_renew_and_checks_what_is_replaced(stub):
    client = Client(stub.directory, stub.ca_bundle)
    client.register()
    first = renewal_id(client.obtain("a.example.test")[0])
    stub.book.window = lambda order: Window(-3600, -1800, retry_after="60", explanation="https://example.test/why")
    info = ask(f"{client.directory['renewalInfo']}/{first}", stub.ca_bundle)
    assert b"suggestedWindow" in info and b"why" in info
    client.obtain("a.example.test", replaces=first)
    assert stub.orders()[1].replaces == first
    with pytest.raises(Refused, match="alreadyReplaced"):
        client.order("a.example.test", replaces=first)
    with pytest.raises(Refused, match="unknown"):
        client.order("a.example.test", replaces="AAAA.AAAA")
    assert stub.of("renewalInfo", "a.example.test")[0].status == 200


def test_the_stub_sees_what_no_client_should_send(stub):
    client = Client(stub.directory, stub.ca_bundle)
    client.register()
    for fields, url, kid, named in (
        ({"Content-Type": "application/json"}, None, True, "Content-Type"),
        ({}, f"{stub.url}/elsewhere", True, "signed for"),
        ({}, None, False, "jwk is for new accounts"),
    ):
        target = client.directory["newOrder"]
        client._send("HEAD", client.directory["newNonce"])
        body = client.key.sign({}, url or target, client.nonce, client.account if kid else None)
        connection = http.client.HTTPSConnection("127.0.0.1", stub.server.port, context=client.tls)
        all_fields = {"Content-Type": "application/jose+json", "User-Agent": "test", **fields}
        connection.request("POST", "/new-order", body, all_fields)
        assert connection.getresponse().status == 400
        connection.close()
        assert named in stub.violations[-1], stub.violations
    # A used nonce, and a signature by another key.
    client._send("HEAD", client.directory["newNonce"])
    nonce = client.nonce
    for _ in range(2):
        client.nonce = nonce
        client.order("a.example.test")
    assert client.bad_nonces == 1
    other = Client(stub.directory, stub.ca_bundle)
    other.account = client.account
    with pytest.raises(Refused, match="malformed"):
        other.order("a.example.test")
    assert "signature" in stub.violations[-1]


# -- and as a bad one


def test_the_stub_follows_its_scripts(stub):
    client = Client(stub.directory, stub.ca_bundle)
    client.register()
    name = "a.example.test"
    order = lambda: client.order(name)  # noqa: E731
    stub.script("newOrder", refuse(429, "rateLimited", retry_after="7"), broken(502), name=name)
    with pytest.raises(Refused, match="rateLimited"):
        order()
    assert client.fields["Retry-After"] == "7"
    with pytest.raises(ValueError):
        order()  # not JSON
    client.order("b.example.test")
    # The connection ends before, within and after the response.
    for moment, made in (("before", 0), ("within", 1), ("after", 1)):
        before = len(stub.orders(name))
        stub.script("newOrder", Cut(moment), name=name)
        with pytest.raises((OSError, http.client.HTTPException)):
            order()
        assert len(stub.orders(name)) == before + made, moment
    stub.script("newOrder", redirect(f"{stub.url}/directory"), Edit(lambda d: d.update(status=7), Location=None))
    with pytest.raises(ValueError):
        order()
    assert client.fields["Location"] == f"{stub.url}/directory"
    client.nonce = None
    client.post(client.directory["newOrder"], {"identifiers": [{"type": "dns", "value": name}]})
    assert client.fields["Location"] is None
    stub.script("newOrder", Replace(b"[" * 1000), Say(Answer(200, b"x" * 10)), times=ANY)
    for _ in range(3):
        with pytest.raises((ValueError, RecursionError)):
            order()
    assert http_date(60).endswith("GMT")


def test_the_stub_holds_and_floods(stub):
    client = Client(stub.directory, stub.ca_bundle)
    client.register()
    hold = Hold(is_processed=True)
    stub.script("newOrder", hold)
    done = []
    thread = threading.Thread(target=lambda: done.append(client.order("a.example.test")))
    thread.start()
    assert hold.wait_reached().names == ("a.example.test",) and len(stub.orders()) == 1 and not done
    hold.let_go()
    thread.join(10)
    assert done
    flood = Flood(limit=1 << 20)
    stub.script("newOrder", flood)
    began = time.monotonic()
    with pytest.raises(ValueError):
        client.order("a.example.test")
    assert flood.sent == 1 << 20 and time.monotonic() - began < 10


def test_the_stub_knows_which_process_asks(bench, stub):
    class Asker:
        process = None

    asker, other = Asker(), Asker()
    other.process = bench.start("other", ["sleep", "60"])
    stub.watch([other, asker])
    hold = Hold()
    stub.script("directory", hold)
    command = ["curl", "-s", "--noproxy", "*", "--cacert", stub.ca_bundle, stub.directory]
    asker.process = bench.start("asker", command)
    assert hold.wait_reached().pid == asker.process.pid
    assert connected(stub.server.port, [other.process.pid, asker.process.pid]) == {asker.process.pid}
    hold.let_go()
    assert asker.process.wait(10) == 0 and "newOrder" in asker.process.log()
