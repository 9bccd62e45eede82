"""The causal chain in both directions, as far as rows exist: what a version came from, and what it led to.

    dataset version <- trial, recipe, base -> version -> evaluations, verdicts, stages, rollouts

Plain reads at one moment, JSON values, no cache: lineage is asked for seldom and must never be stale. Rollouts and
turns are written by modules to the right of this one in the order of imports; their tables are named here, not
imported, and only read. From a single answer the interaction's `version` leads into this chain; from a row, its
dataset version does.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from ciranda.data.versions import dataset_parents, dataset_versions
from ciranda.evals.suites import evaluations
from ciranda.registry import verdicts, versions
from ciranda.registry.versions import Version

ELSEWHERE: dict[str, sa.TableClause] = {
    "trials": sa.table("trials", *map(sa.column, ("id", "search", "number", "state", "objective", "seconds", "job"))),
    "turns": sa.table("turns", *map(sa.column, ("id", "cause", "event", "state", "started_at", "ended_at"))),
    "rollouts": sa.table(
        "rollouts",
        *map(sa.column, ("id", "candidate", "champion", "state", "stage", "reason", "started_at", "ended_at", "turn")),
    ),
}


def of_version(conn: sa.Connection, ref: str) -> dict[str, Any]:
    """Causes and effects of one version.

    Returns:
        `version`, `base`, `dataset`, `recipe`, `trial`, `turn` (its causes), `evaluations`, `verdicts`, `stages`,
        `rollouts` (its effects). What was never recorded is None or empty.

    Raises:
        NotFound: There is no such version.
    """
    version = versions.get(conn, ref)
    stages = [change for change in versions.history(conn, version.model) if change.number == version.number]
    return {
        "version": version.to_dict(),
        "base": {"name": version.base, "digest": version.base_digest},
        "dataset": _dataset(conn, version),
        "recipe": version.recipe,
        "trial": _one(conn, "trials", version.trial),
        "turn": _one(conn, "turns", version.turn),
        "evaluations": _evaluations(conn, ref),
        "verdicts": [ruling.to_dict() for ruling in verdicts.of(conn, ref)],
        "stages": [asdict(change) for change in stages],
        "rollouts": _rollouts(conn, ref),
    }


def of_dataset(conn: sa.Connection, ref: str) -> dict[str, Any]:
    """What a dataset version led to: the versions that learned from it, and the dataset versions made from it."""
    of_it = (
        sa.select(versions.versions).where(versions.versions.c.dataset == ref).order_by(versions.versions.c.created_at)
    )
    made = [Version(**row._mapping) for row in conn.execute(of_it)]
    edges = dataset_parents
    children = sa.select(edges).where(edges.c.parent == ref).order_by(edges.c.dataset, edges.c.number)
    return {
        "dataset": _dataset_row(conn, ref) or {"ref": ref},
        "versions": [{"ref": one.ref, "stage": one.stage, "digest": one.digest} for one in made],
        "children": [f"{row.dataset}@{row.number}" for row in conn.execute(children)]
        if _there(conn, "dataset_parents")
        else [],
    }


def _dataset(conn: sa.Connection, version: Version) -> dict[str, Any] | None:
    if not version.dataset:
        return None
    return {"ref": version.dataset, "digest": version.dataset_digest} | (_dataset_row(conn, version.dataset) or {})


def _dataset_row(conn: sa.Connection, ref: str) -> dict[str, Any] | None:
    name, _, number = ref.rpartition("@")
    if not number.isdecimal() or not _there(conn, "dataset_versions"):
        return None
    mine = (dataset_versions.c.dataset == name) & (dataset_versions.c.number == int(number))
    row = conn.execute(sa.select(dataset_versions).where(mine)).first()
    if row is None:
        return None
    kept = ("digest", "rows", "counts", "parents", "transformation", "created_at", "created_by")
    return {"ref": ref, **{column: row._mapping[column] for column in kept}}


def _evaluations(conn: sa.Connection, ref: str) -> list[dict[str, Any]]:
    if not _there(conn, "evaluations"):
        return []
    mine = sa.select(evaluations).where(evaluations.c.version == ref).order_by(evaluations.c.created_at)
    return [dict(row._mapping) for row in conn.execute(mine)]


def _rollouts(conn: sa.Connection, ref: str) -> list[dict[str, Any]]:
    table = ELSEWHERE["rollouts"]
    mine = (table.c.candidate == ref) | (table.c.champion == ref)
    return _rows(conn, "rollouts", sa.select(table).where(mine).order_by(table.c.id))


def _one(conn: sa.Connection, name: str, identifier: str) -> dict[str, Any] | None:
    if not identifier:
        return None
    table = ELSEWHERE[name]
    found = _rows(conn, name, sa.select(table).where(table.c.id == identifier))
    return found[0] if found else {"id": identifier}


def _rows(conn: sa.Connection, name: str, query: sa.Select[Any]) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in conn.execute(query)] if _there(conn, name) else []


def _there(conn: sa.Connection, name: str) -> bool:
    return sa.inspect(conn).has_table(name)
