"""DTLS without a library: a ClientHello datagram (RFC 6347), as the hostile peers of these tests send it."""

from __future__ import annotations

import os
import struct


def _extension(kind: int, body: bytes) -> bytes:
    return struct.pack("!HH", kind, len(body)) + body


def client_hello(alpn: bytes = b"hop/1") -> bytes:
    """The first flight of a DTLS 1.2 client: ECDHE, AEAD, extended master secret, no cookie yet."""
    suites = struct.pack("!4H", 0xC02B, 0xC02F, 0xCCA9, 0xCCA8)
    extensions = b"".join(
        [
            _extension(10, struct.pack("!HHH", 4, 29, 23)),  # x25519, secp256r1
            _extension(11, b"\x01\x00"),
            _extension(13, struct.pack("!H4H", 8, 0x0403, 0x0804, 0x0401, 0x0503)),
            _extension(16, struct.pack("!HB", len(alpn) + 1, len(alpn)) + alpn),
            _extension(23, b""),
            _extension(0xFF01, b"\x00"),
        ]
    )
    body = b"\xfe\xfd" + os.urandom(32) + b"\x00" + b"\x00"  # version, random, no session id, no cookie
    body += struct.pack("!H", len(suites)) + suites + b"\x01\x00"
    body += struct.pack("!H", len(extensions)) + extensions
    length = struct.pack("!I", len(body))[1:]
    message = b"\x01" + length + b"\x00\x00" + b"\x00\x00\x00" + length + body
    return b"\x16\xfe\xfd" + bytes(8) + struct.pack("!H", len(message)) + message
