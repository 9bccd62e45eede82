"""Identifiers: UUIDv7 (RFC 9562), so that they sort by time and a time window can be read off any of them."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime


def uuid7() -> uuid.UUID:
    """48 bits of milliseconds, then 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def text7() -> str:
    """The same as text, for where microseconds count: bits are drawn from the system in advance, and never shared with a child."""
    while True:
        try:
            drawn = _drawn.pop()  # one step, so that threads never get the same
            break
        except IndexError:
            bits = os.urandom(10 * DRAWN).hex()
            _drawn.extend(bits[at : at + 20] for at in range(0, len(bits), 20))
    stamp = f"{time.time_ns() // 1_000_000:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7{drawn[:3]}-{VARIANT[drawn[3]]}{drawn[4:7]}-{drawn[7:19]}"


DRAWN = 256
VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_drawn: list[str] = []
os.register_at_fork(after_in_child=_drawn.clear)


def new(kind: str) -> str:
    """A readable id such as `turn_0199…`: the kind, then a UUIDv7 in hex."""
    return f"{kind}_{uuid7().hex}"


def time_of(identifier: str | uuid.UUID) -> datetime:
    """The moment an id was made (milliseconds). Raises ValueError when it is no UUIDv7."""
    value = identifier if isinstance(identifier, uuid.UUID) else uuid.UUID(identifier.rsplit("_", 1)[-1])
    if value.version != 7:
        raise ValueError(f"{identifier} is no UUIDv7, so it carries no time")
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)
