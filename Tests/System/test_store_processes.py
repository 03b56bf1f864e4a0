"""Real processes on one store: concurrent starts, processes killed or stopped at any time, and the propagation of
changes by commands. The long form repeats the races fifty times or more."""

from __future__ import annotations

import os
import random
import signal
import ssl
import threading
import time
from typing import Callable, Iterable

import pytest

from client import Connection
from fleet import Fleet, attach, heartbeats, listed_tokens
from harness import IS_LONG, Background, Gateway, eventually, token_id
from volumes import SlowVolume, Volume

pytestmark = pytest.mark.timeout(1_200 if IS_LONG else 120)


def together(calls: Iterable[Callable]) -> list:
    """Runs each function in its own thread; returns their results, or raises the first error."""
    results: dict[int, object] = {}
    errors: list[BaseException] = []

    def run(number: int, call: Callable) -> None:
        try:
            results[number] = call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(threads))]


# -- the first start


@pytest.mark.long
def test_eight_that_start_at_once_on_an_empty_store_are_one_cluster(bench):
    seconds = []
    for number in range(50 if IS_LONG else 5):
        volume = Volume(bench, f"volume-{number}")
        gateways = [
            Gateway(bench, f"gateway-{number}-{k}", [{"host": "app.localhost", "to": "a/b"}], store=volume.setting)
            for k in range(8)
        ]
        began = time.monotonic()
        for gateway in gateways:
            gateway.start(wait=False)
        for gateway in gateways:
            gateway.wait_ready(20)
        seconds.append(time.monotonic() - began)

        v2 = volume.store / "v2"
        assert os.listdir(v2 / "cluster.json") == ["1"]
        assert len(os.listdir(v2 / "keys")) == 1
        eventually(lambda: len(heartbeats(volume.store)) == 8, 5, "eight heartbeats")
        roots = {gateway.cli("ca", "--json").stdout for gateway in gateways[::7]}
        assert len(roots) == 1
        # Each serves a leaf of the one root.
        authority = gateways[0].ca_file
        for gateway in gateways:
            context = ssl.create_default_context(cafile=authority)
            with Connection(("127.0.0.1", gateway.https_port), "app.localhost", context) as connection:
                assert connection.request("GET", "/").status == 503
        for gateway in gateways:
            gateway.process.kill()
    print(f"{len(seconds)} rounds of 8, slowest ready after {max(seconds):.1f} s")


# -- kill -9


class Changes(Background):
    """Creates and revokes tokens by commands, one after the other; some of the commands are killed."""

    def __init__(self, fleet: Fleet, seed: int):
        super().__init__()
        self.fleet, self.chance = fleet, random.Random(seed)
        self.good: list[str] = []  # acknowledged, not revoked
        self.revoked: list[str] = []  # acknowledged
        self.unknown: set[str] = set()  # the revoking command was killed
        self.commands = self.killed = 0
        self.errors: list[str] = []

    def run(self) -> None:
        while not self.stopping.is_set():
            self.commands += 1
            if self.good and self.chance.random() < 0.4:
                token = self.good.pop(self.chance.randrange(len(self.good)))
                if self._command("token", "revoke", token_id(token)) is None:
                    self.unknown.add(token)
                else:
                    self.revoked.append(token)
            else:
                output = self._command("token", "create", f"made-{self.commands}")
                if output is not None:
                    self.good.append(output.strip().splitlines()[-1])

    def _command(self, *words: str):
        """Runs a command; returns its standard output, or None if it was killed."""
        gateway = self.fleet.gateways[0]
        process = gateway.begin_cli(*words, name="changes", pipes=True)
        if self.chance.random() < 0.25:
            time.sleep(self.chance.random() * 0.1)  # at any time of its run
            process.kill()
            self.killed += 1
            return None
        output, _ = process.child.communicate(timeout=20)
        if process.child.returncode != 0:
            self.errors.append(f"{' '.join(words)}: {process.log()}")
            return None
        return output


@pytest.mark.long
def test_replicas_that_are_killed_at_any_moment_lose_nothing(bench):
    fleet = Fleet(bench, Volume(bench), replicas=3)
    chance = random.Random(4)
    rounds = 100 if IS_LONG else 10
    back = []
    with fleet.load(fleet.gateways[:1]) as load, Changes(fleet, seed=4) as changes:
        for _ in range(rounds):
            victim = chance.choice(fleet.gateways[1:])
            time.sleep(chance.random())  # at a random time, on purpose
            victim.process.kill()
            began = time.monotonic()
            victim.start()
            back.append(victim.wait_serving() - began)
    assert changes.errors == []
    print(
        f"{rounds} kills, serving again after {max(back):.1f} s at most; {changes.commands} commands, "
        f"{changes.killed} of them killed; {load.verdict()}"
    )
    assert load.failures == []

    known = listed_tokens(fleet.gateways[0])
    assert {token_id(t) for t in changes.good} <= {i for i, t in known.items() if not t.get("revoked")}
    assert {token_id(t) for t in changes.revoked} <= {i for i, t in known.items() if t.get("revoked")}
    for gateway in fleet.gateways:
        attach(fleet, "made", gateway, changes.good[-1], 3)


def test_a_store_with_what_killed_processes_left_is_taken_up(bench):
    """Temporary files, an unreferenced cluster key, folders without versions: a start ignores all of them."""
    volume = Volume(bench)
    fleet = Fleet(bench, volume, replicas=1)
    v2 = volume.store / "v2"
    for folder, name in (("tmp", "0123456789abcdef"), ("keys", "f" * 32)):
        (v2 / folder / name).write_bytes(b"\0" * 32)
        (v2 / folder / name).chmod(0o600)
    (v2 / "agents" / "aaaaaaaaaaaaaaaa").mkdir(0o700)
    gateway = fleet.gateways[0]
    gateway.process.kill()
    gateway.start()
    gateway.wait_serving()
    attach(fleet, "new", gateway, gateway.create_token("new"), 3)


# -- SIGSTOP


@pytest.mark.bulk
def test_a_replica_that_was_stopped_for_twenty_seconds_knows_what_happened(bench):
    fleet = Fleet(bench, Volume(bench), replicas=2)
    first, second = fleet.gateways
    revoked = first.create_token("new")
    agent = fleet.agent("new", second, revoked)
    agent.settings["name"] = "stopped"
    agent.write_config()
    attach(fleet, "new", second, revoked, 3)
    second.process.suspend()
    end = time.monotonic() + 20
    with fleet.load([first]) as load:
        first.revoke_token(revoked)
        made = first.create_token("late")
        eventually(lambda: time.monotonic() > end, 21, "twenty seconds")
    assert load.failures == []
    beats = heartbeats(fleet.volume.store)
    second.process.signal(signal.SIGCONT)
    woken = time.monotonic()
    taken = attach(fleet, "late", second, made, 5) - woken
    second.wait_serving()
    eventually(
        lambda: second.request("GET", "/bytes/1", host="new.localhost").status == 503, 5, "the revoked one is gone"
    )
    gone = time.monotonic() - woken
    moved = eventually(
        lambda: len([i for i, n in heartbeats(fleet.volume.store).items() if n > beats.get(i, 0)]) == 2, 3, "two beats"
    )
    print(f"after SIGCONT: a new token after {taken:.1f} s, a revoked one gone after {gone:.1f} s; {load.verdict()}")
    assert moved and taken < 2 and gone < 5


# -- propagation of changes


@pytest.mark.long
@pytest.mark.parametrize("cache_seconds", [0, 30], ids=["one folder", "caches of 30 s"])
def test_creation_and_revocation_are_known_on_three_replicas_in_time(bench, cache_seconds: int, record_property):
    """On one folder, and with a separate mount for each that caches names and attributes for 30 s, as NFS does."""
    if cache_seconds:
        first = SlowVolume(bench, "volume-0", cache_seconds)
        others = [SlowVolume(bench, f"volume-{n}", cache_seconds, backing=first.backing) for n in (1, 2)]
        fleet = Fleet(bench, [first, *others])
    else:
        fleet = Fleet(bench, Volume(bench), replicas=3)
    created, ended = [], []
    for _ in range(50 if IS_LONG else 2):
        token = fleet.gateways[0].create_token("new")
        made = time.monotonic()
        created += [m - made for m in together(lambda g=g: attach(fleet, "new", g, token, 5) for g in fleet.gateways)]
        for gateway in fleet.gateways:
            gateway.wait_serving(host="new.localhost")
        fleet.gateways[1].revoke_token(token)
        revoked = time.monotonic()
        ended += [m - revoked for m in together(lambda g=g: wait_gone(g) for g in fleet.gateways)]
    print(
        f"accepted after {min(created):.2f} to {max(created):.2f} s, "
        f"sessions ended after {min(ended):.2f} to {max(ended):.2f} s"
    )
    record_property("created_and_ended", (created, ended))
    assert max(created) < 2 and max(ended) < 5


def wait_gone(gateway: Gateway) -> float:
    def gone() -> bool:
        try:
            return gateway.request("GET", "/bytes/1", host="new.localhost").status == 503
        except OSError:
            return False  # the session ended within a response

    eventually(gone, 6, "the session has ended")
    return time.monotonic()
