"""What a model's file may ask of scorers and suites, said when it is planned: a mistake must not wait for a turn to end badly."""

from __future__ import annotations

from collections.abc import Iterator

from ciranda.config.model import ModelSpec
from ciranda.errors import CirandaError, Invalid
from ciranda.evals import fields, judge, library
from ciranda.evals.scorers import GIVEN, Scorer, scorer
from ciranda.loop.papers import OWN, is_file
from ciranda.loop.platform import Platform

SCHEMAS = ("json_schema", "tool_valid")
CASES = ("label", "tool_calls", "tool_names")  # say something of a suite's cases alone


def demand(platform: Platform, spec: ModelSpec) -> None:
    """Refuse scorers that there are not or that cannot judge where they are asked, and suites that nobody registered.

    Raises:
        Invalid: Names the key and what to write in its place.
        NotFound: A suite that is not there.
        Unavailable: A scorer whose package is not installed.
    """
    for key, name in _named(spec):
        try:
            _able(key, scorer(name), spec)
        except CirandaError as error:
            error.where = f"{spec.model}: {key}"
            raise
    with platform.db.reading() as conn:
        for sampled in spec.watch.judges:
            judge.get(conn, sampled.judge)
    for name in dict.fromkeys(gate.suite for gate in spec.gates):
        if name not in OWN and not is_file(name):
            with platform.db.reading() as conn:
                library.find(conn, name)


def _named(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    """Every scorer of the file, with the key that names it."""
    yield from (("gates: metric", gate.metric) for gate in spec.gates)
    yield from (("evaluate: scorers", name) for name in spec.evaluate.scorers)
    yield from (("watch: scorers", name) for name in spec.watch.scorers)
    yield "release: quality", spec.release.quality


def _able(key: str, named: Scorer, spec: ModelSpec) -> None:
    """Whether a scorer can judge there: live answers have no reference, and an engine only by its address."""
    if named.name in SCHEMAS:
        fields.demand({}, key)
    if key == "release: quality" and (not named.bounded or named.needs in GIVEN):
        raise Invalid(f"{named.name} is no quality between 0 and 1 that is cheap enough for every answer of a release",
                      where=key, remedy="choose valid_json, json_schema, refusal, same_language, …")  # fmt: skip
    if key == "watch: scorers" and named.needs == "judge":
        raise Invalid(f"{named.name} costs a question for each answer, which live traffic has too many of", where=key,
                      remedy="let it judge a sample: `watch: {judges: [{judge: NAME, share: 0.05}]}`")  # fmt: skip
    if key == "watch: scorers" and (named.needs_reference or named.needs == "partner" or named.name in CASES):
        raise Invalid(f"{named.name} needs a reference or a pair, and live traffic has none", where=key,
                      remedy="choose valid_json, refusal, toxicity, pii_leak, relevance, latency_ms, …")  # fmt: skip
    if key == "watch: scorers" and named.needs == "embedding" and spec.evaluate.embedding == "base":
        raise Invalid(f"{named.name} on live answers needs an embedding that always runs", where=key,
                      remedy="set `evaluate: embedding` to words, or to a server: {url: …, name: …}")  # fmt: skip
