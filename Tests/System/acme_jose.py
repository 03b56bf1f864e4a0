"""Signed requests of ACME (RFC 7515 as used by RFC 8555 §6.2), for both sides: `verify` for a CA of the
tests, `AccountKey` for a client of the tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Callable, Optional

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature


class BadRequest(Exception):
    """The error for a request that is not a valid JWS."""


def b64(data: bytes) -> str:
    """Encodes bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """Decodes base64url strictly: padding and other alphabets are errors."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64(data) != text:
        raise ValueError(f"{text!r} is no base64url")
    return data


def thumbprint(jwk: dict) -> str:
    """The thumbprint of a P-256 key (RFC 7638)."""
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    return b64(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def key_authorization(token: str, jwk: dict) -> str:
    return f"{token}.{thumbprint(jwk)}"


def record_value(authorization: str) -> str:
    """The value of the TXT record for dns-01."""
    return b64(hashlib.sha256(authorization.encode()).digest())


@dataclass
class Signed:
    """A received JWS, decoded and not verified."""

    protected: dict
    payload: Optional[dict]  # None: a POST-as-GET
    signature: bytes
    signed: bytes

    @classmethod
    def parse(cls, body: bytes) -> Signed:
        try:
            document = json.loads(body)
            protected = json.loads(unb64(document["protected"]))
            payload = unb64(document["payload"])
            signed = f"{document['protected']}.{document['payload']}".encode()
            return cls(protected, json.loads(payload) if payload else None, unb64(document["signature"]), signed)
        except (ValueError, KeyError, TypeError) as error:
            raise BadRequest(f"no JWS: {error!r}") from None

    def verify(self, jwk: dict) -> None:
        """Verifies the signature by this key (ES256)."""
        if self.protected.get("alg") != "ES256":
            raise BadRequest(f"alg is {self.protected.get('alg')}")
        if len(self.signature) != 64:
            raise BadRequest(f"a signature of {len(self.signature)} bytes")
        numbers = int.from_bytes(self.signature[:32], "big"), int.from_bytes(self.signature[32:], "big")
        try:
            public_key(jwk).verify(encode_dss_signature(*numbers), self.signed, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError, KeyError) as error:
            raise BadRequest(f"the signature is wrong: {error!r}") from None


def public_key(jwk: dict) -> ec.EllipticCurvePublicKey:
    if jwk.get("kty") != "EC" or jwk.get("crv") != "P-256" or "d" in jwk:
        raise BadRequest("no public P-256 key")
    x, y = (int.from_bytes(unb64(jwk[name]), "big") for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def check_binding(binding: dict, jwk: dict, url: str, mac_key_of: Callable[[str], Optional[bytes]]) -> None:
    """External account binding (RFC 8555 §7.3.4)."""
    inner = Signed.parse(json.dumps(binding).encode())
    if inner.protected.get("alg") != "HS256" or inner.protected.get("url") != url or "nonce" in inner.protected:
        raise BadRequest(f"the binding's header is {inner.protected}")
    if inner.payload != jwk:
        raise BadRequest("the binding is for another key")
    key = mac_key_of(inner.protected.get("kid", ""))
    if key is None or not hmac.compare_digest(inner.signature, hmac.digest(key, inner.signed, "sha256")):
        raise BadRequest("the binding's MAC is wrong")


class AccountKey:
    """The account key of a client."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        numbers = self.key.public_key().public_numbers()
        x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        self.jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}

    def sign(self, payload: Optional[dict], url: str, nonce: str, account: Optional[str] = None) -> bytes:
        header = {"alg": "ES256", "nonce": nonce, "url": url}
        header.update({"kid": account} if account else {"jwk": self.jwk})
        return self._flattened(header, b"" if payload is None else json.dumps(payload).encode(), self._es256)

    def binding(self, key_id: str, mac_key: bytes, url: str) -> dict:
        header = {"alg": "HS256", "kid": key_id, "url": url}
        mac = lambda data: hmac.digest(mac_key, data, "sha256")  # noqa: E731
        return json.loads(self._flattened(header, json.dumps(self.jwk).encode(), mac))

    def _es256(self, data: bytes) -> bytes:
        numbers = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return b"".join(number.to_bytes(32, "big") for number in numbers)

    @staticmethod
    def _flattened(header: dict, payload: bytes, sign: Callable[[bytes], bytes]) -> bytes:
        first, second = b64(json.dumps(header).encode()), b64(payload)
        signature = b64(sign(f"{first}.{second}".encode()))
        return json.dumps({"protected": first, "payload": second, "signature": signature}).encode()
