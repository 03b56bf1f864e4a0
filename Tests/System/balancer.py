"""A load balancer in front of several gateways: TCP connections of one HTTP and one HTTPS port go to them in rotation.
It represents the infrastructure that leads a CA's validators to a replica without knowledge of the order."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Callable, Iterable, Optional

from harness import Gateway, free_port


class Balancer:
    """The balancer, which runs in its own thread in a `with` block. If a target refuses a connection, the next gets it.

    targets: objects with a `name`, an `http_port` and an `https_port`. may_serve: called for each connection; targets
    for which it returns false get none, unless it excludes all.
    """

    def __init__(self, targets: Iterable[Gateway] = ()):
        self.http_port, self.https_port = free_port(), free_port()
        self.targets = list(targets)
        self.may_serve: Callable[[Gateway], bool] = lambda target: True
        self.http, self.https = Counter(), Counter()  # target's name → connections
        self._turn = 0
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._stop: Optional[asyncio.Event] = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Balancer:
        self._thread.start()
        assert self._ready.wait(10), "the balancer listens"
        return self

    def __exit__(self, *_) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def counts(self) -> dict[str, int]:
        """The number of connections of each target, by its name."""
        return dict(self.http + self.https)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        servers = [
            await asyncio.start_server(
                lambda r, w: self._serve(r, w, "http_port", self.http), "127.0.0.1", self.http_port
            ),
            await asyncio.start_server(
                lambda r, w: self._serve(r, w, "https_port", self.https), "127.0.0.1", self.https_port
            ),
        ]
        self._ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    def _candidates(self) -> list[Gateway]:
        """The targets in rotation, starting with the next one."""
        self._turn += 1
        candidates = [target for target in self.targets if self.may_serve(target)] or list(self.targets)
        first = self._turn % len(candidates) if candidates else 0
        return candidates[first:] + candidates[:first]

    async def _connect(self, port: str, counts: Counter):
        for target in self._candidates():
            try:
                streams = await asyncio.open_connection("127.0.0.1", getattr(target, port))
            except OSError:
                continue  # not started yet, or dead
            counts[target.name] += 1
            return streams
        return None

    async def _serve(self, reader, writer, port: str, counts: Counter) -> None:
        try:
            # No target accepts it, so the client's connection ends.
            if other := await self._connect(port, counts):
                await asyncio.gather(self._pump(reader, other[1]), self._pump(other[0], writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _pump(reader, writer) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
