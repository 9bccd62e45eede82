"""Governance: policies, what they leave to whom, files of rows that leave the house, and people who are forgotten."""

from __future__ import annotations

from dataclasses import asdict

from starlette.responses import Response, StreamingResponse

from ciranda import loop
from ciranda.data import exports, reading, versions
from ciranda.data.reading import Preview
from ciranda.data.rows import Row
from ciranda.govern import erasures, policies
from ciranda.govern.policy import Reader
from ciranda.loop import erasing
from ciranda.registry import flags
from ciranda.web.api import rows
from ciranda.web.api.asked import Nothing, OfPerson, Page, Person, PolicyText, Previewed, Reason, Taken
from ciranda.web.api.catalogue import demand
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item


def listing(call: Call[Nothing]) -> Item:
    """The policies in force, by name."""
    return rows.listed(policies.listing(call.platform.db), None)


def one(call: Call[Nothing]) -> Item:
    """Every revision of a policy, newest first."""
    return {"policy": call.path["policy"], "revisions": policies.history(call.platform.db, call.path["policy"])}


def put(call: Call[PolicyText]) -> Item:
    """Put a policy in force, in place of the one of its name."""
    wanted = policies.read(call.asked.policy)
    with call.platform.db.writing() as conn:
        revision = policies.put(conn, wanted, actor=call.actor)
    return {**wanted.to_dict(), "revision": revision}


def remove(call: Call[Nothing]) -> Item:
    """Take a policy out of force."""
    with call.platform.db.writing() as conn:
        revision = policies.remove(conn, call.path["policy"], actor=call.actor)
    return {"policy": call.path["policy"], "revision": revision, "removed": True}


def preview(call: Call[Previewed]) -> Item:
    """What somebody else would see of a dataset version: a dry run."""
    ref = f"{demand(call)}@{call.path['number']}"
    asked = call.asked
    reader = Reader(asked.key or f"a {asked.role}", asked.role, asked.purpose, asked.key, asked.tenant)
    found = reading.preview(call.platform.db, call.platform.home, ref, reader, samples=asked.samples)
    return {"dataset": ref, **told(found)}


def told(found: Preview) -> Item:
    """A preview as it is sent and shown."""
    effects: dict[str, list[str]] = {}
    for rule in (*found.decision.rules, *(rule for rule, mine in found.decision.lists if not mine)):
        effect = "deny" if rule.effect == "allow" else rule.effect
        effects.setdefault(rule.field or "rows", []).append(f"{effect} ({rule.policy})")
    return {
        "reader": asdict(found.reader),
        "closed": found.closed,
        "policies": list(found.decision.names),
        "digest": found.decision.digest,
        "effects": {field: sorted(set(said)) for field, said in sorted(effects.items())},
        "rows": found.rows,
        "seen": found.seen,
        "samples": [_sample(row) for row in found.samples],
    }


def _sample(row: Row) -> Item:
    names = ("prompt", "completion", "rejected", "language", "group", "split", "source", "origin", "subject", "thumb")
    return {**{name: getattr(row, name) for name in names}, "tags": list(row.tags), "extra": dict(row.extra)}


def taken(call: Call[Taken]) -> Response:
    """A dataset version as a file, as far as the policies leave it for export. The register says who took it."""
    ref = versions.get(call.platform.db, f"{demand(call, right='data')}@{call.path['number']}").ref
    asked = call.asked
    pieces = reading.taken(
        call.platform.db, call.platform.home, ref, reading.asking(call.principal, "export"),
        format_=asked.format, split=asked.split or None, language=asked.language or None,
    )  # fmt: skip
    name = f"{call.path['dataset']}-{call.path['number']}.{asked.format}"
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return StreamingResponse(pieces, media_type=exports.FORMATS[asked.format], headers=headers)


def register(call: Call[Page]) -> Item:
    """Files that left the house, newest first."""
    found = exports.listing(call.platform.db, before=call.asked.cursor, limit=call.asked.limit)
    return rows.listed(found, found[-1]["id"] if len(found) == call.asked.limit else None)


def erase(call: Call[Person]) -> Item:
    """Have a person forgotten; with `dry_run`, only say what is theirs. The name is stored until it is done, and never shown."""
    asked = call.asked
    if asked.dry_run:
        return erasing.found(call.platform, erasures.checked(asked.subject), mentions=asked.mentions)
    identifier = loop.erase(call.platform, asked.subject, mentions=asked.mentions, actor=call.actor)
    with call.platform.db.reading() as conn:
        return erasures.get(conn, identifier).to_dict()


def erased(call: Call[OfPerson]) -> Item:
    """Erasures and their receipts, newest first; those of one person, when their name is given."""
    asked = call.asked
    mark = erasures.mark_of(call.platform.home, erasures.checked(asked.subject)) if asked.subject else ""
    found = erasures.page(call.platform.db, before=asked.cursor, mark=mark, limit=asked.limit)
    return rows.listed([one.to_dict() for one in found], found[-1].id if len(found) == asked.limit else None)


def receipt(call: Call[Nothing]) -> Item:
    """One erasure: how far it is, or its receipt."""
    with call.platform.db.reading() as conn:
        return erasures.get(conn, call.path["erasure"]).to_dict()


def flagged(call: Call[Nothing]) -> Item:
    """Versions that learnt from a person who was erased, until newer ones have taken their place."""
    with call.platform.db.reading() as conn:
        return rows.listed([one for one in flags.of(conn) if call.reaches(one["model"])], None)


def keep_flagged(call: Call[Reason]) -> Item:
    """Say why a flagged version may stay."""
    ref = f"{call.path['model']}@{call.path['number']}"
    with call.platform.db.writing() as conn:
        flags.keep(conn, ref, reason=call.asked.reason, actor=call.actor)
    return {"version": ref, "kept": True}
