"""Datasets: the catalogue, one version with a page of its rows, what changed between two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ciranda.data import catalog, entries, reading, versions
from ciranda.data.checks import CHECKS
from ciranda.data.entries import Wanted
from ciranda.data.rows import Row
from ciranda.data.versions import DatasetVersion
from ciranda.govern.access import Principal
from ciranda.govern.policy import Reader
from ciranda.loop.platform import Platform
from ciranda.registry import models
from ciranda.web.views.datasets import (
    PAGE,
    Check,
    DatasetPage,
    DatasetRow,
    DatasetVersionRow,
    Diff,
    Sample,
    Samples,
)

LIMIT = 200
DIFF_SHOWN = 100
ORDER = list(CHECKS)
ACTIONS = {"block": "blocked", "drop": "dropped", "mask": "masked", "warn": "warned"}


def listing(platform: Platform, reach: Sequence[str]) -> tuple[DatasetRow, ...]:
    """The catalogue, as far as the key reaches."""
    users = _users(platform)
    rows = []
    for one in entries.look(platform.db, Wanted(), limit=LIMIT)[0]:
        mine = tuple(users.get(one.name, ()))
        newest = one.newest
        if newest and ("*" in reach or set(mine) & set(reach)):
            rows.append(
                DatasetRow(
                    one.name, newest.number, newest.rows, _languages(newest), newest.created_at, _found(newest), mine
                )
            )
    return tuple(rows)


def _users(platform: Platform) -> dict[str, list[str]]:
    """The models that learn from each dataset."""
    users: dict[str, list[str]] = {}
    with platform.db.reading() as conn:
        for model in models.every(conn):
            users.setdefault(model.spec.dataset, []).append(model.name)
    return users


def _languages(version: DatasetVersion) -> tuple[str, ...]:
    counts = version.counts.get("language", {})
    return tuple(sorted((name for name in counts if name), key=lambda name: -counts[name]))


def _found(version: DatasetVersion) -> int:
    return sum(int(check.get("found", 0)) for check in version.report.get("checks", {}).values())


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
    change = reading.diff(platform.db, platform.home, parent.ref, version.ref, reader).summary() if parent else {}
    return DatasetPage(
        name, number, version.digest, version.parent, version.rows, version.created_at, version.created_by, counts,
        _checks(report), _samples(platform, version, samples, reader), {}, _made_by(version),
        tuple(use.name for use in catalog.used_by(platform.db, version.ref)), _history(platform, name),
        change.get("added", 0), change.get("removed", 0),
        tuple((one.suite, one.found) for one in catalog.contaminated(platform.db, version.ref)),
    )  # fmt: skip


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
        examples = tuple((str(one["origin"]), str(one["reason"])) for one in told.get("examples", ())[:20])
        found.append(Check(name, ACTIONS.get(told.get("action", ""), "warned") if count else "passed", count, examples))
    return tuple(found)


def _history(platform: Platform, name: str) -> tuple[DatasetVersionRow, ...]:
    line = versions.line(platform.db, name)
    sizes = {version.ref: version.rows for version in line}
    return tuple(
        DatasetVersionRow(
            name, version.number, version.rows, version.rows - sizes[version.parent] if version.parent in sizes else None,
            version.created_at, version.created_by, tuple(use.name for use in catalog.used_by(platform.db, version.ref)),
        )
        for version in line
    )  # fmt: skip


def _samples(platform: Platform, version: DatasetVersion, asked: Samples, reader: Reader) -> Samples:
    """One page of rows. Without a text to look for, the total is known and reading stops at the page's end."""
    wanted = asked.q.casefold()
    rows = (row for row in _rows(platform, version, asked, reader) if wanted in row.prompt.casefold())
    first = (asked.page - 1) * PAGE
    shown = [_sample(row) for row in islice(rows, first, first + PAGE)]
    rest = sum(1 for _ in rows) if wanted else 0
    total = first + len(shown) + rest if wanted else _total(platform, version, asked, reader)
    return Samples(tuple(shown), total, asked.page, asked.split, asked.language, asked.q)


def _rows(platform: Platform, version: DatasetVersion, asked: Samples, reader: Reader) -> Iterator[Row]:
    split, language = asked.split or None, asked.language or None
    return reading.read(platform.db, platform.home, version.ref, reader, split=split, language=language)


def _total(platform: Platform, version: DatasetVersion, asked: Samples, reader: Reader) -> int:
    split, language = asked.split or None, asked.language or None
    return reading.count(platform.db, platform.home, version.ref, reader, split=split, language=language)


def _sample(row: Row) -> Sample:
    return Sample(row.key, row.prompt, row.completion, row.language, row.split, row.source, row.origin)


def diff(platform: Platform, name: str, old: int, new: int, who: Principal) -> Diff:
    """What one version has that the other has not."""
    before, after = versions.get(platform.db, f"{name}@{old}"), versions.get(platform.db, f"{name}@{new}")
    found = reading.diff(platform.db, platform.home, before.ref, after.ref, reading.asking(who, "viewing"))
    added, removed = [_sample(row) for row in found.added], [_sample(row) for row in found.removed]
    kept = before.rows - len(removed) - len(found.changed)
    return Diff(
        name,
        old,
        new,
        kept,
        tuple(added[:DIFF_SHOWN]),
        tuple(removed[:DIFF_SHOWN]),
        len(added),
        len(removed),
        len(found.changed),
    )
