"""Clients over raw TLS sockets: `Connection` (blocking, one at a time) and `Load` (asyncio, a thousand at once)."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import Callable, Iterable, Optional

from http1 import Ending, Fields, Response, ResponseParser, request_bytes


def trusting(ca_file: Optional[str]) -> Optional[ssl.SSLContext]:
    """A TLS client context that trusts only this CA, or None without TLS."""
    if ca_file is None:
        return None
    context = ssl.create_default_context(cafile=ca_file)
    # A TLS stream that ends without close_notify must count as truncated, never as a clean end.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


class Connection:
    """One HTTP/1.1 connection. The socket's timeout limits every wait."""

    def __init__(
        self,
        address: tuple[str, int],
        host: str,
        tls: Optional[ssl.SSLContext],
        timeout: float = 20,
        receive_buffer: Optional[int] = None,
        server_name: Optional[str] = None,
    ):
        self.host = host
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        raw.settimeout(timeout)
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.connect(address)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = server_name or host.rsplit(":", 1)[0]
        self.socket = tls.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False) if tls else raw
        self.rest = b""
        self.parser: Optional[ResponseParser] = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def abort(self) -> None:
        """Closes the connection at once with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def start(
        self,
        method: str,
        target: str,
        fields: Fields = (),
        body: bytes = b"",
        sink: Optional[Callable[[bytes], None]] = None,
    ) -> None:
        """Sends a request; the response is read with `head`, `read_some` and `finish`."""
        self.expect(method, sink)
        self.send(request_bytes(method, target, self.host, fields, body))

    def expect(self, method: str, sink: Optional[Callable[[bytes], None]] = None) -> None:
        self.parser = ResponseParser(method, sink)
        self.parser.feed(self.rest)
        self.rest = b""

    def read_some(self) -> bool:
        """Reads once; returns false if the connection ended."""
        try:
            data = self.socket.recv(262_144)
        except (ssl.SSLEOFError, ConnectionError):
            self.parser.closed(clean=False)
            return False
        if not data:
            self.parser.closed(clean=True)
            return False
        self.parser.feed(data)
        return True

    def head(self):
        """Waits for the final head; returns None if the connection ended before."""
        while self.parser.response is None:
            if not self.read_some():
                return None
        return self.parser.response.head

    def finish(self) -> Response:
        """Reads until the response ends in any way."""
        while not self.parser.done:
            if not self.read_some():
                break
        if self.parser.response is None:
            raise ConnectionError("the connection ended before any final response head")
        self.rest = bytes(self.parser.rest)
        return self.parser.response

    def request(
        self,
        method: str,
        target: str,
        fields: Fields = (),
        body: bytes = b"",
        sink: Optional[Callable[[bytes], None]] = None,
    ) -> Response:
        self.start(method, target, fields, body, sink)
        return self.finish()

    def upload(self, target: str, pieces: Iterable[bytes], length: int, fields: Fields = ()) -> Response:
        """POSTs a streamed body with a Content-Length."""
        self.start("POST", target, [*fields, ("Content-Length", str(length))])
        for piece in pieces:
            self.send(piece)
        return self.finish()


@dataclass
class Outcome:
    """The result of one request of a load."""

    status: int
    digest: str
    length: int
    seconds: float
    complete: bool
    reusable: bool  # whether the connection may carry another request


class Load:
    """Concurrent requests over many connections. Each method is a coroutine that the test runs with `asyncio.run`."""

    def __init__(self, address: tuple[str, int], host: str, tls: Optional[ssl.SSLContext]):
        self.address, self.host, self.tls = address, host, tls
        self._handshakes = asyncio.Semaphore(32)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with self._handshakes:
            name = self.host.rsplit(":", 1)[0]
            return await asyncio.wait_for(
                asyncio.open_connection(
                    *self.address, ssl=self.tls, server_hostname=name if self.tls else None, limit=1 << 18
                ),
                30,
            )

    async def request(
        self, stream, method: str, target: str, fields: Fields = (), body: bytes = b"", timeout: float = 60
    ) -> Outcome:
        reader, writer = stream
        digest = hashlib.sha256()
        parser = ResponseParser(method, digest.update)
        began = time.monotonic()

        async def exchange() -> None:
            try:
                writer.write(request_bytes(method, target, self.host, fields, body))
                await writer.drain()
                while not parser.done:
                    data = await reader.read(262_144)
                    if not data:
                        parser.closed(clean=True)
                        return
                    parser.feed(data)
            except (ConnectionError, ssl.SSLError):
                parser.closed(clean=False)

        await asyncio.wait_for(exchange(), timeout)
        seconds = time.monotonic() - began
        response = parser.response
        if response is None:
            return Outcome(0, "", 0, seconds, False, False)
        complete = response.ending is Ending.COMPLETE
        reusable = complete and "close" not in (response.get("connection") or "").lower()
        return Outcome(response.status, digest.hexdigest(), response.length, seconds, complete, reusable)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
