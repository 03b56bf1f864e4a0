"""HTTP/1.1 without I/O: a response parser that reports exactly how a message ended.

A library client hides the subject of these tests: whether a body was really complete. `ResponseParser` receives the
bytes as they arrive and the end of the connection as an event, and reports "complete" only if the framing does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Callable, Optional

Fields = list[tuple[str, str]]


class Malformed(Exception):
    """The error for data that violates HTTP/1.1."""


class Ending(Enum):
    """The ways in which a message ends."""

    COMPLETE = "complete"  # by its Content-Length, its last chunk, or a status that has no body
    CLOSED = "closed"  # by a clean close of the connection, in a message that ends there
    ABORTED = "aborted"  # the connection ended first, cleanly or not


@dataclass
class Head:
    status: int
    reason: str
    fields: Fields
    version: str = "HTTP/1.1"

    def get(self, name: str, default: Optional[str] = None) -> Optional[str]:
        """The first value of the field."""
        return next((v for n, v in self.fields if n.lower() == name.lower()), default)

    def all(self, name: str) -> list[str]:
        return [v for n, v in self.fields if n.lower() == name.lower()]


@dataclass
class Response:
    head: Head
    body: bytearray = field(default_factory=bytearray)
    length: int = 0
    interim: list[Head] = field(default_factory=list)
    trailers: Fields = field(default_factory=list)
    ending: Optional[Ending] = None

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def complete(self) -> bool:
        return self.ending in (Ending.COMPLETE, Ending.CLOSED)

    def get(self, name: str, default: Optional[str] = None) -> Optional[str]:
        return self.head.get(name, default)

    @property
    def text(self) -> str:
        return self.body.decode()


def parse_fields(lines: list[bytes]) -> Fields:
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or name != name.strip() or not name:
            raise Malformed(f"field line {line!r}")
        fields.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
    return fields


class ResponseParser:
    """A parser that is fed with received bytes; `response.ending` is set at the end of the message.

    sink: called with each chunk of the body, which is not kept then.
    """

    def __init__(self, method: str = "GET", sink: Optional[Callable[[bytes], None]] = None):
        self.method = method
        self.sink = sink
        self.interim: list[Head] = []
        self.response: Optional[Response] = None
        self.rest = bytearray()  # the bytes after the message: the next one, or an upgraded protocol
        self._state = self._head
        self._left = 0

    @property
    def done(self) -> bool:
        return self.response is not None and self.response.ending is not None

    def feed(self, data: bytes) -> None:
        self.rest += data
        while self.rest and not self.done and self._state():
            pass

    def closed(self, clean: bool) -> None:
        """Handles the end of the connection; `clean` is false for a reset or a TLS stream without close_notify."""
        if self.response is None or self.done:
            return
        to_the_end = self._state == self._until_close
        self.response.ending = Ending.CLOSED if to_the_end and clean else Ending.ABORTED

    # Each state consumes from `rest` and returns whether another iteration may make progress.

    def _head(self) -> bool:
        end = self.rest.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = bytes(self.rest[:end]).split(b"\r\n")
        del self.rest[: end + 4]
        version, _, tail = lines[0].partition(b" ")
        status, _, reason = tail.partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(status) != 3 or not status.isdigit():
            raise Malformed(f"status line {lines[0]!r}")
        head = Head(int(status), reason.decode("latin-1"), parse_fields(lines[1:]), version.decode())
        if 100 <= head.status < 200 and head.status != 101:
            self.interim.append(head)
            return True
        self.response = Response(head, interim=self.interim)
        self._choose_framing(self.response)
        return True

    def _choose_framing(self, response: Response) -> None:
        codings, lengths = response.head.all("transfer-encoding"), response.head.all("content-length")
        if codings and lengths:
            raise Malformed("Transfer-Encoding and Content-Length")
        if len(lengths) > 1:
            raise Malformed(f"Content-Length {lengths}")
        if self.method == "HEAD" or response.status in (101, 204, 304):
            if codings and response.status == 204:
                raise Malformed("Transfer-Encoding in a 204")
            response.ending = Ending.COMPLETE
        elif codings:
            if codings != ["chunked"]:
                raise Malformed(f"Transfer-Encoding {codings}")
            self._state = self._chunk_size
        elif lengths:
            self._left = int(lengths[0])
            self._state = self._counted
            if self._left == 0:
                response.ending = Ending.COMPLETE
        else:
            self._state = self._until_close

    def _consume(self, limit: Optional[int]) -> int:
        piece = bytes(self.rest if limit is None else self.rest[:limit])
        del self.rest[: len(piece)]
        self.response.length += len(piece)
        if self.sink:
            self.sink(piece)
        else:
            self.response.body += piece
        return len(piece)

    def _counted(self) -> bool:
        self._left -= self._consume(self._left)
        if self._left == 0:
            self.response.ending = Ending.COMPLETE
        return False

    def _until_close(self) -> bool:
        self._consume(None)
        return False

    def _line(self) -> Optional[bytes]:
        end = self.rest.find(b"\r\n")
        if end < 0:
            return None
        line = bytes(self.rest[:end])
        del self.rest[: end + 2]
        return line

    def _chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        try:
            self._left = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Malformed(f"chunk size {line!r}") from None
        self._state = self._chunk if self._left else self._trailer
        return True

    def _chunk(self) -> bool:
        self._left -= self._consume(self._left)
        if self._left == 0:
            self._state = self._chunk_end
        return self._left == 0

    def _chunk_end(self) -> bool:
        if len(self.rest) < 2:
            return False
        if self.rest[:2] != b"\r\n":
            raise Malformed("no CRLF after a chunk")
        del self.rest[:2]
        self._state = self._chunk_size
        return True

    def _trailer(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            self.response.trailers += parse_fields([line])
        else:
            self.response.ending = Ending.COMPLETE
        return True


def request_bytes(method: str, target: str, host: str, fields: Fields = (), body: bytes = b"") -> bytes:
    """A request with Host first and, if there is a body, its Content-Length."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"] + [f"{n}: {v}" for n, v in fields]
    if body and not any(n.lower() in ("content-length", "transfer-encoding") for n, _ in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
