"""Randomness from the record: a call gets the same whatever its instance did before. Loaded before the step, only in a component.

WASI's randomness starts anew with each call too, but the interpreter takes some of it the first time, and `random` is seeded once.
Fit for ids and samples, never for keys.
"""

import os
import sys
from hashlib import sha256

_seed = ""
_blocks = 0


def begin(execution: str, attempt: int, step: str) -> None:
    """A call begins."""
    global _seed, _blocks
    _seed = f"{execution}/{attempt}/{step}"
    _blocks = 0
    if random := sys.modules.get("random"):
        random.seed(_seed)


def urandom(size: int, /) -> bytes:
    global _blocks
    data = b""
    while len(data) < size:
        data += sha256(f"{_seed}/{_blocks}".encode()).digest()
        _blocks += 1
    return data[:size]


os.urandom = urandom
