"""The work behind each step of a turn. Every function here may be killed anywhere and called again: it then goes on, or finds
its result. What is heavy is a job under a key that follows from the turn, so a second call finds the first one's job.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ciranda.config.model import ModelSpec
from ciranda.data import checks, sources
from ciranda.data import versions as datasets
from ciranda.data.sources import Inputs
from ciranda.deploy import rollout
from ciranda.errors import CirandaError, Failed, Refused
from ciranda.evals import exams, suites
from ciranda.evals.suites import Evaluation, Suite
from ciranda.jobs.local import JobSpec
from ciranda.loop import picks
from ciranda.loop.platform import Platform
from ciranda.monitor import alerts, language
from ciranda.registry import gates, models, verdicts, versions
from ciranda.registry.versions import Draft, Version
from ciranda.store import files
from ciranda.train import bases, trials
from ciranda.train import recipe as recipes
from ciranda.train import search as searches

POLL_S = 0.3
ATTEMPTS = 3
Told = Callable[[str], None]


# --- the base, and version 0 ------------------------------------------------------------------------------------------


def found(platform: Platform) -> None:
    """Give every model without a live version its version 0, the bare base: the first champion to beat.

    Its base is prepared by a job first; until that is done, nothing happens and the next look goes on.
    """
    with platform.db.reading() as conn:
        missing = [model.spec for model in models.every(conn) if versions.live(conn, model.name) is None]
    for spec in missing:
        base = _base(platform, spec)
        if base is None:
            continue
        version = versions.register_base(
            platform.db, platform.home, model=spec.model, base=spec.base, base_digest=base.digest, actor="loop"
        )
        with platform.db.writing() as conn:
            if versions.live(conn, spec.model) is None:  # another thread may have been here meanwhile
                rollout.promote(conn, version.ref, actor="loop", reason="the bare base, until a version beats it")


def _base(platform: Platform, spec: ModelSpec) -> bases.Base | None:
    """The prepared base, or None: not yet, or not at all, which is an alert."""
    try:
        return bases.find(platform.home.bases, spec.base) if prepared(platform, spec) else None
    except CirandaError as error:
        with platform.db.writing() as conn:
            alerts.raise_(
                conn, f"base:{spec.model}:{spec.base}", model=spec.model, kind="base", severity="critical",
                title=f"{spec.model} has no base: {error.message}", body={"error": error.to_dict()},
                targets=spec.alerts, actor="loop",
            )  # fmt: skip
        return None


def prepared(platform: Platform, spec: ModelSpec) -> bool:
    """Whether the model's base is ready in this home; when it is not, the job that prepares it is under way.

    Raises:
        NotFound: There is no such base, or its package is not installed; says how to get it.
        Failed: Its preparation failed; says where the log is.
    """
    if bases.find(platform.home.bases, spec.base) is not None:
        return True
    key = f"base:{bases.slug(spec.base)}"
    state = platform.jobs.status(key)
    if state.state == "failed":
        remedy = f"mend what the log says, then `ciranda base prepare {spec.base}`"
        raise _failed(platform, key, f"the base {spec.base!r} could not be prepared", remedy=remedy)
    if state.state != "running":
        folder = platform.home.jobs / key
        cache = Path(platform.settings.cache)
        platform.jobs.submit(key, bases.job(spec.base, bases=platform.home.bases, cache=cache, folder=folder))
    return bases.find(platform.home.bases, spec.base) is not None


def prepare(platform: Platform, spec: ModelSpec) -> bases.Base:
    """The model's base, once it is ready; waits for its job."""
    while not prepared(platform, spec):
        time.sleep(POLL_S)
    return bases.need(platform.home.bases, spec.base)


# --- data -------------------------------------------------------------------------------------------------------------


def ingest(platform: Platform, spec: ModelSpec, *, actor: str) -> dict[str, Any]:
    """Bring in what the sources have, check it, commit it. The same rows as before give the same version.

    Raises:
        Refused: A check or a bad row said no; nothing is kept. Invalid, NotFound, Unavailable as the sources do.
    """
    inputs = Inputs(Path("/"), picks.sampler(spec), _traffic(platform, spec), partial(_language_of, spec))
    before = datasets.newest_of(platform.db, spec.dataset)
    with sources.ingest(
        platform.db, platform.home, dataset=spec.dataset, model=spec.model, sources=spec.data.sources, inputs=inputs
    ) as batch:
        policy = {str(name): str(action) for name, action in spec.data.checks.items()}
        report = checks.run(batch.rows, policy, max_characters=spec.data.max_characters, suites=_prompts(spec))
        version = datasets.commit(
            platform.db, platform.home, spec.dataset, report.kept, transformation=batch.transformation, actor=actor,
            report=report.to_dict(), within=batch.finish,
        )  # fmt: skip
    return {
        "dataset": version.ref,
        "digest": version.digest,
        "rows": version.rows,
        "counts": version.counts,
        "report": version.report,
        "before": before.ref if before else "",
        "new": before is None or before.ref != version.ref,
    }


def _language_of(spec: ModelSpec, text: str) -> str:
    """The language of a text, by the name that the model's sources give it: `pt` is `pt-BR` where that was declared."""
    found = language.detect(text)
    declared = [source.intents for source in spec.data.sources if source.intents]
    return next((name for name in declared if name == found or name.split("-")[0] == found), found)


def _traffic(platform: Platform, spec: ModelSpec) -> Any:
    return platform.interactions if any(source.interactions for source in spec.data.sources) else None


def _prompts(spec: ModelSpec) -> Mapping[str, list[str]]:
    """The questions of the model's own suites, which training must not see."""
    return {gate.suite: suites.from_yaml(Path(gate.suite)).prompts for gate in spec.gates if gate.suite != "test"}


# --- training ---------------------------------------------------------------------------------------------------------


def search(platform: Platform, spec: ModelSpec, dataset: str, *, turn: str, tell: Told) -> dict[str, Any]:
    """Look for the best recipe on a dataset version; it goes on from the live version's adapter, where there is one.

    Raises:
        Refused: The recipe could not be served by the model's engine; nothing was trained.
        Failed: Every trial failed.
    """
    base = prepare(platform, spec)
    start = _start(platform, spec)
    recipe = recipes.recipe(
        {**(start.recipe if start else {}), **spec.train.recipe}, where=f"{spec.model}: train.recipe"
    )
    picks.servable(spec, recipe, base.config)
    found = searches.search(
        platform.db,
        picks.trainer(platform, spec),
        searches.Plan(
            id=f"search:{turn.removeprefix('turn:')}",
            model=spec.model,
            dataset=dataset,
            base=base.folder,
            rows=_exported(platform, dataset, "train"),
            validation=_exported(platform, dataset, "validation"),
            recipe=recipe,
            space=searches.space(
                spec.train.recipe, layers=base.config["num_hidden_layers"], going_on=start is not None
            ),
            limit=spec.train.search.trials,
            budget_s=spec.train.search.budget,
            init_adapter=Path(start.folder) / "adapter" if start else None,
            turn=turn,
        ),
        actor="loop",
        tell=tell,
    )
    return {
        "trial": found.id,
        "folder": found.folder,
        "recipe": found.recipe.model_dump(),
        "trials": len(trials.of(platform.db, found.search)),
        "summary": f"{found.objective or 0.0:.1%} exact on validation at rate {found.recipe.learning_rate:g}",
        "environment": dict(found.figures.get("environment", {})),
        "started_from": start.ref if start else "",
    }


def _start(platform: Platform, spec: ModelSpec) -> Version | None:
    """The live version, when it has an adapter on the same base: what it learned need not be learned again."""
    with platform.db.reading() as conn:
        live = versions.live(conn, spec.model)
    return live if live is not None and live.adapter_digest and live.base == spec.base else None


def _exported(platform: Platform, dataset: str, split: str) -> Path:
    """The rows of a split as the file that training reads; written once, whole."""
    path = platform.home.jobs / "rows" / f"{dataset}-{split}.jsonl"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        datasets.export(platform.home, dataset, path, split=split)
    return path


def register(
    platform: Platform, spec: ModelSpec, data: Mapping[str, Any], best: Mapping[str, Any], *, turn: str
) -> Version:
    """Make the best trial a version; the same trial again is the same version."""
    folder = Path(best["folder"])
    draft = Draft(
        model=spec.model,
        base=spec.base,
        base_digest=bases.need(platform.home.bases, spec.base).digest,
        dataset=data["dataset"],
        dataset_digest=data["digest"],
        recipe={**best["recipe"], **({"started_from": best["started_from"]} if best["started_from"] else {})},
        adapter=folder / "adapter",
        gguf=folder / "adapter.gguf",
        environment=best["environment"],
        trial=best["trial"],
        turn=turn,
    )
    return versions.register(platform.db, platform.home, draft, actor="loop")


# --- evaluation -------------------------------------------------------------------------------------------------------


def examine(platform: Platform, spec: ModelSpec, version: Version, *, actor: str, dataset: str = "") -> str:
    """Begin to ask a version the cases of its model's gates; returns the key of the job.

    Asked before: the same key, unless that job failed; then it is tried anew.

    Args:
        dataset: Whose test split `suite: test` means; without it the newest version of the model's dataset.
    """
    chosen = _suites(platform, spec, dataset)
    known = _reports(platform, version)
    spec_of_exam = exams.Spec(
        engine=tuple(picks.engine_of(platform.home, spec, version)),
        name=version.ref,
        key_file=str(platform.home.engine_key),
        suites=tuple(chosen.values()),
        metrics=tuple(sorted({gate.metric for gate in spec.gates} | {spec.release.quality})),
        known=known,
        max_tokens=spec.evaluate.max_tokens,
        concurrency=spec.serve.slots,
    )
    mark = "-".join(suite.digest[7:15] for suite in chosen.values())
    keys = (f"evaluate:{version.ref}:{mark}{again}" for again in ("", *(f":{n}" for n in range(2, 1000))))
    key = next(one for one in keys if platform.jobs.status(one).state != "failed")
    folder = platform.home.jobs / key
    if platform.jobs.status(key).state in ("unknown", "lost"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_atomic(folder / "spec.json", json.dumps(spec_of_exam.to_dict(), ensure_ascii=False))
        platform.jobs.submit(key, JobSpec((sys.executable, "-m", "ciranda.evals.exams", str(folder)), folder))
    return key


def examined(
    platform: Platform, spec: ModelSpec, asked: Sequence[Version], *, dataset: str, tell: Told
) -> dict[str, dict[str, str]]:
    """Evaluate versions to the end, side by side; the ids of their evaluations by version and suite.

    What was recorded before is not asked again.

    Raises:
        Failed: An exam failed for good; says how its log ends.
    """
    chosen = _suites(platform, spec, dataset)
    found = {version.ref: _evaluations(platform, version, chosen) for version in asked}
    due = [version for version in asked if set(found[version.ref]) != set(chosen)]

    def begin(version: Version) -> str:
        return examine(platform, spec, version, actor="loop", dataset=dataset)

    for version, key in [(version, begin(version)) for version in due]:
        await_job(platform, key, partial(begin, version), tell=_prefixed(tell, f"{version.ref}: "))
        found[version.ref] = _recorded(platform, version, list(chosen), exams.results(platform.jobs.collect(key)))
    return found


def _evaluations(platform: Platform, version: Version, chosen: Mapping[str, Suite]) -> dict[str, str]:
    """The evaluations of a version on these very cases that are recorded already."""
    with platform.db.reading() as conn:
        rows = suites.of_version(conn, version.ref)
    return {name: row["id"] for name, suite in chosen.items() for row in rows if row["suite_digest"] == suite.digest}


def _prefixed(tell: Told, start: str) -> Told:
    return lambda text: tell(start + text)


def _recorded(platform: Platform, version: Version, names: list[str], evaluations: list[Evaluation]) -> dict[str, str]:
    done: dict[str, str] = {}
    for name, evaluation in zip(names, evaluations, strict=True):
        report = suites.save(platform.home, evaluation)
        identifier = f"eval_{version.model}-{version.number}_{evaluation.suite_digest[7:23]}"
        with platform.db.writing() as conn:
            done[name] = suites.record(
                conn, evaluation, model=version.model, version=version.ref, report=report, actor="loop", id=identifier
            )
            figures = {metric: one.to_dict() for metric, one in evaluation.metrics.items()}
            versions.evaluated(conn, platform.home, version.ref, {evaluation.suite: figures}, actor="loop")
    return done


def _suites(platform: Platform, spec: ModelSpec, dataset: str) -> dict[str, Suite]:
    """The suites that the model's gates name, by that name."""
    chosen: dict[str, Suite] = {}
    for name in dict.fromkeys(gate.suite for gate in spec.gates):
        if name == "test":
            newest = datasets.newest_of(platform.db, spec.dataset)
            ref = dataset or (newest.ref if newest else "")
            if not ref:
                raise Refused(
                    f"{spec.model} has no data yet, so there is no test split to ask",
                    where="gates: suite: test",
                    remedy=f"`ciranda ingest {spec.model}` first",
                )
            chosen[name] = suites.from_dataset(platform.home, ref, limit=spec.evaluate.cases)
        else:
            chosen[name] = suites.from_yaml(Path(name))
    return chosen


def _reports(platform: Platform, version: Version) -> tuple[str, ...]:
    with platform.db.reading() as conn:
        rows = suites.of_version(conn, version.ref)
    return tuple(str(suites.report_path(platform.home, row["report"])) for row in rows)


# --- jobs -------------------------------------------------------------------------------------------------------------


def await_job(platform: Platform, key: str, again: Callable[[], Any], *, tell: Told) -> None:
    """Wait for a job's end, telling what its progress says; one that died without a result is run again.

    Raises:
        Failed: It failed, or died too often.
    """
    offset = 0
    while True:
        state = platform.jobs.status(key)
        lines, offset = platform.jobs.progress(key, offset)
        if lines and lines[-1].get("all"):
            tell(f"{lines[-1]['done']} of {lines[-1]['all']} cases")
        if state.state == "succeeded":
            return
        if state.state == "failed" or (state.state == "lost" and state.attempt >= ATTEMPTS):
            raise _failed(platform, key, f"the job {key} {state.state}")
        if state.state in ("lost", "unknown"):
            again()
        time.sleep(POLL_S)


def _failed(
    platform: Platform, key: str, what: str, *, remedy: str = "mend what the log says, then ask again: `ciranda train`"
) -> Failed:
    state = platform.jobs.status(key)
    log, _ = platform.jobs.logs(key, 0)
    end = log[-800:].decode(errors="replace").strip()
    return Failed(
        f"{what}: {state.reason or f'exit code {state.exit_code}'}; its log ends: {end}",
        where=f"job {key}",
        remedy=remedy,
    )


# --- gates ------------------------------------------------------------------------------------------------------------


def judge(
    platform: Platform, spec: ModelSpec, candidate: Version, champion: Version, evaluations: Mapping[str, Mapping[str, str]],
    *, turn: str,
) -> dict[str, Any]:  # fmt: skip
    """Let the gates speak, and keep what they said.

    Args:
        evaluations: Ids of evaluations by version and suite.
    """
    with platform.db.reading() as conn:
        loaded = {
            ref: {name: suites.load(platform.home, suites.get(conn, one)["report"]) for name, one in by_suite.items()}
            for ref, by_suite in evaluations.items()
        }
    verdict = gates.judge(spec.gates, loaded[candidate.ref], loaded[champion.ref])
    with platform.db.writing() as conn:
        verdicts.record(conn, candidate.ref, verdict, champion=champion.ref, actor="loop", turn=turn)
        if verdict.outcome != "pass":
            versions.move(conn, candidate.ref, "refused", actor="loop", reason=verdict.reason)
    return {"outcome": verdict.outcome, "reason": verdict.reason}
