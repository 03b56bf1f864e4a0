"""Finds the process at the other end of a TCP connection on loopback, using /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable, Optional


def _inodes(local_port: Optional[int] = None, remote_port: Optional[int] = None) -> set[str]:
    """The sockets of connections from or to this port."""
    found = set()
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        local, remote = (int(address.rsplit(":", 1)[1], 16) for address in words[1:3])
        if local_port in (None, local) and remote_port in (None, remote) and words[9] != "0":
            found.add(f"socket:[{words[9]}]")
    return found


def _has_one(pid: int, inodes: set[str]) -> bool:
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                if os.readlink(f"/proc/{pid}/fd/{name}") in inodes:
                    return True
            except FileNotFoundError:
                continue
    except FileNotFoundError:
        pass
    return False


def owner(port: int, pids: Iterable[int]) -> Optional[int]:
    """The one of these processes that has a connection from this port."""
    inodes = _inodes(local_port=port)
    return next((pid for pid in pids if _has_one(pid, inodes)), None)


def connected(port: int, pids: Iterable[int]) -> set[int]:
    """Those of these processes that have a connection to this port."""
    inodes = _inodes(remote_port=port)
    return {pid for pid in pids if _has_one(pid, inodes)}
