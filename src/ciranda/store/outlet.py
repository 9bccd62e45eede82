"""A file that never lies anywhere: a writer that wants one (Parquet) fills it, and who sends it on empties it piece by piece."""

from __future__ import annotations

import io
from typing import Any


class Outlet(io.RawIOBase):
    """A file that is only written, and emptied from the other side."""

    def __init__(self) -> None:
        super().__init__()
        self._content = bytearray()
        self._size = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, piece: Any) -> int:
        """Take a piece."""
        content = memoryview(piece).tobytes()
        self._content += content
        self._size += len(content)
        return len(content)

    def tell(self) -> int:
        """How much was written in all, in bytes."""
        return self._size

    def taken(self) -> bytes:
        """What was written since the last time."""
        content = bytes(self._content)
        self._content.clear()
        return content
