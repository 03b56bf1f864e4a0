"""Volumes for stores with faults that a test switches on and off: real file systems, mounted for one test and
unmounted by its `Bench`. Mounting needs root and, for `SlowVolume`, /dev/fuse. Without them the tests fail with a
message instead of being skipped, since the store would remain untested on faulty volumes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Optional

from harness import Bench, Process, compiled


def _mount(*words) -> None:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(
            f"mount {' '.join(map(str, words))}: {done.stderr.strip()}\n"
            "These tests mount file systems: run them as root, in a container with --privileged."
        )


def _unmount(path: Path) -> None:
    """Unmounts lazily: it is gone for new opens, and open files stay usable until they are closed."""
    subprocess.run(["umount", "--lazy", str(path)], capture_output=True)


class Volume:
    """A plain folder; subclasses add faults."""

    def __init__(self, bench: Bench, name: str = "volume"):
        self.bench = bench
        self.path = bench.subfolder(name)
        bench.volumes.append(self)

    @property
    def store(self) -> Path:
        """The folder for gateways, which is not the mount itself, since that may hold other files."""
        return self.path / "hopgate"

    @property
    def setting(self) -> dict:
        """The value for a gateway's configuration."""
        return {"path": str(self.store)}

    def heal(self) -> None:
        """Ends every fault."""

    def undo(self) -> None:
        """Unmounts it."""


class BindVolume(Volume):
    """A bind mount of a folder, which can be read-only or absent without a change of its contents."""

    def __init__(self, bench: Bench, name: str = "volume"):
        super().__init__(bench, name)
        self.backing = bench.subfolder(f"{name}-backing")
        self.attach()

    def attach(self) -> None:
        _mount("--bind", self.backing, self.path)

    def detach(self) -> None:
        _unmount(self.path)

    def set_read_only(self, is_read_only: bool) -> None:
        _mount("-o", f"remount,bind,{'ro' if is_read_only else 'rw'}", self.path)

    def heal(self) -> None:
        if os.path.ismount(self.path):
            self.set_read_only(False)
        else:
            self.attach()

    undo = detach


class SmallVolume(Volume):
    """A file system of a few megabytes in memory, which can be filled completely."""

    def __init__(self, bench: Bench, name: str = "volume", size: str = "4m"):
        super().__init__(bench, name)
        _mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", self.path)

    @property
    def ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self) -> int:
        """Fills the file system to its last block; returns the number of bytes written."""
        with open(self.ballast, "ab", buffering=0) as file:
            for piece in (1 << 20, 1 << 16, 1 << 12):
                try:
                    while file.write(bytes(piece)) == piece:
                        pass
                except OSError:
                    pass
            return file.tell()

    def heal(self) -> None:
        self.ballast.unlink(missing_ok=True)

    def undo(self) -> None:
        _unmount(self.path)


class SlowVolume(Volume):
    """A folder behind slowfs.c; `send_command` sets its faults.

    cache_seconds: the time for which the kernel caches attributes and names, as an NFS client does.
    absent_seconds: the same for absent names; by default as long.
    backing: the folder of another such volume, which is then visible through two mounts, as on two machines.
    """

    def __init__(
        self,
        bench: Bench,
        name: str = "volume",
        cache_seconds: float = 0,
        backing: Optional[Path] = None,
        absent_seconds: Optional[float] = None,
    ):
        super().__init__(bench, name)
        self.name = name
        self.cache = [str(cache_seconds), str(cache_seconds if absent_seconds is None else absent_seconds)]
        self.backing = backing or bench.subfolder(f"{name}-backing")
        self.start()

    def start(self) -> None:
        binary = compiled("slowfs", self.bench.tools, flags=("-I/usr/include/fuse3", "-lfuse3", "-pthread"))
        command = [binary, self.backing, self.path, *self.cache]
        # Not one of the bench's processes, since it must outlive those that use it.
        self.process = Process(self.name, command, self.bench.folder, pipes=True)
        if self.process.child.stdout.readline() != "up\n":
            raise AssertionError(
                f"{self.process.log()}These tests mount FUSE file systems: run them as root with a /dev/fuse, in a "
                "container with --privileged --device /dev/fuse."
            )

    def crash(self) -> None:
        """Kills the file system's process: all later calls fail with ENOTCONN."""
        self.process.kill()

    def send_command(self, command: str) -> None:
        assert self._ask(command) == "ok", command

    def stats(self) -> dict[str, int]:
        words = self._ask("stats").split()
        return {name: int(count) for name, count in zip(words[::2], words[1::2])}

    def _ask(self, command: str) -> str:
        self.process.child.stdin.write(command + "\n")
        self.process.child.stdin.flush()
        return self.process.child.stdout.readline().strip()

    def heal(self) -> None:
        if self.process.alive:
            self.send_command("heal")
        else:
            _unmount(self.path)
            self.start()

    def undo(self) -> None:
        self.process.child.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
        _unmount(self.path)
