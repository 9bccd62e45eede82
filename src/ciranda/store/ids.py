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
    global _stamp
    while True:
        try:
            drawn = _drawn.pop()  # one step, so that threads never get the same
            break
        except IndexError:
            _drawn.extend(_draw())
    now_ms = time.time_ns() // 1_000_000
    stamp = _stamp
    if stamp[0] != now_ms:
        digits = f"{now_ms:012x}"
        stamp = _stamp = (now_ms, f"{digits[:8]}-{digits[8:]}-")
    return stamp[1] + drawn


def _draw() -> list[str]:
    """What follows the time in many ids: version, variant and random bits."""
    bits = bytearray(os.urandom(10 * DRAWN))
    bits[0::10] = bits[0::10].translate(_VERSION)
    bits[2::10] = bits[2::10].translate(_VARIANT)
    digits = bits.hex()
    return [
        f"{digits[at : at + 4]}-{digits[at + 4 : at + 8]}-{digits[at + 8 : at + 20]}"
        for at in range(0, len(digits), 20)
    ]


DRAWN = 256
_VERSION = bytes(byte & 0x0F | 0x70 for byte in range(256))
_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))
_drawn: list[str] = []
_stamp: tuple[int, str] = (0, "")  # a millisecond serves many
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
