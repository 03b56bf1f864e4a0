"""Processes that die and networks that fail."""

from __future__ import annotations

import asyncio
import random
import signal
import time

import pytest

import content
from harness import Agent, Gateway, Origin, Stack, eventually
from http1 import Ending
from test_streaming import open_websocket


def test_an_agent_killed_within_a_download_is_an_aborted_body_and_serves_again(bench):
    stack = Stack(bench)
    with stack.connect() as connection:
        connection.start("GET", "/bytes/200000000?chunked=1")
        while not connection.parser.response or connection.parser.response.length < 1_000_000:
            assert connection.read_some()
        stack.agent.process.kill()
        began = time.monotonic()
        stack.agent.start(wait=False)
        assert stack.gateway.wait_serving(timeout=5) - began < 2
        response = connection.finish()
        assert time.monotonic() - began < 5, "the new run of the agent tells that the old one is gone"
    assert response.ending is Ending.ABORTED, f"{response.length} bytes looked complete"


def test_a_download_from_an_agent_that_never_comes_back_is_aborted(bench):
    """The gateway notices only by its idle timeout."""
    stack = Stack(bench)
    with stack.connect(timeout=45) as connection:
        connection.start("GET", "/bytes/200000000")
        while not connection.parser.response or connection.parser.response.length < 1_000_000:
            assert connection.read_some()
        stack.agent.process.kill()
        assert connection.finish().ending is Ending.ABORTED
    assert stack.request("GET", "/bytes/1").status == 503


def test_a_request_that_a_killed_agent_had_ends_with_an_error_and_is_not_run_again(bench, test_id):
    stack = Stack(bench)
    with stack.connect(timeout=60) as connection:
        connection.start("POST", "/hang", [("X-Test-Id", test_id)])
        stack.origin.wait_mark(test_id, "started")
        stack.agent.process.kill()
        began = time.monotonic()
        stack.agent.start(wait=False)
        assert connection.finish().status == 502
        assert time.monotonic() - began < 5
    assert stack.origin.marks(test_id)["runs"] == 1


def test_a_get_that_a_killed_agent_had_is_tried_again(bench, test_id):
    stack = Stack(bench)
    with stack.connect(timeout=60) as connection:
        connection.start("GET", "/slow?ms=1500", [("X-Test-Id", test_id)])
        stack.origin.wait_mark(test_id, "started")
        stack.agent.process.kill()
        stack.agent.start(wait=False)
        assert connection.finish().status == 200
    assert stack.origin.marks(test_id)["runs"] == 2


def test_a_killed_gateway_has_its_agent_back_when_it_is_up(bench):
    stack = Stack(bench)
    for _ in range(3):
        with stack.connect() as connection:
            connection.start("GET", "/bytes/200000000?chunked=1")
            connection.head()
            stack.gateway.process.kill()
            assert connection.finish().ending is Ending.ABORTED
        stack.gateway.start()
        up = time.monotonic()
        assert stack.gateway.wait_serving(timeout=10) - up < 2


def test_an_agent_outlives_a_gateway_that_is_away_for_seconds(bench):
    stack = Stack(bench)
    stack.gateway.process.kill()
    eventually(lambda: stack.agent.ops("/readyz", quiet=True) == 503, 10, "the agent sees that its tunnel is gone")
    assert stack.agent.ops("/healthz", quiet=True) == 200
    attempts = stack.agent.metrics().get("hopagent_reconnects_total", 0)
    eventually(
        lambda: stack.agent.metrics().get("hopagent_reconnects_total", 0) >= attempts + 2, 20, "two more attempts"
    )
    stack.gateway.start()
    stack.gateway.wait_serving(timeout=10)


def test_an_agent_finds_a_gateway_that_starts_after_it(bench):
    gateway = Gateway(bench, routes=[{"host": "app.localhost", "to": "demo/web"}]).start()
    token = gateway.create_token("demo")
    origin = Origin(bench)
    gateway.process.kill()
    agent = Agent(bench, gateway, token, origin.port).start(wait=False)
    agent.process.wait_log("refused|unreachable|failed|timed out|retry", 10)
    gateway.start()
    gateway.wait_serving(timeout=10)


def test_a_gateway_stopped_politely_lets_the_agent_come_back(bench):
    stack = Stack(bench)
    assert stack.gateway.process.stop() == 0
    stack.gateway.start()
    up = time.monotonic()
    assert stack.gateway.wait_serving(timeout=10) - up < 2


def test_an_agent_stopped_politely_leaves_at_once(bench):
    stack = Stack(bench)
    assert stack.agent.process.stop() == 0
    eventually(lambda: stack.request("GET", "/bytes/1").status == 503, 2, "the gateway knows that the agent left")


def test_a_frozen_agent_gets_no_new_requests_and_thaws(bench):
    stack = Stack(bench, timeouts={"response_head": "3s"})
    stack.agent.process.signal(signal.SIGSTOP)
    try:
        with stack.connect(timeout=60) as connection:
            assert connection.request("GET", "/bytes/1").status in (502, 503, 504)
    finally:
        stack.agent.process.signal(signal.SIGCONT)
    stack.gateway.wait_serving(timeout=10)


def test_two_agents_of_one_name_share_the_load_and_replace_each_other(bench):
    stack = Stack(bench)
    second = Agent(bench, stack.gateway, stack.token, stack.origin.port, name="agent-two").start()
    for _ in range(20):
        assert stack.request("GET", "/bytes/100").status == 200
    stack.agent.process.stop()
    for _ in range(20):
        assert stack.request("GET", "/bytes/100").status == 200
    assert second.process.alive


# -- a bad network


@pytest.mark.bulk
def test_loss_and_reordering_damage_no_request(bench):
    """500 requests of mixed size at 10 % loss and reordering, 32 at a time: all responses are correct, all ran once."""
    stack = Stack(bench, lossy=True)
    for command in ("loss 10", "reorder 10 20", "duplicate 2", "corrupt 1", "delay 2"):
        assert stack.relay.send_command(command) == "ok"
    chance = random.Random(7)
    sizes = chance.choices([0, 1, 100, 1_000, 5_000, 20_000, 100_000, 300_000], [4, 4, 8, 8, 8, 4, 2, 1], k=500)
    load = stack.gateway.load()
    failures = []

    async def exchange(number: int) -> None:
        size, fields = sizes[number], [("X-Test-Id", f"lossy-{number}")]
        if number % 3 == 0:
            body = b"".join(content.pieces(size, number % 7))
            outcome = await load.request(streams[number % 32], "POST", "/echo", fields, body)
        else:
            outcome = await load.request(streams[number % 32], "GET", f"/bytes/{size}?seed={number % 7}", fields)
        if (outcome.status, outcome.complete, outcome.digest) != (200, True, content.digest(size, number % 7)):
            failures.append((number, size, outcome))
        if not outcome.reusable:
            streams[number % 32] = await load.open()

    async def worker(first: int) -> None:
        for number in range(first, 500, 32):
            await exchange(number)

    async def everything() -> None:
        streams.extend(await asyncio.gather(*(load.open() for _ in range(32))))
        await asyncio.gather(*(worker(first) for first in range(32)))

    streams: list = []
    asyncio.run(everything())
    assert failures == []
    marks = stack.origin.stats()["marks"]
    assert [marks[f"lossy-{n}"]["runs"] for n in range(500)] == [1] * 500
    counts = stack.relay.stats()
    assert counts["lost"] > 100 and counts["reordered"] > 100, counts


def test_a_connection_through_heavy_loss_still_comes_up(bench):
    stack = Stack(bench, lossy=True)
    stack.relay.send_command("loss 30")
    stack.agent.process.kill()
    stack.agent.start(wait=False)
    stack.gateway.wait_serving(timeout=30)
    response = stack.request("GET", "/bytes/500000", timeout=60)
    assert (response.length, response.ending) == (500_000, Ending.COMPLETE)


def test_a_short_blackout_loses_nothing(bench):
    """After two seconds without any datagram a download and a WebSocket continue."""
    stack = Stack(bench, lossy=True)
    stack.relay.send_command("delay 5")
    with open_websocket(stack) as web, stack.connect(timeout=30) as connection:
        connection.start("GET", "/bytes/60000000?seed=2")
        connection.head()
        stack.relay.send_command("blackhole on")
        swallowed = stack.relay.stats()["swallowed"]
        end = time.monotonic() + 2
        eventually(lambda: time.monotonic() > end, 3, "two seconds of darkness")
        assert stack.relay.stats()["swallowed"] > swallowed, "both sides keep trying"
        stack.relay.send_command("blackhole off")
        response = connection.finish()
        assert bytes(response.body) == b"".join(content.pieces(60_000_000, 2))
        web.send("still here")
        assert web.recv(timeout=10) == "still here"


def test_a_lasting_blackout_ends_requests_and_heals(bench):
    stack = Stack(bench, lossy=True, timeouts={"response_head": "3s"})
    stack.relay.send_command("blackhole on")
    with stack.connect(timeout=60) as connection:
        assert connection.request("GET", "/bytes/1").status in (502, 503, 504)
    stack.relay.send_command("blackhole off")
    stack.gateway.wait_serving(timeout=40)


def test_a_nat_that_forgets_its_binding_heals(bench):
    """The agent's datagrams arrive from a new port: its session is unknown there, and it connects again."""
    stack = Stack(bench, lossy=True)
    assert stack.request("GET", "/bytes/1").status == 200
    stack.relay.send_command("rebind")
    began = time.monotonic()
    assert stack.gateway.wait_serving(timeout=30) - began < 15


def test_reconnecting_leaves_no_thread_and_no_descriptor_behind(bench):
    stack = Stack(bench)
    gateway = stack.gateway.process
    threads, descriptors = gateway.threads, gateway.descriptors
    for _ in range(10):
        stack.agent.process.kill()
        stack.agent.start()
    stack.gateway.wait_serving()
    eventually(
        lambda: gateway.threads <= threads + 1 and gateway.descriptors <= descriptors + 5,
        20,
        f"about {threads} threads and {descriptors} descriptors again",
    )
