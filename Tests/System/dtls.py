"""DTLS without a library: the datagrams (RFC 6347) that the hostile peers of these tests send."""

from __future__ import annotations

import os
import socket
import struct


# The alert with which a gateway answers records of a session that it does not know.
UNKNOWN_SESSION = bytes.fromhex("15fefd 0000 000000000000 0002 010a")


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


_RECORD, _MESSAGE = 13, 12  # bytes of the headers


def with_cookie(hello: bytes, reply: bytes) -> bytes:
    """The second ClientHello: the first one with the cookie of a HelloVerifyRequest."""
    assert reply[0] == 22 and reply[_RECORD] == 3, "a HelloVerifyRequest"
    cookie = reply[_RECORD + _MESSAGE + 3 :]
    body = hello[_RECORD + _MESSAGE :]
    at = 2 + 32 + 1 + body[34]  # version, random, session id; then comes the cookie, empty as yet
    body = body[:at] + bytes([len(cookie)]) + cookie + body[at + 1 :]
    return fragment(1, len(body), 1, 0, body, record=1)


def fragment(kind: int, length: int, sequence: int, offset: int, content: bytes, record: int) -> bytes:
    """A record of epoch 0 with a fragment of a handshake message."""
    message = struct.pack("!I", kind << 24 | length) + struct.pack("!H", sequence)
    message += struct.pack("!I", offset)[1:] + struct.pack("!I", len(content))[1:] + content
    return b"\x16\xfe\xfd" + struct.pack("!QH", record, len(message)) + message


def protected(kind: int, number: int, size: int = 24) -> bytes:
    """A record of epoch 1 with random content."""
    return struct.pack("!BHQH", kind, 0xFEFD, 1 << 48 | number, size) + os.urandom(size)


class HalfOpen:
    """A peer that answers the cookie and lets its handshake hang."""

    def __init__(self, port: int, source: str):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(5)

    def open(self) -> bool:
        """Returns whether the gateway created a session and sent its flight."""
        try:
            hello = client_hello()
            self.socket.send(hello)
            self.socket.send(with_cookie(hello, self.socket.recv(2_048)))
            return self.socket.recv(2_048)[_RECORD] == 2
        except TimeoutError:
            return False

    def send(self, datagram: bytes) -> None:
        self.socket.send(datagram)
