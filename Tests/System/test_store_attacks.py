"""An attacker with write access to the volume: valid data stays valid, nothing foreign is trusted, memory stays flat,
and each file is counted and reported once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Callable

from fleet import Fleet, attach, events, heartbeats, store_state
from harness import Gateway, during, eventually, token_id
from volumes import Volume

GROWTH = 32 << 20


class Target:
    """The credential of one attack: its folder and the versions in it."""

    def __init__(self, fleet: Fleet, name: str):
        self.token = fleet.gateways[0].create_token(name)
        self.id = token_id(self.token)
        self.agents = fleet.volume.store / "v2" / "agents"
        self.folder = self.agents / self.id
        self.outside = fleet.volume.path / f"outside-{self.id}"

    @property
    def newest(self) -> Path:
        return max(self.folder.iterdir(), key=lambda path: int(path.stem))

    @property
    def next(self) -> Path:
        return self.folder / f"{int(self.newest.stem) + 1}.json"

    def write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        path.chmod(0o600)


def edited(content: bytes) -> bytes:
    """The credential with other services and its old MAC."""
    assert b'"web"' in content, content
    return content.replace(b'"web"', b'"*"')


def link_in_place(path: Path, outside: Path) -> None:
    path.rename(outside)
    path.symlink_to(outside)


def pipe_in_place(path: Path, outside: Path) -> None:
    path.rename(outside)
    os.mkfifo(path, 0o600)


def huge(path: Path) -> None:
    path.touch(0o600)
    os.truncate(path, 1 << 40)


ATTACKS: dict[str, Callable[[Target], None]] = {
    "a folder that others may write": lambda t: t.folder.chmod(0o777),
    "a link in the place of a folder": lambda t: link_in_place(t.folder, t.outside),
    "a pipe in the place of a folder": lambda t: pipe_in_place(t.folder, t.outside),
    "a version that others may write": lambda t: (t.write(t.next, t.newest.read_bytes()), t.newest.chmod(0o666)),
    "a link as a version": lambda t: t.next.symlink_to("/etc/passwd"),
    "a pipe as a version": lambda t: os.mkfifo(t.next, 0o600),
    "a folder as a version": lambda t: t.next.mkdir(0o700),
    "a version of a terabyte": lambda t: huge(t.next),
    "an empty version": lambda t: t.write(t.next, b""),
    "noise as a version": lambda t: t.write(t.next, os.urandom(4_000)),
    "a version nested without end": lambda t: t.write(t.next, b'{"a":' + b"[" * 60_000 + b"]" * 60_000 + b"}"),
    "a version edited by hand": lambda t: t.write(t.next, edited(t.newest.read_bytes())),
    "an old version under a new number": lambda t: t.write(t.next, t.newest.read_bytes()),
}
CREDENTIAL_OF_ANOTHER = "the credential of another"
MADE_BY_HAND = "one made by hand"


def test_attacks_on_credentials_change_nothing_for_others(bench, record_property):
    fleet = Fleet(bench, Volume(bench), replicas=2)
    first = fleet.gateways[0]
    targets = {name: Target(fleet, f"victim-{number}") for number, name in enumerate([*ATTACKS, CREDENTIAL_OF_ANOTHER])}
    for gateway in fleet.gateways:
        count = len(targets) + len(fleet.tokens)
        known = lambda g=gateway: g.metrics()['hopgate_credentials{state="good"}'] == count  # noqa: E731
        eventually(known, 5, f"{gateway.name} has read all credentials")
    before = {gateway.name: (refusals(gateway), gateway.process.resident) for gateway in fleet.gateways}
    marks = {gateway.name: gateway.process.mark() for gateway in fleet.gateways}
    for gateway in fleet.gateways:
        gateway.process.reset_peak()

    with fleet.load() as load:
        for name, attack in ATTACKS.items():
            attack(targets[name])
        other = targets[CREDENTIAL_OF_ANOTHER]
        other.write(other.next, targets["a version edited by hand"].newest.with_name("1.json").read_bytes())
        forged = forge(other.agents)
        for gateway in fleet.gateways:
            eventually(
                lambda g=gateway: refusals(g) - before[g.name][0] >= len(targets), 8, f"{gateway.name} counts them all"
            )
            named = lambda g=gateway: " ".join(line.get("error", "") for line in events(g, marks[g.name]))  # noqa: E731
            ids = [*(target.id for target in targets.values()), token_id(forged)]
            eventually(lambda: all(f"agents/{id}" in named() for id in ids), 8, f"{gateway.name} has logged them all")
        # For several polls there is no further message.
        counts = {gateway.name: len(events(gateway, marks[gateway.name])) for gateway in fleet.gateways}
        for _ in during(4):
            for gateway in fleet.gateways:
                assert len(events(gateway, marks[gateway.name])) == counts[gateway.name]
        # Every token is as valid as before.
        for name, target in targets.items():
            attach(fleet, "victim", first, target.token, 3)
        assert is_refused(fleet, first, forged)

    grown = {gateway.name: (gateway.process.peak - before[gateway.name][1]) >> 20 for gateway in fleet.gateways}
    record_property("grown_mib", grown)
    print(f"{len(targets) + 1} attacks; memory grew by {grown} MiB; {load.verdict()}")
    assert load.failures == []
    assert all(mib < GROWTH >> 20 for mib in grown.values())
    for gateway in fleet.gateways:
        lines = events(gateway, marks[gateway.name])
        for name, target in targets.items():
            about = [line for line in lines if f"agents/{target.id}" in line.get("error", "")]
            assert len(about) == 1, f"{name}: {about}"


def forge(agents: Path) -> str:
    """Creates a well-formed credential with an arbitrary MAC; returns its token."""
    identifier, secret = "a" * 16, "A" * 43
    digest = hashlib.sha256(secret.encode()).hexdigest()
    document = {
        "mac": f"{'0' * 32}.{'0' * 64}",
        "format": 1,
        "id": identifier,
        "name": "demo",
        "services": ["*"],
        "hosts": ["*"],
        "created": "2026-01-01T00:00:00Z",
        "secrets": [{"sha256": digest}],
    }
    (agents / identifier).mkdir(0o700)
    path = agents / identifier / "1.json"
    path.write_text(f"HGV2 value 0 {'0' * 32}\n" + json.dumps(document, separators=(",", ":")))
    path.chmod(0o600)
    return f"hgt_{identifier}.{secret}"


def is_refused(fleet: Fleet, gateway: Gateway, token: str) -> bool:
    agent = fleet.agent("forged", gateway, token).start(wait=False)
    agent.process.wait_log("refused the token", 5)
    return agent.ops("/readyz", quiet=True) != 200


def refusals(gateway: Gateway) -> float:
    """The number of rejected files of all kinds."""
    return sum(v for k, v in gateway.metrics().items() if "refused_total{" in k)


# -- every folder


def test_rubbish_in_every_folder_is_passed_over(bench):
    fleet = Fleet(bench, Volume(bench), replicas=2)
    v2 = fleet.volume.store / "v2"
    marks = {gateway.name: gateway.process.mark() for gateway in fleet.gateways}
    resident = {gateway.name: gateway.process.resident for gateway in fleet.gateways}
    with fleet.load() as load:
        for folder in [v2, *(path for path in v2.iterdir() if path.is_dir()), *(v2 / "replicas").iterdir()]:
            litter(folder)
        for number in range(300):
            stray = v2 / "replicas" / f"{number:026d}"
            stray.mkdir(0o700)
            (stray / "hb").write_bytes(b"HGBEAT\r\n" + os.urandom(number))
            (stray / "hb").chmod(0o600)
            (stray / "card").symlink_to("/dev/zero")
        end = time.monotonic() + 5
        eventually(lambda: time.monotonic() > end, 6, "several polls")
        token = fleet.gateways[1].create_token("new")
        made = time.monotonic()
        usable = max(attach(fleet, "new", gateway, token, 5) for gateway in fleet.gateways) - made
    print(f"a new token usable after {usable:.1f} s amid rubbish; {load.verdict()}")
    assert load.failures == []
    assert usable < 2
    for gateway in fleet.gateways:
        assert store_state(gateway) == "healthy"
        complaints = [l for l in events(gateway, marks[gateway.name]) if l["level"] in ("warning", "error")]
        about_store = [line for line in complaints if line["msg"] != "agent refused"]
        assert len(about_store) <= 20, about_store
        assert gateway.process.resident - resident[gateway.name] < GROWTH
    fleet.gateways[0].process.stop()
    fleet.gateways[0].start()


def litter(folder: Path) -> None:
    """Creates names and files that no release creates."""
    deep = folder / "deep"
    for name in ("x" * 255, "with space", "new\nline", "\udcff\udcfe", ".hidden", "..x", "ünïcode", "a%2fb", "0", "-1"):
        (folder / name).write_bytes(b"rubbish")
    for _ in range(30):
        deep = deep / "deep"
    deep.mkdir(parents=True)
    os.mkfifo(folder / "pipe", 0o600)
    (folder / "link-to-root").symlink_to("/")
    (folder / "loop").symlink_to("loop")
    huge(folder / "huge")


def test_a_heartbeat_that_was_damaged_is_mended_by_its_owner(bench):
    """The replica's own file is empty, too long, a link or a pipe: the next heartbeats repair it."""
    fleet = Fleet(bench, Volume(bench), replicas=2)
    attacks = {
        "cut": lambda file: os.truncate(file, 0),
        "too long": lambda file: os.truncate(file, 1 << 40),
        "linked": lambda file: link_in_place(file, fleet.volume.path / "hb-linked"),
        "a pipe": lambda file: pipe_in_place(file, fleet.volume.path / "hb-pipe"),
    }
    for name, attack in attacks.items():
        before = heartbeats(fleet.volume.store)
        victim = max(before)
        attack(fleet.volume.store / "v2" / "replicas" / victim / "hb")
        eventually(lambda: are_two_alive(fleet), 10, f"two live heartbeats after one was {name}")
        assert all(store_state(gateway) == "healthy" for gateway in fleet.gateways)
    assert all(gateway.request("GET", "/bytes/1").status == 200 for gateway in fleet.gateways)


def are_two_alive(fleet: Fleet) -> bool:
    before = heartbeats(fleet.volume.store)
    end = time.monotonic() + 1.5
    eventually(lambda: time.monotonic() > end, 2, "a beat")
    after = heartbeats(fleet.volume.store)
    return sum(beat > before.get(name, 0) for name, beat in after.items()) == 2


# -- the cluster document and its keys


def forged(folder: Path, good: bytes) -> Path:
    """A credential by an attacker's key, which was put next to ours."""
    key = folder.parent / "keys" / ("e" * 32)
    key.write_bytes(b"e" * 32)
    key.chmod(0o600)
    return written(folder / "2", good.replace(json.loads(good.split(b"\n", 1)[1])["keys"][0].encode(), b"e" * 32))


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def linked(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


CLUSTER_DOCUMENTS: dict[str, Callable[[Path, bytes], Path]] = {
    "forged": forged,
    "noise": lambda folder, good: written(folder / "2", os.urandom(500)),
    "the greatest number": lambda folder, good: written(folder / str(1 << 53), good),
    "a link": lambda folder, good: linked(folder / "2", folder / "1"),
    "open to others": lambda folder, good: written(folder / "2", good, 0o644),
}


def test_a_cluster_document_that_is_not_genuine_changes_nothing(bench):
    fleet = Fleet(bench, Volume(bench), replicas=1)
    gateway = fleet.gateways[0]
    folder = fleet.volume.store / "v2" / "cluster.json"
    good = (folder / "1").read_bytes()
    with fleet.load() as load:
        for kind, plant in CLUSTER_DOCUMENTS.items():
            mark = gateway.process.mark()
            path = plant(folder, good)
            found = eventually(lambda: problems(gateway, mark), 5, f"the gateway reports the problem: {kind}")
            end = time.monotonic() + 2.2
            eventually(lambda: time.monotonic() > end, 3, "two further polls")
            assert len(problems(gateway, mark)) == len(found) == 1, f"{kind}: {problems(gateway, mark)}"
            done = gateway.cli("token", "create", "new", check=False)
            assert done.returncode == 1, f"{kind}: {done.stderr}"
            # Also if the key that the document names is wrong.
            assert f"cluster.json/{path.name}" in done.stderr, f"{kind}: {done.stderr}"
            attach(fleet, "late", gateway, fleet.tokens["late"], 3)
            path.unlink()
        attach(fleet, "new", gateway, gateway.create_token("new"), 3)
    assert load.failures == []


def problems(gateway: Gateway, since: int) -> list[dict]:
    lines = [line for line in events(gateway, since) if line["level"] in ("warning", "error")]
    return [line for line in lines if "cluster" in line.get("error", "")]


def test_a_link_in_the_place_of_a_folder_is_not_followed(bench):
    """The view stays unchanged, and the real folder is used again when it is back."""
    fleet = Fleet(bench, Volume(bench), replicas=1)
    gateway = fleet.gateways[0]
    elsewhere = fleet.volume.path / "elsewhere"
    with fleet.load() as load:
        for part in ("agents", "replicas", "certs", "locks"):
            folder = fleet.volume.store / "v2" / part
            link_in_place(folder, elsewhere)
            end = time.monotonic() + 2.5
            eventually(lambda: time.monotonic() > end, 3, "several polls")
            attach(fleet, "late", gateway, fleet.tokens["late"], 3)
            folder.unlink()
            elsewhere.rename(folder)
            eventually(lambda: store_state(gateway) == "healthy", 6, f"{part} is back and the store healthy")
        attach(fleet, "new", gateway, gateway.create_token("new"), 3)
    assert load.failures == []
