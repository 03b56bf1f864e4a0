"""Load generators: wrk for closed loops and bodies, h2load for a fixed rate, a Python client for idle connections."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from lab.accounts import cpu_seconds, proportional_memory
from lab.systems import HOST, System


class LoadFailed(Exception):
    """The error for a run in which the generator reported errors, so that its figures are meaningless."""


@dataclass
class Run:
    requests: int
    seconds: float
    cpu: float  # seconds that the system under test used during the run


def wrk(system: System, path: str, connections: int, seconds: float, upload: Path | None = None) -> Run:
    """Runs a closed loop over `connections`. upload: a Lua script that makes the request a POST."""
    before = cpu_seconds(system.roots)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "-H", f"Host: {HOST}"]
        + (["-s", str(upload)] if upload else [])
        + [system.url + path],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    cpu = cpu_seconds(system.roots) - before
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", done.stdout)
    trouble = [line.strip() for line in done.stdout.splitlines() if "Socket errors" in line or "Non-2xx" in line]
    if not found or trouble or int(found[1]) == 0:
        raise LoadFailed(f"{system.label} {path}: {' '.join(trouble) or done.stdout + done.stderr}")
    return Run(int(found[1]), float(found[2]) / (1000 if found[3] == "ms" else 1), cpu)


def upload_script(folder: Path, size: int) -> Path:
    script = folder / "upload.lua"
    script.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {size})\n')
    return script


def latencies(system: System, path: str, rate: int, seconds: float, folder: Path) -> list[float]:
    """Runs an open loop at a fixed rate over 20 connections; returns the sorted latencies in seconds."""
    log = folder / "latencies.tsv"
    log.unlink(missing_ok=True)
    connections = 20
    # h2load sends the host of the URL in addition to given fields: a second Host field would be an error.
    url = system.url.replace("127.0.0.1", HOST)
    subprocess.run(
        ["h2load", "--h1", f"-c{connections}", "-t1", "-m1", f"--rps={rate / connections:g}", "-D", str(round(seconds))]
        + ["--connect-to", f"127.0.0.1:{system.port}", "--log-file", str(log), url + path],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    times = sorted(int(row[2]) / 1e6 for row in rows if len(row) > 2 and row[1] == "200")
    if len(times) < 0.9 * rate * round(seconds):
        raise LoadFailed(f"{system.label}: {len(times)} answers at {rate} a second in {seconds:g} s")
    return times


async def _idle(system: System, count: int) -> float:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    request = f"GET /1k HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    gate = asyncio.Semaphore(32)

    async def one() -> asyncio.StreamWriter:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", system.port, ssl=tls, server_hostname=HOST)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0] + b" ":
                raise LoadFailed(f"{system.label}: {head[:80]!r}")
            await reader.readexactly(int(re.search(rb"(?i)content-length: *(\d+)", head)[1]))
            return writer

    async def hold(number: int) -> tuple[list[asyncio.StreamWriter], int]:
        writers = await asyncio.gather(*(one() for _ in range(number)))
        end = time.monotonic() + 1  # processes may release idle memory within a second
        while time.monotonic() < end:
            await asyncio.sleep(0.1)
        return writers, proportional_memory(system.roots)

    # The first hundred fill everything that does not grow with connections: pools, arenas, origin connections.
    first, before = await hold(min(100, count))
    rest, after = await hold(count)
    for writer in first + rest:
        writer.transport.abort()
    return (after - before) / count


def bytes_per_idle_connection(system: System, count: int) -> float:
    """The memory of one connection that has made one request and stays open."""
    return asyncio.run(_idle(system, count))
