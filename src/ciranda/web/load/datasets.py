"""One dataset version: its fields and rows, what its checks said, what changed since another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa

from ciranda.data import catalog, reading, sizes, versions
from ciranda.data.checks import CHECKS
from ciranda.data.rows import FACTS, Row
from ciranda.data.statistics import BINS, Field
from ciranda.data.versions import DatasetVersion
from ciranda.evals.suites import evaluations
from ciranda.govern.access import Principal
from ciranda.govern.policy import Reader
from ciranda.loop.platform import Platform
from ciranda.web.load import catalogue
from ciranda.web.views.datasets import (
    PAGE,
    Check,
    CheckPage,
    DatasetPage,
    Diff,
    Sample,
    Samples,
    Shift,
)

ORDER = list(CHECKS)
ACTIONS = {"block": "blocked", "drop": "dropped", "mask": "masked", "warn": "warned"}
HISTORY = 6
MOST_VALUES = 8


def single(platform: Platform, name: str, number: int, samples: Samples, who: Principal) -> DatasetPage:
    """One version. Raises NotFound."""
    version = versions.get(platform.db, f"{name}@{number}")
    counts = {
        (language, split): int(count)
        for language, splits in version.counts.get("language_split", {}).items()
        for split, count in splits.items()
    }
    parent = versions.get(platform.db, version.parent) if version.parent else None
    reader = reading.asking(who, "viewing")
    report = reading.report(platform.db, version, reader)
    uses = tuple(use.name for use in catalog.used_by(platform.db, version.ref))
    said = catalog.said(platform.db, name)["fields"]
    return DatasetPage(
        name, number, version.digest, version.parent, version.rows, version.created_at, version.created_by, counts,
        _checks(report), _samples(platform, version, samples, reader), {}, _made_by(version), uses,
        catalogue.history(platform, name, versions.line(platform.db, name, limit=HISTORY)),
        version.rows - parent.rows if parent else None, catalog.figures(platform.db, platform.home, version.ref, reader), said,
        _evaluations(platform, uses),
        tuple((one.suite, one.found) for one in catalog.contaminated(platform.db, version.ref)),
        sizes.of(platform.db, platform.home, version),
    )  # fmt: skip


def _evaluations(platform: Platform, uses: Sequence[str]) -> int:
    """How often the versions that learned from it were evaluated."""
    query = sa.select(sa.func.count()).select_from(evaluations).where(evaluations.c.version.in_(uses))
    with platform.db.reading() as conn:
        return int(conn.execute(query).scalar() or 0)


def _made_by(version: DatasetVersion) -> dict[str, str]:
    """What made the rows, as far as it fits in a line each."""
    short = {
        name: value for name, value in version.transformation.items() if isinstance(value, (str, int, float)) and value
    }
    sources = version.counts.get("source", {})
    return {
        **{name: str(value) for name, value in short.items()},
        **{name: f"{count:,}" for name, count in sources.items()},
    }


def _checks(whole: Mapping[str, Any]) -> tuple[Check, ...]:
    found, report = [], whole.get("checks", {})
    for name in sorted(report, key=ORDER.index if set(report) <= set(ORDER) else str):
        told = report[name]
        count = int(told.get("found", 0))
        examples = tuple(
            (str(one.get("origin", "")), str(one.get("key", "")), str(one.get("reason", "")))
            for one in told.get("examples", ())
        )
        action = ACTIONS.get(told.get("action", ""), "warned") if count else "passed"
        looked, speed = int(told.get("looked", 0)), int(told.get("rows_per_second", 0))
        found.append(Check(name, action, count, examples, looked, speed))
    return tuple(found)


def checks(platform: Platform, name: str, number: int, chosen: str, page: int, who: Principal) -> CheckPage:
    """The check report of a version. Raises NotFound."""
    version = versions.get(platform.db, f"{name}@{number}")
    reader = reading.asking(who, "viewing")
    report = reading.report(platform.db, version, reader)
    told = _checks(report)
    one = next((check for check in told if check.check == chosen), None) or next(
        (check for check in told if check.count), None
    )
    shown, total = _named(platform, version, one, page, reader) if one else ((), 0)
    looked, kept = int(report.get("looked", version.rows)), int(report.get("kept", version.rows))
    return CheckPage(name, number, looked, kept, version.created_at, told, one.check if one else "", shown, total, page)


def _named(
    platform: Platform, version: DatasetVersion, check: Check, page: int, reader: Reader
) -> tuple[tuple[tuple[str, str, str], ...], int]:
    """A page of the rows that a check named: of all findings where they were kept, else of the report's examples."""
    start = (page - 1) * PAGE
    kept = reading.findings(platform.db, platform.home, version.ref, reader, check=check.check, start=start, limit=PAGE)
    if kept:
        return tuple((str(one["origin"]), str(one["key"]), str(one["reason"])) for one in kept), check.count
    return check.examples[start : start + PAGE], len(check.examples)


def _samples(platform: Platform, version: DatasetVersion, asked: Samples, reader: Reader) -> Samples:
    """One page of rows; reading stops at its end, and how many there are is counted apart."""
    split, language, first = asked.split or None, asked.language or None, (asked.page - 1) * PAGE
    at = (platform.db, platform.home, version.ref, reader)
    rows = reading.read(*at, split=split, language=language, said=asked.q)
    shown = tuple(_sample(row) for row in islice(rows, first, first + PAGE))
    total = reading.count(*at, split=split, language=language, said=asked.q)
    return Samples(shown, total, asked.page, asked.split, asked.language, asked.q)


def _sample(row: Row) -> Sample:
    facts = {name: _told(getattr(row, name)) for name in FACTS if getattr(row, name)}
    return Sample(row.key, row.prompt, row.completion, row.language, row.split, row.source, row.origin, facts)


def _told(value: Any) -> str:
    """A fact of a row as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {one}" for name, one in sorted(value.items()))
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def changes(platform: Platform, name: str, old: int, new: int, kind: str, page: int, who: Principal) -> Diff:
    """What changed from one version to another: rows by key, side by side, and how fields are distributed. Raises NotFound."""
    before, after = versions.get(platform.db, f"{name}@{old}"), versions.get(platform.db, f"{name}@{new}")
    reader = reading.asking(who, "viewing")
    found = reading.diff(platform.db, platform.home, before.ref, after.ref, reader, most=page * PAGE)
    counts = found.summary()
    sides: dict[str, list[tuple[Row | None, Row | None]]] = {
        "added": [(None, row) for row in found.added],
        "removed": [(row, None) for row in found.removed],
        "changed": list(found.changed),
    }
    chosen = kind if kind in sides else next((one for one, count in counts.items() if count), "added")
    shown = sides[chosen][(page - 1) * PAGE : page * PAGE]
    pairs = tuple((_sample(was) if was else None, _sample(now) if now else None) for was, now in shown)
    kept = before.rows - counts["removed"] - counts["changed"]
    return Diff(
        name, old, new, kept, counts["added"], counts["removed"], counts["changed"], chosen, page, pairs,
        _shifts(platform, before, after, reader), before.rows, after.rows,
    )  # fmt: skip


def _shifts(platform: Platform, before: DatasetVersion, after: DatasetVersion, reader: Reader) -> tuple[Shift, ...]:
    """The fields whose values or lengths are distributed otherwise, the most moved first; none while they are not counted."""
    old, new = (catalog.figures(platform.db, platform.home, one.ref, reader) for one in (before, after))
    if old is None or new is None:
        return ()
    known = {one.name: one for one in old}
    pairs = [(known.get(one.name), one) for one in new if one.name not in ("origin", "group")]
    shifts = [shift for was, now in pairs if was is not None for shift in (*_values(was, now), *_lengths(was, now))]
    return tuple(sorted((one for one in shifts if one.moved > 0), key=lambda one: -one.moved))


def _values(was: Field, now: Field) -> Iterator[Shift]:
    """Shares of the frequent values, and of all others together."""
    if not (was.top or now.top):
        return
    old, new = dict(was.top), dict(now.top)
    labels = sorted(old.keys() | new.keys(), key=lambda one: -(new.get(one, 0) + old.get(one, 0)))[:MOST_VALUES]
    before, after = _shares(old, labels, was), _shares(new, labels, now)
    yield Shift(now.name, "values", (*labels, ""), (*before, 1 - sum(before)), (*after, 1 - sum(after)))


def _shares(counts: Mapping[str, int], labels: Sequence[str], field: Field) -> tuple[float, ...]:
    return tuple(counts.get(label, 0) / max(1, field.rows) for label in labels)


def _lengths(was: Field, now: Field) -> Iterator[Shift]:
    if now.name not in ("messages", "completion", "rejected") or not (was.lengths and now.lengths):
        return
    old, new = was.lengths.bins, now.lengths.bins
    last = max(place for place, (one, other) in enumerate(zip(old, new, strict=True)) if one or other)
    labels = tuple(str(bound) for bound in BINS[: last + 1])
    before, after = (tuple(one / max(1, sum(bins)) for one in bins[: last + 1]) for bins in (old, new))
    yield Shift(now.name, "lengths", labels, before, after)
