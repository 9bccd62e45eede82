"""Versions of a model: the list with their figures, and one with its whole lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.data import catalog
from ciranda.data import versions as datasets
from ciranda.errors import NotFound, Unavailable
from ciranda.evals.suites import evaluations
from ciranda.loop.platform import Platform
from ciranda.registry import admission, aliases, approvals, verdicts, versions
from ciranda.registry import history as stages
from ciranda.registry.history import StageChange
from ciranda.registry.versions import Version
from ciranda.web.views.models import Slice, VersionPage, VersionRow

CARD_BYTES = 64_000
Row = Mapping[Any, Any]


def rows(conn: sa.Connection, model: str) -> tuple[VersionRow, ...]:
    """All versions of a model, newest first, with the figures of their latest evaluations."""
    scored = _evaluations(conn, model)
    return tuple(row_of(version, scored.get(version.ref, ())) for version in versions.of(conn, model))


def _evaluations(conn: sa.Connection, model: str) -> dict[str, list[Row]]:
    """The latest evaluation of each suite, by version."""
    query = sa.select(evaluations).where(evaluations.c.model == model).order_by(evaluations.c.created_at.desc())
    found: dict[str, list[Row]] = {}
    for row in conn.execute(query).mappings():
        mine = found.setdefault(row["version"], [])
        if row["suite"] not in {other["suite"] for other in mine}:
            mine.append(row)
    return found


def row_of(version: Version, scored: Sequence[Row]) -> VersionRow:
    metrics: dict[str, tuple[str, float, float, float]] = {}
    for row in scored:
        for name, one in row["metrics"].items():
            metrics.setdefault(name, (name, one["mean"], one["low"], one["high"]))
    return VersionRow(
        version.ref, version.number, version.stage, version.dataset, version.base, version.created_at, version.created_by,
        version.turn, tuple(metrics.values()),
    )  # fmt: skip


def page(platform: Platform, ref: str) -> VersionPage:
    """One version: what it is made of, what it scored, what it decided. Raises NotFound."""
    with platform.db.reading() as conn:
        version = versions.get(conn, ref)
        scored = _evaluations(conn, version.model)
        rulings = verdicts.of(conn, version.ref)
        history = stages.of(conn, version.model)
        live = versions.live(conn, version.model)
        gate, names = (
            admission.standing(conn, version.ref),
            [one.name for one in aliases.of(conn, version.model) if one.ref == ref],
        )
        words = approvals.on(conn, gate.ruling.id) if gate.ruling else []
    champion = next((one.champion for one in rulings if one.champion), "") or (live.ref if live else "")
    against = champion if champion != version.ref and champion in scored else ""
    return VersionPage(
        row_of(version, scored.get(version.ref, ())), version.model, version.digest, version.adapter_digest, version.recipe,
        version.trial, _slices(scored.get(version.ref, ()), scored.get(against, ())), against, _said(rulings),
        _served(version, history), _card(version), _lineage(platform, version, rulings),
        tuple((one.suite, one.found) for one in catalog.contaminated(platform.db, version.dataset)),
        tuple((str(row["id"]), str(row["suite"])) for row in scored.get(version.ref, ())),
        tuple(names), gate.quorum.needed, tuple((one.said, one.actor, one.at, one.note) for one in words),
        version.stage == "candidate" and gate.judged and not gate.quorum.complete, version.removed_at,
        str(version.origin.get("ref", "")),
    )  # fmt: skip


def _slices(mine: Sequence[Row], theirs: Sequence[Row]) -> tuple[Slice, ...]:
    """Every metric over all cases and by slice; beside it the champion's on the same suite."""
    found = []
    for row in mine:
        other = next((one for one in theirs if one["suite"] == row["suite"]), None)
        parts = [("", row["metrics"], other["metrics"] if other else {})]
        parts += [(name, one, (other["slices"] if other else {}).get(name, {})) for name, one in row["slices"].items()]
        for metric in row["metrics"]:
            for name, values, beside in parts:
                one = values.get(metric)
                if one and (
                    not name or one["n"] != row["metrics"][metric]["n"]
                ):  # a slice of everything says nothing new
                    mean = beside[metric]["mean"] if metric in beside else None
                    label = name.partition("=")[2]
                    found.append(Slice(metric, label, int(one["n"]), one["mean"], one["low"], one["high"], mean))
    return tuple(found)


def _said(rulings: Sequence[verdicts.Ruling]) -> tuple[tuple[str, str, str], ...]:
    """What let it pass, or did not: the newest gates, and any word of a person or of live traffic."""
    found: list[tuple[str, str, str]] = []
    judged = next((one for one in rulings if one.kind == "judged"), None)
    for one in rulings:
        if one.kind != "judged":
            found.append((one.kind, one.outcome.replace(" ", "_"), one.note))
    for gate in judged.gates if judged else ():
        where = ", ".join(gate["slice"].values())
        name = f"{gate['metric']} · {where}" if where else str(gate["metric"])
        found.append((name, gate["outcome"].replace(" ", "_"), gate["reason"]))
    return tuple(found)


def _served(version: Version, history: Sequence[StageChange]) -> tuple[tuple[str, str, str], ...]:
    """When it was live, from and until."""
    found: list[tuple[str, str, str]] = []
    mine = [one for one in history if one.number == version.number]
    for place, change in enumerate(mine):
        if change.stage == "live":
            until = mine[place + 1].at if place + 1 < len(mine) else ""
            found.append(("live", change.at, until))
    return tuple(reversed(found))


def _card(version: Version) -> str:
    try:
        with (Path(version.folder) / "card.md").open(encoding="utf-8", errors="replace") as file:
            return file.read(CARD_BYTES)
    except OSError:
        return ""


def _lineage(
    platform: Platform, version: Version, rulings: Sequence[verdicts.Ruling]
) -> tuple[tuple[str, str, str, str], ...]:
    """The chain from the rows to the answers: kind, label, where to read on, a note. Addresses are made by the template."""
    chain: list[tuple[str, str, str, str]] = []
    if version.dataset:
        try:
            data = datasets.get(platform.db, version.dataset)
            chain += [
                ("source", name, "", str(count)) for name, count in list(data.counts.get("source", {}).items())[:3]
            ]
            chain.append(("dataset", version.dataset, "dataset", str(data.rows)))
        except NotFound:
            chain.append(("dataset", version.dataset, "", ""))
    chain.append(("base", version.base, "", ""))
    if version.trial:
        chain.append(("trial", version.trial.rpartition(".")[2], "trial", ""))
    chain.append(("version", version.ref, "", version.digest[:19]))
    if rulings:
        chain.append(("gates", rulings[0].outcome.replace(" ", "_"), "release", ""))
    try:
        chain.append(("answers", str(platform.interactions.count(version=version.ref)), "interactions", ""))
    except Unavailable:
        chain.append(("answers", "–", "interactions", ""))
    return tuple(chain)
