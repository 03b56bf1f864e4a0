"""Pebble, the ACME test server by the authors of Let's Encrypt, with its DNS (`pebble-challtestsrv`): both from
Debian's package `pebble`, on free loopback ports.

Features that it lacks (renewal information, Retry-After, profiles, rate limits) are tested with acme_stub.py. Its state
is in memory: a restart loses accounts and orders, and creates a new root.
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from pathlib import Path
from typing import Optional

from acme_authority import IssuingAuthority
from harness import Bench, eventually, free_port

START_LIMIT = 60  # seconds: it generates RSA keys, and the machine may be busy
EAB_KEY_ID, EAB_KEY = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
BLOCKED = "blocked.example.test"  # a name that it never issues for


def ask(url: str, ca_file: Optional[Path] = None, data: Optional[dict] = None, token: Optional[str] = None) -> bytes:
    """Sends one request to a server of the tests, without a proxy. data: sent by POST as JSON."""
    context = ssl.create_default_context(cafile=str(ca_file)) if ca_file else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    body = json.dumps(data).encode() if data is not None else None
    fields = {"Authorization": f"Bearer {token}"} if token else {}
    with opener.open(urllib.request.Request(url, body, fields), timeout=10) as answer:
        return answer.read()


class MockDNS:
    """The mock DNS: every name has the address 127.0.0.1 and the TXT records set by `set_txt`."""

    def __init__(self, bench: Bench, name: str = "mock-dns"):
        self.port, control = free_port(), free_port()
        self.url = f"http://127.0.0.1:{control}"
        # No AAAA records, otherwise the validators try ::1; and no responses of its own to challenges.
        self.process = bench.start(
            name,
            ["pebble-challtestsrv", "-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]
            + ["-dns01", f"127.0.0.1:{self.port}", "-management", f"127.0.0.1:{control}"],
        )
        eventually(self._answers, START_LIMIT, "the mock DNS answers")

    def _answers(self) -> bool:
        assert self.process.alive, self.process.log()
        try:
            ask(f"{self.url}/clear-txt", data={"host": "nothing.invalid."})
            return True
        except OSError:
            return False

    def set_txt(self, name: str, value: str) -> None:
        ask(f"{self.url}/set-txt", data={"host": name.rstrip(".") + ".", "value": value})

    def clear_txt(self, name: str) -> None:
        """Sets all TXT values of the name."""
        ask(f"{self.url}/clear-txt", data={"host": name.rstrip(".") + "."})


class Pebble:
    """The CA. A `start` after `stop` uses the same ports and the same certificate of its API.

    http_port, https_port: the ports that its validators connect to, for every name.
    nonce_reject: the percentage of valid nonces that are rejected. lifetime: the lifetime of certificates in seconds.
    """

    def __init__(
        self,
        bench: Bench,
        http_port: int,
        https_port: int,
        name: str = "pebble",
        nonce_reject: int = 0,
        needs_eab: bool = False,
        lifetime: int = 90 * 86_400,
        start: bool = True,
    ):
        self.bench, self.name = bench, name
        self.folder = bench.subfolder(name)
        self.port, self._control = free_port(), free_port()
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        api = IssuingAuthority(self.folder / "api", "Pebble API")
        self.ca_bundle, self.root = api.root, self.folder / "root.pem"
        chain, key = api.server("localhost", "127.0.0.1")
        self._env = {
            "PEBBLE_VA_NOSLEEP": "1",  # otherwise each validation waits for up to 5 s
            "PEBBLE_AUTHZREUSE": "0",  # otherwise authorizations are reused at random
            "PEBBLE_WFE_NONCEREJECT": str(nonce_reject),
        }
        self._config = self.folder / "pebble.json"
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self._control}",
            "certificate": str(chain),
            "privateKey": str(key),
            "httpPort": http_port,
            "tlsPort": https_port,
            "ocspResponderURL": "",
            "certificateValidityPeriod": lifetime,
            "domainBlocklist": [BLOCKED],
            "externalAccountBindingRequired": needs_eab,
            "externalAccountMACKeys": {EAB_KEY_ID: EAB_KEY},
        }
        self._config.write_text(json.dumps({"pebble": settings}))
        self.dns = MockDNS(bench, f"{name}-dns")
        self.process = None
        if start:
            self.start()

    def start(self, wait: bool = True) -> Pebble:
        self.process = self.bench.start(
            self.name,
            ["pebble", "-config", self._config, "-dnsserver", f"127.0.0.1:{self.dns.port}", "-strict=false"],
            env=self._env,
        )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        eventually(self._answers, START_LIMIT, "Pebble answers")
        self.root.write_bytes(ask(f"https://127.0.0.1:{self._control}/roots/0", self.ca_bundle))

    def stop(self) -> None:
        """Stops the CA, which loses its state."""
        self.process.kill()

    def _answers(self) -> bool:
        assert self.process.alive, self.process.log()
        try:
            return bool(json.loads(ask(self.directory, self.ca_bundle)))
        except OSError:
            return False

    # -- for a gateway's configuration

    @property
    def authority(self) -> dict:
        """One item of `acme.ca`."""
        return {"directory": self.directory, "ca_bundle": str(self.ca_bundle)}

    # -- its actions since its start, from its log

    def _count(self, words: str) -> int:
        return self.process.log().count(words)

    @property
    def accounts(self) -> int:
        return self._count("accounts in memory")

    @property
    def orders(self) -> int:
        return self._count("Added order")

    @property
    def certificates(self) -> int:
        return self._count("Issued certificate serial")

    @property
    def counts(self) -> tuple[int, int, int]:
        """The numbers of accounts, orders and certificates."""
        return self.accounts, self.orders, self.certificates
