"""Content that client and origin generate alike: any lost, doubled, moved or changed byte changes its SHA-256."""

from __future__ import annotations

import functools
import hashlib
import random
from typing import Iterator

# A prime, so that no buffer size divides it and equal blocks are never aligned.
BLOCK = 1_048_573


@functools.lru_cache(maxsize=8)
def block(seed: int) -> bytes:
    return random.Random(seed).randbytes(BLOCK)


def pieces(length: int, seed: int = 0, size: int = 262_144) -> Iterator[memoryview]:
    """Yields the content in chunks of at most `size` bytes."""
    whole, at = memoryview(block(seed)), 0
    while at < length:
        offset = at % BLOCK
        piece = whole[offset : offset + min(size, length - at)]
        at += len(piece)
        yield piece


@functools.lru_cache(maxsize=256)
def digest(length: int, seed: int = 0) -> str:
    sha = hashlib.sha256()
    for piece in pieces(length, seed, BLOCK):
        sha.update(piece)
    return sha.hexdigest()
