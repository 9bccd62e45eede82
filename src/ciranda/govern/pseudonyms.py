"""Keyed hashes in place of names: the same name gives the same hash in this installation, and another one elsewhere.

The key is a file of the home, made at first need, readable by its owner alone; it is never in the database, a log or an export.
Whoever has the hashes alone can neither go back nor try names. The context keeps uses apart: the hash of a person in a receipt
says nothing of the hash of that person in an export.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from ciranda.config import Home
from ciranda.store import files

NAME = "pseudonyms.key"
SHOWN = 24  # hex digits: 96 bits, no two people alike


def key_of(home: Home) -> bytes:
    """The key of this home. Two that make it at once agree on one."""
    return files.once(home.path / NAME, lambda: secrets.token_bytes(32))


def hashed(key: bytes, context: str, value: str) -> str:
    """The hash of a value in a context, such as a field's name."""
    mark = hmac.new(key, f"{context}\0{value}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return f"hmac:{mark[:SHOWN]}"
