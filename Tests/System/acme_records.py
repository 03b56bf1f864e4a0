"""The state of acme_stub.py: accounts, orders, authorizations and certificates, and the effects of each request on them
(RFC 8555 §7, RFC 9773)."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Callable, Iterable, Optional

from cryptography import x509

import acme_jose
from acme_authority import IssuingAuthority, names_of, renewal_id
from acme_jose import BadRequest
from acme_scripts import Answer


class Refusal(Exception):
    """A response with a problem document."""

    def __init__(self, status: int, type: str, detail: str):
        super().__init__(detail)
        self.status, self.type, self.detail = status, type, detail


@dataclass
class Account:
    url: str
    jwk: dict
    contacts: list[str]
    status: str = "valid"


@dataclass
class Right:
    """An authorization."""

    id: str
    name: str
    is_wildcard: bool
    token: str
    kinds: tuple[str, ...]
    status: str = "pending"
    chosen: Optional[str] = None
    error: Optional[tuple[str, str]] = None


@dataclass
class Order:
    id: str
    account: Account
    names: tuple[str, ...]
    rights: list[Right]
    profile: Optional[str]
    replaces: Optional[str]
    made_at: float  # monotonic clock
    pid: Optional[int]  # of the process that made it
    status: str = "pending"
    leaf: Optional[x509.Certificate] = None
    chain: bytes = b""
    issued_at: float = 0  # monotonic clock
    polls: int = 0  # requests for it while it is being processed

    @property
    def serial(self) -> Optional[int]:
        return self.leaf.serial_number if self.leaf else None


@dataclass
class Window:
    """The suggested renewal window, in seconds from the time of the request."""

    start: float
    end: float
    retry_after: Optional[str] = "3600"
    explanation: Optional[str] = None


class Book:
    def __init__(
        self,
        url: str,
        issuer: IssuingAuthority,
        lifetime: Optional[float],
        profiles: Iterable[str],
        has_renewal_info: bool,
        mac_keys: Optional[dict[str, bytes]],
        validate: Optional[Callable],
    ):
        self.url, self.issuer = url, issuer
        self.lifetime = timedelta(seconds=lifetime) if lifetime else issuer.lifetime
        self.profiles, self.has_renewal_info = list(profiles), has_renewal_info
        self.mac_keys, self.validate = mac_keys, validate
        self.terms: Optional[str] = f"{url}/terms"
        self.offered = ("http-01", "tls-alpn-01", "dns-01")
        self.processing_polls = 0  # requests for an order until its certificate is issued
        self.window: Optional[Callable[[Order], Window]] = None
        self.accounts: list[Account] = []
        self.orders: list[Order] = []
        self.registrations: list[dict] = []  # keys of all newAccount requests
        # With thousands of orders a search for each request would take most of the time.
        self._order_of: dict[str, Order] = {}  # by its id, and by those of its authorizations
        self._rights: dict[str, Right] = {}
        self._nonces: set[str] = set()
        self._lock = threading.RLock()

    # -- changed or queried by tests

    def forget_accounts(self) -> None:
        """Forgets all accounts, as a CA that was restored from an old backup."""
        with self._lock:
            self.accounts.clear()

    def forget_orders(self) -> None:
        with self._lock:
            for index in (self.orders, self._order_of, self._rights):
                index.clear()

    # -- queried by the stub

    def new_nonce(self) -> str:
        with self._lock:
            nonce = secrets.token_urlsafe(16)
            self._nonces.add(nonce)
            return nonce

    def use_nonce(self, nonce) -> bool:
        with self._lock:
            found = nonce in self._nonces
            self._nonces.discard(nonce)
            return found

    def account(self, url: str) -> Account:
        with self._lock:
            account = next((a for a in self.accounts if a.url == url), None)
        if account is None:
            raise Refusal(400, "accountDoesNotExist", "there is no such account")
        if account.status != "valid":
            raise Refusal(403, "unauthorized", f"the account is {account.status}")
        return account

    def names(self, call) -> tuple[str, ...]:
        """The names that a request is about."""
        if call.kind == "newOrder":
            identifiers = (call.payload or {}).get("identifiers") or []
            return tuple(i.get("value") for i in identifiers if isinstance(i, dict))
        id = call.item.partition("/")[0]
        with self._lock:
            order = self._order_of.get(id)
            if call.kind == "renewalInfo":
                order = next((o for o in self.orders if o.leaf and renewal_id(o.leaf) == id), None)
        return order.names if order else ()

    # -- effects of requests

    def answer(self, call) -> Answer:
        handler = getattr(self, f"_{call.kind}", None)
        if handler is None:
            raise Refusal(404, "malformed", f"there is nothing at {call.path}")
        # A validation takes time; other requests are served meanwhile.
        if call.kind == "challenge":
            return handler(call)
        with self._lock:
            return handler(call)

    def _directory(self, call) -> Answer:
        document = {
            "newNonce": f"{self.url}/nonce",
            "newAccount": f"{self.url}/new-account",
            "newOrder": f"{self.url}/new-order",
            "revokeCert": f"{self.url}/revoke",
            "keyChange": f"{self.url}/key-change",
            "meta": {"externalAccountRequired": self.mac_keys is not None},
        }
        if self.terms:
            document["meta"]["termsOfService"] = self.terms
        if self.has_renewal_info:
            document["renewalInfo"] = f"{self.url}/renewal-info"
        if self.profiles:
            document["meta"]["profiles"] = {name: f"{self.url}/profiles/{name}" for name in self.profiles}
        return Answer.of(document)

    def _newNonce(self, call) -> Answer:
        return Answer(200 if call.method == "HEAD" else 204, content_type=None)

    def _newAccount(self, call) -> Answer:
        jwk, payload = call.signed.protected["jwk"], call.payload or {}
        self.registrations.append(jwk)
        known = next((a for a in self.accounts if a.jwk == jwk), None)
        if known:
            return self._account_document(known, 200)
        if payload.get("onlyReturnExisting"):
            raise Refusal(400, "accountDoesNotExist", "this key has no account")
        if self.terms and payload.get("termsOfServiceAgreed") is not True:
            raise Refusal(403, "userActionRequired", "the terms have to be agreed to")
        if self.mac_keys is not None:
            if "externalAccountBinding" not in payload:
                raise Refusal(403, "externalAccountRequired", "an external account is required")
            binding = payload["externalAccountBinding"]
            acme_jose.check_binding(binding, jwk, call.signed.protected["url"], self.mac_keys.get)
        account = Account(f"{self.url}/account/{secrets.token_hex(8)}", jwk, payload.get("contact", []))
        self.accounts.append(account)
        return self._account_document(account, 201)

    def _account(self, call) -> Answer:
        account = self.account(call.signed.protected["kid"])
        if account.url != self.url + call.path:
            raise Refusal(403, "unauthorized", "this is the account of another client")
        payload = call.payload or {}
        account.contacts = payload.get("contact", account.contacts)
        account.status = payload.get("status", account.status)
        return self._account_document(account, 200)

    @staticmethod
    def _account_document(account: Account, status: int) -> Answer:
        document = {"status": account.status, "contact": account.contacts, "orders": f"{account.url}/orders"}
        return Answer.of(document, status, Location=account.url)

    def _newOrder(self, call) -> Answer:
        account, payload = self.account(call.signed.protected["kid"]), call.payload or {}
        identifiers = payload.get("identifiers")
        if not isinstance(identifiers, list) or not identifiers:
            raise BadRequest("no identifiers")
        if not {"notBefore", "notAfter"}.isdisjoint(payload):
            raise BadRequest("this CA takes no dates")
        profile, replaces = payload.get("profile"), payload.get("replaces")
        if profile is not None and profile not in self.profiles:
            raise Refusal(400, "invalidProfile", f"there is no profile {profile}")
        if replaces is not None:
            self._check_replaces(replaces, call.names)
        rights = []
        for name in dict.fromkeys(call.names):
            is_wildcard = name.startswith("*.")
            kinds = tuple(kind for kind in self.offered if kind == "dns-01" or not is_wildcard)
            token = secrets.token_urlsafe(32)
            rights.append(Right(secrets.token_hex(8), name.removeprefix("*."), is_wildcard, token, kinds))
        names = tuple(call.names)
        order = Order(secrets.token_hex(8), account, names, rights, profile, replaces, time.monotonic(), call.pid)
        self.orders.append(order)
        self._order_of.update({id: order for id in (order.id, *(right.id for right in rights))})
        self._rights.update({right.id: right for right in rights})
        answer = self._order_document(order, 201)
        answer.fields["Location"] = f"{self.url}/order/{order.id}"
        return answer

    def _check_replaces(self, replaces: str, names: tuple[str, ...]) -> None:
        """Checks the order's `replaces` (RFC 9773 §5)."""
        if not self.has_renewal_info:
            raise BadRequest("replaces without renewal information")
        before = next((o for o in self.orders if o.leaf and renewal_id(o.leaf) == replaces), None)
        if before is None:
            raise Refusal(404, "malformed", "the certificate to be replaced is unknown")
        if set(before.names).isdisjoint(names):
            raise Refusal(400, "malformed", "the certificate to be replaced has other names")
        if any(o.replaces == replaces and o.status != "invalid" for o in self.orders):
            raise Refusal(409, "alreadyReplaced", "it was replaced already")

    def _owned_order(self, call) -> Order:
        account, id = self.account(call.signed.protected["kid"]), call.item.partition("/")[0]
        order = self._order_of.get(id)
        if order is None or order.id != id:
            raise Refusal(404, "malformed", "there is no such order")
        if order.account.jwk != account.jwk:
            raise Refusal(403, "unauthorized", "this is the order of another client")
        return order

    def _update(self, order: Order) -> None:
        if order.status == "pending":
            if all(right.status == "valid" for right in order.rights):
                order.status = "ready"
            elif any(right.status == "invalid" for right in order.rights):
                order.status = "invalid"

    def _order_document(self, order: Order, status: int = 200) -> Answer:
        self._update(order)
        document = {
            "status": order.status,
            "expires": (datetime.now(timezone.utc) + timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "identifiers": [{"type": "dns", "value": name} for name in order.names],
            "authorizations": [f"{self.url}/authorization/{right.id}" for right in order.rights],
            "finalize": f"{self.url}/finalize/{order.id}",
        }
        if order.profile:
            document["profile"] = order.profile
        if order.status == "valid":
            document["certificate"] = f"{self.url}/certificate/{order.id}"
        return Answer.of(document, status, Location=f"{self.url}/order/{order.id}")

    def _order(self, call) -> Answer:
        order = self._owned_order(call)
        if order.status == "processing":
            order.polls += 1
            if order.polls >= self.processing_polls:
                order.status = "valid"
        return self._order_document(order)

    def _right(self, call) -> Right:
        account, id = self.account(call.signed.protected["kid"]), call.item.partition("/")[0]
        order, right = self._order_of.get(id), self._rights.get(id)
        if right and order.account.jwk == account.jwk:
            return right
        raise Refusal(404, "malformed", "there is no such authorization")

    def _authorization(self, call) -> Answer:
        right = self._right(call)
        document = {
            "status": right.status,
            "identifier": {"type": "dns", "value": right.name},
            "challenges": [self._challenge_document(right, kind) for kind in right.kinds],
        }
        if right.is_wildcard:
            document["wildcard"] = True
        return Answer.of(document)

    def _challenge_document(self, right: Right, kind: str) -> dict:
        status = right.status if kind == right.chosen else "pending"
        document = {"type": kind, "url": f"{self.url}/challenge/{right.id}/{kind}", "token": right.token}
        document["status"] = "processing" if status == "pending" and kind == right.chosen else status
        if kind == right.chosen and right.error:
            type, detail = right.error
            document["error"] = {"type": f"urn:ietf:params:acme:error:{type}", "detail": detail, "status": 403}
        return document

    def _challenge(self, call) -> Answer:
        with self._lock:
            right, kind = self._right(call), call.item.rpartition("/")[2]
            if call.payload is None:
                return Answer.of(self._challenge_document(right, kind))
            if kind not in right.kinds or call.payload != {}:
                raise BadRequest(f"no challenge {kind} with {call.payload}")
            if right.chosen is None:
                right.chosen = kind
                authorization = acme_jose.key_authorization(right.token, self.account(call.signed.protected["kid"]).jwk)
                if self.validate is None:
                    right.status = "valid"
                else:
                    work = (right, kind, authorization, call)
                    threading.Thread(target=self._validated, args=work, daemon=True).start()
            answer = Answer.of(self._challenge_document(right, kind))
            answer.fields["Link"] = f'<{self.url}/authorization/{right.id}>;rel="up"'
            return answer

    def _validated(self, right: Right, kind: str, authorization: str, call) -> None:
        try:
            right.error = self.validate(kind, right.name, right.token, authorization, call)
        except Exception as error:  # noqa: BLE001 — any exception fails the validation
            right.error = ("connection", repr(error))
        right.status = "invalid" if right.error else "valid"

    def _finalize(self, call) -> Answer:
        order = self._owned_order(call)
        self._update(order)
        if order.status != "ready":
            raise Refusal(403, "orderNotReady", f"the order is {order.status}")
        try:
            request = x509.load_der_x509_csr(acme_jose.unb64(call.payload["csr"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(400, "badCSR", f"no request: {error!r}") from None
        if not request.is_signature_valid or sorted(names_of(request.extensions)) != sorted(set(order.names)):
            raise Refusal(400, "badCSR", f"the request is for {names_of(request.extensions)}, or not signed")
        order.leaf = self.issuer.issue(request.public_key(), order.names, self.lifetime)
        order.chain = self.issuer.chain(order.leaf)
        order.issued_at = time.monotonic()
        order.status = "processing" if self.processing_polls else "valid"
        return self._order_document(order)

    def _certificate(self, call) -> Answer:
        order = self._owned_order(call)
        if order.status != "valid":
            raise Refusal(403, "orderNotReady", f"the order is {order.status}")
        return Answer(200, order.chain, "application/pem-certificate-chain")

    def _renewalInfo(self, call) -> Answer:
        order = next((o for o in self.orders if o.leaf and renewal_id(o.leaf) == call.item), None)
        if order is None or not self.has_renewal_info:
            raise Refusal(404, "malformed", "there is no such certificate")
        window = self.window(order) if self.window else self._usual_window(order)
        times = [self.issuer.now + timedelta(seconds=seconds) for seconds in (window.start, window.end)]
        start, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in times)
        document = {"suggestedWindow": {"start": start, "end": end}}
        if window.explanation:
            document["explanationURL"] = window.explanation
        return Answer.of(document, Retry_After=window.retry_after)

    def _usual_window(self, order: Order) -> Window:
        left = (order.leaf.not_valid_after_utc - self.issuer.now).total_seconds()
        return Window(left * 0.6, left * 0.7)
