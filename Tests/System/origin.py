#!/usr/bin/env python3
"""The origin behind the agent in these tests: an HTTP/1.1 server that can misbehave on purpose.

    origin.py [--port N] [--host ADDRESS]      prints {"port": N} when it listens

Runs as a separate process, so that it neither shares the tests' interpreter lock nor adds to the memory of others. A
request with `X-Test-Id: ID` is recorded under that id in `GET /_stats`: how often it ran, and when (monotonic
clock, shared by all processes of a Linux machine) it started, had its upload read, finished, or was aborted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import struct
import sys
import time
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

import content
from http1 import Fields, parse_fields

PEER_GONE = (ConnectionError, asyncio.IncompleteReadError, TimeoutError)


class Stats:
    """The record of a request, for the tests."""

    def __init__(self):
        self.connections = 0
        self.requests = 0
        self.marks: dict[str, dict] = defaultdict(lambda: {"runs": 0})

    def mark(self, request: Request, what: str) -> None:
        if request.id:
            self.marks[request.id][what] = time.monotonic()


class Request:
    def __init__(self, method: str, target: str, fields: Fields, reader, writer):
        self.method, self.target, self.fields = method, target, fields
        self.reader, self.writer = reader, writer
        parts = urlsplit(target)
        self.path = parts.path
        self.query = {k: v[-1] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        self.id = self.get("x-test-id")
        self.trailers: Fields = []
        self.received = 0
        self.keep = self.get("connection", "").lower() != "close"
        self._unread = self._body()
        self.drained = False

    def get(self, name: str, default: str = "") -> str:
        return next((v for n, v in self.fields if n.lower() == name), default)

    def number(self, name: str, default: int) -> int:
        return int(self.query.get(name, default))

    async def _body(self):
        if self.get("transfer-encoding").lower() == "chunked":
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                while size:
                    piece = await self.reader.read(min(size, 262_144))
                    if not piece:
                        raise asyncio.IncompleteReadError(b"", size)
                    size -= len(piece)
                    self.received += len(piece)
                    yield piece
                await self.reader.readexactly(2)
            lines = []
            while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
                lines.append(line[:-2])
            self.trailers = parse_fields(lines)
        else:
            left = int(self.get("content-length", "0"))
            while left:
                piece = await self.reader.read(min(left, 262_144))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(piece)
                self.received += len(piece)
                yield piece
        self.drained = True

    def body(self):
        """Yields the body's chunks; a second iteration continues after the first one."""
        return self._unread

    async def wait_for_the_end(self) -> None:
        """Waits until the peer has closed its side."""
        while await self.reader.read(65_536):
            pass

    async def head(self, status: int, fields: Fields = (), reason: str = "Arbitrary") -> None:
        lines = [f"HTTP/1.1 {status} {reason}"] + [f"{n}: {v}" for n, v in fields]
        self.writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        await self.writer.drain()

    async def answer(self, status: int, body: bytes = b"", fields: Fields = ()) -> None:
        await self.head(status, [*fields, ("Content-Length", str(len(body)))])
        if self.method != "HEAD":
            self.writer.write(body)
            await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n" % len(data))
        self.writer.write(data)
        self.writer.write(b"\r\n")
        await self.writer.drain()


class Origin:
    def __init__(self):
        self.stats = Stats()
        self.routes = {
            name.removeprefix("on_").replace("_", "-"): getattr(self, name)
            for name in dir(self)
            if name.startswith("on_")
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.stats.connections += 1
        try:
            while await self.one(reader, writer):
                pass
        except PEER_GONE:
            pass
        finally:
            self.stats.connections -= 1
            writer.close()

    async def one(self, reader, writer) -> bool:
        """Serves one request; returns false if the connection ended."""
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        lines = raw[:-4].split(b"\r\n")
        method, target, _ = lines[0].decode("latin-1").split(" ")
        request = Request(method, target, parse_fields(lines[1:]), reader, writer)
        if request.path == "/_stats":
            await self.control(request)
            return True
        self.stats.requests += 1
        if request.id:
            self.stats.marks[request.id]["runs"] += 1
        self.stats.mark(request, "started")
        segments = request.path.strip("/").split("/")
        handler = self.routes.get(segments[0] or "headers", self.on_missing)
        try:
            await handler(request, *segments[1:])
            if request.keep and not request.drained:
                async for _ in request.body():
                    pass
        except PEER_GONE:
            self.stats.mark(request, "aborted")
            return False
        self.stats.mark(request, "finished")
        return request.keep

    async def control(self, request: Request) -> None:
        stats = {"connections": self.stats.connections, "requests": self.stats.requests, "marks": self.stats.marks}
        if "id" in request.query:
            stats = self.stats.marks.get(request.query["id"], {"runs": 0})
        await request.answer(200, json.dumps(stats).encode(), [("Content-Type", "application/json")])

    # -- content

    async def on_missing(self, request: Request, *_) -> None:
        await request.answer(404, b"no such route at the origin\n")

    async def on_bytes(self, request: Request, length: str) -> None:
        """/bytes/N?seed=S[&chunked=1 | &close=1][&after=MS]"""
        size, seed = int(length), request.number("seed", 0)
        if wait := request.number("after", 0):
            await asyncio.sleep(wait / 1000)
        chunked, until_close = "chunked" in request.query, "close" in request.query
        if chunked:
            await request.head(200, [("Transfer-Encoding", "chunked")])
        elif until_close:
            request.keep = False
            await request.head(200, [("Connection", "close")])
        else:
            await request.head(200, [("Content-Length", str(size))])
        if request.method == "HEAD":
            return
        for piece in content.pieces(size, seed):
            if chunked:
                await request.chunk(piece)
            else:
                request.writer.write(piece)
                await request.writer.drain()
        if chunked:
            request.writer.write(b"0\r\n\r\n")

    async def on_endless(self, request: Request) -> None:
        """Sends bytes until the peer closes the connection."""
        await request.head(200, [("Transfer-Encoding", "chunked")])
        while True:
            await request.chunk(bytes(65_536))

    async def on_headers(self, request: Request, *_) -> None:
        async for _ in request.body():
            pass
        seen = {
            "method": request.method,
            "target": request.target,
            "fields": request.fields,
            "trailers": request.trailers,
            "received": request.received,
        }
        await request.answer(200, json.dumps(seen).encode(), [("Content-Type", "application/json")])

    async def on_upload(self, request: Request) -> None:
        digest = hashlib.sha256()
        async for piece in request.body():
            digest.update(piece)
        self.stats.mark(request, "uploaded")
        summary = {"sha256": digest.hexdigest(), "length": request.received, "trailers": request.trailers}
        await request.answer(200, json.dumps(summary).encode(), [("Content-Type", "application/json")])

    async def on_echo(self, request: Request) -> None:
        """Sends each chunk of the body back as it arrives: both directions stream at once."""
        await request.head(200, [("Transfer-Encoding", "chunked"), ("X-Echo", "1")])
        async for piece in request.body():
            await request.chunk(piece)
        request.writer.write(b"0\r\n\r\n")

    async def on_slowread(self, request: Request) -> None:
        """Reads nothing of the upload until the peer closes the connection or ?ms= has passed, then all of it."""
        await asyncio.sleep(request.number("ms", 1000) / 1000)
        await self.on_upload(request)

    # -- time

    async def on_slow(self, request: Request) -> None:
        await asyncio.sleep(request.number("ms", 1000) / 1000)
        await request.answer(200, b"late\n")

    async def on_hang(self, request: Request) -> None:
        """Never responds; notices when the peer closes the connection."""
        await request.wait_for_the_end()
        raise ConnectionResetError

    async def on_stall(self, request: Request) -> None:
        """Sends a head and some bytes, then nothing; notices when the peer closes the connection."""
        await request.head(200, [("Content-Length", "1000000")])
        request.writer.write(b"x" * 1000)
        await request.wait_for_the_end()
        raise ConnectionResetError

    async def on_drip(self, request: Request) -> None:
        """Sends server-sent events, each with the time of its writing: /drip?n=COUNT&ms=BETWEEN"""
        await request.head(
            200,
            [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"), ("Transfer-Encoding", "chunked")],
        )
        for number in range(request.number("n", 5)):
            await request.chunk(f"id: {number}\ndata: {time.monotonic():.6f}\n\n".encode())
            await asyncio.sleep(request.number("ms", 100) / 1000)
        request.writer.write(b"0\r\n\r\n")

    # -- HTTP's corners

    async def on_status(self, request: Request, status: str) -> None:
        fields = [("X-Origin", "yes"), ("ETag", '"tag"')]
        if int(status) in (204, 304):
            await request.head(int(status), fields)
        else:
            await request.answer(int(status), f"status {status}\n".encode(), fields)

    async def on_repeated(self, request: Request) -> None:
        await request.answer(
            200,
            b"",
            [
                ("Set-Cookie", "a=1; Path=/"),
                ("X-First", "1"),
                ("Set-Cookie", "b=2, c"),
                ("X-Empty", ""),
                ("x-lower", "Kept-As-It-Is"),
                ("Vary", "a"),
                ("Vary", "b"),
            ],
        )

    async def on_hop(self, request: Request) -> None:
        await request.answer(
            200,
            b"ok",
            [
                ("Connection", "X-Private, keep-alive"),
                ("X-Private", "1"),
                ("Keep-Alive", "timeout=5"),
                ("Proxy-Authenticate", "Basic"),
                ("Upgrade", "h2c"),
                ("X-Public", "1"),
            ],
        )

    async def on_trailers(self, request: Request) -> None:
        await request.head(200, [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")])
        await request.chunk(b"body with a trailer")
        request.writer.write(b"0\r\nX-Sum: 42\r\nX-More: yes\r\n\r\n")

    async def on_hints(self, request: Request) -> None:
        await request.head(103, [("Link", "</a.css>; rel=preload")])
        await asyncio.sleep(request.number("ms", 50) / 1000)
        await request.head(103, [("Link", "</b.css>; rel=preload")])
        await request.answer(200, b"hinted")

    async def on_continue(self, request: Request) -> None:
        """Sends 100 on demand, then reads the upload; ?refuse=1: 417 without reading."""
        self.stats.mark(request, "expect:" + request.get("expect").lower())
        if "refuse" in request.query:
            request.keep = False
            await request.answer(417, b"no", [("Connection", "close")])
        else:
            if request.get("expect").lower() == "100-continue":
                await request.head(100)
            await self.on_upload(request)

    async def on_early(self, request: Request) -> None:
        """Sends the complete response before reading the upload, and never reads it."""
        request.keep = False
        await request.answer(413, b"too much", [("Connection", "close")])
        await asyncio.sleep(request.number("linger", 200) / 1000)

    async def on_truncate(self, request: Request) -> None:
        """Declares more bytes than it sends, then closes: /truncate?declared=N&sent=N"""
        request.keep = False
        await request.head(200, [("Content-Length", str(request.number("declared", 100_000)))])
        request.writer.write(bytes(request.number("sent", 50_000)))
        await request.writer.drain()

    async def on_chunked_truncate(self, request: Request) -> None:
        """Sends a chunked body without its last chunk; ?inside=1: truncated within a chunk."""
        request.keep = False
        await request.head(200, [("Transfer-Encoding", "chunked")])
        await request.chunk(b"y" * 50_000)
        if "inside" in request.query:
            request.writer.write(b"1000\r\nonly a part")
            await request.writer.drain()

    async def on_bad(self, request: Request, kind: str) -> None:
        """Sends responses that are not HTTP."""
        request.keep = False
        request.writer.write(
            {
                "garbage": b"\x16\x03\x01 hello, I am no HTTP server\r\n\r\n",
                "nothing": b"",
                "lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
                "both": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"3\r\nabc\r\n0\r\n\r\n",
                "half-head": b"HTTP/1.1 200 OK\r\nContent-Le",
                "huge-head": b"HTTP/1.1 200 OK\r\n" + b"X-Big: " + b"v" * 200_000 + b"\r\nContent-Length: 0\r\n\r\n",
            }[kind]
        )
        await request.writer.drain()

    # -- WebSocket (RFC 6455), echoing

    async def on_ws(self, request: Request) -> None:
        """/ws echoes messages; ?greet=1: the first message leaves together with the 101; ?refuse=1: 403 instead."""
        request.keep = False
        if request.get("upgrade").lower() != "websocket" or "refuse" in request.query:
            await request.answer(403, b"no upgrade here")
            return
        accept = hashlib.sha1(request.get("sec-websocket-key").encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: " + base64.b64encode(accept.digest()).decode(),
        ]
        greeting = self.frame(1, b"welcome") if "greet" in request.query else b""
        request.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + greeting)
        message, kind = bytearray(), 0
        while True:
            final, opcode, payload = await self.read_frame(request.reader)
            if opcode == 8:
                request.writer.write(self.frame(8, payload))
                await request.writer.drain()
                return
            if opcode == 9:
                request.writer.write(self.frame(10, payload))
            elif opcode in (0, 1, 2):
                kind = opcode or kind
                message += payload
                if final:
                    request.writer.write(self.frame(kind, bytes(message)))
                    message.clear()
            await request.writer.drain()

    @staticmethod
    def frame(opcode: int, payload: bytes) -> bytes:
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, size)
        elif size < 65_536:
            head = struct.pack("!BBH", 0x80 | opcode, 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
        return head + payload

    @staticmethod
    async def read_frame(reader) -> tuple[bool, int, bytes]:
        first, second = await reader.readexactly(2)
        size = second & 127
        if size == 126:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await reader.readexactly(8))
        mask = await reader.readexactly(4) if second & 128 else bytes(4)
        payload = await reader.readexactly(size)
        if size and second & 128:
            whole = mask * (size // 4 + 1)
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(whole[:size], "big")).to_bytes(size, "big")
        return bool(first & 128), first & 15, payload


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--host", default="127.0.0.1")
    chosen = arguments.parse_args()
    server = await asyncio.start_server(Origin().serve, chosen.host, chosen.port, backlog=4096, limit=1 << 19)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
