"""A small ACME client, with which the tests verify their CAs before gateways use them."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from pathlib import Path
from typing import Callable, Optional
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

import acme_jose
from acme_authority import general_name, new_key
from acme_jose import AccountKey


class Refused(Exception):
    def __init__(self, status: int, problem: dict):
        super().__init__(f"{status} {problem}")
        self.status, self.name = status, problem.get("type", "").rpartition(":")[2]


class Client:
    def __init__(self, directory: str, ca_bundle: Path, key: Optional[AccountKey] = None):
        self.tls = ssl.create_default_context(cafile=str(ca_bundle))
        self.key = key or AccountKey()
        self.account: Optional[str] = None
        self.nonce: Optional[str] = None
        self.bad_nonces = 0
        self.fields: http.client.HTTPMessage = None  # of the last response
        self.directory = json.loads(self._send("GET", directory)[1])

    def _send(self, method: str, url: str, body: Optional[bytes] = None) -> tuple[int, bytes]:
        parts = urlsplit(url)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=self.tls, timeout=20)
        fields = {"User-Agent": "hopgate-tests"}
        if body is not None:
            fields["Content-Type"] = "application/jose+json"
        connection.request(method, parts.path, body, fields)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.fields = answer.headers
        self.nonce = answer.headers.get("Replay-Nonce", self.nonce)
        return answer.status, content

    def post(self, url: str, payload: Optional[dict]) -> bytes:
        """Sends a signed request. payload: None for a POST-as-GET."""
        for _ in range(100):
            if self.nonce is None:
                self._send("HEAD", self.directory["newNonce"])
            nonce, self.nonce = self.nonce, None
            status, content = self._send("POST", url, self.key.sign(payload, url, nonce, self.account))
            if status < 300:
                return content
            refused = Refused(status, json.loads(content))
            if refused.name != "badNonce":
                raise refused
            self.bad_nonces += 1
        raise AssertionError("no nonce is good")

    def get(self, url: str) -> dict:
        return json.loads(self.post(url, None))

    def register(self, binding: Optional[tuple[str, bytes]] = None) -> str:
        self.account = None
        payload = {"termsOfServiceAgreed": True, "contact": ["mailto:tests@example.test"]}
        if binding:
            payload["externalAccountBinding"] = self.key.binding(*binding, self.directory["newAccount"])
        self.post(self.directory["newAccount"], payload)
        self.account = self.fields["Location"]
        return self.account

    def order(self, *names: str, **more) -> tuple[str, dict]:
        """The order's URL and document."""
        identifiers = [{"type": "dns", "value": name} for name in names]
        document = json.loads(self.post(self.directory["newOrder"], {"identifiers": identifiers, **more}))
        return self.fields["Location"], document

    def obtain(self, *names: str, kind: str = "http-01", present: Callable = lambda *_: None, **more) -> list:
        """Orders a certificate and returns its chain. present: called with a name, token and key authorization."""
        url, order = self.order(*names, **more)
        for right_url in order["authorizations"]:
            right = self.get(right_url)
            challenge = next(c for c in right["challenges"] if c["type"] == kind)
            authorization = acme_jose.key_authorization(challenge["token"], self.key.jwk)
            present(right["identifier"]["value"], challenge["token"], authorization)
            self.post(challenge["url"], {})
            self._until(right_url, "valid")
        order = self._until(url, "ready")
        key = new_key()
        alternatives = x509.SubjectAlternativeName([general_name(name) for name in names])
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(alternatives, False)
        der = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
        self.post(order["finalize"], {"csr": acme_jose.b64(der)})
        chain = self.post(self._until(url, "valid")["certificate"], None)
        return x509.load_pem_x509_certificates(chain)

    def _until(self, url: str, status: str) -> dict:
        deadline = time.monotonic() + 20
        while (document := self.get(url))["status"] != status:
            assert document["status"] in ("pending", "processing", "ready"), document
            assert time.monotonic() < deadline, document
            time.sleep(0.05)
        return document
