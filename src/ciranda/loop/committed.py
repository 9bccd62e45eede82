"""Rows on their way into a dataset, outside of a model's own ingestion: checked as its learner says, then committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.data import checks, versions
from ciranda.data.checks import Bounds
from ciranda.data.rows import Row
from ciranda.data.versions import DatasetVersion
from ciranda.loop import sieve
from ciranda.loop.platform import Platform
from ciranda.registry import models


@dataclass(frozen=True)
class Policy:
    """Checks and their bounds: those of the model that learns from a dataset, or what is given for a dataset that none does."""

    checks: Mapping[str, str]
    bounds: Bounds


def policy(platform: Platform, dataset: str, *, otherwise: Mapping[str, str]) -> Policy:
    """What rows of a dataset must pass."""
    spec = learner(platform, dataset)
    if spec is None:
        return Policy(dict(otherwise), Bounds())
    return Policy(spec.data.checks.policy(), sieve.bounds(platform, spec, dataset))


def learner(platform: Platform, dataset: str) -> ModelSpec | None:
    """The model that learns from a dataset, or None."""
    with platform.db.reading() as conn:
        return next((one.spec for one in models.every(conn) if one.spec.dataset == dataset), None)


def commit(
    platform: Platform,
    dataset: str,
    rows: Iterable[Row],
    rules: Policy,
    *,
    made: Callable[[], Mapping[str, Any]],
    actor: str,
    sources: Sequence[str] = (),
    also: Callable[[], Mapping[str, Any]] = dict,
    within: Callable[[sa.Connection, DatasetVersion], None] | None = None,
) -> DatasetVersion:
    """Check the rows and make them the next version; all of them or nothing.

    Args:
        made: What made the rows, asked for when all of them have passed.
        sources: Versions of other datasets that the rows come from.
        also: What else the version's report says.

    Raises:
        Refused: A check said no, or no row is left.
    """
    with checks.judge(rows, rules.checks, bounds=rules.bounds, folder=platform.home.datasets) as judged:
        return versions.commit(
            platform.db, platform.home, dataset, judged.batches(), parents=sources, transformation=made(), actor=actor,
            report={**judged.report.to_dict(), **also()}, findings=judged.findings, within=within,
        )  # fmt: skip


def amend(
    platform: Platform,
    dataset: str,
    add: Sequence[Row],
    remove: Iterable[str],
    rules: Policy,
    *,
    made: Mapping[str, Any],
    actor: str,
    within: Callable[[sa.Connection, DatasetVersion], None] | None = None,
) -> DatasetVersion:
    """Check rows and put them beside those of the newest version, less those whose keys are named; or begin with them.

    Raises:
        Refused: A check said no, or no row is left.
    """
    known = versions.newest_of(platform.db, dataset)
    with checks.judge(add, rules.checks, bounds=rules.bounds, folder=platform.home.datasets) as judged:
        told: dict[str, Any] = {"report": judged.report.to_dict(), "findings": judged.findings, "within": within}
        if known is None:
            return versions.commit(
                platform.db, platform.home, dataset, judged.batches(), transformation=made, actor=actor, **told
            )
        return versions.amend(
            platform.db, platform.home, dataset, add=judged.batches(), remove=remove, parent=known.ref, transformation=made,
            actor=actor, **told,
        )  # fmt: skip
