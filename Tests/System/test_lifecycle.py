"""Start, stop, and the signals."""

from __future__ import annotations

import signal
import threading
import time

import pytest

import content
from client import Connection
from harness import Stack, eventually
from http1 import Ending


@pytest.mark.parametrize("who", ["gateway", "agent"])
def test_sigterm_finishes_what_is_in_flight_and_exits_0(bench, who: str):
    stack = Stack(bench)
    process = getattr(stack, who).process
    with stack.connect() as connection, stack.connect() as download:
        connection.start("GET", "/slow?ms=1500")
        download.start("GET", "/drip?n=15&ms=100")
        download.head()
        process.signal(signal.SIGTERM)
        response = connection.finish()
        assert (response.status, bytes(response.body), response.ending) == (200, b"late\n", Ending.COMPLETE)
        assert download.finish().ending is Ending.COMPLETE
    assert process.wait(10) == 0


def test_an_upload_in_flight_is_finished_too(bench):
    stack = Stack(bench)
    pieces = list(content.pieces(5_000_000))
    with stack.connect() as connection:
        connection.start("POST", "/upload", [("Content-Length", "5000000")])
        for number, piece in enumerate(pieces):
            connection.send(piece)
            if number == 3:
                stack.gateway.process.signal(signal.SIGTERM)
        assert content.digest(5_000_000) in connection.finish().text
    assert stack.gateway.process.wait(10) == 0


def test_a_draining_gateway_is_not_ready_and_tells_its_clients(bench):
    stack = Stack(bench)
    gateway = stack.gateway
    with stack.connect() as busy:
        busy.start("GET", "/drip?n=30&ms=100")
        busy.head()
        gateway.process.signal(signal.SIGTERM)
        eventually(lambda: gateway.ops("/readyz", quiet=True) == 503, 2, "not ready while draining")
        assert gateway.ops("/healthz", quiet=True) == 200
        assert busy.finish().ending is Ending.COMPLETE
    assert gateway.process.wait(10) == 0


@pytest.mark.parametrize("who", ["gateway", "agent"])
def test_a_second_sigterm_exits_now(bench, who: str):
    stack = Stack(bench)
    process = getattr(stack, who).process
    with stack.connect() as connection:
        connection.start("GET", "/drip?n=600&ms=100")
        connection.head()
        since = process.mark()
        process.signal(signal.SIGTERM)
        eventually(lambda: process.log(since), 5, "a word about the first signal")
        assert process.alive
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        process.wait(2)
        assert time.monotonic() - began < 1
        if who == "agent":
            stack.agent.start(wait=False)  # otherwise the gateway would wait for its idle timeout
        assert not connection.finish().complete


def test_the_grace_ends(bench):
    stack = Stack(bench, shutdown_grace="1s")
    with stack.connect() as connection:
        connection.start("GET", "/drip?n=600&ms=100")
        connection.head()
        began = time.monotonic()
        stack.gateway.process.signal(signal.SIGTERM)
        stack.gateway.process.wait(5)
        assert 0.5 < time.monotonic() - began < 4
        assert not connection.finish().complete


def test_idle_processes_leave_at_once(bench):
    stack = Stack(bench)
    with stack.connect() as idle:
        assert idle.request("GET", "/bytes/1").length == 1
        for process in (stack.gateway.process, stack.agent.process):
            began = time.monotonic()
            process.signal(signal.SIGINT)
            assert process.wait(10) == 0
            assert time.monotonic() - began < 3, process.name


def test_both_processes_survive_a_burst_of_connections_and_stops(bench):
    """Clients that connect and vanish while the agent restarts cause no crash."""
    stack = Stack(bench)
    stop = threading.Event()

    def pester() -> None:
        while not stop.is_set():
            try:
                with stack.connect(timeout=5) as connection:
                    connection.start("GET", "/bytes/100000")
                    connection.read_some()
            except OSError:
                pass

    threads = [threading.Thread(target=pester) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            stack.agent.process.kill()
            stack.agent.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert stack.gateway.process.alive
    stack.gateway.wait_serving()


def test_the_redirecting_listener_closes_with_the_gateway(bench):
    stack = Stack(bench)
    assert stack.gateway.process.stop() == 0
    for port in (stack.gateway.http_port, stack.gateway.https_port, stack.gateway.ops_port):
        with pytest.raises(ConnectionError):
            Connection(("127.0.0.1", port), "app.localhost", None, timeout=2)
