"""A store that hangs, is read-only, full or gone: service continues, the fault is reported, and no restart is needed
when it works again."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import pytest

from fleet import Fleet, attach, events, heartbeats, listed_tokens, store_state, wait_state
from harness import Gateway, during, eventually
from store_contents import files
from volumes import BindVolume, SlowVolume, SmallVolume, Volume

HOLD = 3.5  # seconds that a fault lasts at least


def away(volume: Volume):
    return volume.store.with_name("away")


@dataclass
class Fault:
    volume: Callable
    begin: Callable
    end: Callable
    state: str


def slow(command: str, state: str) -> Fault:
    return Fault(SlowVolume, lambda v: v.send_command(command), lambda v: v.heal(), state)


FAULTS = {
    "hung": slow("hang", "stalled"),
    "hung for changes": slow("hang changes", "stalled"),
    "answering EIO": slow("fail EIO", "stalled"),
    "answering ESTALE": slow("fail ESTALE", "stalled"),
    "answering ENOTCONN": Fault(SlowVolume, lambda v: v.crash(), lambda v: v.heal(), "stalled"),
    "without a block for writes in place": slow("fail ENOSPC changes", "full"),
    "full": Fault(SmallVolume, lambda v: v.fill(), lambda v: v.heal(), "full"),
    "read-only": Fault(BindVolume, lambda v: v.set_read_only(True), lambda v: v.set_read_only(False), "read-only"),
    "renamed away": Fault(Volume, lambda v: v.store.rename(away(v)), lambda v: away(v).rename(v.store), "gone"),
    "unmounted": Fault(BindVolume, lambda v: v.detach(), lambda v: v.attach(), "gone"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_requests_go_on_while_the_store_is(bench, name: str, record_property):
    fault = FAULTS[name]
    volume = fault.volume(bench)
    fleet = Fleet(bench, volume)
    first, second = fleet.gateways
    for gateway in fleet.gateways:
        wait_state(gateway, "healthy")
    marks = {gateway.name: gateway.process.mark() for gateway in fleet.gateways}
    threads = {gateway.name: gateway.process.threads for gateway in fleet.gateways}

    with fleet.load() as load:
        began = time.monotonic()
        fault.begin(volume)
        for gateway in fleet.gateways:
            seen = wait_state(gateway, fault.state) - began
        late = fleet.agent("late", second).start()
        second.wait_serving(host="late.localhost", timeout=5)
        end = began + HOLD
        eventually(lambda: time.monotonic() > end, HOLD + 1, "the trouble lasted")
        assert [store_state(gateway) for gateway in fleet.gateways] == [fault.state] * 2
        # The number of hanging calls grows up to a bound.
        assert all(gateway.process.threads <= threads[gateway.name] + 16 for gateway in fleet.gateways)
        if name == "unmounted":
            assert os.listdir(volume.path) == [], "nothing is written below the mount"
        assert gauges(first) == {state: float(state == fault.state) for state in gauges(first)}

        fault.end(volume)
        healed = time.monotonic()
        well = max(wait_state(gateway, "healthy") for gateway in fleet.gateways) - healed
        token = first.create_token("new")
        made = time.monotonic()
        usable = max(attach(fleet, "new", gateway, token, 3) for gateway in fleet.gateways) - made
        beats = heartbeats(volume.store)
        eventually(
            lambda: sum(heartbeats(volume.store)[i] > beats.get(i, 0) for i in heartbeats(volume.store)) >= 2,
            3,
            "both heartbeats move",
        )

    figures = f"seen after {seen:.1f} s, well {well:.1f} s after its end, a new token {usable:.1f} s after that"
    record_property("figures", figures)
    print(f"{name}: {figures}; {load.verdict()}")
    assert load.failures == []
    assert max(load.seconds) < 2
    assert late.process.alive
    assert well < 4 and usable < 2
    for gateway in fleet.gateways:
        eventually(lambda g=gateway: g.process.threads <= threads[g.name] + 1, 5, "as many threads as before")
    for gateway in fleet.gateways:
        assert_logged_once(gateway, marks[gateway.name], fault.state)


def gauges(gateway: Gateway) -> dict[str, float]:
    """The samples of hopgate_store_state, 0 or 1 by state."""
    prefix = 'hopgate_store_state{state="'
    return {
        name.removeprefix(prefix).removesuffix('"}'): value
        for name, value in gateway.metrics().items()
        if name.startswith(prefix)
    }


def assert_logged_once(gateway: Gateway, since: int, state: str) -> None:
    """Expects one line for the begin of the fault, one for its end, and few others."""
    eventually(
        lambda: [line for line in events(gateway, since) if "store recovered" in line["msg"]], 5, "the end is logged"
    )
    lines = events(gateway, since)
    entering = [line for line in lines if line.get("state") == state]
    leaving = [line for line in lines if "store recovered" in line["msg"]]
    assert len(entering) == 1 and entering[0]["level"] in ("warning", "error"), lines
    assert len(leaving) == 1, lines
    others = [line for line in lines if line["level"] in ("warning", "error") and line not in entering]
    assert len([line for line in others if line["msg"] != "agent refused"]) <= 2, others


# -- shutdown and commands while the store hangs


def test_sigterm_ends_a_gateway_whose_store_hangs(bench):
    volume = SlowVolume(bench)
    fleet = Fleet(bench, volume, replicas=1, shutdown_grace="2s")
    volume.send_command("hang")
    wait_state(fleet.gateways[0], "stalled")
    began = time.monotonic()
    fleet.gateways[0].process.signal(signal.SIGTERM)
    assert fleet.gateways[0].process.wait(10) == 0
    assert time.monotonic() - began < 2 + 4


COMMANDS = {
    "token create": ["token", "create", "another"],
    "token list": ["token", "list"],
    "token revoke": ["token", "revoke", "demo"],
    "ca": ["ca", "--json"],
    "store check": ["store", "check"],
    "backup": ["backup", "backup.tar"],
    "cluster rotate-key": ["cluster", "rotate-key"],
    "run": ["run"],
}


def test_commands_and_starts_end_with_a_clear_error_while_the_store_hangs(bench):
    volume = SlowVolume(bench)
    gateway = founded(bench, volume)
    volume.send_command("hang")
    began = time.monotonic()
    backup = str(volume.store / "backup.tar")
    commands = COMMANDS | {"backup --check": ["backup", "--check", backup], "restore": ["restore", backup]}
    running = {name: gateway.begin_cli(*words) for name, words in commands.items()}
    for name, process in running.items():
        assert process.wait(max(0.1, 15 - (time.monotonic() - began))) == 1, name
        log = process.log()
        assert str(volume.store) in log and "does not answer" in log, f"{name} logged: {log}"
    print(f"{len(running)} commands ended within {time.monotonic() - began:.1f} s")


# -- starting on a faulty store


def test_a_heartbeat_that_hangs_costs_a_check_the_replicas_only(bench):
    volume = SlowVolume(bench)
    gateway = founded(bench, volume)
    volume.send_command("hang contents */hb")
    done = gateway.cli("store", "check", "--json", check=False, timeout=60)
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["abilities"] and report["times"], done
    assert report["problems"] == [f"{volume.store}/v2/replicas: the volume does not answer; is its server up?"], done
    volume.heal()
    assert len(json.loads(gateway.cli("store", "check", "--json").stdout)["replicas"]) == 1


def founded(bench, volume: Volume, name: str = "gateway") -> Gateway:
    """A gateway whose store was created on this volume by an earlier start and stop."""
    gateway = Gateway(bench, name, routes=[{"host": "app.localhost", "to": "demo/web"}], store=volume.setting)
    gateway.create_token("demo")
    gateway.start()
    gateway.process.stop()
    return gateway


def assert_does_not_start(gateway: Gateway, *words: str, within: float = 5) -> None:
    began = time.monotonic()
    gateway.start(wait=False)
    assert gateway.process.wait(within + 5) == 1
    assert time.monotonic() - began < within
    log = gateway.process.log()
    for word in words:
        assert word in log, f"{word!r} is not in: {log}"


def test_a_read_only_store_that_was_founded_before_serves(bench):
    volume = BindVolume(bench)
    gateway = founded(bench, volume)
    volume.set_read_only(True)
    gateway.start()
    wait_state(gateway, "read-only")
    volume.set_read_only(False)
    wait_state(gateway, "healthy")
    eventually(lambda: heartbeats(volume.store), 3, "it is seen in the store")


def test_a_full_store_that_was_founded_before_serves(bench):
    volume = SmallVolume(bench)
    gateway = founded(bench, volume)
    volume.fill()
    gateway.start()
    wait_state(gateway, "full")
    volume.heal()
    wait_state(gateway, "healthy")


def test_a_replica_on_a_full_store_counts_as_active(bench):
    volume = SmallVolume(bench)
    gateway = Gateway(bench, store=volume.setting).start()
    volume.fill()
    wait_state(gateway, "full")
    # Longer than the age above which a heartbeat is no sign of life.
    for _ in during(7):
        metrics = gateway.metrics()
        assert metrics['hopgate_cluster_replicas{state="active"}'] == 1, metrics
        assert metrics['hopgate_cluster_replicas{state="dead"}'] == 0


def test_an_empty_read_only_store_stops_the_start(bench):
    volume = BindVolume(bench)
    volume.set_read_only(True)
    gateway = Gateway(bench, store=volume.setting)
    assert_does_not_start(gateway, str(volume.store), "read-only", "mount it with write access")


def test_an_empty_full_store_stops_the_start(bench):
    volume = SmallVolume(bench)
    volume.store.mkdir(0o700)
    volume.fill()
    gateway = Gateway(bench, store=volume.setting)
    assert_does_not_start(gateway, str(volume.store), "no space is left")


@pytest.mark.parametrize("part", ["v2", "v2/keys", "v2/agents", "v2/cluster.json"])
def test_a_folder_that_others_may_write_stops_the_start(bench, part: str):
    volume = Volume(bench)
    gateway = founded(bench, volume)
    (volume.store / part).chmod(0o777)
    assert_does_not_start(gateway, str(volume.store / part), "chmod 700")


@pytest.mark.parametrize("part", ["v2/keys", "v2/agents", "v2/cluster.json", "v2/replicas"])
def test_a_symbolic_link_in_the_store_stops_the_start(bench, part: str):
    volume = Volume(bench)
    gateway = founded(bench, volume)
    (volume.store / part).rename(volume.path / "elsewhere")
    (volume.store / part).symlink_to(volume.path / "elsewhere")
    assert_does_not_start(gateway, str(volume.store / part), "symbolic link")


@pytest.mark.parametrize("part", ["", "v2", "v2/agents", "v2/replicas", "v2/cluster.json"])
def test_a_file_in_the_place_of_a_folder_stops_the_start(bench, part: str):
    volume = Volume(bench)
    gateway = founded(bench, volume)
    (volume.store / part).rename(volume.path / "elsewhere")
    (volume.store / part).write_bytes(b"not a folder")
    reason = "kind" if part else "is not a folder; store.path must name"
    assert_does_not_start(gateway, str(volume.store / part), reason)


def test_a_store_behind_a_symbolic_link_is_used(bench):
    """The path is the operator's: a folder above the store may be a link."""
    volume = Volume(bench)
    volume.store.mkdir(0o700)
    link = volume.path / "link"
    link.symlink_to(volume.store)
    Gateway(bench, store={"path": str(link)}).start()
    eventually(lambda: heartbeats(volume.store), 5, "a heartbeat in the folder behind the link")


# -- starting before the volume is mounted


def mounted_later(bench, is_named: bool = False) -> tuple[BindVolume, Gateway, str, dict[Path, bytes]]:
    """A volume with a cluster, unmounted, and a gateway for it that has not started; the id of the cluster, and the
    files that must not change."""
    volume = BindVolume(bench)
    founder = founded(bench, volume, "founder")
    checked = founder.cli("store", "check", "--json").stdout
    cluster = json.loads(checked)["cluster"]["id"]
    kept = permanent_files(volume)
    volume.detach()
    store = {**volume.setting, **({"cluster": cluster} if is_named else {})}
    return volume, Gateway(bench, store=store, routes=founder.settings["routes"]), cluster, kept


def test_a_gateway_that_names_its_cluster_founds_none_where_the_volume_is_not_mounted(bench):
    volume, gateway, cluster, _ = mounted_later(bench, is_named=True)
    gateway.start(wait=False)
    assert gateway.process.wait(15) == 1
    log = gateway.process.log()
    assert cluster in log and str(volume.store) in log and "store.cluster" in log, log
    assert not list(files(volume.path)), "nothing is written"
    volume.attach()
    gateway.start()
    wait_state(gateway, "healthy")
    assert [token["name"] for token in listed_tokens(gateway).values()] == ["demo"]


def test_a_gateway_that_names_its_cluster_refuses_another(bench):
    volume = Volume(bench)
    founded(bench, volume)
    gateway = Gateway(bench, "other", store={**volume.setting, "cluster": "0123456789abcdef0123456789abcdef"})
    assert_does_not_start(gateway, str(volume.store), "0123456789abcdef0123456789abcdef", "store.cluster")


def test_a_gateway_that_founded_a_cluster_below_a_mount_logs_it_and_leaves_the_other_alone(bench):
    volume, gateway, cluster, kept = mounted_later(bench)
    gateway.start()
    line = next(line for line in gateway.process.log_objects() if "founded" in line["msg"])
    assert line["level"] == "notice" and str(volume.store) in line.values(), line
    since = gateway.process.mark()
    volume.attach()
    gateway.process.wait_log(cluster, 10, since)
    for _ in during(3):
        assert permanent_files(volume) == kept
        assert gateway.ops("/readyz", quiet=True) == 200


def permanent_files(volume: BindVolume) -> dict[Path, bytes]:
    """The files of a store without those of its replicas."""
    return {path: content for path, content in files(volume.backing) if "replicas" not in path.parts}
