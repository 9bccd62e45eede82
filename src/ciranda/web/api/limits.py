"""Limits: what keys, tenants and models may use, and what of it is used."""

from __future__ import annotations

from ciranda import loop
from ciranda.config import bounds
from ciranda.gateway import usage
from ciranda.govern import access, tenants
from ciranda.registry import models
from ciranda.web.api import rows
from ciranda.web.api.asked import Limits, Nothing, Page
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item


def of_key(call: Call[Limits]) -> Item:
    """Other limits for a key, all of them at once."""
    wanted, key = bounds.read(call.asked.limits, where="limits"), call.path["key"]
    with call.platform.db.writing() as conn:
        access.limit(conn, key, wanted, actor=call.actor)
    loop.publish(call.platform)
    return {"id": key, "limits": wanted.to_dict()}


def of_tenant(call: Call[Limits]) -> Item:
    """Other limits for a tenant; none at all takes them away."""
    wanted, tenant = bounds.read(call.asked.limits, where="limits"), call.path["tenant"]
    with call.platform.db.writing() as conn:
        tenants.limit(conn, tenant, wanted, actor=call.actor)
    loop.publish(call.platform)
    return {"name": tenant, "limits": wanted.to_dict()}


def of_model(call: Call[Nothing]) -> Item:
    """The limits in a model's file. They are changed there, and applied."""
    name = call.path["model"]
    call.require(name, right="view")
    with call.platform.db.reading() as conn:
        mine = models.get(conn, name).spec.serve.limits.to_dict()
    return {"name": name, "limits": mine, "use": usage.of(call.platform.home, {f"model:{name}": mine})[f"model:{name}"]}


def tenants_(call: Call[Page]) -> Item:
    """Every tenant that has a key or limits, by name."""
    after = str(rows.place(call.asked.cursor, 1)[0]) if call.asked.cursor else ""
    every = [(name, mine) for name, mine in tenants.names(call.platform.db).items() if name > after]
    shown = every[: call.asked.limit]
    used = usage.of(call.platform.home, {f"tenant:{name}": mine for name, mine in shown})
    items = [{"name": name, "limits": mine, "use": used[f"tenant:{name}"]} for name, mine in shown]
    return rows.listed(items, rows.cursor([shown[-1][0]]) if len(every) > len(shown) else None)
