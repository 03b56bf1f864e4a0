"""One file of the store that hangs on one machine: the rest of the store works there, and every replica sees all others
alive. In the long form each file hangs for a minute."""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import Callable, Iterator

import pytest

from fleet import Fleet, attach
from harness import IS_LONG, Background, Gateway, Stack, eventually, token_id
from store_contents import FORMAT
from test_certificates import Authority
from test_store_processes import wait_gone
from volumes import SlowVolume

HOLD = 60 if IS_LONG else 12  # seconds, longer than a call of the store waits
pytestmark = [pytest.mark.timeout(120 + HOLD), pytest.mark.long]


class Views(Background):
    """Records which replicas each gateway reports as not active, whether it is ready, and how many threads it has."""

    PAUSE = 0.25

    def __init__(self, gateways: list[Gateway], admin_token: str):
        super().__init__()
        self.gateways, self.admin_token = gateways, admin_token
        self.incarnations = {g.name: self._ask(g, "/v1/status")["incarnation"] for g in gateways}
        self.names = {incarnation: name for name, incarnation in self.incarnations.items()}
        self.missed: dict[tuple[str, str], int] = defaultdict(int)  # (observer, observed) → samples
        self.unready: dict[str, list] = defaultdict(list)
        self.threads = {gateway.name: gateway.process.threads for gateway in gateways}
        self.most_threads = dict(self.threads)

    def _ask(self, gateway: Gateway, path: str) -> dict:
        response = gateway.ask_admin(path, self.admin_token)
        assert response.status == 200, response.text
        return json.loads(response.body)

    def active(self, gateway: Gateway) -> set[str]:
        """The gateways that a gateway reports as active."""
        replicas = self._ask(gateway, "/v1/replicas")["replicas"]
        return {self.names.get(r["incarnation"], "?") for r in replicas if r["state"] == "active"}

    def all_active(self) -> bool:
        return all(self.active(gateway) >= set(self.incarnations) for gateway in self.gateways)

    def run(self) -> None:
        while not self.stopping.wait(self.PAUSE):
            for gateway in self.gateways:
                for name in set(self.incarnations) - self.active(gateway):
                    self.missed[gateway.name, name] += 1
                if (status := gateway.ops("/readyz", quiet=True)) != 200:
                    self.unready[gateway.name].append(status)
                self.most_threads[gateway.name] = max(self.most_threads[gateway.name], gateway.process.threads)


# The files that hang, below the folder of the store. The value is one that changes meanwhile.
FILES: dict[str, Callable[[Fleet, Views], str]] = {
    "heartbeat": lambda fleet, views: f"replicas/{views.incarnations['gateway-2']}/hb",
    "value": lambda fleet, views: f"agents/{token_id(fleet.tokens['late'])}/2.json",
    "cluster document": lambda fleet, views: "cluster.json/1",
    "key": lambda fleet, views: f"keys/{next((fleet.gateways[1].data / FORMAT / 'keys').iterdir()).name}",
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_hangs_is_the_only_one(bench, file: str):
    """Each replica has its own mount, and the file hangs on the first one. A new token and its revocation are known
    everywhere, and the first replica may lose sight only of the one whose heartbeat hangs."""
    volumes = mounts(bench)
    fleet, views = watched(bench, volumes)
    path = f"/{volumes[0].store.name}/{FORMAT}/{FILES[file](fleet, views)}"
    with fleet.load(rate=50) as load, holding(fleet, views, path, threads=4):
        fleet.gateways[1].token("rotate", "late")
        token = fleet.gateways[1].create_token("new")
        began = time.monotonic()
        accepted = max(attach(fleet, "new", gateway, token, 5) for gateway in fleet.gateways) - began
        for gateway in fleet.gateways:
            gateway.wait_serving(host="new.localhost", timeout=2)
        fleet.gateways[1].revoke_token(token)
        began = time.monotonic()
        revoked = max(wait_gone(gateway) for gateway in fleet.gateways) - began
    print(f"{file}: a new token accepted after {accepted:.1f} s, revoked after {revoked:.1f} s; {load.verdict()}")
    assert set(views.missed) <= ({("gateway-0", "gateway-2")} if file == "heartbeat" else set()), dict(views.missed)
    assert load.failures == []


def test_a_card_that_hangs_hides_its_replica_only(bench):
    """The third replica starts again, and the first one cannot read its card."""
    volumes = mounts(bench)
    fleet, views = watched(bench, volumes)
    third = fleet.gateways[2]
    pair = Views(fleet.gateways[:2], views.admin_token)
    third.process.kill()
    with fleet.load(fleet.gateways[:2], rate=50) as load, holding(fleet, pair, "*/card", threads=4):
        third.start()
        token = third.create_token("new")
        for gateway in fleet.gateways:
            attach(fleet, "new", gateway, token, 5)
        everyone = Views(fleet.gateways, views.admin_token)
        for gateway in fleet.gateways[1:]:
            eventually(lambda g=gateway: everyone.active(g) >= set(everyone.incarnations), 5, "it sees all")
    eventually(everyone.all_active, 10, "every gateway sees the others")
    assert not pair.missed and load.failures == []


def mounts(bench) -> list[SlowVolume]:
    """Three mounts of one folder, as on three machines."""
    first = SlowVolume(bench, "volume-0")
    return [first, *(SlowVolume(bench, f"volume-{n}", backing=first.backing) for n in (1, 2))]


def watched(bench, volumes: list[SlowVolume], **settings) -> tuple[Fleet, Views]:
    token = secrets.token_hex(32)
    token_file = bench.folder / "admin-token"
    token_file.write_text(token)
    token_file.chmod(0o600)
    fleet = Fleet(bench, volumes, admin_token_file=str(token_file), **settings)
    views = Views(fleet.gateways, token)
    eventually(views.all_active, 10, "every gateway sees the others")
    return fleet, views


@contextmanager
def holding(fleet: Fleet, views: Views, path: str, threads: int) -> Iterator[None]:
    """Lets the contents of a file hang on the first machine for long. All replicas stay ready, none logs more than the
    fault, and each has at most so many further threads."""
    marks = {gateway.name: gateway.process.mark() for gateway in views.gateways}
    with views:
        fleet.volume.send_command(f"hang contents {path}")
        end = time.monotonic() + HOLD
        yield
        eventually(lambda: time.monotonic() > end, HOLD + 1, "the file hung for long")
        hung = fleet.volume.stats()["hung_now"]
        fleet.volume.heal()
    eventually(views.all_active, 10, "every gateway sees the others again")
    for gateway in views.gateways:
        eventually(lambda g=gateway: g.process.threads <= views.threads[g.name] + 1, 10, "as many threads as before")
    added = {name: most - views.threads[name] for name, most in views.most_threads.items()}
    print(f"{path}: {hung} calls hung, further threads {added}")
    assert hung > 0, "nothing was tested"
    assert not views.unready
    assert max(added.values()) <= threads, added
    lines = [line for g in views.gateways for line in g.process.log_objects(marks[g.name])]
    loud = [l for l in lines if l["level"] in ("warning", "error") and l["msg"] != "agent refused"]
    assert len(loud) <= 2, loud


def test_mounted_secrets_that_hang_cost_no_threads(bench):
    """The cluster's keys, the admin token and a certificate are on a volume that hangs: each has one thread, which is
    never replaced, and what was read last stays valid."""
    volume = SlowVolume(bench, "secrets")
    keys, admin, certificate, key = (volume.path / name for name in ("keys", "admin", "tls.crt", "tls.key"))
    keys.write_text("1" * 64 + "\n")
    admin.write_text("a" * 64)
    for source, target in zip(Authority(bench.folder).leaf("filed.localhost"), (certificate, key)):
        target.write_bytes(source.read_bytes())
    stack = Stack(
        bench,
        cluster_key_file=str(keys),
        admin_token_file=str(admin),
        certificates=[{"cert": str(certificate), "key": str(key)}],
        development_ca="on",
    )
    gateway = stack.gateway

    def is_accepted(token: str) -> bool:
        return gateway.ask_admin("/v1/status", token).status == 200

    before = gateway.process.threads
    volume.send_command("hang")
    eventually(lambda: volume.stats()["hung_now"] == 3, 5, "all three files hang")
    most, end = 0, time.monotonic() + HOLD

    def is_over() -> bool:
        nonlocal most
        most = max(most, gateway.process.threads)
        assert stack.request("GET", "/bytes/10").status == 200
        return time.monotonic() > end

    eventually(is_over, HOLD + 5, "the files hung for long")
    assert is_accepted("a" * 64) and gateway.ops("/readyz", quiet=True) == 200
    assert volume.stats()["hung_now"] == 3 and most <= before + 1, (before, most)
    # Commands that read the keys give up, too.
    for words in [("backup", str(bench.folder / "b.tar")), ("cluster", "rotate-key"), ("token", "list")]:
        done = gateway.cli(*words, check=False)
        assert done.returncode != 0 and "does not answer; is its volume up?" in done.stderr, done.stderr
    volume.heal()
    admin.write_text("b" * 64)
    eventually(lambda: is_accepted("b" * 64), 10, "the new admin token is accepted")
