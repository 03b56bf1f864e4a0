"""The files of a store, read without the programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

FORMAT = "v2"


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder with its contents."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            try:
                yield path, path.read_bytes()
            except FileNotFoundError:
                continue
