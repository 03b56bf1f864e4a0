"""Observability for operators: health, metrics, logs."""

from __future__ import annotations

import json
import subprocess

from client import Connection
from harness import Gateway, Stack, eventually


def test_health_and_readiness_of_both(stack: Stack):
    for process in (stack.gateway, stack.agent):
        assert process.ops("/healthz").status == 200
        assert process.ops("/readyz").status == 200
        assert process.ops("/").status == 404
        assert process.ops("/metrics").get("content-type").startswith("text/plain; version=0.0.4")


def test_ops_ports_answer_get_only(stack: Stack):
    for process in (stack.gateway, stack.agent):
        for method in ("POST", "PUT", "DELETE"):
            with Connection(("127.0.0.1", process.ops_port), "localhost", None) as connection:
                assert connection.request(method, "/healthz").status == 405


def test_an_agent_without_a_tunnel_is_alive_and_not_ready(bench):
    stack = Stack(bench)
    stack.gateway.process.kill()
    eventually(lambda: stack.agent.ops("/readyz", quiet=True) == 503, 10, "not ready without a gateway")
    assert stack.agent.ops("/healthz", quiet=True) == 200


def test_promtool_finds_no_fault(stack: Stack):
    for target in ("/bytes/10", "/status/500", "/bad/garbage"):
        stack.request("GET", target)
    for process in (stack.gateway, stack.agent):
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=process.ops("/metrics").text, text=True, capture_output=True
        )
        assert done.returncode == 0 and not done.stderr.strip(), done.stdout + done.stderr


def test_requests_are_counted(stack: Stack):
    def counted() -> float:
        return sum(
            v
            for k, v in stack.gateway.metrics().items()
            if k.startswith("hopgate_http_requests_total{") and 'code="200"' in k
        )

    before = counted()
    for _ in range(10):
        stack.request("GET", "/bytes/10")
    eventually(lambda: counted() == before + 10, 2, "ten more requests with code 200")
    metrics = stack.gateway.metrics()
    assert metrics["hopgate_agents_connected"] == 1
    assert metrics["hopgate_http_requests_in_flight"] == 0
    assert stack.agent.metrics()["hopagent_ready_tunnels"] == 1


def access_lines(gateway: Gateway, since: int) -> list[dict]:
    return [line for line in gateway.process.log_objects(since) if "status" in line and "request_id" in line]


def test_each_request_has_one_access_line(stack: Stack):
    since = stack.gateway.process.mark()
    with stack.connect() as connection:
        for number in range(5):
            connection.request("GET", f"/bytes/{number}?secret=query", [("Cookie", "secret=cookie")])
        connection.request("GET", "/status/404")
        connection.request("GET", "/bad/garbage")
    lines = eventually(lambda: len(l := access_lines(stack.gateway, since)) >= 7 and l, 2, "seven access lines")
    assert len(lines) == 7
    assert [line["status"] for line in lines] == [200] * 5 + [404, 502]
    assert len({line["request_id"] for line in lines}) == 7
    for line in lines:
        assert {"ts", "level", "msg", "request_id", "route"} <= line.keys(), line
    assert "secret=cookie" not in stack.gateway.process.log(since)


def test_a_client_that_leaves_is_logged_as_499(stack: Stack, test_id):
    since = stack.gateway.process.mark()
    connection = stack.connect()
    connection.start("GET", "/hang", [("X-Test-Id", test_id)])
    stack.origin.wait_mark(test_id, "started")
    connection.close()
    eventually(
        lambda: [l for l in access_lines(stack.gateway, since) if l["status"] == 499], 3, "a line with status 499"
    )


def test_the_same_request_id_is_known_at_the_agent(stack: Stack):
    """An error at the origin is reported by both sides under one id."""
    since = (stack.gateway.process.mark(), stack.agent.process.mark())
    assert stack.request("GET", "/bad/garbage").status == 502
    line = eventually(lambda: access_lines(stack.gateway, since[0]), 2, "an access line")[0]
    stack.agent.process.wait_log(line["request_id"], 2, since[1])


def test_hostile_strings_stay_within_their_line(stack: Stack):
    since = stack.gateway.process.mark()
    stack.request("GET", "/status/404?%0a%1b%22\"}{\\'<", [("User-Agent", 'x"\\ \u00e9'), ("Referer", '"}{')])
    eventually(lambda: access_lines(stack.gateway, since), 2, "an access line")
    for line in stack.gateway.process.log(since).splitlines():
        assert all(c.isprintable() for c in line), repr(line)
        json.loads(line)


def test_the_id_on_the_page_of_a_malformed_request_is_in_the_log(stack: Stack):
    since = stack.gateway.process.mark()
    with stack.connect() as connection:
        connection.expect("GET")
        connection.send(b"GET /\x7f HTTP/1.1\r\nHost: app.localhost\r\nX-Bad: \x00\r\n\r\n")
        response = connection.finish()
    assert response.status == 400
    stack.gateway.process.wait_log(response.text.split()[-1], 2, since)


def test_every_log_line_is_json(stack: Stack):
    for process in (stack.gateway.process, stack.agent.process):
        objects = process.log_objects()
        # The first start also prints the path of the development CA as text.
        assert len(objects) >= 0.5 * len(process.log().splitlines()) and objects
        assert all({"ts", "level", "msg"} <= o.keys() for o in objects)


def test_traceparent_is_passed_through(stack: Stack):
    sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    fields = dict(map(tuple, json.loads(stack.request("GET", "/headers", [("traceparent", sent)]).body)["fields"]))
    assert fields["traceparent"].split("-")[1] == sent.split("-")[1]
