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


def new(kind: str) -> str:
    """A readable id such as `turn_0199…`: the kind, then a UUIDv7 in hex."""
    return f"{kind}_{uuid7().hex}"


def time_of(identifier: str | uuid.UUID) -> datetime:
    """The moment an id was made (milliseconds). Raises ValueError when it is no UUIDv7."""
    value = identifier if isinstance(identifier, uuid.UUID) else uuid.UUID(identifier.rsplit("_", 1)[-1])
    if value.version != 7:
        raise ValueError(f"{identifier} is no UUIDv7, so it carries no time")
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)
