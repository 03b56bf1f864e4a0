"""A store of the size of a large installation."""

from __future__ import annotations

import time

from fleet import listed_tokens
from harness import Agent, Gateway
from store_contents import create_credentials
from volumes import SmallVolume


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
