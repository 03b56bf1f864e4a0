"""Streaming: events without delay, back-pressure, clients that disconnect, WebSocket."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import time
from contextlib import ExitStack

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import content
from client import trusting
from harness import Stack, eventually
from http1 import Ending


def test_events_pass_as_they_happen(stack: Stack):
    delays = []
    with stack.connect() as connection:
        connection.start("GET", "/drip?n=10&ms=100")
        read = 0
        while not connection.parser.done:
            assert connection.read_some()
            now = time.monotonic()
            body = bytes(connection.parser.response.body) if connection.parser.response else b""
            for event in body.split(b"\n\n")[read:-1]:
                delays.append(now - float(event.split(b"data: ")[1]))
                read += 1
    assert len(delays) == 10
    assert max(delays) < 0.25, f"seconds between the write at the origin and its arrival: {delays}"


def test_an_echo_streams_both_ways_at_once(stack: Stack):
    """Each chunk comes back before the next is sent: nothing waits for the end of either body."""
    with stack.connect() as connection:
        connection.start("POST", "/echo", [("Transfer-Encoding", "chunked")])
        for number in range(20):
            piece = b"%05d" % number * 100
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            while not connection.parser.response or len(connection.parser.response.body) < (number + 1) * 500:
                assert connection.read_some()
        connection.send(b"0\r\n\r\n")
        response = connection.finish()
    assert bytes(response.body) == b"".join(b"%05d" % n * 100 for n in range(20))
    assert response.ending is Ending.COMPLETE


def test_a_large_echo_survives_both_directions_being_full(stack: Stack):
    """curl sends and receives in one thread: two threads of Python on one TLS socket would corrupt its stream."""
    length = 20_000_000
    folder = stack.gateway.folder
    with open(folder / "upload", "wb") as upload:
        upload.writelines(content.pieces(length))
    port = stack.gateway.https_port
    subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--fail", "--http1.1", "--max-time", "60", "--header", "Expect:"),
            *("--cacert", stack.gateway.ca_file, "--resolve", f"app.localhost:{port}:127.0.0.1"),
            *("--data-binary", f"@{folder / 'upload'}", "--output", folder / "echo"),
            f"https://app.localhost:{port}/echo",
        ],
        check=True,
    )
    echo = (folder / "echo").read_bytes()
    assert len(echo) == length
    assert hashlib.sha256(echo).hexdigest() == content.digest(length)


@pytest.mark.parametrize("target", ["/echo", "/upload"])
def test_a_connection_goes_on_after_an_upload_that_had_to_wait(stack: Stack, target: str):
    """Larger than the gateway's send buffer: its reading pauses, and must resume."""
    for length in (150_000, 260_000, 300_000, 400_000, 1_000_000):
        body = b"".join(content.pieces(length))
        for _ in range(5):
            with stack.connect(timeout=5) as connection:
                response = connection.request("POST", target, body=body)
                assert response.status == 200
                if response.get("connection") != "close":
                    assert connection.request("GET", "/bytes/10").length == 10


def test_a_slow_reader_slows_the_origin_and_costs_little_memory(stack: Stack, test_id):
    """A client that stops reading stops the origin, once the windows and the sockets' buffers are full."""
    processes = (stack.gateway.process, stack.agent.process)
    before = [p.resident for p in processes]
    with stack.connect(receive_buffer=65_536) as connection:
        connection.start("GET", "/bytes/100000000", [("X-Test-Id", test_id)])
        connection.head()
        # The only sign of a blocked origin is that time passes without it finishing.
        with pytest.raises(AssertionError):
            eventually(lambda: stack.origin.marks(test_id).get("finished"), 1.5, "the origin has written everything")
        for process, resident in zip(processes, before):
            assert process.resident - resident < 16 << 20, process.name
        assert stack.request("GET", "/bytes/100000").length == 100_000, "others are served meanwhile"
        response = connection.finish()
    assert (response.length, response.ending) == (100_000_000, Ending.COMPLETE)


def test_stalled_readers_do_not_slow_another_download(stack: Stack):
    def seconds() -> float:
        began = time.monotonic()
        assert stack.request("GET", "/bytes/20000000").length == 20_000_000
        return time.monotonic() - began

    alone = min(seconds() for _ in range(3))
    stalled = [stack.connect(receive_buffer=65_536) for _ in range(64)]
    try:
        for connection in stalled:
            connection.start("GET", "/bytes/50000000")
            connection.head()
        beside = min(seconds() for _ in range(3))
    finally:
        for connection in stalled:
            connection.abort()
    assert beside < 2 * alone + 0.3, f"{alone:.2f} s alone, {beside:.2f} s beside 64 readers that do not read"


# -- clients that disconnect


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("target", ["/hang", "/endless", "/stall"])
def test_a_client_that_leaves_aborts_the_origin(stack: Stack, test_id, target: str, way: str):
    connection = stack.connect()
    connection.start("GET", target, [("X-Test-Id", test_id)])
    stack.origin.wait_mark(test_id, "started")
    if target != "/hang":
        connection.head()
    left = time.monotonic()
    getattr(connection, way)()
    assert stack.origin.wait_mark(test_id, "aborted", 3) - left < 2


def test_a_client_that_leaves_within_its_upload_aborts_the_origin(stack: Stack, test_id):
    connection = stack.connect()
    connection.start("POST", "/upload", [("X-Test-Id", test_id), ("Content-Length", "1000000")], b"x" * 10_000)
    stack.origin.wait_mark(test_id, "started")
    left = time.monotonic()
    connection.close()
    assert stack.origin.wait_mark(test_id, "aborted", 3) - left < 2
    assert "uploaded" not in stack.origin.marks(test_id), "a cut upload must never look complete at the origin"


def test_a_chunked_upload_that_is_cut_never_looks_complete_at_the_origin(stack: Stack, test_id):
    connection = stack.connect()
    connection.start("POST", "/upload", [("X-Test-Id", test_id), ("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n")
    stack.origin.wait_mark(test_id, "started")
    connection.abort()
    stack.origin.wait_mark(test_id, "aborted", 3)
    assert "uploaded" not in stack.origin.marks(test_id)


def test_aborted_requests_leave_nothing_behind(stack: Stack):
    """The numbers of descriptors and streams return to their initial values."""
    assert stack.request("GET", "/bytes/1").status == 200
    processes = (stack.gateway.process, stack.agent.process)
    before = [p.descriptors for p in processes]
    for _ in range(100):
        connection = stack.connect()
        connection.start("GET", "/endless")
        connection.head()
        connection.abort()
    eventually(
        lambda: all(p.descriptors <= b + 10 for p, b in zip(processes, before)),
        10,
        f"descriptors return to about {before}",
    )


# -- WebSocket


def open_websocket(stack: Stack, target: str = "/ws", **options):
    tcp = socket.create_connection(("127.0.0.1", stack.gateway.https_port), 10)
    tls = trusting(stack.gateway.ca_file)
    return connect(f"wss://app.localhost{target}", sock=tcp, ssl=tls, max_size=None, **options)


def test_websocket_messages_pass_both_ways(stack: Stack):
    with open_websocket(stack) as web:
        for message in ("hello", "", "ä" * 1000, b"\x00\xff" * 5000, b"x" * 2_000_000):
            web.send(message)
            assert web.recv(timeout=10) == message
        assert web.ping().wait(5)


def test_bytes_glued_to_the_101_arrive(stack: Stack):
    for _ in range(10):
        with open_websocket(stack, "/ws?greet=1") as web:
            assert web.recv(timeout=5) == "welcome"


def test_a_close_handshake_passes(stack: Stack):
    with open_websocket(stack) as web:
        web.close(4001, "enough")
        assert (web.close_code, web.close_reason) == (4001, "enough")


def test_a_refused_upgrade_is_an_ordinary_answer(stack: Stack):
    with pytest.raises(InvalidStatus) as refusal:
        open_websocket(stack, "/ws?refuse=1")
    assert refusal.value.response.status_code == 403


def test_a_websocket_client_that_vanishes_ends_the_origins_side(stack: Stack, test_id):
    with open_websocket(stack, additional_headers={"X-Test-Id": test_id}) as web:
        web.send("here")
        assert web.recv(timeout=5) == "here"
        left = time.monotonic()
        web.socket.shutdown(socket.SHUT_RDWR)
        assert stack.origin.wait_mark(test_id, "aborted", 3) - left < 2


def test_many_websockets_live_side_by_side(stack: Stack):
    with ExitStack() as all_of_them:
        sockets = [all_of_them.enter_context(open_websocket(stack)) for _ in range(50)]
        for number, web in enumerate(sockets):
            web.send(f"number {number}")
        for number, web in enumerate(sockets):
            assert web.recv(timeout=10) == f"number {number}"
