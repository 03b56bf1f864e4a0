"""Gateways that get their certificates by ACME, and observers of these certificates: in handshakes, in the store and at
the admin port."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import time
from pathlib import Path
from typing import Iterable, Optional, Union

from cryptography import x509
from cryptography.x509.oid import NameOID

from acme_authority import names_of
from acme_pebble import Pebble
from acme_stub import Stub
from client import Connection
from harness import Agent, Bench, Gateway, eventually
from volumes import Volume

Authority = Union[Pebble, Stub]
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
LEASE_TTL = 3  # seconds, in these tests


class AcmeGateway(Gateway):
    """One replica. acme: further keys of the section `acme`."""

    def __init__(
        self,
        bench: Bench,
        authorities: Authority | list[Authority],
        names: Iterable[str | list[str]] = (),
        name: str = "gateway",
        challenge: Iterable[str] = ("http-01",),
        volume: Optional[Volume] = None,
        acme: Optional[dict] = None,
        lease_ttl: str = f"{LEASE_TTL}s",
        **settings,
    ):
        self.authorities = authorities if isinstance(authorities, list) else [authorities]
        self.admin_token = hashlib.sha256(name.encode()).hexdigest()
        token_file = bench.folder / f"{name}.admin-token"
        token_file.write_text(self.admin_token)
        token_file.chmod(0o600)
        store = volume.setting if volume else {"path": str(bench.subfolder(name) / "data")}
        names = list(names)
        block = {
            "email": "tests@example.test",
            "agree_to_terms": True,
            "ca": [authority.authority for authority in self.authorities],
            "challenge": list(challenge),
            **({"names": names} if names else {}),
            **(acme or {}),
        }
        hosts = [host for item in names for host in ([item] if isinstance(item, str) else item)]
        settings.setdefault("routes", [{"host": host, "to": "demo/web"} for host in hosts])
        settings.setdefault("admin_token_file", str(token_file))
        super().__init__(bench, name, store={**store, "lease_ttl": lease_ttl}, acme=block, **settings)

    @property
    def ca_file(self) -> str:
        """The file that its certificates are verified with, once they are issued by the CA."""
        return str(self.authorities[0].root)

    # -- handshakes

    def leaf(self, name: str) -> x509.Certificate:
        """The certificate that a new connection gets, without verification."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.https_port), timeout=5) as plain:
            with context.wrap_socket(plain, server_hostname=name) as tls:
                return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))

    def issued(self, name: str, authority: Optional[Authority] = None) -> Optional[x509.Certificate]:
        """The certificate served for a name, if it covers the name and is from a CA (this one), and not the development
        CA's."""
        leaf = self.leaf(name)
        if is_issued(leaf, authority) and is_for(leaf, name):
            return leaf
        return None

    def wait_issued(
        self, name: str, timeout: float = 30, than: Optional[x509.Certificate] = None, authority=None
    ) -> x509.Certificate:
        """Waits for a certificate from a CA in new handshakes, different from the one given as `than`."""

        def newest() -> Optional[x509.Certificate]:
            assert self.process.alive, self.process.log()[-3000:]
            found = self.issued(name, authority)
            return found if found and (than is None or found.serial_number != than.serial_number) else None

        return eventually(newest, timeout, f"{self.name} serves a{' new' if than else ''} certificate for {name}")

    # -- the store

    def versions(self, name: str) -> list[Path]:
        """The versions of a certificate in ascending order."""
        folder = self.data / "v2" / "certs" / name.replace("*.", "_wildcard.")
        return sorted(folder.glob("*.json"), key=lambda path: int(path.stem))

    def published(self, name: str) -> tuple[x509.Certificate, float]:
        """The newest version and the time (wall clock) at which it was published."""
        newest = self.versions(name)[-1]
        chain = json.loads(newest.read_bytes().split(b"\n", 1)[1])["chain"]
        return x509.load_pem_x509_certificate(chain.encode()), newest.stat().st_ctime

    # -- the admin port

    def admin(self, path: str) -> dict:
        response = self.ask_admin(path, self.admin_token)
        assert response.status == 200, response.text
        return json.loads(response.body)

    def report(self, name: str) -> dict:
        """The status of a name's certificate in `GET /v1/certificates`, or an empty one."""
        found = self.admin("/v1/certificates")["certificates"]
        return next((item for item in found if name in item.get("names", [])), {})

    def wait_error(self, name: str, code: str, timeout: float = 30) -> dict:
        """Waits until the status has this error, and returns the error."""

        def reported() -> Optional[dict]:
            error = self.report(name).get("last_error")
            return error if error and error["code"] == code else None

        try:
            return eventually(reported, timeout, f"{self.name} reports {code} for {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the status is {self.report(name)}") from None

    # -- counters

    def total(self, metric: str, **labels: str) -> float:
        """The sum of all series of a counter with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        series = self.metrics().items()
        return sum(v for n, v in series if n.split("{")[0] == f"hopgate_{metric}" and all(w in n for w in wanted))

    def gauges(self, metric: str, name: str) -> list[float]:
        """The series of a certificate's gauge, none or one."""
        return [v for n, v in self.metrics().items() if n.startswith(f"hopgate_{metric}{{") and f'"{name}"' in n]

    def gauge(self, metric: str, name: str) -> float:
        """The one series of a certificate's gauge."""
        found = self.gauges(metric, name)
        assert len(found) == 1, (metric, name, found)
        return found[0]

    def renewal(self, name: str, timeout: float = 5) -> float:
        """The time (wall clock) of a certificate's renewal, which is known shortly after the certificate is served."""
        found = lambda: self.gauges("certificate_next_renewal_timestamp_seconds", name)  # noqa: E731
        return eventually(found, timeout, f"{self.name} knows when {name} is to be renewed")[0]


def is_for(leaf: x509.Certificate, name: str) -> bool:
    """Whether a certificate covers a name; a wildcard matches one label."""
    return not {name, f"*.{name.partition('.')[2]}"}.isdisjoint(names_of(leaf.extensions))


def is_issued(leaf: x509.Certificate, authority: Optional[Authority] = None) -> bool:
    names = leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    issuer = str(names[0].value) if names else ""
    if isinstance(authority, Stub):
        return issuer == f"{authority.issuer.name} intermediate"
    return issuer.startswith(("Pebble", "Stub"))


def acme_agent(gateway: AcmeGateway, name: str, token: str, origin_port: int, host: str, **settings) -> Agent:
    """An agent that trusts only the CA, for the certificate that browsers get for a host."""
    trust = {"ca_file": gateway.ca_file}
    return Agent(gateway.bench, gateway, token, origin_port, name=name, trust=trust, server_name=host, **settings)


# -- validators


def fetch_challenge(gateway: Gateway, name: str, token: str) -> tuple[int, str]:
    """The response of one replica to http-01, requested as a validator does."""
    with Connection(("127.0.0.1", gateway.http_port), name, None, timeout=10) as connection:
        response = connection.request("GET", f"/.well-known/acme-challenge/{token}")
    return response.status, response.text


def challenge_certificate(gateway: Gateway, name: str) -> Optional[x509.Certificate]:
    """The certificate for tls-alpn-01, requested as a validator does, or None if the replica does not respond to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["acme-tls/1"])
    with socket.create_connection(("127.0.0.1", gateway.https_port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=name) as tls:
            if tls.selected_alpn_protocol() != "acme-tls/1":
                return None
            return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))


def validator(gateways: list[Gateway], asked: Optional[list] = None):
    """For `Stub(validate=…)`: asks every running replica except the holder of the lease. Each of them must respond.

    asked: receives (kind, the gateway's name, whether the response was right).
    """

    def validate(kind: str, name: str, token: str, authorization: str, call) -> Optional[tuple[str, str]]:
        for gateway in gateways:
            process = gateway.process
            if process is None or process.pid == call.pid or not process.alive or process.is_stopped:
                continue
            if kind == "http-01":
                found = fetch_challenge(gateway, name, token)
                is_right = found == (200, authorization)
            else:
                found = challenge_certificate(gateway, name)
                is_right = found is not None and proves(found, name, authorization)
            if asked is not None:
                asked.append((kind, gateway.name, is_right))
            if not is_right:
                return ("unauthorized", f"{gateway.name} answers {found}")
        return None

    return validate


def proves(leaf: x509.Certificate, name: str, authorization: str) -> bool:
    """Whether a certificate is a correct response to tls-alpn-01 (RFC 8737 §3)."""
    alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    identifier = leaf.extensions.get_extension_for_oid(ACME_IDENTIFIER)
    digest = b"\x04\x20" + hashlib.sha256(authorization.encode()).digest()
    return [n.value for n in alternatives] == [name] and identifier.critical and identifier.value.value == digest


def served_everywhere(gateways: list[AcmeGateway], name: str, serial: int, timeout: float) -> float:
    """Waits until all of them serve this certificate; returns the time (wall clock) when the last one did."""
    left = list(gateways)

    def all_serve() -> bool:
        left[:] = [gateway for gateway in left if gateway.leaf(name).serial_number != serial]
        return not left

    eventually(all_serve, timeout, f"all serve the certificate of {name}")
    return time.time()
