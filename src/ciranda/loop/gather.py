"""Recorded answers become a dataset version: chosen by filters, checked as the model's file says, committed with their lineage."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from ciranda.data import traffic
from ciranda.data import versions as datasets
from ciranda.errors import Invalid
from ciranda.interactions.filters import Filters
from ciranda.loop import intake, sieve
from ciranda.loop.platform import Platform
from ciranda.registry import models
from ciranda.store import clock


def gather(platform: Platform, dataset: str, chosen: Mapping[str, Any], actor: str) -> dict[str, Any]:
    """Make what the filters choose the next version of `dataset`; the same rows again are the same version.

    Its lineage names the filters, the moment and how many interactions were looked at; each row's origin is an interaction.

    Raises:
        Invalid: no model is chosen, or too many interactions are.
        Refused: a check of the model said no, or no interaction makes a row.
    """
    filters = {name: value for name, value in chosen.items() if value not in (None, "")}
    if not filters.get("model"):
        raise Invalid("a dataset is gathered from one model's interactions", where="model", remedy="name the model")
    with platform.db.reading() as conn:
        spec = models.get(conn, str(filters["model"])).spec
    found = platform.interactions.everything(**cast(Filters, filters))
    rows, looked_at = traffic.rows_from(found, languages_of=partial(intake.languages_of, spec))
    told = {name: clock.iso(value) if hasattr(value, "tzinfo") else value for name, value in filters.items()}
    made = {"kind": "interactions", "filters": told, "interactions": looked_at, "until": clock.iso()}
    with sieve.judged(platform, spec, rows, dataset=dataset) as judged:
        version = datasets.commit(
            platform.db, platform.home, dataset, judged.batches(), actor=actor, report=judged.report.to_dict(),
            findings=judged.findings, transformation=made,
        )  # fmt: skip
    return {"dataset": version.ref, "digest": version.digest, "rows": version.rows, "interactions": looked_at}
