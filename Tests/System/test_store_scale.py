"""A store of the size of a large installation, and what a removal leaves in it."""

from __future__ import annotations

import time

from acme_authority import IssuingAuthority
from acme_gateways import AcmeGateway
from acme_stub import Stub
from fleet import listed_tokens
from harness import Agent, Gateway
from store_contents import create_credentials, files_with_key, private_keys
from volumes import SmallVolume, Volume


def command(gateway: Gateway, *words: str) -> str:
    return gateway.cli(*words, "--config", str(gateway.config_path), timeout=240).stdout


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
    assert listed_tokens(restored).keys() == listed_tokens(gateway).keys()
    restored.start()
    Agent(bench, restored, tokens[-1], 1).start()


def test_a_removed_certificate_leaves_no_private_key_on_the_volume(bench, tmp_path):
    """Neither of the one that was served, nor of those before it, however they came into the store."""
    volume, name, imported = Volume(bench), "app.example.test", "imported.example.test"
    with Stub(tmp_path / "stub") as stub:
        gateway = AcmeGateway(bench, stub, [name], volume=volume).start()
        leaf = gateway.wait_issued(name)
        keys = set(private_keys(volume.store, name))
        gateway.command("cert", "renew", name)
        gateway.wait_issued(name, than=leaf)
        keys |= set(private_keys(volume.store, name))
        assert len(keys) == 2, "the keys are found where they are"
        gateway.process.stop()
        # It is ordered again as long as it is configured.
        AcmeGateway(bench, stub, ["other.example.test"], volume=volume).start()
        files = IssuingAuthority(tmp_path / "issuer").server(imported)
        gateway.command("cert", "import", "--cert", str(files[0]), "--key", str(files[1]))
        keys |= set(private_keys(volume.store, imported))
        assert len(keys) == 3 and all(files_with_key(volume.store, key) for key in keys)
        for removed in (name, imported):
            gateway.command("cert", "remove", removed)
        assert not [path for key in keys for path in files_with_key(volume.store, key)]
