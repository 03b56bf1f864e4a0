"""`hopgate acme check NAME`: reports what would keep a CA from issuing, with remedies, before any order is made.

The ports must be 80 and 443, and names must be resolved by the system: each test has its own loopback address, and its
programs see another /etc/hosts.
"""

from __future__ import annotations

import random
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from acme_gateways import AcmeGateway
from acme_scripts import refuse
from acme_stub import ANY, Stub
from harness import ENVIRONMENT, HOPGATE, Bench, free_port

NAME = "app.example.test"
# Runs in its own mount namespace.
OTHER_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


def own_address() -> str:
    return f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"


class Check:
    """A gateway on ports 80 and 443 of its own address."""

    def __init__(self, bench: Bench, stub: Stub):
        self.bench, self.address = bench, own_address()
        self.hosts = bench.folder / "hosts"
        self.point_to(self.address)
        listen = {"http_listen": f"{self.address}:80", "https_listen": f"{self.address}:443"}
        self.gateway = AcmeGateway(bench, stub, [NAME], **listen)
        self.gateway.launcher = self.launcher
        self.gateway.start()

    @property
    def launcher(self) -> list[str]:
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", OTHER_HOSTS, str(self.hosts)]

    def point_to(self, address: str, name: str = NAME) -> None:
        """Sets the address of the name, in the file that is mounted."""
        with open(self.hosts, "w") as file:
            file.write(f"127.0.0.1 localhost\n{address} {name}\n")

    def run(self, *more: str) -> subprocess.CompletedProcess:
        config = ["--config", str(self.gateway.config_path)]
        command = [*self.launcher, HOPGATE, "acme", "check", NAME, *config, *more]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, cwd=self.bench.folder, env=ENVIRONMENT
        )

    def assert_fails(self, *patterns: str) -> None:
        """Expects the check to fail with each of these texts."""
        done = self.run()
        text = done.stdout + done.stderr
        assert done.returncode == 1, text
        for pattern in patterns:
            assert re.search(pattern, text, re.IGNORECASE), (pattern, text)
        assert "PRIVATE" not in text


@pytest.fixture
def stub(tmp_path):
    with Stub(tmp_path / "stub") as stub:
        yield stub


class OtherServer(BaseHTTPRequestHandler):
    """Another server on the gateway's port."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"It works!")

    def log_message(self, *_):
        pass


def test_a_good_name_is_good_and_nothing_is_ordered(bench, stub):
    check = Check(bench, stub)
    check.gateway.process.wait_log(f"{NAME}.*", 20)
    orders = stub.count("newOrder")
    done = check.run()
    assert done.returncode == 0, done.stdout + done.stderr
    for word in (NAME, check.address, "80", stub.directory):
        assert word in done.stdout, done.stdout
    assert stub.count("newOrder") <= max(1, orders) and len(stub.book.accounts) == 1
    # One kind of challenge is enough: tls-alpn-01 comes after http-01, and its port is closed.
    check.gateway.settings["acme"]["challenge"] = ["http-01", "tls-alpn-01"]
    check.gateway.write_config()
    done = check.run("--https-port", str(free_port()))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\?\?  tls-alpn-01 .*not needed while http-01 works$", done.stdout, re.MULTILINE), done.stdout
    # Nor does it matter that the preferred one fails: the gateway tries the other one next. The same holds for CAs.
    check.gateway.settings["acme"]["challenge"] = ["tls-alpn-01", "http-01"]
    dead = {**check.gateway.settings["acme"]["ca"][0], "directory": f"https://127.0.0.1:{free_port()}/directory"}
    check.gateway.settings["acme"]["ca"].insert(0, dead)
    check.gateway.write_config()
    done = check.run("--https-port", str(free_port()))
    assert done.returncode == 0 and "No obstacle" in done.stderr, done.stdout + done.stderr
    assert re.search(r"^\?\?  tls-alpn-01 .*not needed while http-01 works$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(rf"^\?\?  CA .*not needed while {re.escape(stub.directory)} works$", done.stdout, re.MULTILINE)
    assert stub.violations == []


def test_each_obstacle_is_named_with_its_remedy(bench, stub):
    check = Check(bench, stub)
    # No address at all.
    check.point_to(check.address, "elsewhere.example.test")
    check.assert_fails("address|resolv|DNS", NAME)
    # The port is closed.
    closed = own_address()
    check.point_to(closed)
    check.assert_fails("80", re.escape(closed), "refused|connect")
    # Another server uses the port.
    other = own_address()
    server = ThreadingHTTPServer((other, 80), OtherServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        check.point_to(other)
        check.assert_fails("else|other|not this gateway", re.escape(other))
    finally:
        server.shutdown()
        server.server_close()
    check.point_to(check.address)
    # The CA has no account, is not running, or has another certificate.
    stub.script("newAccount", refuse(403, "externalAccountRequired", "who are you"), times=ANY)
    stub.book.forget_accounts()
    stub.script("account", refuse(400, "accountDoesNotExist"), times=ANY)
    check.assert_fails("acme.eab|external account", "who are you")
    config = check.gateway.settings["acme"]["ca"][0]
    config["directory"] = f"https://127.0.0.1:{free_port()}/directory"
    check.gateway.write_config()
    check.assert_fails("directory", "127.0.0.1", "connect|refused|reach")
    config["directory"] = stub.directory
    config["ca_bundle"] = str(stub.root)
    check.gateway.write_config()
    check.assert_fails("directory", "certificate|verif|trust")


def test_an_account_is_forgotten_and_the_next_one_is_new(bench, stub):
    check = Check(bench, stub)
    check.gateway.process.wait_log(f"{NAME}.*", 20)
    assert check.run().returncode == 0 and len(stub.book.accounts) == 1
    done = check.gateway.cli("acme", "forget-account")
    assert f"Removed the record of the account at {stub.directory}" in done.stderr, done.stderr
    again = check.gateway.cli("acme", "forget-account", stub.directory, check=False)
    assert again.returncode == 1 and "no account" in again.stderr, again.stderr
    assert check.run().returncode == 0 and len(stub.book.accounts) == 2
