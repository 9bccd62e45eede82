"""What the record knows about a version beyond the version itself: its data, its training, its verdict, what people said.

One reading for the card, the bill of materials, the page and the archive, so that they say the same. Plain JSON values; what nobody
recorded is simply absent, and whoever shows it says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ciranda.data import descriptions
from ciranda.data.versions import dataset_versions
from ciranda.evals.suites import evaluations
from ciranda.registry import admission, models
from ciranda.train import bases

TRIALS = sa.table("trials", *map(sa.column, ("id", "search", "seconds", "objective", "loss", "figures", "ended_at")))
FIGURES = ("device", "tokens_per_s", "seconds", "cpu_seconds", "peak_bytes", "rss_bytes", "rows", "steps")


def facts(conn: sa.Connection, record: Mapping[str, Any]) -> dict[str, Any]:
    """What is known about a version, by its record: purpose, licence, data, training, evaluations, verdict, words."""
    there = set(sa.inspect(conn).get_table_names())
    model = models.find(conn, record["model"])
    licence = bases.PACKAGED[record["base"]].licence if record["base"] in bases.PACKAGED else ""
    return {
        "purpose": model.spec.purpose if model else "",
        "base_licence": licence,
        "data": _data(conn, record, there),
        "training": _training(conn, record, there),
        "evaluations": _evaluations(conn, record, there),
        "gate": _gate(conn, record["ref"]),
    }


def _data(conn: sa.Connection, record: Mapping[str, Any], there: set[str]) -> dict[str, Any]:
    """The dataset version that it learned from, and what people say of the dataset."""
    name, _, number = str(record["dataset"]).rpartition("@")
    if not name or not number.isdecimal() or "dataset_versions" not in there:
        return {}
    mine = (dataset_versions.c.dataset == name) & (dataset_versions.c.number == int(number))
    row = conn.execute(sa.select(dataset_versions.c.rows, dataset_versions.c.counts).where(mine)).first()
    said = descriptions.of(conn, name).get("") if "data_descriptions" in there else None
    told = {key: value for key in ("owner", "description", "purpose", "licence", "sensitivity")
            if said and (value := getattr(said, key))}  # fmt: skip
    return {"rows": row.rows, "counts": dict(row.counts), **told} if row else told


def _training(conn: sa.Connection, record: Mapping[str, Any], there: set[str]) -> dict[str, Any]:
    """How long the trial took, on what, and its whole search."""
    if not record["trial"] or "trials" not in there:
        return {}
    row = conn.execute(sa.select(TRIALS).where(TRIALS.c.id == record["trial"])).first()
    if row is None:
        return {}
    figures = _plain(row.figures)
    whole = sa.select(sa.func.count(), sa.func.sum(TRIALS.c.seconds)).where(TRIALS.c.search == row.search)
    count, seconds = conn.execute(whole).one()
    kept = {name: figures[name] for name in FIGURES if figures.get(name) is not None}
    found = {**kept, "seconds": row.seconds, "loss": row.loss, "trials": count, "search_seconds": seconds}
    return {name: value for name, value in found.items() if value is not None} | {
        "environment": dict(figures.get("environment") or {})
    }


def _plain(value: Any) -> dict[str, Any]:
    """A JSON column read through a bare table: text on SQLite, a value on PostgreSQL."""
    found = json.loads(value) if isinstance(value, str) else value
    return found if isinstance(found, dict) else {}


def _evaluations(conn: sa.Connection, record: Mapping[str, Any], there: set[str]) -> list[dict[str, Any]]:
    """The newest evaluation of each suite."""
    if "evaluations" not in there:
        return []
    mine = sa.select(evaluations).where(evaluations.c.version == record["ref"])
    rows = conn.execute(mine.order_by(evaluations.c.created_at.desc(), evaluations.c.id.desc())).mappings()
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        kept = {name: row[name] for name in ("suite", "suite_digest", "n", "errors", "metrics", "slices", "created_at")}
        newest.setdefault(row["suite"], kept)
    return [newest[name] for name in sorted(newest)]


def _gate(conn: sa.Connection, ref: str) -> dict[str, Any]:
    """The verdict in force, each gate's word, and who said yes."""
    now = admission.standing(conn, ref)
    if now.ruling is None:
        return {}
    said = [
        {name: one.get(name) for name in ("metric", "rule", "slice", "outcome", "reason")} for one in now.ruling.gates
    ]
    return {
        "kind": now.ruling.kind, "outcome": now.ruling.outcome, "at": now.ruling.at, "champion": now.ruling.champion,
        "gates": said, "approvals": now.quorum.told, "approved_by": list(now.quorum.by),
    }  # fmt: skip
