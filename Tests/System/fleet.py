"""Several gateways on one store, each with an agent; a load that continues through failures; observers of a store from
outside."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import time
from pathlib import Path
from typing import Iterable, Optional, Union

from client import percentile
from harness import Agent, Background, Bench, Gateway, Origin, eventually
from volumes import Volume

HOSTS = ("app", "late", "new")


class Fleet:
    """Replicas on one volume, an origin, and an agent with the token `demo` at each replica (host app.localhost). The
    tokens `late` and `new` have routes too (late.localhost, new.localhost); the token `late` exists already.

    Given several volumes, each replica has its own: views of one folder, as from different machines.
    """

    def __init__(self, bench: Bench, volume: Union[Volume, list[Volume]], replicas: int = 2, **settings):
        self.bench = bench
        self.volumes = volume if isinstance(volume, list) else [volume] * replicas
        self.volume = self.volumes[0]
        self.origin = Origin(bench)
        self.gateways = [self.replica(number, **settings) for number in range(len(self.volumes))]
        first = self.gateways[0]
        self.tokens = {name: first.create_token(name) for name in ("demo", "late")}
        for gateway in self.gateways:
            gateway.start(wait=False)
        for gateway in self.gateways:
            gateway.wait_ready()
        self.agents = [self.agent("demo", gateway) for gateway in self.gateways]
        for agent in self.agents:
            agent.start(wait=False)
        for gateway in self.gateways:
            gateway.wait_serving()

    def replica(self, number: int, **settings) -> Gateway:
        routes = [{"host": f"{name}.localhost", "to": f"{'demo' if name == 'app' else name}/web"} for name in HOSTS]
        return Gateway(self.bench, f"gateway-{number}", routes=routes, store=self.volumes[number].setting, **settings)

    def agent(self, name: str, gateway: Gateway, token: Optional[str] = None) -> Agent:
        token = token or self.tokens[name]
        return Agent(self.bench, gateway, token, self.origin.port, name=f"{name}-at-{gateway.name}")

    def load(self, gateways: Iterable[Gateway] = (), rate: float = 200) -> SteadyLoad:
        return SteadyLoad(list(gateways) or self.gateways, rate)


class SteadyLoad(Background):
    """Requests at a steady rate over kept connections.

    Every request without a complete response of status 200 is a failure.
    """

    CONNECTIONS = 8
    PATIENCE = 5  # seconds until a request counts as failed

    def __init__(self, gateways: list[Gateway], rate: float):
        super().__init__()
        self.loads = [gateway.load() for gateway in gateways]
        self.pause = self.CONNECTIONS / rate
        self.failures: list[str] = []
        self.seconds: list[float] = []

    def __enter__(self) -> SteadyLoad:
        super().__enter__()
        eventually(lambda: len(self.seconds) >= self.CONNECTIONS, 10, "the load runs")
        return self

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(self.CONNECTIONS)))

    async def _one(self, number: int) -> None:
        load = self.loads[number % len(self.loads)]
        stream = None
        due = time.monotonic() + self.pause * number / self.CONNECTIONS
        while not self.stopping.is_set():
            # Delayed requests are not made up for, which would change the load.
            due = max(due + self.pause, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            try:
                stream = stream or await load.open()
                outcome = await load.request(stream, "GET", "/bytes/100", timeout=self.PATIENCE)
                self.seconds.append(outcome.seconds)
                if (outcome.status, outcome.length, outcome.complete) != (200, 100, True):
                    self.failures.append(f"{time.monotonic():.2f}: {outcome}")
                if outcome.reusable:
                    continue
            except (OSError, asyncio.TimeoutError) as error:
                self.failures.append(f"{time.monotonic():.2f}: {error!r}")
            if stream:
                stream[1].transport.abort()
            stream = None
        if stream:
            stream[1].transport.abort()

    def verdict(self) -> str:
        return (
            f"{len(self.seconds)} requests, {len(self.failures)} failed, "
            f"p50 {percentile(self.seconds, 0.5) * 1e3:.1f} ms, p99 {percentile(self.seconds, 0.99) * 1e3:.1f} ms, "
            f"slowest {max(self.seconds) * 1e3:.0f} ms"
        )


# -- a gateway's output


def store_state(gateway: Gateway) -> str:
    """The store's state in `/readyz`. A gateway is ready in any state."""
    response = gateway.ops("/readyz")
    assert response.status == 200, response.text
    return json.loads(response.body)["parts"]["store"]["detail"]


def wait_state(gateway: Gateway, wanted: str, timeout: float = 5) -> float:
    """Returns the moment (monotonic clock)."""
    eventually(lambda: store_state(gateway) == wanted, timeout, f"{gateway.name} reports that its store is {wanted}")
    return time.monotonic()


def events(gateway: Gateway, since: int) -> list[dict]:
    """The gateway's log without access lines."""
    return [line for line in gateway.process.log_objects(since) if "request_id" not in line]


def listed_tokens(gateway: Gateway) -> dict[str, dict]:
    """The tokens listed by `hopgate token list`, by id."""
    listed = json.loads(gateway.cli("token", "list", "--json").stdout)
    return {token["id"]: token for token in listed}


# -- the contents of a store


def heartbeats(store: Path) -> dict[str, int]:
    """The number of each replica's last heartbeat in its file (the larger of the two slots), by incarnation."""
    found = {}
    for file in (store / "v2" / "replicas").glob("*/hb"):
        try:
            with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
                content = opened.read(8192)
        except OSError:
            continue
        slots = [content[at : at + 36] for at in (0, 4096) if content[at : at + 8] == b"HGBEAT\r\n"]
        found[file.parent.name] = max((struct.unpack_from("<Q", slot, 28)[0] for slot in slots), default=0)
    return found


# -- agents that come and go


def attach(fleet: Fleet, name: str, gateway: Gateway, token: str, timeout: float) -> float:
    """Tries until the gateway accepts an agent with this token; returns the time (monotonic clock). An agent that was
    rejected would wait before it tries again, so each attempt is a new process."""
    deadline = time.monotonic() + timeout
    agent = fleet.agent(name, gateway, token)
    while True:
        agent.start(wait=False)
        since = agent.process.log_start
        while agent.process.alive:
            if agent.ops("/readyz", quiet=True) == 200:
                return time.monotonic()
            if "refused the token" in agent.process.log(since):
                break
            assert time.monotonic() < deadline, f"{name} is not taken by {gateway.name} within {timeout:g} s"
            time.sleep(0.01)
        agent.process.kill()
