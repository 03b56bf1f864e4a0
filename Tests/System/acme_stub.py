"""A scripted CA (RFC 8555 with renewal information, RFC 9773, and profiles), in a thread of the test: it issues real
certificates, records every request, and misbehaves as scripted by acme_scripts.py.

It is as strict as the standard allows: signatures, URLs in them, nonces, content types. Each request that a
well-behaved client would not send is a line in `violations`, with any response.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Callable, Iterable, Optional

import sockets
from acme_authority import IssuingAuthority
from acme_jose import BadRequest, Signed
from acme_records import Book, Refusal
from acme_scripts import Action, Answer, Script
from acme_server import SecureServer

ANY = 1 << 30  # times

# The first component of a path → the kind of request.
KINDS = {
    "directory": "directory",
    "nonce": "newNonce",
    "new-account": "newAccount",
    "account": "account",
    "new-order": "newOrder",
    "order": "order",
    "finalize": "finalize",
    "authorization": "authorization",
    "challenge": "challenge",
    "certificate": "certificate",
    "renewal-info": "renewalInfo",
}


@dataclass
class Call:
    """One request. The thread that serves it sets the response; tests read it later."""

    at: float  # monotonic clock
    kind: str
    method: str
    path: str
    fields: dict[str, str]
    body: bytes = b""
    pid: Optional[int] = None  # of the client's process, if it is among `watched`
    signed: Optional[Signed] = None
    names: tuple[str, ...] = ()  # of the order that the request is about
    status: Optional[int] = None  # of the response; None: none was sent
    notes: list[str] = field(default_factory=list)

    @property
    def payload(self) -> Optional[dict]:
        return self.signed.payload if self.signed else None

    @property
    def item(self) -> str:
        """The path without its first component."""
        return self.path.strip("/").partition("/")[2]

    def __str__(self) -> str:
        return f"{self.kind} {','.join(self.names)} pid {self.pid} → {self.status}"


class Stub:
    """The CA, which runs in a `with` block.

    name: the prefix of its issuers' names. lifetime: the lifetime of certificates in seconds, or None for 90 days.
    skew: the number of seconds by which the CA's clock is ahead.
    validate: called with a kind, name, token and key authorization and the call that started it; returns None, or the
    name of the error and its detail. If it is None, every challenge is valid at once.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "Stub",
        lifetime: Optional[float] = None,
        profiles: Iterable[str] = (),
        has_renewal_info: bool = False,
        mac_keys: Optional[dict[str, bytes]] = None,
        validate: Optional[Callable] = None,
        skew: float = 0,
    ):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        api = IssuingAuthority(folder / "api", "Stub API")
        self.ca_bundle = api.root
        self.authority_of_api = api
        self.issuer = IssuingAuthority(folder / "issuer", name, skew=skew)
        self.root = self.issuer.root
        self.skew = skew
        self._certificate = api.server("localhost", "127.0.0.1")
        self.server = SecureServer(self._serve, *self._certificate)
        self.url = f"https://127.0.0.1:{self.server.port}"
        self.directory = f"{self.url}/directory"
        self.book = Book(self.url, self.issuer, lifetime, profiles, has_renewal_info, mac_keys, validate)
        self.calls: list[Call] = []
        self.violations: list[str] = []
        self.watched: list = []  # gateways whose process is named in calls
        self._scripts: list[Script] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Stub:
        self.server.start()
        return self

    def __exit__(self, *_) -> None:
        self.forget_scripts()
        self.server.stop()

    @property
    def authority(self) -> dict:
        """One item of `acme.ca`."""
        return {"directory": self.directory, "ca_bundle": str(self.ca_bundle)}

    def go_down(self) -> None:
        """Refuses connections from now on."""
        self.server.stop()

    def come_back(self) -> None:
        self.server = SecureServer(self._serve, *self._certificate, port=self.server.port)
        self.server.start()

    # -- scripting

    def script(self, kind: str, *actions: Action, name: Optional[str] = None, times: int = 1) -> None:
        """Applies these actions to the next requests of the kind, about this name if one is given: one action each, the
        last one `times` times."""
        assert kind in KINDS.values(), kind
        is_endless = times >= ANY
        more = 0 if is_endless else times - 1
        with self._lock:
            self._scripts.append(Script(kind, name, [*actions, *[actions[-1]] * more], is_endless))

    def forget_scripts(self) -> None:
        """Processes all further requests as usual."""
        with self._lock:
            for script in self._scripts:
                script.release()
            self._scripts.clear()

    def watch(self, gateways: Iterable) -> None:
        """Identifies the process of each request from these gateways."""
        self.watched = list(gateways)

    # -- recorded requests

    def of(self, kind: str, name: Optional[str] = None, since: float = 0) -> list[Call]:
        """The requests of a kind about a name."""
        return [c for c in list(self.calls) if c.kind == kind and (name is None or name in c.names) and c.at >= since]

    def of_order(self, order) -> list[Call]:
        """The requests about this order, from its creation on."""
        return [c for c in list(self.calls) if c.names == order.names and c.kind != "renewalInfo"]

    def count(self, kind: str, name: Optional[str] = None) -> int:
        return len(self.of(kind, name))

    def orders(self, name: Optional[str] = None) -> list:
        """The orders that were created."""
        return [order for order in self.book.orders if name is None or name in order.names]

    def certificates(self, name: Optional[str] = None) -> list:
        """The orders for which a certificate was issued, in the sequence of issuance."""
        return sorted((o for o in self.orders(name) if o.leaf), key=lambda order: order.issued_at)

    def tally(self) -> Counter:
        return Counter(call.kind for call in list(self.calls))

    # -- serving

    def _serve(self, method: str, path: str, fields: dict[str, str], body: bytes, peer_port: int) -> Answer:
        kind = KINDS.get(path.strip("/").partition("/")[0], "unknown")
        pids = [g.process.pid for g in self.watched if g.process and g.process.alive]
        pid = sockets.owner(peer_port, pids) if pids else None
        call = Call(time.monotonic(), kind, method, path, fields, body, pid)
        with self._lock:
            self.calls.append(call)
        if method == "POST":
            try:
                call.signed = Signed.parse(body)
            except BadRequest as error:
                self._violation(call, str(error))
                return self._finished(call, self._problem(Refusal(400, "malformed", str(error))))
        call.names = self.book.names(call)
        action = self._action(call)
        answer = action.before(call) if action else None
        if answer is None:
            answer = self._processed(call)
            if action:
                answer = action.after(call, answer)
        return self._finished(call, answer)

    def _finished(self, call: Call, answer: Answer) -> Answer:
        fields = dict(answer.fields)
        fields.setdefault("Date", formatdate(time.time() + self.skew, usegmt=True))
        fields.setdefault("Replay-Nonce", self.book.new_nonce())
        fields.setdefault("Cache-Control", "no-store")
        if call.kind != "directory":
            fields.setdefault("Link", f'<{self.directory}>;rel="index"')
        answer.fields = fields
        call.status = None if answer.cut == "before" else answer.status
        return answer

    def _action(self, call: Call) -> Optional[Action]:
        with self._lock:
            for script in self._scripts:
                if script.fits(call.kind, call.names):
                    return script.next_action()
        return None

    def _processed(self, call: Call) -> Answer:
        try:
            self._check(call)
            return self.book.answer(call)
        except BadRequest as error:
            self._violation(call, str(error))
            return self._problem(Refusal(400, "malformed", str(error)))
        except Refusal as refusal:
            return self._problem(refusal)

    def _check(self, call: Call) -> None:
        """Checks the requirements of RFC 8555 §6 for every request."""
        if not call.fields.get("user-agent"):
            self._violation(call, "no User-Agent")
        if call.kind in ("directory", "newNonce", "renewalInfo"):
            if call.method not in ("GET", "HEAD"):
                raise BadRequest(f"{call.method} of {call.kind}")
            return
        if call.method != "POST":
            raise BadRequest(f"{call.method} of {call.kind}")
        if call.fields.get("content-type") != "application/jose+json":
            raise BadRequest(f"Content-Type {call.fields.get('content-type')}")
        header = call.signed.protected
        if header.get("url") != self.url + call.path:
            raise BadRequest(f"signed for {header.get('url')}, sent to {self.url + call.path}")
        if ("jwk" in header) == ("kid" in header):
            raise BadRequest("either jwk or kid")
        if ("jwk" in header) != (call.kind == "newAccount"):
            raise BadRequest("jwk is for new accounts, and only for them")
        if not self.book.use_nonce(header.get("nonce")):
            call.notes.append("bad nonce")
            raise Refusal(400, "badNonce", "this nonce is unknown, or was used")
        call.signed.verify(header["jwk"] if "jwk" in header else self.book.account(header["kid"]).jwk)

    def _violation(self, call: Call, what: str) -> None:
        with self._lock:
            self.violations.append(f"{call.method} {call.path}: {what}")

    @staticmethod
    def _problem(refusal: Refusal) -> Answer:
        return Answer.problem(refusal.status, refusal.type, refusal.detail)
