"""What an exam asks: its suites as gates name them, its scorers, and what these need. Decided here, sat in `evals.exams`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ciranda.config.model import ModelSpec
from ciranda.data import versions as datasets
from ciranda.errors import Refused
from ciranda.evals import embedding, library, replays, suites, written
from ciranda.evals.cases import Suite
from ciranda.evals.scorers import scorer
from ciranda.govern.outgoing import Door
from ciranda.loop import picks
from ciranda.loop.platform import Platform
from ciranda.registry.versions import Version


def asked(spec: ModelSpec, further: Sequence[str] = ()) -> tuple[str, ...]:
    """The scorers of an exam: those that gates and releases go by, those of the model's file, and further ones.

    What a judge says is asked of it afterwards, not while the version is examined.
    """
    named = {*_needed(spec), *spec.evaluate.scorers, *further}
    return tuple(sorted(name for name in named if scorer(name).needs != "judge"))


def _needed(spec: ModelSpec) -> set[str]:
    return {gate.metric for gate in spec.gates} | {spec.release.quality}


def mark(spec: ModelSpec, chosen: Iterable[Suite], metrics: Sequence[str]) -> str:
    """Names an exam by its suites, and by its scorers when they are others than the gates' own: that is another job."""
    digests = "-".join(suite.digest[7:15] for suite in chosen)
    short = digests if len(digests) < 80 else hashlib.sha256(digests.encode()).hexdigest()[:16]
    by = hashlib.sha256(" ".join(metrics).encode()).hexdigest()[:8]
    return f"{short}={by}" if set(metrics) - _needed(spec) else short


def needs(platform: Platform, spec: ModelSpec, version: Version) -> dict[str, Any]:
    """What an exam's texts are compared by: an engine of ours, a server elsewhere, or nothing but words."""
    if spec.evaluate.embedding == "base":
        return {"embedder": tuple(picks.base_of(platform.home, spec, version))}
    if server := embedder(platform, spec):
        return {"embedding": asdict(server)}
    return {}


def embedder(platform: Platform, spec: ModelSpec) -> embedding.Server | None:
    """The server elsewhere that embeds for a model; None when its file names none."""
    given = spec.evaluate.embedding
    if isinstance(given, str):
        return None
    parts = urlsplit(given.url)
    door = Door.of(platform.settings.allow_private_addresses, platform.settings.allow_hosts)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return embedding.Server(given.url, given.name, given.key, door.opens(parts.hostname or "", port))


def suites_of(platform: Platform, spec: ModelSpec, dataset: str, extra: Sequence[str] = ()) -> dict[str, Suite]:
    """The suites that the model's gates name (or the extra ones), by that name."""
    named = dict.fromkeys(extra or (gate.suite for gate in spec.gates))
    return {name: suite(platform, spec, name, dataset=dataset) for name in named}


def suite(platform: Platform, spec: ModelSpec, name: str, *, dataset: str = "") -> Suite:
    """A suite as gates name it: `test`, `replay`, a registered one, or a file.

    Raises:
        NotFound: There is none.
        Refused: `test` of a model without data.
    """
    if name == replays.SUITE:
        return replays.suite(platform.db, platform.home, spec.model)
    if name != "test":
        return written.from_yaml(Path(name)) if is_file(name) else library.load(platform.db, platform.home, name)
    newest = datasets.newest_of(platform.db, spec.dataset)
    ref = dataset or (newest.ref if newest else "")
    if not ref:
        raise Refused(
            f"{spec.model} has no data yet, so there is no test split to ask",
            where="gates: suite: test",
            remedy=f"`ciranda ingest {spec.model}` first",
        )
    return suites.from_dataset(platform.db, platform.home, ref, limit=spec.evaluate.cases)


OWN = frozenset({"test", replays.SUITE})  # made of the model's own rows or traffic; nobody registers them


def is_file(name: str) -> bool:
    """Whether a gate's suite is a file, not the name of a registered one."""
    return name.endswith((".yaml", ".yml", ".jsonl"))
