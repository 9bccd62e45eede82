"""Policies with what they leave, erasures with their receipts."""

from __future__ import annotations

from typing import Any

from ciranda.data import reading
from ciranda.errors import Forbidden
from ciranda.govern import erasures, policies
from ciranda.govern.access import Principal
from ciranda.govern.erasures import Erasure
from ciranda.govern.policy import PURPOSES, Purpose, Reader
from ciranda.loop import erasing
from ciranda.loop.platform import Platform
from ciranda.registry import flags
from ciranda.web.views.privacy import ErasureRow, FlagRow, PoliciesPage, PolicyRow, Receipt, Seen, Theirs

LIMIT = 200
SAMPLES = 10


def listing(platform: Platform) -> tuple[PolicyRow, ...]:
    """The policies in force, by name."""
    return tuple(_policy(one) for one in policies.listing(platform.db))


def _policy(one: dict[str, Any]) -> PolicyRow:
    fields, data, who = one.get("fields", {}), one.get("datasets", {}), one.get("who", {})
    on = [*fields.get("names", ()), *(f"#{tag}" for tag in fields.get("tags", ()))]
    of = [*data.get("names", ()), *(f"#{tag}" for tag in data.get("tags", ())), *data.get("sensitivity", ())]
    where = [condition["field"] for condition in one.get("rows", ())]
    named = [" / ".join(part) for part in (on, of, where) if part]
    return PolicyRow(
        one["policy"], one["effect"], one.get("why", ""), " · ".join(", ".join(part.split(" / ")) for part in named), _people(who),
        ", ".join(one.get("purposes", ())), one["revision"], one["created_at"], one["created_by"],
    )  # fmt: skip


def _people(who: dict[str, Any]) -> str:
    named = [*who.get("roles", ()), *who.get("keys", ()), *who.get("tenants", ())]
    out = who.get("except", {})
    but = [f"− {one}" for kind in ("roles", "keys", "tenants") for one in out.get(kind, ())]
    return ", ".join([*(named or ["*"]), *but])


def preview(platform: Platform, dataset: str, role: str, purpose: str) -> Seen:
    """What a role would see of a dataset version: a dry run."""
    chosen: Purpose = next((one for one in PURPOSES if one == purpose), "viewing")
    found = reading.preview(platform.db, platform.home, dataset, Reader(f"a {role}", role, chosen), samples=SAMPLES)
    effects: dict[str, set[str]] = {}
    for rule in (*found.decision.rules, *(rule for rule, mine in found.decision.lists if not mine)):
        effects.setdefault(rule.field or "*", set()).add("deny" if rule.effect == "allow" else rule.effect)
    samples = tuple((row.prompt, row.completion, row.subject) for row in found.samples)
    told = tuple((field, ", ".join(sorted(said))) for field, said in sorted(effects.items()))
    return Seen(dataset, role, chosen, found.closed, found.rows, found.seen, told, samples)


def page(platform: Platform, who: Principal, *, dataset: str, role: str, purpose: str) -> PoliciesPage:
    """The policies, and for an admin what a role would see."""
    rows = listing(platform)
    if not dataset:
        return PoliciesPage(rows)
    if not who.may("settings"):
        raise Forbidden(
            f"key {who.name!r} may not see as others do",
            where="preview",
            remedy="ask an admin for a dry run of policies",
        )
    return PoliciesPage(rows, preview(platform, dataset, role, purpose))


def people(platform: Platform) -> tuple[ErasureRow, ...]:
    """Erasures, newest first."""
    return tuple(_erasure(one) for one in erasures.page(platform.db, limit=LIMIT))


def flagged(platform: Platform) -> tuple[FlagRow, ...]:
    """Versions that learnt from somebody erased since."""
    with platform.db.reading() as conn:
        return tuple(FlagRow(one["ref"], one["dataset"], one["erasure"], one["at"]) for one in flags.of(conn))


def receipt(platform: Platform, identifier: str) -> Receipt:
    """One erasure: how far it is, or its receipt. Raises NotFound."""
    with platform.db.reading() as conn:
        one = erasures.get(conn, identifier)
    told = one.receipt or {}
    counts = told.get("counts", one.counts)
    return Receipt(
        _erasure(one),
        tuple((step, name, int(count)) for step, held in counts.items() for name, count in held.items() if count),
        tuple((f"{row['dataset']}@{row['number']}", row["before"], row["after"], row["rows"]) for row in told.get("datasets", ())),
        tuple(row["version"] for row in told.get("models", ())),
        tuple((row["what"], row["actor"], row["at"]) for row in told.get("exports", ())),
        tuple(told.get("elsewhere", ())),
        tuple(told.get("traces", ())),
    )  # fmt: skip


def theirs(platform: Platform, subject: str, *, mentions: bool) -> Theirs:
    """What is kept of a person, counted. Raises Invalid, Unavailable."""
    found = erasing.found(platform, erasures.checked(subject), mentions=mentions)
    rows = [("record", table, count) for table, count in found["record"].items() if count]
    rows += [("datasets", ref, count) for ref, count in found["datasets"].items()]
    return Theirs(tuple(rows), tuple(found["models"]))


def _erasure(one: Erasure) -> ErasureRow:
    waits = "" if one.step == "done" else one.waits
    return ErasureRow(
        one.id, one.mark, one.step, waits, one.asked_at, one.asked_by, one.ended_at or "", one.digest
    )  # fmt: skip
