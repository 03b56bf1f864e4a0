"""The files of a store, read and written without the programs: credentials in bulk, the pace of heartbeats, and private
keys that remain in files."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import struct
import time
from pathlib import Path
from typing import Iterable, Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fleet import heartbeats
from harness import Background

FORMAT = "v2"
BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


# -- credentials


class Sealer:
    """Seals documents with the cluster's key, which must be on the volume."""

    def __init__(self, store: Path, purpose: str):
        (key_file,) = (store / FORMAT / "keys").iterdir()
        self.id = key_file.name
        secret = key_file.read_bytes()
        self._key = HKDF(hashes.SHA256(), 32, b"", f"hopgate/v1/mac/{purpose}".encode()).derive(secret)

    def seal(self, document: dict, context: str) -> bytes:
        body = json.dumps(document, separators=(",", ":")).encode()
        place = context.encode()
        mac = hmac.new(self._key, struct.pack("<I", len(place)) + place + body, "sha256").hexdigest()
        return b'{"mac":"%s.%s",%s' % (self.id.encode(), mac.encode(), body[1:])


def create_credentials(store: Path, count: int, hosts: Iterable[str] = ()) -> list[str]:
    """Writes the credentials of so many tokens, as `hopgate token create bulk-N` would, and returns the tokens. No
    process may use the store meanwhile."""
    sealer = Sealer(store, "credential")
    tokens = []
    for number in range(count):
        id = "".join(secrets.choice(BASE32) for _ in range(16))
        secret = secrets.token_urlsafe(32)
        document = {
            "created": "2026-01-01T00:00:00Z",
            "format": 1,
            "hosts": list(hosts),
            "id": id,
            "name": f"bulk-{number}",
            "secrets": [{"sha256": hashlib.sha256(secret.encode()).hexdigest()}],
            "services": ["*"],
        }
        folder = store / FORMAT / "agents" / id
        folder.mkdir(0o700, parents=True)
        file = folder / "1.json"
        head = f"HGV2 value 0 {secrets.token_hex(16)}\n".encode()
        file.write_bytes(head + sealer.seal(document, f"agents/{id}/1"))
        file.chmod(0o600)
        tokens.append(f"hgt_{id}.{secret}")
    (store / FORMAT / "agents").chmod(0o700)
    return tokens


# -- heartbeats


class HeartbeatRecorder(Background):
    """Records how far apart the heartbeats of each replica are. It reads the folder without the file system that delays
    the gateways' calls."""

    PAUSE = 0.05

    def __init__(self, store: Path):
        super().__init__()
        self.store = store
        # The longest time of each incarnation between a reading with a new heartbeat and the start of a later reading
        # without: a delay of this thread does not lengthen it.
        self.gaps: dict[str, float] = {}
        self._last: dict[str, tuple[int, float]] = {}

    def run(self) -> None:
        while not self.stopping.wait(self.PAUSE):
            began = time.monotonic()
            for incarnation, number in heartbeats(self.store).items():
                before, since = self._last.get(incarnation, (None, began))
                if number == before:
                    self.gaps[incarnation] = max(self.gaps.get(incarnation, 0), began - since)
                else:
                    self._last[incarnation] = (number, time.monotonic())

    @property
    def longest(self) -> float:
        """The longest time between two heartbeats of one replica."""
        return max(self.gaps.values())


# -- private keys

PRIVATE_KEY = re.compile(rb"-----BEGIN (?:EC )?PRIVATE KEY-----(.+?)-----END", re.DOTALL)


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder with its contents."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            try:
                yield path, path.read_bytes()
            except FileNotFoundError:
                continue


def private_keys(folder: Path, name: str) -> dict[bytes, list[Path]]:
    """The PEM private keys in the files below a folder whose path or text has this name, each as DER."""
    found: dict[bytes, list[Path]] = {}
    for path, content in files(folder):
        if name not in str(path) and name.encode() not in content:
            continue
        for text in PRIVATE_KEY.findall(content):
            key = base64.b64decode(re.sub(rb"\\n|\s", b"", text.replace(rb"\/", b"/")))
            found.setdefault(key, []).append(path)
    return found


def files_with_key(folder: Path, der: bytes) -> list[Path]:
    """The files that contain a private key in any usual encoding: DER, PEM, base64url or hexadecimal."""
    return [path for path, content in files(folder) if any(form in content for form in _forms(der))]


def _forms(der: bytes) -> list[bytes]:
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    scalar = load_der_private_key(der, None).private_numbers().private_value
    raw = scalar.to_bytes((scalar.bit_length() + 7) // 8, "big")
    forms = [raw, raw.hex().encode(), raw.hex().upper().encode()]
    # Within base64 of more bytes than these the alignment is one of three; the first and last characters vary.
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + raw)[4:-4]
        # Lines of PEM have 64 characters, so that one half at least is within a line.
        for part in (text[:16], text[16:32]):
            forms += [part, part.translate(bytes.maketrans(b"+/", b"-_")), part.replace(b"/", rb"\/")]
    return forms
