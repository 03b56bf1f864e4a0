"""Certificates for the tests: a CA with a root and an intermediate that signs requests, and the server certificates of
the tests' HTTPS servers."""

from __future__ import annotations

import ipaddress
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Iterable, Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from acme_jose import b64


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def names_of(extensions: x509.Extensions) -> list[str]:
    """The DNS names and addresses of the subject alternative names."""
    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found]


def renewal_id(leaf: x509.Certificate) -> str:
    """The identifier of a certificate in renewal information (RFC 9773 §4.1)."""
    authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    number = leaf.serial_number
    return f"{b64(authority)}.{b64(number.to_bytes(number.bit_length() // 8 + 1, 'big'))}"


class IssuingAuthority:
    """A CA with a root in `root`, an intermediate below it, and leaves on request.

    skew: the number of seconds by which its clock is ahead of ours.
    """

    BACKDATE = timedelta(hours=1)

    def __init__(self, folder: Path, name: str = "Test", lifetime: timedelta = timedelta(days=90), skew: float = 0):
        folder.mkdir(exist_ok=True)
        self.folder, self.name, self.lifetime, self.skew = folder, name, lifetime, skew
        self.root_key, self.intermediate_key = new_key(), new_key()
        self.root_certificate = self._authority(f"{name} root", self.root_key, None)
        self.intermediate = self._authority(f"{name} intermediate", self.intermediate_key, self.root_key)
        self.root = folder / "root.pem"
        self.root.write_bytes(pem(self.root_certificate))

    @property
    def now(self) -> datetime:
        return datetime.now(timezone.utc) + timedelta(seconds=self.skew)

    def issue(self, key, names: Iterable[str], lifetime: Optional[timedelta] = None) -> x509.Certificate:
        """Issues a leaf for a public key."""
        lifetime = lifetime or self.lifetime
        # A certificate that is valid for minutes starts now, since tests wait for its end.
        start = self.now - (timedelta(0) if lifetime < timedelta(days=1) else self.BACKDATE)
        issuer = self.intermediate
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.subject)
            .public_key(key)
            .serial_number(int.from_bytes(b"\x00" + os.urandom(16), "big") | 1 << 126)
            .not_valid_before(start)
            .not_valid_after(start + lifetime)
            .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.intermediate_key.public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
        return builder.sign(self.intermediate_key, hashes.SHA256())

    def chain(self, leaf: x509.Certificate) -> bytes:
        return pem(leaf) + pem(self.intermediate)

    def server(self, *names: str) -> tuple[Path, Path]:
        """The chain and the key of a TLS server, as files."""
        key = new_key()
        chain, key_file = self.folder / f"{names[0]}.pem", self.folder / f"{names[0]}.key"
        chain.write_bytes(self.chain(self.issue(key.public_key(), names)))
        key_file.write_bytes(key_pem(key))
        return chain, key_file

    def _authority(self, common_name: str, key, signer) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        issuer = self.root_certificate.subject if signer else subject
        start = self.now - timedelta(days=1)
        usage = x509.KeyUsage(*(name in (5, 6) for name in range(9)))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if signer:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
            builder = builder.add_extension(identifier, critical=False)
        return builder.sign(signer or key, hashes.SHA256())
