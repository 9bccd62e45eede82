"""Limits with what is used of them: of keys, tenants and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ciranda.gateway import usage
from ciranda.govern import tenants as govern
from ciranda.loop.platform import Platform
from ciranda.registry import models as registry
from ciranda.web.views.govern import Bound, Scope


def used(platform: Platform, scopes: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Bound, ...]]:
    """The limits of each scope (`key:key_1`, `tenant:acme`, `model:smart-home`)."""
    return {
        scope: tuple(Bound(name, one["limit"], one["used"]) for name, one in mine.items())
        for scope, mine in usage.of(platform.home, scopes).items()
    }


def tenants(platform: Platform) -> tuple[Scope, ...]:
    """Every tenant that has an open key or limits."""
    names = govern.names(platform.db)
    found = used(platform, {f"tenant:{name}": bounds for name, bounds in names.items()})
    return tuple(Scope(name, found[f"tenant:{name}"]) for name in names)


def models(platform: Platform, names: Iterable[str]) -> tuple[Scope, ...]:
    """The models of these whose file has limits."""
    with platform.db.reading() as conn:
        bounds = {name: registry.get(conn, name).spec.serve.limits.to_dict() for name in names}
    found = used(platform, {f"model:{name}": mine for name, mine in bounds.items() if mine})
    return tuple(Scope(name, found[f"model:{name}"]) for name, mine in bounds.items() if mine)
