"""Feeding by hand: ingest now or soon, a stretch of the past again, files of datasets without a model, bad rows.

Each verb is one short transaction with its audit event; `ingest` alone does its work before it answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ciranda.config import model as specs
from ciranda.config.model import DatasetSpec
from ciranda.data import feeds
from ciranda.data.sources import Window, quarantine, runs
from ciranda.errors import Conflict, Invalid
from ciranda.govern import audit
from ciranda.loop import intake, turns, verbs
from ciranda.loop.platform import Platform
from ciranda.registry import models


def ingest(
    platform: Platform,
    name: str,
    actor: str,
    *,
    only: Sequence[str] = (),
    window: Window = Window(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Bring in what the sources of a model (or of a dataset of its own) have, as a dataset version with its check report.

    Args:
        only: Labels of the sources to read; the rows of others are taken over. None of them named: all.
        window: What to read again, whatever the cursors say.

    Raises:
        Refused: A check or a bad row said no; nothing is kept.
        Conflict: A turn of the model is ingesting by itself, or another ingestion is under way.
    """
    spec = _fed(platform, name)
    with platform.db.writing() as conn:
        running = [turn.id for turn in turns.in_state(conn, "running") if turn.model == intake.model_of(spec)]
        if running:
            raise Conflict(f"{running[0]} is under way and ingests by itself", where=name, remedy="wait for its end")
        told = {"sources": list(only), "since": window.since, "until": window.until}
        audit.record(conn, actor=actor, action="ingestion.asked", subject=spec.dataset, detail=told)
    return intake.take(platform, spec, actor=actor, only=intake.named(spec, only), window=window)


def ask(
    platform: Platform,
    name: str,
    actor: str,
    *,
    only: Sequence[str] = (),
    window: Window = Window(),  # noqa: B008
) -> str:
    """The same, soon and without waiting: the leader does it. Returns the dataset's name."""
    spec = _fed(platform, name)
    intake.named(spec, only)
    with platform.db.writing() as conn:
        runs.ask(conn, spec.dataset, sources=only, window=window, actor=actor)
        told = {"sources": list(only), "since": window.since, "until": window.until}
        audit.record(conn, actor=actor, action="ingestion.asked", subject=spec.dataset, detail=told)
    return spec.dataset


def feed(platform: Platform, files: Mapping[str, str], actor: str) -> list[str]:
    """Apply the files of datasets that are fed without a model; all of them, or none. Returns the datasets.

    Raises:
        Invalid: A file is wrong (file, line, key, remedy), or two files name the same dataset.
        Conflict: A model's file feeds the dataset already.
    """
    wanted: dict[str, DatasetSpec] = {}
    for file, text in files.items():
        spec = specs.read_dataset(text, file=file)
        if spec.dataset in wanted:
            raise Invalid(f"two files describe {spec.dataset!r}", where=file, remedy="keep one, or rename the dataset")
        sources = verbs.placed(spec.sources, Path(file).parent, platform.root)
        wanted[spec.dataset] = spec.model_copy(update={"sources": sources})
    with platform.db.writing() as conn:
        for model in models.every(conn):
            if model.spec.dataset in wanted and model.spec.data.sources:
                raise Conflict(
                    f"the model {model.name} feeds {model.spec.dataset}", where=model.spec.dataset,
                    remedy="leave `sources` out of one of the two files",
                )  # fmt: skip
        for spec in wanted.values():
            feeds.put(conn, spec, actor=actor)
    return sorted(wanted)


def unfeed(platform: Platform, dataset: str, actor: str) -> None:
    """Stop feeding a dataset by a file of its own; its versions stay. Raises NotFound."""
    with platform.db.writing() as conn:
        feeds.remove(conn, dataset, actor=actor)


def judge_bad_rows(platform: Platform, dataset: str, actor: str, *, names: Sequence[str] = (), retry: bool) -> int:
    """Have bad rows read again with the mapping of today, soon; or drop them for good. Returns how many.

    Raises:
        NotFound: None of them waits.
    """
    with platform.db.writing() as conn:
        count = quarantine.ask(conn, dataset, names=names, state="retry" if retry else "dropped", actor=actor)
        if retry:
            runs.ask(conn, dataset, sources=(), window=Window(), actor=actor)
    return count


def _fed(platform: Platform, name: str) -> intake.Spec:
    with platform.db.reading() as conn:
        model = models.find(conn, name)
    return model.spec if model is not None else intake.feeder(platform, name)
