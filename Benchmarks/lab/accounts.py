"""CPU time and memory of whole process trees, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> tuple[int, float]:
    """The parent, and the seconds of user and system time including reaped children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[1]), sum(int(f) for f in fields[11:15]) / TICKS


def family(roots: list[int]) -> set[int]:
    """The processes and all their descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = _stat(int(name))[0]
            except OSError:
                pass  # the process has ended
    found, grew = set(roots), True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return found


def cpu_seconds(roots: list[int]) -> float:
    total = 0.0
    for pid in family(roots):
        try:
            total += _stat(pid)[1]
        except OSError:
            pass
    return total


def proportional_memory(roots: list[int]) -> int:
    """Resident bytes; pages that processes share are counted once (PSS)."""
    total = 0
    for pid in family(roots):
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total
