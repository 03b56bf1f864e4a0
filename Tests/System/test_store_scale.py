"""A store of the size of a large installation, on a volume that takes 2 ms for each call: 1,000 certificates and 10,000
tokens in the long form."""

from __future__ import annotations

import json
import time

import pytest

from acme_authority import IssuingAuthority
from acme_gateways import AcmeGateway
from acme_stub import Stub
from harness import IS_LONG, Agent, Gateway, eventually
from store_contents import HeartbeatRecorder, create_credentials, files_with_key, private_keys
from volumes import SlowVolume, SmallVolume, Volume

NAMES, TOKENS = (1_000, 10_000) if IS_LONG else (30, 300)
PERIOD = 1.0  # seconds between two heartbeats of an idle replica
CACHE = {"cache_seconds": 30, "absent_seconds": 0}  # of the volume's clients, as over NFS
pytestmark = pytest.mark.timeout(3_600 if IS_LONG else 240)


def wrong_names(gateway: AcmeGateway, serials: dict[str, int]) -> list[str]:
    """The names for which one handshake each does not get the certificate with this serial number."""
    return [name for name, serial in serials.items() if gateway.leaf(name).serial_number != serial]


def command(gateway: Gateway, *words: str) -> str:
    return gateway.cli(*words, timeout=900).stdout


@pytest.mark.long
def test_a_thousand_names_on_a_slow_volume(bench, tmp_path):
    names = [f"app-{number}.example.test" for number in range(NAMES)]
    first = SlowVolume(bench, "volume-0", **CACHE)
    volumes = [first, *(SlowVolume(bench, f"volume-{n}", **CACHE, backing=first.backing) for n in (1, 2))]
    store = first.backing / first.store.name
    with Stub(tmp_path / "stub") as stub:
        gateways = [
            AcmeGateway(bench, stub, names, f"gateway-{n}", volume=volume, lease_ttl="15s")
            for n, volume in enumerate(volumes)
        ]
        gateways[0].create_token("demo")
        create_credentials(store, TOKENS)
        for volume in volumes:
            volume.send_command("delay 2")

        with HeartbeatRecorder(store) as recorder:
            began = time.monotonic()
            for gateway in gateways[:2]:
                gateway.start(wait=False)
            for gateway in gateways[:2]:
                gateway.wait_ready(60)
            ready = time.monotonic() - began
            eventually(lambda: len(stub.certificates()) >= NAMES, 3 * NAMES + 60, "the CA has issued all certificates")
            issued = time.monotonic() - began
            print(f"{NAMES} names, {TOKENS} tokens: ready after {ready:.1f} s, issued after {issued:.1f} s")
            assert len(stub.orders()) == NAMES, "no lease was lost: one order a name"
            serials = {order.names[0]: order.serial for order in stub.certificates()}
            for gateway in gateways[:2]:
                eventually(lambda g=gateway: not wrong_names(g, serials), 60, f"{gateway.name} serves all names")
            served = time.monotonic() - began

            # A third replica is ready only when it has what the others have.
            began = time.monotonic()
            gateways[2].start(timeout=60)
            third = time.monotonic() - began
            wrong = wrong_names(gateways[2], serials)

            status = json.loads(command(gateways[0], "status", "--json"))
            checked = json.loads(command(gateways[0], "store", "check", "--json"))
            listed = json.loads(command(gateways[0], "token", "list", "--json"))
            began = time.monotonic()
            backup = bench.folder / "backup.tar"
            command(gateways[0], "backup", str(backup))
            saved = time.monotonic() - began

        failures = sum(gateway.total("acme_orders_total", result="failed") for gateway in gateways)
        for gateway in gateways:
            gateway.process.stop()

        # What was backed up is served by another cluster's gateway, without a CA.
        restored = AcmeGateway(bench, stub, names, "restored")
        command(restored, "restore", str(backup))
        stub.go_down()
        restored.start(timeout=60)
        wrong_restored = wrong_names(restored, serials)

    print(
        f"served by both after {served:.1f} s; third ready after {third:.1f} s; heartbeats {recorder.longest:.2f} s "
        f"apart at most; backup in {saved:.1f} s"
    )
    assert recorder.longest <= 2 * PERIOD, recorder.gaps
    assert len(stub.orders()) == NAMES and failures == 0 and stub.violations == []
    assert third <= 15 and not wrong, wrong[:5]
    assert not wrong_restored, wrong_restored[:5]
    assert checked["usable"] and not checked["problems"], checked["problems"]
    assert len(listed) == TOKENS + 1
    assert status["certificate_states"]["good"] >= NAMES, status["certificate_states"]


def test_a_store_with_twenty_thousand_files_is_restored_from_its_backup(bench):
    volume, other = (SmallVolume(bench, name, "512m") for name in ("volume", "other"))
    gateway = Gateway(bench, store=volume.setting)
    gateway.create_token("demo")
    tokens = create_credentials(volume.store, 20_000)
    backup = bench.folder / "backup.tar"
    began = time.monotonic()
    command(gateway, "backup", str(backup))
    command(gateway, "backup", "--check", str(backup))
    saved = time.monotonic() - began
    restored = Gateway(bench, "restored", store=other.setting)
    command(restored, "restore", str(backup))
    seconds = time.monotonic() - began - saved
    print(f"20,000 tokens: backed up and checked in {saved:.1f} s, restored in {seconds:.1f} s")
    listed = [json.loads(command(g, "token", "list", "--json")) for g in (gateway, restored)]
    assert listed[0] == listed[1] and len(listed[0]) == len(tokens) + 1
    restored.start()
    Agent(bench, restored, tokens[-1], 1).start()


def test_a_removed_certificate_leaves_no_private_key_on_the_volume(bench, tmp_path):
    """Neither of the one that was served, nor of those before it, however they came into the store."""
    volume, name, imported = Volume(bench), "app.example.test", "imported.example.test"
    with Stub(tmp_path / "stub") as stub:
        gateway = AcmeGateway(bench, stub, [name], volume=volume).start()
        leaf = gateway.wait_issued(name)
        keys = set(private_keys(volume.store, name))
        gateway.cli("cert", "renew", name)
        gateway.wait_issued(name, than=leaf)
        keys |= set(private_keys(volume.store, name))
        assert len(keys) == 2, "the keys are found where they are"
        gateway.process.stop()
        # It is ordered again as long as it is configured.
        AcmeGateway(bench, stub, ["other.example.test"], volume=volume).start()
        files = IssuingAuthority(tmp_path / "issuer").server(imported)
        gateway.cli("cert", "import", "--cert", str(files[0]), "--key", str(files[1]))
        keys |= set(private_keys(volume.store, imported))
        assert len(keys) == 3 and all(files_with_key(volume.store, key) for key in keys)
        for removed in (name, imported):
            gateway.cli("cert", "remove", removed)
        assert not [path for key in keys for path in files_with_key(volume.store, key)]
