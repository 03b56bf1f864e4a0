"""Much data and many requests: correct bytes, flat memory, no starvation."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading

import pytest

import content
from client import percentile
from harness import Stack
from http1 import Ending

pytestmark = pytest.mark.bulk
MEGABYTES_200 = 200_000_000
GROWTH = 32 << 20


def test_200_megabytes_each_way_are_equal_and_memory_stays_flat(bench, record_property):
    stack = Stack(bench)
    processes = {"gateway": stack.gateway.process, "agent": stack.agent.process}
    idle = {name: p.resident for name, p in processes.items()}
    for process in processes.values():
        process.reset_peak()

    digest = hashlib.sha256()
    with stack.connect() as connection:
        response = connection.request("GET", f"/bytes/{MEGABYTES_200}?seed=1", sink=digest.update)
    assert (response.ending, digest.hexdigest()) == (Ending.COMPLETE, content.digest(MEGABYTES_200, 1))

    with stack.connect(timeout=60) as connection:
        response = connection.upload("/upload", content.pieces(MEGABYTES_200, 2), MEGABYTES_200)
    assert json.loads(response.body)["sha256"] == content.digest(MEGABYTES_200, 2)

    grown = {name: (p.peak - idle[name]) / (1 << 20) for name, p in processes.items()}
    record_property("peak_growth_mib", grown)
    print(f"idle { ({n: round(i / (1 << 20), 1) for n, i in idle.items()}) } MiB, peak growth {grown}")
    assert all(mib < GROWTH >> 20 for mib in grown.values()), grown


def test_four_transfers_at_once_stay_within_the_same_memory(bench):
    stack = Stack(bench)
    processes = (stack.gateway.process, stack.agent.process)
    idle = [p.resident for p in processes]
    for process in processes:
        process.reset_peak()
    wrong = []

    def down(seed: int) -> None:
        digest = hashlib.sha256()
        with stack.connect(timeout=60) as connection:
            response = connection.request("GET", f"/bytes/50000000?seed={seed}", sink=digest.update)
        if response.ending is not Ending.COMPLETE or digest.hexdigest() != content.digest(50_000_000, seed):
            wrong.append(("down", seed))

    def up(seed: int) -> None:
        with stack.connect(timeout=60) as connection:
            response = connection.upload("/upload", content.pieces(50_000_000, seed), 50_000_000)
        if json.loads(response.body)["sha256"] != content.digest(50_000_000, seed):
            wrong.append(("up", seed))

    threads = [threading.Thread(target=kind, args=(seed,)) for seed in (1, 2) for kind in (down, up)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    grown = [p.peak - i for p, i in zip(processes, idle)]
    print(f"peak growth {[round(g / (1 << 20), 1) for g in grown]} MiB")
    assert all(g < GROWTH for g in grown), grown


def test_ten_slow_requests_do_not_slow_990_others(bench, record_property):
    """1,000 requests in flight through one agent, 10 of which wait for a slow origin or a client that does not read."""
    stack = Stack(bench)
    load = stack.gateway.load()
    expected = content.digest(1_000)

    async def quick(stream, latencies: list[float]) -> None:
        outcome = await load.request(stream, "GET", "/bytes/1000")
        assert (outcome.status, outcome.complete, outcome.digest) == (200, True, expected), outcome
        latencies.append(outcome.seconds)

    async def wave(streams) -> float:
        """Runs all requests concurrently, three times, and returns the p99."""
        latencies: list[float] = []
        for _ in range(3):
            await asyncio.gather(*(quick(stream, latencies) for stream in streams))
        return percentile(latencies, 0.99)

    async def slow(number: int) -> tuple:
        stream = await load.open()
        target = "/slow?ms=600000" if number % 2 else "/bytes/500000000"
        stream[1].write(f"GET {target} HTTP/1.1\r\nHost: {load.host}\r\n\r\n".encode())
        await stream[1].drain()
        return stream

    async def everything() -> tuple[float, float]:
        streams = await asyncio.gather(*(load.open() for _ in range(990)))
        await wave(streams)  # origin connections and caches are warm after this one
        alone, beside = [], []
        for _ in range(3):
            alone.append(await wave(streams))
            blockers = await asyncio.gather(*(slow(number) for number in range(10)))
            beside.append(await wave(streams))
            for _, writer in blockers:
                writer.transport.abort()
        return min(alone), min(beside)

    alone, beside = asyncio.run(everything())
    record_property("p99_alone_and_beside", (alone, beside))
    print(f"p99 of 990: {alone * 1e3:.0f} ms alone, {beside * 1e3:.0f} ms beside 10 slow ones")
    assert beside <= 2 * alone


def test_hundreds_of_connections_with_bodies_of_every_size(bench):
    stack = Stack(bench)
    load = stack.gateway.load()
    sizes = [0, 1, 1_162, 1_163, 1_164, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 262_144, 1_000_003]

    async def worker(first: int) -> None:
        stream = await load.open()
        for turn in range(6):
            size = sizes[(first + turn * 5) % len(sizes)]
            outcome = await load.request(stream, "GET", f"/bytes/{size}?seed={turn}")
            assert (outcome.status, outcome.digest) == (200, content.digest(size, turn)), outcome

    async def everything() -> None:
        await asyncio.gather(*(worker(n) for n in range(200)))

    asyncio.run(everything())
