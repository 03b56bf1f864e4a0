"""The hosts that agents ask for: which origin a request reaches while agents come and go."""

from __future__ import annotations

import threading

from harness import Agent, Gateway, Origin, during, eventually


def serve(bench, gateway: Gateway, token: str, name: str, *hosts: str) -> tuple[Agent, Origin]:
    origin = Origin(bench, f"origin-{name}")
    return Agent(bench, gateway, token, origin.port, name=name, hosts=list(hosts)).start(), origin


def runs(origin: Origin, test_id: str) -> int:
    return origin.marks(test_id).get("runs", 0)


def test_a_request_never_reaches_an_origin_that_does_not_offer_its_host(bench, test_id):
    """Two agents of one token. One of them leaves and comes back several times while requests for both hosts arrive."""
    gateway = Gateway(bench).start()
    token = gateway.create_token("demo", hosts=["*.localhost"])
    one, first = serve(bench, gateway, token, "one", "one.localhost")
    two, second = serve(bench, gateway, token, "two", "two.localhost")
    for host in ("one.localhost", "two.localhost"):
        gateway.wait_serving(host=host)
    ended = threading.Event()
    statuses: dict[str, set[int]] = {"one": set(), "two": set()}
    counts = {"one": 0, "two": 0}

    def request(name: str) -> None:
        while not ended.is_set():
            fields = [("X-Test-Id", f"{test_id}-{name}")]
            statuses[name].add(gateway.request("GET", "/bytes/1", fields, host=f"{name}.localhost").status)
            counts[name] += 1

    threads = [threading.Thread(target=request, args=(name,)) for name in counts]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            two.process.stop()
            seen = counts["two"]
            eventually(lambda: counts["two"] > seen + 20, 20, "requests for the host of the agent that left")
            two.start()
    finally:
        ended.set()
        for thread in threads:
            thread.join(20)
    assert statuses["one"] == {200} and statuses["two"] <= {200, 502, 503}, statuses
    assert runs(first, f"{test_id}-one") == counts["one"] and runs(first, f"{test_id}-two") == 0
    assert runs(second, f"{test_id}-one") == 0 and runs(second, f"{test_id}-two") > 0


def test_a_host_of_two_tokens_has_one_owner(bench):
    """The token that names the host itself comes before one with a pattern, and the agent of the other says so."""
    gateway = Gateway(bench).start()
    wide, origin_wide = serve(bench, gateway, gateway.create_token("wide", hosts=["*.localhost"]), "wide", "app.localhost")
    gateway.wait_serving(host="app.localhost")
    owner, origin_owner = serve(
        bench, gateway, gateway.create_token("owner", hosts=["app.localhost"]), "owner", "app.localhost"
    )
    wide.process.wait_log("hosts belong to another token.*app.localhost", 10)
    assert gateway.metrics()["hopgate_agent_hosts_contested"] == 1
    before = origin_wide.stats()["requests"]
    for _ in during(1):
        assert gateway.request("GET", "/bytes/1", host="app.localhost").status == 200
    assert origin_wide.stats()["requests"] == before and origin_owner.stats()["requests"] > 1
    owner.process.stop()
    wide.process.wait_log("requests for all hosts may come", 10)
    gateway.wait_serving(host="app.localhost")


def test_another_replica_knows_what_is_attached(bench):
    """The rows of the first replica reach the second through the store: its hosts are served there, until the agent has
    left."""
    first = Gateway(bench, "first").start()
    second = Gateway(bench, "second", store={"path": str(first.data)}).start()
    agent, _ = serve(bench, first, first.create_token("demo", hosts=["*.localhost"]), "one", "one.localhost")
    rows = lambda: second.metrics()["hopgate_directory_rows"]  # noqa: E731
    def status(host: str = "one.localhost") -> int:
        return second.request("GET", "/bytes/1", host=host).status

    assert eventually(lambda: rows() == 1, 5, "the second replica knows of the agent")
    eventually(lambda: status() == 200, 5, "the host is served, and has a certificate")
    assert second.request("GET", "/", host="two.localhost", server_name="one.localhost").status in (404, 421)
    agent.process.stop()
    eventually(lambda: rows() == 0, 5, "the second replica knows that the agent has left")
    assert status() == 503
    agent.start()
    eventually(lambda: rows() == 1, 5, "the second replica knows of the agent again")
    first.process.stop()
    eventually(lambda: rows() == 0, 10, "the first replica has left")
    assert second.metrics()["hopgate_directory_rows_refused_total"] == 0
