"""The files of a store, read and written without the programs; credentials in bulk."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import struct
from pathlib import Path
from typing import Iterable, Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORMAT = "v1"
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
        file.write_bytes(sealer.seal(document, f"agents/{id}/1"))
        file.chmod(0o600)
        tokens.append(f"hgt_{id}.{secret}")
    (store / FORMAT / "agents").chmod(0o700)
    return tokens


# -- all files

def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder with its contents."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            try:
                yield path, path.read_bytes()
            except FileNotFoundError:
                continue
