"""Suites against dataset versions, again whenever either side changes: who was trained on what a suite asks must be told.

One version at each look, the newest of each dataset before those that model versions learned from; what was compared once is
compared again only when the suite's prompts are others. A suite that cannot be read is left for later, with a word in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from ciranda.data import contamination
from ciranda.data import versions as datasets
from ciranda.data.contamination import Overlap
from ciranda.errors import CirandaError, NotFound
from ciranda.evals import library, written
from ciranda.loop.papers import OWN, is_file
from ciranda.loop.platform import Platform
from ciranda.monitor import alerts
from ciranda.registry import models, versions

log = logging.getLogger("ciranda.loop")
KIND = "contamination"


class Overlaps:
    """Remembers the suites' files as they were read, so that a look costs little when nothing changed."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._read: dict[str, tuple[tuple[int | str, ...], list[str], str]] = {}

    def look(self) -> None:
        """Compare one version with the suites that it was not compared with, and tell what was found."""
        prompts = dict(self._suites())
        self._forget()
        digests = {name: self._read[name][2] for name in prompts}
        for version in self._versions():
            with self._platform.db.reading() as conn:
                waiting = contamination.due(conn, version, digests)
            if waiting:
                found = self._compared(version, {name: prompts[name] for name in waiting})
                with self._platform.db.writing() as conn:
                    for overlap in found:
                        contamination.keep(conn, overlap, actor="loop")
                        _tell(conn, overlap)
                return

    def _compared(self, version: str, asked: Mapping[str, Sequence[str]]) -> list[Overlap]:
        """What was found; nothing in a version whose rows are gone, which must not keep the others waiting."""
        try:
            return contamination.compare(self._platform.home, version, asked)
        except NotFound:
            return [Overlap(version, name, contamination.digest_of(asked[name]), 0, 0, {}, ()) for name in asked]

    def _suites(self) -> Iterator[tuple[str, list[str]]]:
        """The prompts of each registered suite that can be read."""
        for name in registered(self._platform):
            try:
                stamp = self._stamp(name)
                if self._read.get(name, (None,))[0] != stamp:
                    prompts = prompts_of(self._platform, name)
                    self._read[name] = (stamp, prompts, contamination.digest_of(prompts))
            except (CirandaError, OSError) as error:
                log.warning("the suite %s is not compared with data: %s", name, error)
                continue
            yield name, self._read[name][1]

    def _stamp(self, name: str) -> tuple[int | str, ...]:
        """What changes when a suite does."""
        if is_file(name):
            told = Path(name).stat()
            return told.st_mtime_ns, told.st_size
        with self._platform.db.reading() as conn:
            return (library.find(conn, name).content,)

    def _forget(self) -> None:
        """What suites found that no model names any more is over."""
        named = registered(self._platform)
        with self._platform.db.reading() as conn:
            known = contamination.compared(conn)
        if not known - set(named):
            return
        with self._platform.db.writing() as conn:
            for gone in contamination.forget(conn, named, actor="loop"):
                _over(conn, gone)

    def _versions(self) -> list[str]:
        """The newest version of each dataset, then every version that a model version learned from."""
        table, data = versions.versions, datasets.dataset_versions
        with self._platform.db.reading() as conn:
            newest = conn.execute(sa.select(data.c.dataset, sa.func.max(data.c.number)).group_by(data.c.dataset)).all()
            used = (
                conn.execute(sa.select(table.c.dataset).where(table.c.dataset.like("%@%")).distinct()).scalars().all()
            )
            there = {f"{row.dataset}@{row.number}" for row in conn.execute(sa.select(data.c.dataset, data.c.number))}
        return [
            ref
            for ref in dict.fromkeys([*(f"{name}@{number}" for name, number in newest), *sorted(used)])
            if ref in there
        ]


def registered(platform: Platform) -> list[str]:
    """All suites that are registered (the newest version of each), and the files and versions that a gate of any model names."""
    with platform.db.reading() as conn:
        named = {gate.suite for one in models.every(conn) for gate in one.spec.gates if gate.suite not in OWN}
        return sorted({*named, *library.names(conn)})


def prompts_of(platform: Platform, name: str) -> list[str]:
    """What a suite asks. Raises NotFound, Invalid."""
    asked = written.from_yaml(Path(name)) if is_file(name) else library.load(platform.db, platform.home, name)
    return asked.prompts


def _tell(conn: sa.Connection, overlap: Overlap) -> None:
    """An alert on each model that is concerned, or the end of the one that was raised."""
    _over(conn, overlap, but=overlap.suite_digest if overlap.found else "")
    if not overlap.found:
        return
    taught = trained_on(conn, overlap.version)
    also = f"; trained on it: {', '.join(taught)}" if taught else ""
    for model, targets in _concerned(conn, overlap.version, taught).items():
        alerts.raise_(
            conn, f"{_event(overlap)}{overlap.suite_digest}:{model}", model=model, kind=KIND, severity="warning", actor="loop",
            title=f"{overlap.version} holds {overlap.found:,} training rows that the suite {overlap.suite} asks{also}",
            body={"summary": "Scores on this suite say less than they seem to.", "figures": dict(overlap.ways), "versions": taught,
                  "dataset": overlap.version, "suite": overlap.suite}, targets=targets,
        )  # fmt: skip


def _concerned(conn: sa.Connection, version: str, taught: list[str]) -> Mapping[str, tuple[str, ...]]:
    """The models that learn or learned from a dataset version, and where their alerts go."""
    dataset, names = version.partition("@")[0], {ref.partition("@")[0] for ref in taught}
    found = {
        one.name: one.spec.alerts for one in models.every(conn) if one.spec.dataset == dataset or one.name in names
    }
    return found or {"": ("log",)}


def trained_on(conn: sa.Connection, version: str) -> list[str]:
    """The model versions that learned from a dataset version."""
    table = versions.versions
    query = (
        sa.select(table.c.model, table.c.number)
        .where(table.c.dataset == version)
        .order_by(table.c.model, table.c.number)
    )
    return [f"{row.model}@{row.number}" for row in conn.execute(query)]


def _over(conn: sa.Connection, overlap: Overlap, *, but: str = "") -> None:
    """Close what was raised for a version and a suite, but for the alert of one digest."""
    table, event = alerts.alerts, _event(overlap)
    query = sa.select(table.c.id, table.c.event).where(table.c.kind == KIND, table.c.state != "closed")
    for row in conn.execute(query).all():
        if row.event.startswith(event) and not (but and row.event.startswith(f"{event}{but}")):
            alerts.close(conn, row.id, actor="loop", note="the suite or what it found is another")


def _event(overlap: Overlap) -> str:
    return f"contamination:{overlap.version}:{overlap.suite}:"
