"""Gives the memory of decoded images back to the system, so that one large image does not cost its memory for good.

glibc raises the size from which it takes memory from the system directly, up to 32 MiB, whenever such a piece is freed;
what is smaller stays with the process. Decoded images come in pieces of 16 MiB: after one of 39 megapixels the service
kept 170 MB more than before. With a fixed size they go back at once.
"""

from __future__ import annotations

import ctypes
import sys

DIRECT = 2**20  # bytes; a page fault for each 4 KiB of it costs far less than decoding does
_M_MMAP_THRESHOLD = -3  # malloc.h


def install() -> None:
    """Set it for this process. Where there is no glibc, nothing is set."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, DIRECT)
