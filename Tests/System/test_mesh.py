"""Several replicas on one volume: each serves the agents of all, over the mesh between them."""

from __future__ import annotations

import subprocess

import pytest

# The streaming tests run again here, with a stack whose client asks another replica than its agent is attached to.
from test_streaming import *  # noqa: F401,F403
from harness import Agent, Gateway, Origin, Stack, during, eventually, free_port


def replica(bench, name: str, other: Gateway, **settings) -> Gateway:
    return Gateway(bench, name, store={"path": str(other.data)}, **settings)


def connected(gateway: Gateway) -> float:
    return gateway.metrics()["hopgate_mesh_replicas"]


class HopStack(Stack):
    """The agent is attached to `owner`; `gateway` is the replica that clients ask."""

    def __init__(self, bench):
        super().__init__(bench)
        self.owner = self.gateway
        self.gateway = replica(bench, "front", self.owner, routes=self.owner.settings["routes"]).start()
        eventually(lambda: connected(self.gateway) == 1, 10, "the replicas are connected")
        self.gateway.wait_serving()


@pytest.fixture(scope="module")
def shared_stack(module_bench) -> Stack:
    stack = HopStack(module_bench)
    yield stack
    sent = sum(value for name, value in stack.gateway.metrics().items() if 'result="sent"' in name)
    assert sent > 30, "the requests took a hop"


def test_every_replica_serves_every_agent_and_one_that_is_killed_is_replaced(bench):
    """Three replicas, an agent of one service at each of two. One of these is killed without a word."""
    routes = [{"host": "app.localhost", "to": "demo/web"}]
    first = Gateway(bench, "first", routes=routes)
    token = first.create_token("demo", hosts=["*.localhost"])
    first.start()
    others = [replica(bench, name, first, routes=routes).start() for name in ("second", "third")]
    gateways = [first, *others]
    eventually(lambda: all(connected(gateway) == 2 for gateway in gateways), 10, "the replicas are connected")
    for gateway, name in ((first, "one"), (others[0], "two")):
        origin = Origin(bench, f"origin-{name}")
        ca = first.ca_file
        Agent(bench, gateway, token, origin.port, name=name, hosts=[f"{name}.localhost"], trust={"ca_file": ca}).start()
    for gateway in gateways:
        for host in ("app.localhost", "one.localhost", "two.localhost"):
            gateway.wait_serving(host=host)
    others[0].process.kill()
    third = others[1]
    statuses = [third.request("GET", "/bytes/10").status for _ in during(8)]
    assert set(statuses) <= {200, 502, 503, 504} and set(statuses[-20:]) == {200}, statuses
    assert third.request("GET", "/bytes/10", host="one.localhost").status == 200
    eventually(lambda: third.request("GET", "/bytes/10", host="two.localhost").status == 503, 15, "it is gone")
    restarted = replica(bench, "again", first, routes=routes).start()
    restarted.wait_serving()
    eventually(lambda: connected(third) == 2, 10, "the new replica is connected")


def test_the_mesh_port_accepts_replicas_of_the_cluster_only(bench):
    """Neither a client without a certificate, nor an agent, nor a gateway of another cluster gets a session."""
    port = free_port()
    first = Gateway(bench, "first", mesh_listen=f"127.0.0.1:{port}").start()
    second = replica(bench, "second", first).start()
    eventually(lambda: connected(first) == connected(second) == 1, 10, "the replicas are connected")
    for alpn in ("hop-mesh/1", "hop/1"):
        done = subprocess.run(
            ["openssl", "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{port}", "-alpn", alpn],
            input="", capture_output=True, text=True, timeout=20,
        )
        assert "handshake failure" in done.stderr or "alert" in done.stderr, done.stderr
    refused = lambda: first.metrics()["hopgate_mesh_sessions_refused_total"]  # noqa: E731
    assert refused() == 2
    # A gateway of another cluster that calls the address, which its own store names, is none of ours.
    other = Gateway(bench, "other").start()
    agent = Agent(bench, first, first.create_token("demo"), free_port(), port=port, trust={"ca_file": other.ca_file})
    agent.start(wait=False)
    agent.process.wait_log("error", 20)
    assert connected(first) == 1 and connected(other) == 0
