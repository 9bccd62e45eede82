"""The routing snapshot: everything a gateway must know, in one file that control replaces and gateways read.

Polled by its stat every 50 ms, swapped as one value, so a request sees one generation from begin to end. A file that is broken,
half or absent changes nothing: the last good one stays, the fault is logged and counted. Replicas keep their connections and
their health across generations, by identity. So a gateway goes on serving while control is down, for as long as it takes.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Literal

import msgspec

from ciranda import config
from ciranda.errors import CirandaError, Invalid
from ciranda.gateway import limits
from ciranda.gateway.outbox import Outbox
from ciranda.gateway.upstream import Replica
from ciranda.govern.public import Public

log = logging.getLogger("ciranda.gateway")

Stamp = tuple[int, int, int]
FALLBACK: Literal["fallback"] = "fallback"  # the arm of what stands in for a model that cannot answer


class Bounds(msgspec.Struct, frozen=True):
    """Bounds of use, field by field in `config.bounds`; an absent one does not bind."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    cost_per_day: float | None = None
    cost_per_month: float | None = None


class Price(msgspec.Struct, frozen=True):
    """Money per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def nano(self, prompt: int, completion: int) -> int:
        """The price of so many tokens, in billionths; whole numbers, so that sums are exact."""
        return round(self.prompt * 1000) * prompt + round(self.completion * 1000) * completion


class Key(msgspec.Struct, frozen=True):
    """An API key, found by the SHA-256 of its secret."""

    id: str
    name: str = ""
    tenant: str = "default"
    models: list[str] = msgspec.field(default_factory=list)
    role: str = "client"
    public: Public | None = None  # the bounds of a key that stands in web pages
    bounds: Bounds | None = None

    def may_use(self, model: str) -> bool:
        """Whether this key may ask `model`."""
        return "*" in self.models or model in self.models


class ReplicaEntry(msgspec.Struct, frozen=True):
    id: str
    url: str
    wire_model: str


class ArmEntry(msgspec.Struct, frozen=True):
    arm: Literal["live", "canary", "shadow", "fallback"]
    version: str
    digest: str = ""
    weight: float = 0.0
    share: float = 0.0
    deployment: str = ""
    engine: str = ""
    replicas: list[ReplicaEntry] = msgspec.field(default_factory=list)
    price: Price | None = None
    key: str | None = None  # of a remote provider, as a reference: `env:NAME` or `file:/path`; empty: it needs none


class Limits(msgspec.Struct, frozen=True):
    max_in_flight: int = 64
    timeout_s: float = 120.0
    try_timeout_s: float = 0.0  # until the first byte of one try; 0 is the gateway's own bound
    tries: int = limits.TRIES


class CacheEntry(msgspec.Struct, frozen=True):
    """How long exact answers are kept, and how many bytes of them."""

    age_s: float
    bytes: int


class GuardEntry(msgspec.Struct, frozen=True):
    input: list[str] = msgspec.field(default_factory=list)
    output: list[str] = msgspec.field(default_factory=list)


class ModelEntry(msgspec.Struct, frozen=True):
    arms: list[ArmEntry]
    shadow: ArmEntry | None = None
    rollout: str | None = None
    engine_key_file: str | None = None
    limits: Limits = Limits()
    guard: GuardEntry = GuardEntry()
    bounds: Bounds | None = None
    price: Price | None = None
    cache: CacheEntry | None = None
    fallbacks: list[ArmEntry | str] = msgspec.field(default_factory=list)  # an arm, or the name of another model


class File(msgspec.Struct, frozen=True):
    """The file as control writes it; keys that this gateway does not know are left alone."""

    generation: int
    keys: dict[str, Key]
    models: dict[str, ModelEntry]
    written_at: str = ""
    tenants: dict[str, Bounds] = msgspec.field(default_factory=dict)
    erasures: int = 0


@dataclass(frozen=True, slots=True)
class Arm:
    """One version that takes a share of a model's traffic."""

    name: str
    version: str
    digest: str
    weight: float
    share: float
    deployment: str
    engine: str
    replicas: tuple[Replica, ...]
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """How one model is served at present."""

    name: str
    arms: tuple[Arm, ...]
    shadow: Arm | None
    rollout: str
    limits: Limits
    guard: GuardEntry
    bounds: Bounds | None = None
    price: Price | None = None
    cache: CacheEntry | None = None
    fallbacks: tuple[Arm, ...] = ()
    weight: float = 0.0  # of all arms together


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation of routing. `bounded`: somebody in it has bounds of use; else no request pays for looking."""

    generation: int
    written_at: str
    keys: dict[str, Key]
    models: dict[str, Model]
    origins: frozenset[str] = frozenset()  # pages that some public key lets in
    tenants: dict[str, Bounds] = field(default_factory=dict)
    bounded: bool = False
    erasures: int = 0


class Snapshots:
    """The newest good snapshot of a file, and the replicas that outlive each one.

    Args:
        path: The file; it may not be there yet.
        home: Where relative key files are looked for.
    """

    def __init__(self, path: Path, home: Path) -> None:
        self.path = path
        self.current: Snapshot | None = None
        self.taken_at = 0.0
        self.errors = 0
        self.replicas: dict[tuple[str, ...], Replica] = {}
        self._home = home
        self._outbox = Outbox()
        self._stamp: Stamp | None = None

    def poll(self) -> bool:
        """Take a new file if there is one, and say whether; never raises for what is in it."""
        try:
            stat = self.path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            self.take(msgspec.json.decode(self.path.read_bytes(), type=File))
            return True
        except FileNotFoundError:
            return False
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, CirandaError) as error:
            self.errors += 1
            log.warning("routing snapshot %s is not usable, the last good one stays: %s", self.path, error)
        return False

    def take(self, file: File) -> None:
        """Make a file's content the current snapshot."""
        replicas: dict[tuple[str, ...], Replica] = {}
        models = {name: self._model(name, entry, replicas) for name, entry in file.models.items()}
        for name, entry in file.models.items():
            if entry.fallbacks:
                chain = tuple(self._stand_ins(entry, models, replicas))
                models[name] = dataclasses.replace(models[name], fallbacks=chain)
        for identity, replica in self.replicas.items():
            if identity not in replicas:
                replica.close()
        self.replicas = replicas
        origins = frozenset(one for key in file.keys.values() if key.public for one in key.public.origins)
        held = [key.bounds for key in file.keys.values()] + [model.bounds for model in models.values()]
        bounded = bool(file.tenants) or any(bounds is not None for bounds in held)
        self.current = Snapshot(
            file.generation, file.written_at, file.keys, models, origins, file.tenants, bounded, file.erasures
        )
        self.taken_at = monotonic()

    def sweep(self, now: float) -> None:
        """Close pooled connections that are idle for too long."""
        for replica in self.replicas.values():
            replica.sweep(now)

    def _model(self, name: str, entry: ModelEntry, replicas: dict[tuple[str, ...], Replica]) -> Model:
        secret = self._secret(entry.engine_key_file)

        def place(arm: ArmEntry) -> Arm:
            return self._arm(arm, secret, entry.price, replicas)

        arms, shadow = _arms(name, entry, place), place(entry.shadow) if entry.shadow else None
        return Model(
            name, arms, shadow, entry.rollout or "", entry.limits, entry.guard, entry.bounds, entry.price, entry.cache,
            weight=sum(arm.weight for arm in arms),
        )  # fmt: skip

    def _arm(self, arm: ArmEntry, secret: str, price: Price | None, replicas: dict[tuple[str, ...], Replica]) -> Arm:
        mine = tuple(self._replica(one, arm.engine, secret, replicas) for one in arm.replicas)
        return Arm(arm.arm, arm.version, arm.digest, arm.weight, arm.share, arm.deployment, arm.engine, mine, price)

    def _stand_ins(
        self, entry: ModelEntry, models: dict[str, Model], replicas: dict[tuple[str, ...], Replica]
    ) -> Iterator[Arm]:
        """Who answers when the model's own versions cannot, in order. A model that is not there (yet) is passed over."""
        for one in entry.fallbacks:
            if isinstance(one, str):
                others = models[one].arms if one in models else ()
                yield from (dataclasses.replace(arm, name=FALLBACK, weight=0.0) for arm in others)
            elif one.key is not None:
                secret = config.secret(one.key) if one.key else ""
                if secret is None:
                    log.warning("the fallback %s is left out: %s holds no key", one.version, one.key)
                else:
                    yield self._arm(one, secret, one.price, replicas)
            else:
                yield self._arm(one, self._secret(entry.engine_key_file), one.price or entry.price, replicas)

    def _replica(
        self, entry: ReplicaEntry, engine: str, secret: str, replicas: dict[tuple[str, ...], Replica]
    ) -> Replica:
        identity = (entry.id, entry.url, entry.wire_model, engine, secret)
        known = replicas.get(identity) or self.replicas.get(identity)
        replica = known or Replica(
            entry.id, entry.url, entry.wire_model, engine=engine, secret=secret, outbox=self._outbox
        )
        replicas[identity] = replica
        return replica

    def _secret(self, name: str | None) -> str:
        if not name:
            return ""
        try:
            return (self._home / name).read_text().strip()
        except FileNotFoundError:
            return ""  # engines without a key (the fake, a trusted network) have no such file


def _arms(name: str, entry: ModelEntry, place: Callable[[ArmEntry], Arm]) -> tuple[Arm, ...]:
    if any(arm.weight < 0 for arm in entry.arms) or (entry.arms and sum(arm.weight for arm in entry.arms) <= 0):
        weights = [arm.weight for arm in entry.arms]
        raise Invalid(
            f"{name}'s arms weigh {weights}", where="routing snapshot", remedy="weights are percent, not negative"
        )
    return tuple(place(arm) for arm in entry.arms)
