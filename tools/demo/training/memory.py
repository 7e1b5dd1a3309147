"""Stops the allocator from returning memory to the system, which took half of every training step."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of glibc's `mallopt`."""


def keep_freed_memory() -> None:
    """Serve tensors of up to 32 MiB (glibc's limit) from one heap that is never trimmed below 2 GiB.

    Does nothing where the C library is not glibc. Larger tensors still come from the system each time, so the training
    loop works on pieces of a batch.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_ARENA_MAX, 1)
    libc.mallopt(_MMAP_THRESHOLD, 32 << 20)
    libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
