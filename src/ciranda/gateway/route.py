"""Which version and which replica answer: decided on values, so that it can be tested without a socket.

A subject (the end user, else the conversation) always meets the same version during one rollout: its place on a line of 100
points comes from a hash with the rollout's id as salt, and arms take stretches of that line in their order. When the canary
grows from 5 to 25 percent its old subjects stay with it. Requests without a subject fall at random.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from hashlib import blake2b

from ciranda.errors import Forbidden, NotFound, Unavailable
from ciranda.gateway.snapshot import Arm, Key, Model, Snapshot
from ciranda.gateway.upstream import Replica

POINTS = 2**64
ASKING = frozenset({"admin", "approver", "engineer", "labeller", "client"})  # a viewer looks, it does not ask


def find(snapshot: Snapshot, key: Key, name: str) -> tuple[Model, Arm | None]:
    """The model that `name` means for this key, and the arm when it pins a version (`smart-home@2`)."""
    model = snapshot.models.get(name)
    arm = None if model is not None else _pinned(snapshot, name)
    if model is None and arm is None:
        mine = ", ".join(usable(snapshot, key)) or "none yet"
        reason = f"the model {name[:100]!r} does not exist or has no running version"
        raise NotFound(reason, remedy=f"models for this key: {mine}")
    model = model or snapshot.models[name.rpartition("@")[0]]
    if key.role not in ASKING or not key.may_use(model.name):
        reason = f"this key ({key.role}) may not use {model.name}"
        raise Forbidden(reason, remedy="ask an admin for a key with a right to it")
    return model, arm


def usable(snapshot: Snapshot, key: Key) -> list[str]:
    """The models that a key may see, in order."""
    return sorted(name for name in snapshot.models if key.may_use(name))


def _pinned(snapshot: Snapshot, name: str) -> Arm | None:
    model = snapshot.models.get(name.rpartition("@")[0])
    arms = (*model.arms, *([model.shadow] if model.shadow else [])) if model else ()
    return next((arm for arm in arms if arm.version == name), None)


def point(salt: str, subject: str) -> float:
    """A subject's place in [0, 100), always the same for the same salt; a random one without a subject."""
    if not subject:
        return random.random() * 100  # noqa: S311  (a coin for traffic, no secret)
    digest = blake2b(f"{salt}\0{subject}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / POINTS * 100


def choose(model: Model, at: float) -> Arm:
    """The arm whose stretch holds the point; one that can answer stands in for one that has no replica."""
    position = at / 100 * model.weight
    for arm in model.arms:
        position -= arm.weight
        if position < 0 and arm.replicas:
            return arm
        if position < 0:
            break
    able = [one for one in model.arms if one.replicas]
    if not able:
        raise Unavailable(f"no version of {model.name} is ready to answer", remedy="try again in a moment")
    return able[0] if position < 0 else able[-1]


def pick(replicas: Collection[Replica], now: float, tried: Collection[Replica] = ()) -> Replica | None:
    """The replica with the least in flight among those not tried; ejected ones only when nothing else is left."""
    if len(replicas) == 1 and not tried:
        return next(iter(replicas))
    left = [one for one in replicas if one not in tried]
    ready = [one for one in left if one.ready(now)] or left
    if len(ready) < 2:
        return ready[0] if ready else None
    least = min(one.in_flight for one in ready)
    return random.choice([one for one in ready if one.in_flight == least])  # noqa: S311
