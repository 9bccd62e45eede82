"""Memory that is given back to the system after large work.

Lance reads and writes in threads, and glibc keeps for each of them what it freed: after ten million rows that were gigabytes which
nobody held any more (measured), in a control that goes on for weeks. Elsewhere than with glibc there is nothing to do.
"""

from __future__ import annotations

import ctypes

LARGE = 500_000  # rows


def give_back(rows: int) -> None:
    """Let the allocator return what is free, when so many rows went through that it is worth the tenth of a second."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if rows >= LARGE and trim is not None:
        trim(0)
