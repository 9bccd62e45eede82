"""Bringing data in: from the sources of a model or of a dataset of its own, through the checks, into a version.

    take(platform, spec, …)      read, check, commit; what changed in fields or failed in part becomes an alert
    tick(platform)               what the leader looks after: schedules, watched folders, what somebody asked for

One dataset is fed by one run at a time; several datasets side by side, a few threads wide, so that a slow API holds up no
folder. New rows ask for a turn of the models that learn from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from ciranda.config.model import DatasetSpec, ModelSpec
from ciranda.config.source import Source
from ciranda.data import checks, feeds, sources
from ciranda.data import versions as datasets
from ciranda.data.language import detect_all
from ciranda.data.sources import Inputs, Window, marks, runs
from ciranda.data.sources.fields import said
from ciranda.data.sources.folders import news
from ciranda.data.sources.found import label
from ciranda.errors import CirandaError, Conflict, NotFound
from ciranda.govern.outgoing import Door
from ciranda.loop import picks, sieve, turns
from ciranda.loop.platform import Platform
from ciranda.monitor import alerts
from ciranda.registry import models
from ciranda.store import clock

Spec = ModelSpec | DatasetSpec
WIDE = 4
SCHEDULE = "schedule"
FOLDER_AGAIN_S = 30.0
log = logging.getLogger("ciranda.intake")


def model_of(spec: Spec) -> str:
    """The model that learns here; empty for a dataset of its own."""
    return spec.model if isinstance(spec, ModelSpec) else ""


def fed(platform: Platform) -> list[Spec]:
    """Whatever has sources: models and datasets of their own."""
    with platform.db.reading() as conn:
        specs: list[Spec] = [model.spec for model in models.every(conn)]
        specs += [feed.spec for feed in feeds.every(conn)]
    return [spec for spec in specs if spec.data.sources]


def feeder(platform: Platform, dataset: str) -> Spec:
    """Whose file feeds a dataset. Raises NotFound when nobody's does."""
    for spec in fed(platform):
        if spec.dataset == dataset:
            return spec
    raise NotFound(
        f"nothing feeds {dataset!r}", where="sources",
        remedy=f"write datasets/{dataset}.yaml with its sources, then `ciranda sources add`",
    )  # fmt: skip


def named(spec: Spec, only: Sequence[str]) -> list[str] | None:
    """The labels asked for, all of which the file has; None for all. Raises NotFound."""
    known = [label(one) for one in spec.data.sources]
    for name in only:
        if name not in known:
            raise NotFound(
                f"{spec.dataset} has no source {name!r}", where="sources", remedy=f"name one of: {', '.join(known)}"
            )
    return list(only) or None


def take(
    platform: Platform,
    spec: Spec,
    *,
    actor: str,
    only: Collection[str] | None = None,
    window: Window = Window(),  # noqa: B008 - frozen
    patient: bool = False,
    lazy: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Bring in what the sources have, check it, commit it. The same rows as before give the same version.

    Args:
        only, window, patient: As `sources.ingest` says.
        lazy: End without looking at all rows when no source brought anything new.
        tell: Hears how far the checks are, in words; the run's own row has it as figures.

    Raises:
        Refused: A check or a bad row said no; nothing is kept. Invalid, NotFound, Unavailable as the sources do.
        Conflict: Another ingestion of the dataset is under way.
    """
    data, dataset = spec.data, spec.dataset
    before = datasets.newest_of(platform.db, dataset)
    if not data.sources and before is not None:
        return _told(before, before, sources.Batch(platform.db, "", dataset, before.ref, (), ()))
    with sources.ingest(
        platform.db, platform.home, dataset=dataset, model=model_of(spec), sources=data.sources, actor=actor, only=only,
        window=window, patient=patient, lazy=lazy and before is not None, inputs=inputs(platform, spec),
    ) as batch:  # fmt: skip
        if not batch.news and before is not None:
            batch.pass_by()
            version = before
        else:
            with sieve.judged(platform, spec, batch.rows, tell=partial(_checking, batch, tell)) as judged:
                batch.committing(judged.looked)
                version = datasets.commit(
                    platform.db, platform.home, dataset, judged.batches(), transformation=batch.transformation,
                    actor=actor, report=judged.report.to_dict(), findings=judged.findings, within=batch.finish,
                )  # fmt: skip
    _alert(platform, spec, batch)
    return _told(version, before, batch)


def _checking(batch: sources.Batch, tell: Callable[[str], None], how: checks.Progress) -> None:
    """What the checks say of their progress, to the run's row and to whoever waits."""
    if batch.checking(how.rows, how.check):
        tell(
            f"{how.rows:,} rows checked, {how.rows_per_second:,} rows/s"
            + (f"; among all: {how.check}" if how.check else "")
        )


def _told(
    version: datasets.DatasetVersion, before: datasets.DatasetVersion | None, batch: sources.Batch
) -> dict[str, Any]:
    return {
        "dataset": version.ref,
        "digest": version.digest,
        "rows": version.rows,
        "counts": version.counts,
        "report": version.report,
        "before": before.ref if before else "",
        "new": before is None or before.ref != version.ref,
        "run": batch.run,
        "bad": sum(len(one.bad) for one in batch.brought),
        "changes": {name: [dict(change) for change in found] for name, found in batch.changes.items()},
        "failed": {name: error.to_dict() for name, error in batch.failed.items()},
    }


def inputs(platform: Platform, spec: Spec) -> Inputs:
    """What the sources of a file need from the platform."""
    data, settings = spec.data, platform.settings
    return Inputs(
        root=platform.root,
        sampler=picks.sampler(data.sources),
        traffic=platform.interactions if any(source.interactions for source in data.sources) else None,
        languages_of=partial(languages_of, spec),
        door=Door.of(settings.allow_private_addresses, settings.allow_hosts),
        connectors=frozenset(one.strip() for one in settings.connectors.split(",") if one.strip()),
        scratch=platform.home.run,
    )


def languages_of(spec: Spec, texts: Sequence[str]) -> list[str]:
    """The languages of texts, by the names that the sources give them: `pt` is `pt-BR` where that was declared."""
    declared = [source.intents for source in spec.data.sources if source.intents]
    names = {short: name for name in reversed(declared) for short in (name.split("-")[0], name)}
    return [names.get(found, found) for found in detect_all(texts)]


def _alert(platform: Platform, spec: Spec, batch: sources.Batch) -> None:
    """Other fields than before, and sources that a run went on without, are somebody's matter."""
    for source, changes in batch.changes.items():
        fire(platform, spec, f"schema:{source}:{said(changes)}", f"the fields of {source} changed: {said(changes)}",
             {"source": source, "changes": list(changes), "run": batch.run}, kind="schema")  # fmt: skip
    for one in batch.brought:
        if one.bad and not one.dropped:
            fire(platform, spec, f"bad:{one.source}", f"{len(one.bad)} bad rows of {one.source} wait in quarantine",
                 {"source": one.source, "examples": [["", f"{bad.origin}: {bad.reason}"] for bad in one.bad[:3]],
                  "run": batch.run})  # fmt: skip
    for source, error in batch.failed.items():
        fire(platform, spec, f"{source}:{clock.iso()[:13]}", f"{source} could not be read: {error.message}",
             {"source": source, "error": error.to_dict(), "run": batch.run})  # fmt: skip


def fire(
    platform: Platform, spec: Spec, event: str, title: str, body: dict[str, Any], *, kind: str = "ingestion"
) -> None:
    """Raise an alert about the data of a file; the same event again only counts."""
    with platform.db.writing() as conn:
        alerts.raise_(
            conn, f"{kind}:{spec.dataset}:{event}"[:200], model=model_of(spec), kind=kind, severity="warning",
            title=f"{spec.dataset}: {title}"[:500], body={"dataset": spec.dataset, **body}, targets=spec.alerts,
            actor="intake",
        )  # fmt: skip


# --- by itself --------------------------------------------------------------------------------------------------------


class Intake:
    """The leader's part: looks what is due and brings it in, a few datasets at a time."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._pool = ThreadPoolExecutor(WIDE, thread_name_prefix="intake")
        self._busy: dict[str, Future[None]] = {}

    def tick(self) -> None:
        """Begin what is due and not under way."""
        for name, one in list(self._busy.items()):
            if one.done():
                del self._busy[name]
                one.result()
        for spec in fed(self.platform):
            if spec.dataset in self._busy:
                continue
            asked = runs.asked(self.platform.db, spec.dataset)
            wanted = [label(one) for one in self._due(spec)]
            if asked is not None or wanted:
                self._busy[spec.dataset] = self._pool.submit(self._bring, spec, wanted, asked)
        self._learn()

    def under_way(self) -> list[Future[None]]:
        """The runs that it began and that have not ended as far as it knows."""
        return list(self._busy.values())

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _due(self, spec: Spec) -> list[Source]:
        db, wanted = self.platform.db, spec.data.sources
        found = sources.due(db, spec.dataset, wanted, now=clock.now())
        for source in wanted:
            if source.folder and source not in found:
                known = marks.known(db, spec.dataset, label(source))
                if news(source, self.platform.root, known) and self._rested(spec.dataset, label(source)):
                    found.append(source)
        return found

    def _rested(self, dataset: str, name: str) -> bool:
        """A folder whose last look failed is not looked at every second."""
        last = runs.recent(self.platform.db, dataset, name, limit=1)
        if not last or last[0].state != "failed":
            return True
        return (clock.now() - clock.parse(last[0].ended_at or last[0].started_at)).total_seconds() >= FOLDER_AGAIN_S

    def _bring(self, spec: Spec, wanted: list[str], asked: runs.Asked | None) -> None:
        if asked is not None:
            wanted = list(asked.sources) or [label(one) for one in spec.data.sources]
        try:
            take(
                self.platform, spec, actor=asked.actor if asked else SCHEDULE, only=wanted, patient=True,
                lazy=asked is None, window=asked.window if asked else Window(),
            )  # fmt: skip
        except Conflict as error:
            log.info("%s waits: %s", spec.dataset, error.message)
            return
        except CirandaError as error:
            log.warning("%s was not ingested: %s", spec.dataset, error)
            title = f"the ingestion failed: {error.message}"
            fire(self.platform, spec, clock.iso()[:13], title, {"error": error.to_dict()})
        if asked is not None:
            runs.answered(self.platform.db, asked)

    def _learn(self) -> None:
        """Rows that came by themselves ask for a turn of every model that learns from them, once it may turn.

        It looks at what is, not at what just happened: a version that came while a turn was under way, or while the model
        cools down, is learnt afterwards; one that a turn has learnt already is not learnt again.
        """
        with self.platform.db.reading() as conn:
            specs = [model.spec for model in models.every(conn)]
        for spec in specs:
            newest = datasets.newest_of(self.platform.db, spec.dataset)
            if newest is None or newest.created_by != SCHEDULE:
                continue
            with self.platform.db.writing() as conn:
                if turns.learnt(conn, spec.model, newest.ref) or turns.barred(conn, spec):
                    continue
                try:
                    turns.ask(
                        conn, spec.model, cause="schedule", event=newest.digest[7:23], actor=SCHEDULE, automatic=True,
                        reason=f"{newest.ref} has new rows",
                    )  # fmt: skip
                except Conflict as error:
                    log.debug("no turn of %s yet: %s", spec.model, error.message)
