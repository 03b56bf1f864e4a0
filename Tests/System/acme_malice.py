"""Tables of the ways in which a CA may handle an order: one case per name, executed by acme_stub.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from acme_authority import IssuingAuthority, new_key, pem
from acme_scripts import Action, Answer, Cut, Edit, Flood, Ordinary, Replace, Say, broken, http_date, redirect, refuse
from acme_stub import ANY, Stub


@dataclass
class Case:
    """The order of one name, which is handled by these actions."""

    kind: str  # of the requests that the actions apply to
    actions: list[Action]
    code: str = ""  # in the final status; empty: there is a certificate
    times: int = 1  # of the last action
    orders: int = 1  # that the CA makes
    gap: float = 0  # seconds at least between the last action and the next request of the kind `then`
    then: str = ""


def named(case: str) -> str:
    return f"{case}.example.test"


def begin(stub: Stub, cases: dict[str, Case]) -> list[str]:
    """Installs the cases and returns their names."""
    for case, what in cases.items():
        stub.script(what.kind, *what.actions, name=named(case), times=what.times)
    return [named(case) for case in cases]


# -- changes of documents


def set_fields(**values) -> Edit:
    return Edit(lambda document: document.update(values))


def is_processing(document: dict) -> None:
    document["status"] = "processing"
    document.pop("certificate", None)


def is_pending(document: dict) -> None:
    """An authorization that is still being processed."""
    document["status"] = "pending"
    for challenge in document["challenges"]:
        challenge["status"] = "processing" if challenge["type"] == "http-01" else "pending"


def each_challenge(**values) -> Edit:
    def change(document: dict) -> None:
        for challenge in document["challenges"]:
            challenge.update(values)

    return Edit(change)


# -- a CA that is slow, busy or partly unavailable


def slow() -> dict[str, Case]:
    """Both forms of Retry-After in every place, bursts of server errors, rejected nonces, connections that end."""
    cases = {
        "burst": Case("finalize", [broken(500), broken(502), broken(504)]),
        "nonces": Case("newOrder", [refuse(400, "badNonce")], times=8),
    }
    # A date has whole seconds, so the wait may be almost one second shorter.
    for form, value, gap in (("seconds", "3", 3), ("date", lambda: http_date(4), 3)):
        cases |= {
            f"order-{form}": Case("finalize", [Edit(is_processing, Retry_After=value)], gap=gap, then="order"),
            f"right-{form}": Case(
                "authorization",
                [Ordinary(), Edit(is_pending, Retry_After=value)],
                gap=gap,
                then="authorization",
            ),
            f"challenge-{form}": Case("challenge", [Edit(None, Retry_After=value)], gap=gap, then="authorization"),
            f"busy-{form}": Case("newOrder", [broken(503, value)], gap=gap, then="newOrder"),
        }
    for moment in ("before", "within", "after"):
        for kind in ("newOrder", "finalize", "certificate"):
            # A lost response leaves an order that the client does not know.
            orders = 2 if kind == "newOrder" and moment != "before" else 1
            cases[f"cut-{moment}-{kind.lower()}"] = Case(kind, [Cut(moment)], orders=orders)
    return cases


# -- a hostile CA

ESCAPES = "\x1b[2J\x1b]0;owned\x07 line one\nlevel=critical forged " + "x" * 100_000


def malice(stub: Stub, strangers: IssuingAuthority) -> dict[str, Case]:
    """The cases that end an order at once. strangers: a CA that no gateway uses."""

    def chain(make: Callable) -> Replace:
        """Creates another chain for the stub's order."""
        return Replace(lambda call, answer: make(stub.orders(call.names[0])[-1]))

    def of_strangers(key, names) -> bytes:
        return strangers.chain(strangers.issue(key, names))

    documents = {
        "deep": Replace(b"[" * 100_000),
        "wide": Replace(b'{"status":"pending","a":[' + b"1," * 60_000 + b"1]}"),
        "types": set_fields(status=7),
        "page": Replace(b"<html>hello</html>", "text/html"),
        "nothing": Replace(b""),
        "no-location": Edit(None, Location=None),
        "other-names": set_fields(identifiers=[{"type": "dns", "value": "victim.test"}]),
        "url-file": set_fields(authorizations=["file:///etc/passwd"]),
        "url-plain": set_fields(authorizations=["http://192.0.2.1/x"]),
        "url-user": set_fields(authorizations=["https://a:b@192.0.2.1/x"]),
        "url-long": set_fields(finalize="https://a.test/" + "x" * 9_000),
    }
    rights = {
        "foreign-right": set_fields(identifier={"type": "dns", "value": "victim.test"}),
        "token-path": each_challenge(token="../../keys/x"),
        "token-long": each_challenge(token="a" * 5_000),
    }
    refusals = {
        "caa": (refuse(403, "caa", "CAA forbids it"), "caa"),
        "rejected": (refuse(400, "rejectedIdentifier", "never"), "rejectedIdentifier"),
        "terms": (
            refuse(403, "userActionRequired", "agree first", instance="https://example.test/terms"),
            "userActionRequired",
        ),
        "escapes": (refuse(403, "unauthorized", ESCAPES), "unauthorized"),
        "our-words": (refuse(403, "timedOut", "a type of ours"), "other"),
        "redirect": (redirect(lambda call: stub.url + call.path), "badAnswer"),
        "flood": (Flood(), "badAnswer"),
    }
    chains = {
        "wrong-key": (chain(lambda order: of_strangers(new_key().public_key(), order.names)), "wrongCertificate"),
        "wrong-names": (
            chain(lambda order: of_strangers(order.leaf.public_key(), ["victim.test"])),
            "wrongCertificate",
        ),
        "torn-chain": (chain(lambda order: pem(order.leaf) + pem(strangers.intermediate)), "wrongCertificate"),
        "long-chain": (chain(lambda order: order.chain + 12 * pem(strangers.intermediate)), "badAnswer"),
        "garbage": (Replace(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "badAnswer"),
        "key-in-chain": (
            chain(lambda order: order.chain + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            "badAnswer",
        ),
    }
    return {
        **{case: Case("newOrder", [action], "badAnswer") for case, action in documents.items()},
        **{case: Case("authorization", [action], "badAnswer") for case, action in rights.items()},
        "no-kind": Case("authorization", [each_challenge(type="dns-account-01")], "noUsableChallenge"),
        **{case: Case("newOrder", [action], code, ANY, orders=0) for case, (action, code) in refusals.items()},
        "silent": Case("finalize", [set_fields(status="invalid")], "orderInvalid"),
        "huge": Case("finalize", [Replace(b" " * (4 << 20))], "badAnswer"),
        **{case: Case("certificate", [action], code) for case, (action, code) in chains.items()},
    }


# Errors that pass without intervention and are retried within minutes are not among these.
FOR_A_DAY = ("caa", "rejected", "terms", "no-kind")


def stubborn() -> dict[str, Case]:
    """The cases that are retried without success for up to half a minute."""
    return {
        "dead": Case("newOrder", [Cut("before")], "unavailable", ANY, orders=0),
        "nonce-loop": Case("newOrder", [refuse(400, "badNonce")], "badNonce", ANY, orders=0),
    }


# -- before there is an order


def stranger(stub: Stub) -> None:
    fake = IssuingAuthority(stub.folder / "fake", "Fake")
    stub.server.use_certificate(*fake.server("localhost", "127.0.0.1"))


def other_host(stub: Stub) -> None:
    stub.server.use_certificate(*stub.authority_of_api.server("other.example.test"))


def no_nonces(stub: Stub) -> None:
    stub.script("directory", Edit(None, Replay_Nonce=None), times=ANY)
    stub.script("newNonce", Say(Answer(200, b"", None, {"Replay-Nonce": None})), times=ANY)


def always(kind: str, action: Action) -> Callable[[Stub], None]:
    return lambda stub: stub.script(kind, action, times=ANY)


# The problem → how to cause it, and the resulting status.
DOORS: dict[str, tuple[Callable[[Stub], None], str]] = {
    "stranger": (stranger, "unavailable"),
    "other-host": (other_host, "unavailable"),
    "loop": (lambda stub: stub.script("directory", redirect(stub.directory), times=ANY), "badAnswer"),
    "page": (always("directory", Say(Answer(200, b"<html>", "text/html"))), "badAnswer"),
    "terms": (always("newAccount", refuse(403, "userActionRequired", "sign first")), "userActionRequired"),
    "contact": (always("newAccount", refuse(400, "invalidContact", "no such domain")), "invalidContact"),
    "closed": (always("newAccount", set_fields(status="deactivated")), "accountClosed"),
}
