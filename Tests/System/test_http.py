"""HTTP/1.1 as clients and origins see it through the tunnel (RFC 9110, 9112)."""

from __future__ import annotations

import json
import re
import time

import pytest

import content
from client import Connection
from harness import Agent, Gateway, Origin, Stack, eventually
from http1 import Ending, request_bytes


def seen(response) -> dict:
    """The fields that the origin received, from its /headers."""
    assert response.status == 200
    return json.loads(response.body)


def field(fields: list, name: str) -> list[str]:
    return [v for n, v in fields if n.lower() == name.lower()]


# -- plain exchanges


@pytest.mark.parametrize("query", ["", "?chunked=1", "?close=1"], ids=["length", "chunked", "until-close"])
@pytest.mark.parametrize("length", [0, 1, 1_000, 70_000, 3_000_000])
def test_a_body_arrives_whole_whatever_its_framing(stack: Stack, length: int, query: str):
    response = stack.request("GET", f"/bytes/{length}{query}")
    assert (response.status, response.length) == (200, length)
    assert response.ending is Ending.COMPLETE
    assert bytes(response.body) == b"".join(content.pieces(length))


def test_one_connection_serves_many_requests(stack: Stack):
    with stack.connect() as connection:
        for number in range(200):
            response = connection.request("GET", f"/bytes/{number * 37}?seed={number % 5}")
            assert bytes(response.body) == b"".join(content.pieces(number * 37, number % 5))


def test_pipelined_requests_are_answered_in_order(stack: Stack):
    with stack.connect() as connection:
        connection.send(b"".join(request_bytes("GET", f"/bytes/{n}", connection.host) for n in (11, 222, 3333)))
        for length in (11, 222, 3333):
            connection.expect("GET")
            assert connection.finish().length == length


def test_the_target_arrives_byte_by_byte(stack: Stack):
    target = "/headers/%C3%A4;p=1/~x?q=%20a+b&r=/x//y&s=%2F%2e&t"
    assert seen(stack.request("GET", target))["target"] == target


def test_a_host_with_a_port_is_the_same_host(stack: Stack):
    host = f"APP.localhost:{stack.gateway.https_port}"
    response = stack.request("GET", "/headers", host=host, server_name="app.localhost")
    assert field(seen(response)["fields"], "host") == [host]


def test_methods_pass_unchanged(stack: Stack):
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
        body = b"x" if method in ("POST", "PUT", "PATCH") else b""
        assert seen(stack.request(method, "/headers", body=body))["method"] == method


def test_head_has_the_fields_of_get_and_no_body(stack: Stack):
    with stack.connect() as connection:
        response = connection.request("HEAD", "/bytes/12345")
        assert (response.status, response.get("content-length"), response.length) == (200, "12345", 0)
        assert connection.request("GET", "/bytes/7").length == 7


@pytest.mark.parametrize("status", [200, 201, 204, 301, 304, 400, 404, 418, 500, 503])
def test_a_status_passes_with_its_fields(stack: Stack, status: int):
    with stack.connect() as connection:
        response = connection.request("GET", f"/status/{status}")
        assert (response.status, response.get("x-origin"), response.get("etag")) == (status, "yes", '"tag"')
        assert bytes(response.body) == (b"" if status in (204, 304) else f"status {status}\n".encode())
        assert connection.request("GET", "/bytes/3").length == 3


def test_uploads_arrive_whole_with_and_without_a_length(stack: Stack):
    for length in (0, 1, 65_536, 2_000_000):
        body = b"".join(content.pieces(length, 3))
        received = json.loads(stack.request("POST", "/upload", body=body).body)
        assert received == {"sha256": content.digest(length, 3), "length": length, "trailers": []}
    with stack.connect() as connection:
        connection.start("POST", "/upload", [("Transfer-Encoding", "chunked")])
        for piece in content.pieces(500_000, 4, size=7_777):
            connection.send(b"%x\r\n%s\r\n" % (len(piece), bytes(piece)))
        connection.send(b"0\r\n\r\n")
        assert json.loads(connection.finish().body)["sha256"] == content.digest(500_000, 4)


# -- fields


def test_request_fields_keep_their_bytes_order_and_duplicates(stack: Stack):
    sent = [
        ("X-One", "1"),
        ("X-Many", "a"),
        ("x-lower", "Mixed Case; q=0.5"),
        ("X-Many", "b, c"),
        ("Cookie", "k=v; l=w"),
        ("Authorization", "Basic eA=="),
        ("Accept", "*/*"),
    ]
    fields = seen(stack.request("GET", "/headers", sent))["fields"]
    names = {n.lower() for n, _ in sent}
    assert [(n.lower(), v) for n, v in fields if n.lower() in names] == [(n.lower(), v) for n, v in sent]
    assert field(fields, "host") == ["app.localhost"]


def test_response_fields_keep_their_bytes_order_and_duplicates(stack: Stack):
    fields = stack.request("GET", "/repeated").head.fields
    assert field(fields, "set-cookie") == ["a=1; Path=/", "b=2, c"]
    assert field(fields, "vary") == ["a", "b"]
    assert (field(fields, "x-empty"), field(fields, "x-lower")) == ([""], ["Kept-As-It-Is"])
    order = [n.lower() for n, _ in fields if n.lower() in ("set-cookie", "x-first", "x-empty")]
    assert order == ["set-cookie", "x-first", "set-cookie", "x-empty"]


def test_hop_by_hop_request_fields_stay_behind(stack: Stack):
    fields = seen(
        stack.request(
            "GET",
            "/headers",
            [
                ("Connection", "keep-alive, X-Private"),
                ("X-Private", "1"),
                ("Keep-Alive", "timeout=5"),
                ("TE", "gzip"),
                ("Proxy-Connection", "keep-alive"),
                ("Proxy-Authorization", "Basic eA=="),
                ("Upgrade", "h2c"),
                ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
                ("X-Public", "1"),
            ],
        )
    )["fields"]
    assert field(fields, "x-public") == ["1"]
    for name in ("x-private", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade", "te"):
        assert field(fields, name) == [], name
    assert not any("x-private" in v.lower() for v in field(fields, "connection"))


def test_hop_by_hop_response_fields_stay_behind(stack: Stack):
    response = stack.request("GET", "/hop")
    assert (bytes(response.body), response.get("x-public")) == (b"ok", "1")
    for name in ("x-private", "keep-alive", "proxy-authenticate", "upgrade"):
        assert response.get(name) is None, name
    assert "x-private" not in (response.get("connection") or "").lower()


def test_forwarded_fields_are_the_gateways_own(stack: Stack):
    fields = seen(
        stack.request(
            "GET",
            "/headers",
            [
                ("X-Forwarded-For", "6.6.6.6"),
                ("X-Forwarded-Proto", "gopher"),
                ("X-Forwarded-Host", "evil.test"),
                ("X-Real-IP", "6.6.6.6"),
                ("Forwarded", "for=6.6.6.6"),
            ],
        )
    )["fields"]
    assert field(fields, "x-forwarded-for") == ["127.0.0.1"]
    assert field(fields, "x-forwarded-proto") == ["https"]
    assert field(fields, "x-forwarded-host") == ["app.localhost"]
    assert not any("6.6.6.6" in v for _, v in fields)


# -- interim responses, trailers, early answers


def test_early_hints_pass_before_the_final_response(stack: Stack):
    response = stack.request("GET", "/hints")
    assert [(h.status, h.get("link")) for h in response.interim] == [
        (103, "</a.css>; rel=preload"),
        (103, "</b.css>; rel=preload"),
    ]
    assert (response.status, bytes(response.body)) == (200, b"hinted")


def test_a_client_that_expects_100_continue_gets_it_before_it_sends(stack: Stack):
    with stack.connect() as connection:
        connection.start("POST", "/continue", [("Expect", "100-continue"), ("Content-Length", "5")])
        while not connection.parser.interim and not connection.parser.response:
            assert connection.read_some()
        assert [h.status for h in connection.parser.interim] == [100]
        connection.send(b"hello")
        response = connection.finish()
        assert (response.status, json.loads(response.body)["length"]) == (200, 5)


def test_an_expectation_can_be_refused_without_the_body(stack: Stack):
    with stack.connect() as connection:
        connection.start("POST", "/continue?refuse=1", [("Expect", "100-continue"), ("Content-Length", "500000000")])
        assert connection.finish().status == 417


def test_response_trailers_pass(stack: Stack):
    response = stack.request("GET", "/trailers", [("TE", "trailers")])
    assert (bytes(response.body), response.ending) == (b"body with a trailer", Ending.COMPLETE)
    assert [(n.lower(), v) for n, v in response.trailers] == [("x-sum", "42"), ("x-more", "yes")]


def test_request_trailers_pass(stack: Stack):
    with stack.connect() as connection:
        connection.start("POST", "/upload", [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")])
        connection.send(b"3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n")
        received = json.loads(connection.finish().body)
    assert received["length"] == 3
    assert [(n.lower(), v) for n, v in received["trailers"]] == [("x-sum", "7")]


def test_an_answer_before_the_upload_is_read_arrives_whole(stack: Stack):
    with stack.connect() as connection:
        connection.start("POST", "/early", [("Content-Length", "100000000")], b"some of it")
        response = connection.finish()
        assert (response.status, bytes(response.body), response.complete) == (413, b"too much", True)


# -- origins that misbehave


@pytest.mark.parametrize(
    "target",
    [
        "/truncate?declared=100000&sent=50000",
        "/truncate?declared=2000000&sent=1999999",
        "/truncate?declared=10&sent=0",
        "/chunked-truncate",
        "/chunked-truncate?inside=1",
    ],
)
def test_a_truncated_answer_never_looks_complete(stack: Stack, target: str):
    for _ in range(5):
        try:
            response = stack.request("GET", target)
        except ConnectionError:
            continue  # aborted before the head was sent: not complete either
        assert response.status == 502 or not response.complete, f"{target} looks complete with {response.length} bytes"


@pytest.mark.parametrize("kind", ["garbage", "nothing", "lengths", "both", "half-head", "huge-head"])
def test_an_answer_that_is_not_http_is_a_502(stack: Stack, kind: str):
    response = stack.request("GET", f"/bad/{kind}")
    assert (response.status, response.complete) == (502, True)


def test_a_dead_origin_is_a_502_and_a_new_one_serves(bench):
    stack = Stack(bench)
    stack.origin.stop()
    response = stack.request("GET", "/bytes/1")
    assert response.status == 502
    assert_names_request_id(stack.gateway, response)
    stack.origin.start()
    stack.gateway.wait_serving(timeout=5)


# -- errors of the gateway


def assert_names_request_id(gateway: Gateway, response) -> None:
    """The body contains the request id of the access log."""
    ids = re.findall(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", response.text)
    assert len(ids) == 1, response.text
    gateway.process.wait_log(ids[0])


def test_an_unknown_host_is_a_404(stack: Stack):
    response = stack.request("GET", "/", host="unknown.test", server_name="app.localhost")
    assert response.status in (404, 421)
    assert_names_request_id(stack.gateway, response)


def test_no_agent_is_a_503_with_retry_after(bench):
    gateway = Gateway(bench, routes=[{"host": "app.localhost", "to": "demo/web"}]).start()
    response = gateway.request("GET", "/")
    assert response.status == 503
    assert int(response.get("retry-after")) >= 1
    assert_names_request_id(gateway, response)


def test_an_origin_that_is_too_slow_is_a_504_and_is_aborted(bench, test_id):
    stack = Stack(bench, routes=[{"host": "app.localhost", "to": "demo/web", "timeout": "1s"}])
    began = time.monotonic()
    response = stack.request("GET", "/hang", [("X-Test-Id", test_id)])
    assert response.status == 504
    assert 0.9 < time.monotonic() - began < 3
    assert_names_request_id(stack.gateway, response)
    stack.origin.wait_mark(test_id, "aborted", 2)


def test_a_service_that_the_agent_does_not_offer_is_a_503(bench):
    stack = Stack(
        bench, routes=[{"host": "app.localhost", "to": "demo/web"}, {"host": "other.localhost", "to": "demo/other"}]
    )
    response = stack.request("GET", "/", host="other.localhost")
    assert response.status == 503
    assert_names_request_id(stack.gateway, response)


def test_error_answers_leave_the_connection_usable(stack: Stack):
    with stack.connect() as connection:
        assert connection.request("GET", "/bad/garbage").status == 502
        assert connection.request("GET", "/bytes/5").length == 5


# -- routes


def test_the_longest_prefix_wins_and_prefixes_can_be_stripped(bench):
    one, two = Origin(bench, "origin-one"), Origin(bench, "origin-two")
    gateway = Gateway(
        bench,
        routes=[
            {"host": "app.localhost", "to": "one/web"},
            {"host": "app.localhost", "path": "/api", "to": "two/web", "strip_prefix": True},
            {"host": "app.localhost", "path": "/api/kept", "to": "two/web"},
        ],
    ).start()
    for name, origin in (("one", one), ("two", two)):
        Agent(bench, gateway, gateway.create_token(name), origin.port, name=f"agent-{name}").start()

    def where(target: str, host: str = "app.localhost") -> tuple[str, str]:
        before = one.stats()["requests"]
        response = gateway.request("GET", target, host=host)
        assert response.status in (200, 404), response.text
        return ("one" if one.stats()["requests"] > before else "two", response.text)

    for name in ("one", "two"):
        gateway.wait_serving("/headers" if name == "one" else "/api/headers")
    assert where("/headers/x")[0] == "one"
    assert where("/apis/headers")[0] == "one", "a prefix ends at a segment"
    for target, arrives in (("/api/headers/x?q=1", "/headers/x?q=1"), ("/api/headers", "/headers"), ("/api", "/")):
        server, text = where(target)
        assert (server, json.loads(text)["target"]) == ("two", arrives)
    assert where("/api/kept/headers") == ("two", "no such route at the origin\n")


def test_an_exact_host_goes_before_a_wildcard(bench):
    one, two = Origin(bench, "origin-one"), Origin(bench, "origin-two")
    gateway = Gateway(
        bench, routes=[{"host": "*.apps.test", "to": "two/web"}, {"host": "exact.apps.test", "to": "one/web"}]
    ).start()
    for name, origin in (("one", one), ("two", two)):
        Agent(bench, gateway, gateway.create_token(name), origin.port, name=f"agent-{name}").start()
    gateway.wait_serving(host="exact.apps.test")
    gateway.wait_serving(host="any.apps.test")
    before = (one.stats()["requests"], two.stats()["requests"])
    assert gateway.request("GET", "/headers", host="exact.apps.test").status == 200
    assert gateway.request("GET", "/headers", host="other.apps.test").status == 200
    assert (one.stats()["requests"], two.stats()["requests"]) == (before[0] + 1, before[1] + 1)


def test_http_redirects_to_https_for_known_hosts_only(stack: Stack):
    with Connection(("127.0.0.1", stack.gateway.http_port), "app.localhost", None) as connection:
        response = connection.request("GET", "/a%20b?c=d")
        assert response.status in (301, 308)
        port = stack.gateway.https_port
        assert response.get("location") == f"https://app.localhost:{port}/a%20b?c=d"
    with Connection(("127.0.0.1", stack.gateway.http_port), "evil.test", None) as connection:
        response = connection.request("GET", "/")
        assert response.status in (404, 421) and response.get("location") is None


def test_an_agent_serves_the_hosts_it_asks_for_and_its_token_allows(bench):
    origin = Origin(bench)
    gateway = Gateway(bench).start()
    token = gateway.create_token("demo", hosts=["mine.localhost"])
    Agent(bench, gateway, token, origin.port, hosts=["mine.localhost"]).start()
    gateway.wait_serving(host="mine.localhost")


def test_requests_run_exactly_once_at_the_origin(stack: Stack, test_id):
    for number in range(50):
        response = stack.request("POST", "/upload", [("X-Test-Id", f"{test_id}-{number}")], b"x" * number)
        assert response.status == 200
    runs = [stack.origin.marks(f"{test_id}-{number}")["runs"] for number in range(50)]
    assert runs == [1] * 50


def test_idle_origin_connections_are_reused(stack: Stack):
    for _ in range(20):
        assert stack.request("GET", "/bytes/1").status == 200
    # The count includes the connection that requests it.
    eventually(lambda: stack.origin.stats()["connections"] <= 6, 5, "sequential requests share few origin connections")


# -- requests that are refused


@pytest.mark.parametrize(
    "request_text, statuses",
    [
        (
            "POST /upload HTTP/1.1\r\nHost: {h}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            {400},
        ),
        ("POST /upload HTTP/1.1\r\nHost: {h}\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", {400}),
        ("POST /upload HTTP/1.1\r\nHost: {h}\r\nContent-Length: +3\r\n\r\nabc", {400}),
        ("POST /upload HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", {400, 501}),
        ("POST /upload HTTP/1.0\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400, 501}),
        ("POST /upload HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", {400}),
        ("GET / HTTP/1.1\r\n\r\n", {400}),
        ("GET / HTTP/1.1\r\nHost: {h}\r\nHost: {h}\r\n\r\n", {400}),
        ("GET / HTTP/1.1\r\nHost: {h}\r\nX-A : 1\r\n\r\n", {400}),
        ("GET / HTTP/2.0\r\nHost: {h}\r\n\r\n", {400, 505}),
        ("CONNECT {h}:443 HTTP/1.1\r\nHost: {h}\r\n\r\n", {400, 405, 501}),
        ("TRACE / HTTP/1.1\r\nHost: {h}\r\n\r\n", {405, 501}),
        ("GET /" + "a" * 20_000 + " HTTP/1.1\r\nHost: {h}\r\n\r\n", {414, 431}),
        ("GET / HTTP/1.1\r\nHost: {h}\r\nX-Big: " + "v" * 100_000 + "\r\n\r\n", {431}),
        ("\x16\x03\x01 nonsense\r\n\r\n", {400}),
    ],
    ids=[
        "length-and-chunked",
        "two-lengths",
        "signed-length",
        "two-codings",
        "chunked-in-1.0",
        "bad-chunk",
        "no-host",
        "two-hosts",
        "space-before-colon",
        "version-2.0",
        "connect",
        "trace",
        "long-target",
        "large-head",
        "nonsense",
    ],
)
def test_a_request_that_can_be_misread_is_refused(stack: Stack, request_text: str, statuses: set[int]):
    with stack.connect() as connection:
        connection.expect("GET")
        connection.send(request_text.format(h=connection.host).encode("latin-1"))
        response = connection.finish()
        assert response.status in statuses, response.text


def test_a_head_that_never_ends_is_refused(bench):
    gateway = Gateway(bench, timeouts={"header": "1s"}).start()
    with gateway.connect("localhost") as connection:
        connection.expect("GET")
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        began = time.monotonic()
        try:
            assert connection.finish().status == 408
        except ConnectionError:
            pass  # closing without a response is accepted too
        assert time.monotonic() - began < 5


def test_an_http_1_0_client_gets_an_answer_that_ends_with_the_connection(stack: Stack):
    with stack.connect() as connection:
        connection.expect("GET")
        connection.send(b"GET /bytes/50000?chunked=1 HTTP/1.0\r\nHost: app.localhost\r\n\r\n")
        response = connection.finish()
        assert response.get("transfer-encoding") is None
        assert bytes(response.body) == b"".join(content.pieces(50_000))
        assert response.ending is Ending.CLOSED
