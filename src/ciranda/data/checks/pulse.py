"""What a worker is at: the function of somebody's own that it is in, on which row, and since when.

A page of memory that it shares with the process that waits for it: the worker writes before each call and after it, which costs
some microseconds, and it can be read though the worker hangs in code that never comes back. The clock is the machine's monotonic
one, which all its processes share.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

SIZE = mmap.PAGESIZE
HEAD = struct.Struct("dI")


class Pulse:
    """One worker's page; made by whoever comes first."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, SIZE)
            self._page = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)

    def begin(self, text: str) -> None:
        """Say what begins now."""
        told = text.encode()[: SIZE - HEAD.size]
        self._page[HEAD.size : HEAD.size + len(told)] = told
        HEAD.pack_into(self._page, 0, time.monotonic(), len(told))

    def end(self) -> None:
        """Say that nothing is going on."""
        HEAD.pack_into(self._page, 0, 0.0, 0)

    def read(self) -> tuple[float, str]:
        """For how many seconds it has been going on (0: nothing is), and what."""
        began, size = HEAD.unpack_from(self._page, 0)
        if not began:
            return 0.0, ""
        text = self._page[HEAD.size : HEAD.size + min(size, SIZE - HEAD.size)]
        return max(time.monotonic() - began, 1e-6), text.decode(errors="replace")
