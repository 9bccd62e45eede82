"""Alerts, the audit log, keys: what must be seen, what was done, who may."""

from __future__ import annotations

from dataclasses import asdict

from starlette.responses import Response, StreamingResponse

from ciranda import loop
from ciranda.config import bounds
from ciranda.errors import Forbidden
from ciranda.gateway import usage
from ciranda.govern import access, audit, extracts
from ciranda.govern import public as publics
from ciranda.monitor import alerts
from ciranda.web.api import rows
from ciranda.web.api.asked import Alerts, Audit, Extract, Key, Nothing, Page, Verify
from ciranda.web.api.door import Call
from ciranda.web.api.fleet import heard, within
from ciranda.web.api.rows import Item


def fired(call: Call[Alerts]) -> Item:
    """Alerts, newest first."""
    asked = call.asked
    found = rows.page(
        call.platform.db, "alerts", asked, order="at", model=within(call, asked.model), state=asked.state or None
    )
    return rows.listed(heard(call, found["items"]), found["next"])


def acknowledge(call: Call[Nothing]) -> Item:
    """Somebody has seen it; the alert stays until its cause is gone."""
    found = rows.one(call.platform.db, "alerts", id=call.path["alert"], remedy="`ciranda alerts` lists them")
    call.require(found["model"], right="alert")
    with call.platform.db.writing() as conn:
        alerts.acknowledge(conn, found["id"], actor=call.actor)
    return heard(call, [rows.one(call.platform.db, "alerts", id=found["id"], remedy="`ciranda alerts` lists them")])[0]


def log(call: Call[Audit]) -> Item:
    """Events of the audit log, newest first. A key that is limited to models sees what was done to them."""
    asked = call.asked
    before = int(rows.place(asked.cursor, 1)[0]) if asked.cursor else None
    found = audit.page(
        call.platform.db,
        before=before,
        limit=asked.limit,
        subject=asked.subject,
        action=asked.action,
        actor=asked.actor,
    )
    following = rows.cursor([found[-1].number]) if len(found) == asked.limit else None
    return rows.listed([event for event in found if _concerns(event, call.reach)], following)


def _concerns(event: audit.Event, reach: tuple[str, ...] | None) -> bool:
    """Whether the event's subject is a model of the reach, a version or a turn of it."""
    name = event.subject.removeprefix("turn:").partition(":")[0].partition("@")[0]
    return reach is None or name in reach


def verify(call: Call[Verify]) -> Item:
    """Walk the whole chain."""
    found = audit.verify(call.platform.db, head=call.asked.head)
    return {"ok": found.ok, "events": found.events, "head": found.head, "problem": found.problem}


def extract(call: Call[Extract]) -> Response:
    """The log as a signed file. That it was taken is its last event."""
    lines = extracts.extract(call.platform.db, call.platform.home, actor=call.actor, since=call.asked.since)
    headers = {"content-disposition": 'attachment; filename="audit.jsonl"', "cache-control": "no-store"}
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


def keys(call: Call[Page]) -> Item:
    """Keys without their secrets, newest first."""
    found = rows.page(call.platform.db, "keys", call.asked, order="created_at")
    used = usage.of(call.platform.home, {f"key:{row['id']}": row["limits"] for row in found["items"]})
    items = [{name: row[name] for name in row if name != "digest"} for row in found["items"]]
    return {**found, "items": [{**item, "use": used[f"key:{item['id']}"]} for item in items]}


def create_key(call: Call[Key]) -> Item:
    """Issue a key. The secret is in this answer and nowhere else. Nobody can give more than they have."""
    wider = [model for model in call.asked.models if not call.reaches(model)]
    if wider:
        raise Forbidden(
            f"key {call.principal.name!r} cannot give access to {', '.join(wider)}",
            where=f"models of this key: {', '.join(call.principal.models)}",
            remedy="name only models that your own key reaches",
        )
    wanted = bounds.read(call.asked.limits, where="limits")
    public = publics.public(**dict(call.asked.public)) if call.asked.public else None
    with call.platform.db.writing() as conn:
        principal, secret = access.create(
            conn, call.asked.name, role=call.asked.role, models=call.asked.models, actor=call.actor,
            tenant=call.asked.tenant, limits=wanted, public=public,
        )  # fmt: skip
    loop.publish(call.platform)  # gateways know it within a poll, not after the leader's next look
    made = {"id": principal.key, "name": principal.name, "role": principal.role, "models": principal.models}
    told = {**made, "tenant": principal.tenant, "limits": wanted.to_dict(), "secret": secret}
    return {**told, **({"public": asdict(public)} if public else {})}


def revoke_key(call: Call[Nothing]) -> Item:
    """Close a key for good."""
    with call.platform.db.writing() as conn:
        access.revoke(conn, call.path["key"], actor=call.actor)
    loop.publish(call.platform)
    return {"id": call.path["key"], "revoked": True}
