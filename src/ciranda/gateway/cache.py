"""Exact answers kept: the same question to the same version, asked in a way that wants the same answer, is answered from memory.

Only for models whose file says so, and only what is deterministic by the client's own words: `temperature: 0`, or a `seed`, and one
choice; embeddings always. The key is the digest of the version, the tenant, what the guard does to answers, and the request in
canonical form (sorted, without `model`, `user` and `metadata`, which do not change an answer). So a new version or a new rule
begins with nothing, and no tenant sees another's answers. Masked requests are looked up masked. A stream is replayed as a
stream, byte by byte.

A hit is recorded like any answer, with `cached: 1`, its tokens, and no cost; it is no evidence in a rollout, since
nobody answered anew, and it takes no tokens from a budget. Each worker has its own memory, bounded in bytes (least recently used
goes first) and age. It refuses answers that end in anything but 200, those of a fallback, and what is larger than an eighth of the
bound.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from ciranda.gateway.snapshot import FALLBACK, Arm, CacheEntry

if TYPE_CHECKING:
    from ciranda.gateway.relay import Relay

ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
WITHOUT = ("model", "user", "metadata")
LARGEST_PART = 8
SPARE_BYTES = 1000  # what an answer takes beside its bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer.

    Args:
        body: As it is recorded; `shown` as the client gets it.
        kind: The header line of its type; a stream is one whose `streamed` is set.
    """

    body: bytes
    shown: bytes
    kind: bytes
    streamed: bool
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    at: float

    @property
    def size(self) -> int:
        return len(self.shown) + (0 if self.shown is self.body else len(self.body)) + SPARE_BYTES


class Cache:
    """The answers that one worker keeps, by model."""

    def __init__(self) -> None:
        self.hits = self.misses = 0
        self._shelves: dict[str, OrderedDict[bytes, Kept]] = {}
        self._bytes: dict[str, int] = {}

    @property
    def size(self) -> int:
        """What is kept, of all models."""
        return sum(self._bytes.values())

    def find(self, relay: Relay, arm: Arm) -> Kept | None:
        """The answer to a request; when there is none, `relay.cache_key` says where it will go, if it may be kept."""
        bounds = relay.model.cache
        if bounds is None or not arm.digest or arm.name == FALLBACK:
            return None
        key = key_of(
            relay.outgoing, relay.record.endpoint, relay.record.tenant, arm.digest, guard=relay.model.guard.output
        )
        if key is None:
            return None
        shelf = self._shelves.get(relay.model.name)
        kept = shelf.get(key) if shelf else None
        if kept is not None and shelf is not None and monotonic() - kept.at <= bounds.age_s:
            shelf.move_to_end(key)
            self.hits += 1
            return kept
        self.misses += 1
        relay.cache_key = key
        return None

    def keep(self, relay: Relay, body: bytes, shown: bytes, kind: bytes, *, streamed: bool) -> None:
        """Remember an answer that went out well, and forget what there is no room for."""
        record, bounds, name = relay.record, relay.model.cache, relay.model.name
        key, relay.cache_key = relay.cache_key, b""
        if bounds is None or record.arm == FALLBACK or record.status != 200 or record.retry_count:
            return  # a retry may have been answered by another version than the key names
        kept = Kept(
            body,
            shown,
            kind,
            streamed,
            record.prompt_tokens,
            record.completion_tokens,
            record.finish_reason,
            monotonic(),
        )
        if kept.size <= bounds.bytes // LARGEST_PART:
            shelf = self._shelves.setdefault(name, OrderedDict())
            self._drop(name, key)
            shelf[key] = kept
            self._bytes[name] = self._bytes.get(name, 0) + kept.size
            self._shrink(name, bounds)

    def _shrink(self, name: str, bounds: CacheEntry) -> None:
        while self._bytes[name] > bounds.bytes:
            self._drop(name, next(iter(self._shelves[name])))

    def _drop(self, name: str, key: bytes) -> None:
        kept = self._shelves[name].pop(key, None)
        if kept is not None:
            self._bytes[name] -= kept.size

    def clear(self) -> None:
        """Forget every answer."""
        self._shelves.clear()
        self._bytes.clear()

    def retain(self, models: dict[str, Any]) -> None:
        """New routing: forget the models that keep nothing any more."""
        for name in list(self._shelves):
            if name not in models or models[name].cache is None:
                del self._shelves[name], self._bytes[name]


def key_of(body: bytes, endpoint: str, tenant: str, digest: str, *, guard: Sequence[str] = ()) -> bytes | None:
    """The key of a request; None for one whose answer may differ each time, or that cannot be read."""
    if endpoint not in ENDPOINTS:
        return None
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    if not isinstance(fields, dict) or not deterministic(fields, endpoint):
        return None
    for name in WITHOUT:
        fields.pop(name, None)
    canonical = msgspec.json.encode([tenant, digest, endpoint, guard, fields], order="sorted")
    return sha256(canonical).digest()


def deterministic(fields: dict[str, Any], endpoint: str) -> bool:
    """Whether the client asks for the same answer each time."""
    if endpoint == "/v1/embeddings":
        return True
    cold, seeded = fields.get("temperature"), fields.get("seed")
    one = fields.get("n") in (None, 1) and fields.get("best_of") in (None, 1)
    return one and ((type(cold) in (int, float) and cold == 0) or type(seeded) is int)
