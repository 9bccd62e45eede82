"""Public keys: what a web page may carry in the open, and what keeps that harmless.

Such a key (`cirp_…`, role `feedback`) stands in the source of a page, so everybody has it. It is worth little: it can say what
somebody thinks of an answer, of the models that it names and no other, and it reads nothing. Beside the key three things bound
what a stranger can do with it. The page must be one of its origins, which stops other sites in honest browsers (a program can
claim any origin). So many requests a minute pass, for each client address and for all together. And an answer is voted on by its
id alone, 74 random bits that only who got the answer knows; one public key has one vote on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ciranda.errors import Invalid

ROLE = "feedback"
PREFIX = "cirp_"
ANY = "*"
MOST_ORIGINS = 50
MOST_PER_MINUTE = 100_000
_HOST = re.compile(r"^(\[[0-9a-f:.]+\]|[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9])?)$")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Public:
    """What bounds a public key.

    Args:
        origins: Pages that may use it, as browsers name them: `https://app.example.com`. `*` is any page, and programs that
            are no page and send no origin.
        per_minute: Requests from one client address, on one gateway worker.
        total_per_minute: Requests from all of them together, on one gateway worker.
        corrections: Whether it may say what the answer should have been; the next version may learn from that.
    """

    origins: tuple[str, ...]
    per_minute: int = 30
    total_per_minute: int = 600
    corrections: bool = True

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may use the key; empty is a program that is no page."""
        return ANY in self.origins or (origin != "" and origin in self.origins)


def public(
    origins: Sequence[str], *, per_minute: int = 30, total_per_minute: int = 600, corrections: bool = True
) -> Public:
    """The bounds of a new key, checked. Raises Invalid with what is wrong and how it is right."""
    if not origins or len(origins) > MOST_ORIGINS:
        raise Invalid(
            f"a public key names 1 to {MOST_ORIGINS} origins, got {len(origins)}", where="origins",
            remedy="name the pages that will carry it, such as https://app.example.com; * allows any",
        )  # fmt: skip
    for name, value in (("per_minute", per_minute), ("total_per_minute", total_per_minute)):
        if not 1 <= value <= MOST_PER_MINUTE:
            raise Invalid(f"{name} is {value}", where=name, remedy=f"give a number from 1 to {MOST_PER_MINUTE}")
    chosen = tuple(dict.fromkeys(ANY if one.strip() == ANY else origin_of(one) for one in origins))
    return Public(chosen, per_minute, total_per_minute, corrections)


def origin_of(given: str) -> str:
    """An origin as browsers send it: scheme and host in lower case, the port where it is not the usual one."""
    try:
        parts = urlsplit(given.strip().lower())
        host, port = parts.netloc.rpartition("@")[2], parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    bare = host.removesuffix(f":{port}") if port is not None else host.removesuffix(":")
    whole = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in _PORTS or not whole or not _HOST.match(bare):
        raise Invalid(
            f"{given[:100]!r} is no origin", where="origins",
            remedy="an origin is scheme, host and maybe a port, no path: https://app.example.com",
        )  # fmt: skip
    return f"{parts.scheme}://{bare}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")
