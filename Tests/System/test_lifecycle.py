"""Start, stop, and the signals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

import content
from client import Connection
from harness import ENVIRONMENT, HOPAGENT, HOPGATE, Stack, eventually
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


def test_a_draining_gateway_is_not_ready_and_closes_connections_of_clients(bench):
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


PROGRAMS = {
    HOPGATE: """
store: {driver: memory}
loops: 1
https_listen: 127.0.0.1:0
http_listen: 127.0.0.1:0
dtls_listen: 127.0.0.1:0
ops_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
""",
    HOPAGENT: """
gateways: ["127.0.0.1:9"]
token: hgt_abcdefghijklmnop.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
ops_listen: "off"
services: {web: 127.0.0.1:1}
""",
}


@pytest.mark.parametrize("program", PROGRAMS, ids=["gateway", "agent"])
def test_a_low_limit_of_threads_ends_the_start_with_a_message(program: str):
    """The limit is that of a user who has no other process. Below it the program neither hangs nor crashes."""
    folder = Path(tempfile.mkdtemp(prefix="hop-threads-"))
    folder.chmod(0o755)
    user = 61_000 + os.getpid() % 4_000
    try:
        binary, config = folder / Path(program).name, folder / "config.yaml"
        shutil.copy(program, binary)
        config.write_text(PROGRAMS[program])
        refused, limit = 0, 1
        while True:
            with (folder / "log").open("wb") as log:
                child = subprocess.Popen(
                    ["prlimit", f"--nproc={limit}", str(binary), "run", "--config", str(config)],
                    user=user,
                    group=user,
                    extra_groups=[],
                    cwd="/",
                    env={**ENVIRONMENT, "HOME": str(folder)},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            try:
                log_text = (folder / "log").read_text
                eventually(lambda: child.poll() is not None or '"level"' in log_text(), 10, "a message")
                if child.poll() is None:
                    break
                assert child.returncode == 1 and "raise the limit of processes and threads" in log_text(), log_text()
            finally:
                child.kill()
                child.wait()
            refused, limit = refused + 1, limit + 1
            assert limit < 64
        assert refused > 4
    finally:
        shutil.rmtree(folder)
