"""Scripted actions of acme_stub.py, in place of or after the regular processing of a request: refuse it, end the
connection, wait, or send an invalid response."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Callable, Iterator, Optional


@dataclass
class Answer:
    status: int
    body: bytes = b""
    content_type: Optional[str] = "application/json"
    fields: dict[str, Optional[str]] = field(default_factory=dict)  # None: the field is omitted, even if it is usual
    cut: Optional[str] = None  # "before": the connection ends without an answer; "within": in its middle
    stream: Optional[Iterator[bytes]] = None  # in place of the body

    @classmethod
    def of(cls, document, status: int = 200, **fields: Optional[str]) -> Answer:
        """A JSON document."""
        return cls(status, json.dumps(document).encode(), fields={n.replace("_", "-"): v for n, v in fields.items()})

    @classmethod
    def problem(cls, status: int, type: str, detail: str, **more) -> Answer:
        document = {"type": f"urn:ietf:params:acme:error:{type}", "detail": detail, "status": status, **more}
        return cls(status, json.dumps(document).encode(), "application/problem+json")


class Action:
    """An action; a subclass implements one of the two methods."""

    def before(self, call) -> Optional[Answer]:
        """The response in place of processing, or None to process the request."""
        return None

    def after(self, call, answer: Answer) -> Answer:
        """The response in place of the CA's."""
        return answer

    def release(self) -> None:
        """Releases everything that waits, at the end of the test."""


class Script:
    """The actions for requests of a kind, one for each request."""

    def __init__(self, kind: str, name: Optional[str], actions: list[Action], is_endless: bool):
        self.kind, self.name, self.actions, self.is_endless = kind, name, actions, is_endless
        self._all = list(actions)

    def fits(self, kind: str, names: tuple[str, ...]) -> bool:
        return bool(self.actions) and kind == self.kind and (self.name is None or self.name in names)

    def next_action(self) -> Action:
        last = self.is_endless and len(self.actions) == 1
        return self.actions[0] if last else self.actions.pop(0)

    def release(self) -> None:
        self.is_endless = False
        self.actions.clear()
        for action in self._all:
            action.release()


class Ordinary(Action):
    """No action: the request is processed as usual."""


class Say(Action):
    """Sends this response without processing the request. A function is called with the call to produce it."""

    def __init__(self, answer: Answer | Callable[..., Answer]):
        self.answer = answer

    def before(self, call) -> Answer:
        if callable(self.answer):
            return self.answer(call)
        answer = self.answer
        return Answer(answer.status, answer.body, answer.content_type, dict(answer.fields), answer.cut, answer.stream)


def refuse(status: int, type: str, detail: str = "scripted", retry_after: Optional[str] = None, **more) -> Say:
    answer = Answer.problem(status, type, detail, **more)
    if retry_after is not None:
        answer.fields["Retry-After"] = retry_after
    return Say(answer)


def broken(status: int = 503, retry_after: Optional[str] | Callable[[], str] = None) -> Say:
    """The response of a proxy in front of a dead CA. retry_after: a function is called for each response."""

    def answer(_) -> Answer:
        value = retry_after() if callable(retry_after) else retry_after
        fields = {"Retry-After": value} if value is not None else {}
        return Answer(status, b"<html>Bad gateway</html>", "text/html", fields)

    return Say(answer)


def redirect(target: str | Callable) -> Say:
    return Say(lambda call: Answer(302, b"", None, {"Location": target(call) if callable(target) else target}))


class Edit(Action):
    """Processes the request and changes the response's document and fields (None: removed; a function: called then)."""

    def __init__(self, change: Optional[Callable[[dict], Optional[dict]]] = None, **fields: Optional[str] | Callable):
        self.change, self.fields = change, {name.replace("_", "-"): value for name, value in fields.items()}

    def after(self, call, answer: Answer) -> Answer:
        if self.change:
            document = json.loads(answer.body)
            replaced = self.change(document)
            answer.body = json.dumps(document if replaced is None else replaced).encode()
        answer.fields.update({name: value() if callable(value) else value for name, value in self.fields.items()})
        return answer


class Replace(Action):
    """Processes the request and sends another body with the same status."""

    def __init__(self, body: bytes | Callable, content_type: Optional[str] = "", **fields: Optional[str]):
        self.body, self.content_type = body, content_type
        self.fields = {name.replace("_", "-"): value for name, value in fields.items()}

    def after(self, call, answer: Answer) -> Answer:
        answer.body = self.body(call, answer) if callable(self.body) else self.body
        if self.content_type != "":
            answer.content_type = self.content_type
        answer.fields.update(self.fields)
        return answer


class Flood(Action):
    """Sends an endless body, as fast as it is read or with pauses."""

    def __init__(self, piece: bytes = b" " * 65_536, pause: float = 0, limit: int = 256 << 20):
        self.piece, self.pause, self.limit = piece, pause, limit
        self.sent = 0
        self._end = threading.Event()

    def before(self, call) -> Answer:
        return Answer(200, stream=self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        while self.sent < self.limit and not self._end.wait(self.pause):
            self.sent += len(self.piece)
            yield self.piece

    def release(self) -> None:
        self._end.set()


class Cut(Action):
    """Ends the connection: `before` the request is processed, `after` it was, without a response, or `within` the
    response."""

    def __init__(self, moment: str):
        assert moment in ("before", "within", "after")
        self.moment = moment

    def before(self, call) -> Optional[Answer]:
        return Answer(0, cut="before") if self.moment == "before" else None

    def after(self, call, answer: Answer) -> Answer:
        answer.cut = "within" if self.moment == "within" else "before"
        return answer


class Hold(Action):
    """Holds a request, before or after it is processed, until `let_go`, or until `drop`, as if it was not received."""

    LIMIT = 60  # seconds

    def __init__(self, is_processed: bool = False):
        self.is_processed = is_processed
        self.call = None
        self._is_dropped = False
        self._reached, self._go = threading.Event(), threading.Event()

    def wait_reached(self, timeout: float = 20):
        """Waits until a request is held, and returns its call."""
        assert self._reached.wait(timeout), f"no request came to be held within {timeout:g} s"
        return self.call

    def let_go(self) -> None:
        self._go.set()

    release = let_go

    def drop(self) -> None:
        """Ends the connection. A request that was not processed yet never will be."""
        self._is_dropped = True
        self._go.set()

    def before(self, call) -> Optional[Answer]:
        if not self.is_processed:
            self._wait(call)
            if self._is_dropped:
                return Answer(0, cut="before")
        return None

    def after(self, call, answer: Answer) -> Answer:
        if self.is_processed:
            self._wait(call)
            if self._is_dropped:
                answer.cut = "before"
        return answer

    def _wait(self, call) -> None:
        self.call = call
        self._reached.set()
        self._go.wait(self.LIMIT)


class Pause(Action):
    """Delays the response."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def after(self, call, answer: Answer) -> Answer:
        time.sleep(self.seconds)
        return answer


def http_date(seconds_from_now: float, skew: float = 0) -> str:
    """The second form of Retry-After."""
    return formatdate(time.time() + skew + seconds_from_now, usegmt=True)
