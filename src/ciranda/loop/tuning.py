"""Fine-tuning jobs of the OpenAI door: each is one turn of its model's line, with the same steps and the same gates.

    create     checks what is asked for, and writes the job
    tick       the leader asks for the turn when the line is free, and follows what it says of itself
    data       the turn's first step: the files, through the checks of the model's file, become a dataset version of their own line
    cancel     ends the job; the turn notices at its next look (`heed`) and `free` ends whatever still runs for it

What a version is judged by is never in the hands of who sends the file: the test split of the model's own dataset stays what it is,
rows that ask what it asks are left out of training, and a model whose gates need a test split that it has not is refused before
anything starts. A model is named by its name; training goes on from its live version, as every turn does.
"""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.data import checks, examples, reading, uploads
from ciranda.data import versions as datasets
from ciranda.data.rows import Row
from ciranda.data.uploads import Upload
from ciranda.errors import CirandaError, Conflict, LimitReached, Refused
from ciranda.govern import audit
from ciranda.loop import picks, sieve, standing, turns
from ciranda.loop.platform import Platform
from ciranda.loop.turns import Turn
from ciranda.registry import models, versions
from ciranda.store import clock, ids
from ciranda.train import recipe as recipes
from ciranda.train import search as searches
from ciranda.train import trials, tunings
from ciranda.train.recipe import Recipe
from ciranda.train.trials import Trial
from ciranda.train.tunings import Said, Tuning

CAUSE = "fine-tuning"
MOST_OPEN = 20  # jobs of one model that wait or run
METHODS = {"supervised": "sft", "dpo": "dpo"}
UNTOUCHED = ("waiting", "queued")


@dataclass(frozen=True)
class Wanted:
    """What a client asks for. Hyperparameters that are left to us are absent."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: str = "supervised"
    hyperparameters: Mapping[str, Any] | None = None
    seed: int | None = None
    suffix: str | None = None
    details: Mapping[str, str] | None = None


def dataset_of(model: str) -> str:
    """The dataset whose versions are a model's fine-tuning files."""
    return f"{model[:50]}-fine-tuning"


def create(platform: Platform, wanted: Wanted, *, tenant: str, actor: str) -> Tuning:
    """Write a job, which the leader begins as soon as the model's line is free.

    Raises:
        NotFound: No such model, or no such file. Invalid: A hyperparameter that no recipe can have.
        Refused: The model's gates ask a test split that it has not. LimitReached: Too many jobs of the model are open.
    """
    with platform.db.reading() as conn:
        spec = models.get(conn, wanted.model).spec
        for name in filter(None, (wanted.training_file, wanted.validation_file)):
            uploads.get(conn, name, tenant=tenant)
    _demand_test_split(platform, spec)
    job = Tuning(
        f"ftjob-{ids.uuid7().hex}", spec.model, tenant, wanted.method, wanted.training_file, wanted.validation_file,
        dict(wanted.hyperparameters or {}), _seed() if wanted.seed is None else wanted.seed, wanted.suffix,
        dict(wanted.details or {}), "queued", None, None, None, None, clock.iso(), actor, None,
    )  # fmt: skip
    recipe(spec, job, rows=examples.LEAST)
    with platform.db.writing() as conn:
        if len([one for one in tunings.open_(conn) if one.model == job.model]) >= MOST_OPEN:
            raise LimitReached(
                f"{MOST_OPEN} jobs of {job.model} are open", where="tunings", remedy="wait for one, or cancel one"
            )
        tunings.add(conn, job)
        tunings.say(conn, job.id, [Said(f"Created fine-tuning job: {job.id}")])
        told = {"model": job.model, "training_file": job.training_file, "method": job.method, "suffix": job.suffix}
        audit.record(conn, actor=actor, action="tuning.created", subject=job.id, detail=told)
    return job


def _seed() -> int:
    return random.SystemRandom().randrange(2**31)


def _demand_test_split(platform: Platform, spec: ModelSpec) -> None:
    asks = any(gate.suite == "test" for gate in spec.gates)
    if asks and datasets.newest_of(platform.db, spec.dataset) is None:
        raise Refused(
            f"the gates of {spec.model} ask the test split of {spec.dataset}, which has no rows, and a job brings none",
            where=f"{spec.model}: gates", remedy=f"`ciranda data import FILE --into {spec.dataset}` first",
        )  # fmt: skip


def recipe(spec: ModelSpec, job: Tuning, *, rows: int) -> Recipe:
    """The recipe that a job asks for, on so many rows. Raises Invalid, naming the hyperparameter."""
    return recipes.recipe({**spec.train.recipe, **asked(spec, job, rows=rows)}, where="hyperparameters")


def asked(spec: ModelSpec, job: Tuning, *, rows: int) -> dict[str, Any]:
    """Keys of the recipe that a job fixes: a multiplier is of the model's own rate, epochs are steps over so many rows."""
    given = job.hyperparameters
    method = METHODS[job.method]
    found: dict[str, Any] = {"seed": job.seed, "method": method}
    usual = recipes.recipe({**spec.train.recipe, "method": method}, where=f"{spec.model}: train.recipe")
    if "batch_size" in given:
        found["batch_size"] = given["batch_size"]
    if "learning_rate_multiplier" in given:
        found["learning_rate"] = float(f"{usual.learning_rate * given['learning_rate_multiplier']:.4g}")
    if "beta" in given:
        found["beta"] = given["beta"]
    if "n_epochs" in given:
        size = int(found.get("batch_size", usual.batch_size))
        found["steps"] = max(1, math.ceil(given["n_epochs"] * rows / size))
    return found


# --- the turn's steps --------------------------------------------------------------------------------------------------


def data(platform: Platform, spec: ModelSpec, job: Tuning, *, actor: str) -> dict[str, Any]:
    """Make a dataset version of a job's files: checked as the model's file says, and without what the test split asks.

    Raises:
        NotFound: A file was deleted meanwhile. Invalid: A line of it is no example. Refused: A check said no.
    """
    files = _files(platform, job)
    found = _rows(platform, job, files)
    bounds = sieve.bounds(platform, spec, dataset_of(spec.model))
    bounds = replace(bounds, suites={**bounds.suites, **_kept_back(platform, spec)})
    policy = {"contamination": "drop", **spec.data.checks.policy()}
    with checks.judge(found, policy, bounds=bounds, folder=platform.home.datasets) as judged:
        version = datasets.commit(
            platform.db, platform.home, dataset_of(spec.model), judged.batches(), transformation=_made(job, files), actor=actor,
            report=judged.report.to_dict(), findings=judged.findings,
        )  # fmt: skip
    return {"dataset": version.ref, "digest": version.digest, "rows": version.rows}


def _files(platform: Platform, job: Tuning) -> dict[str, Upload]:
    """The job's files by what they are for. Raises NotFound for one that was deleted."""
    named = {"training_file": job.training_file, "validation_file": job.validation_file}
    with platform.db.reading() as conn:
        return {name: uploads.get(conn, one, tenant=job.tenant) for name, one in named.items() if one}


def _rows(platform: Platform, job: Tuning, files: Mapping[str, Upload]) -> Iterator[Row]:
    method: examples.Method = "dpo" if job.method == "dpo" else "supervised"

    def read(name: str, split: str) -> Iterator[Row]:
        upload = files[name]
        return examples.rows(uploads.content(platform.home, upload), method=method, name=upload.id, split=split)

    if "validation_file" in files:
        return chain(read("training_file", "train"), read("validation_file", "validation"))
    return examples.parted(read("training_file", "train"))


def _kept_back(platform: Platform, spec: ModelSpec) -> dict[str, list[str]]:
    """The prompts of the test split that the model's gates ask."""
    newest = datasets.newest_of(platform.db, spec.dataset)
    if newest is None:
        return {}
    found = reading.batches(
        platform.db, platform.home, newest.ref, reading.itself("evaluation"), split="test", columns=("prompt",)
    )
    return {f"{newest.ref} test": [str(one) for batch in found for one in batch.column("prompt").to_pylist()]}


def _made(job: Tuning, files: Mapping[str, Upload]) -> dict[str, Any]:
    sources = [{"source": one.id, "sha256": one.sha256, "for": name} for name, one in files.items()]
    return {"kind": CAUSE, "cause": job.id, "sources": sources, "method": job.method}


def shaped(platform: Platform, spec: ModelSpec, job: Tuning, dataset: str) -> ModelSpec:
    """The model's file as the job's training sees it: what the client fixed stands in the recipe, the rest is searched."""
    counts = datasets.get(platform.db, dataset).counts.get("split", {})
    fixed = asked(spec, job, rows=int(counts.get("train", 0)) or examples.LEAST)
    train = spec.train.model_copy(update={"method": METHODS[job.method], "recipe": {**spec.train.recipe, **fixed}})
    return spec.model_copy(update={"train": train})


def heed(platform: Platform, turn: str) -> None:
    """Go on, unless the job behind the turn was cancelled. Raises Refused."""
    with platform.db.reading() as conn:
        job = tunings.of_turn(conn, turn)
    if job is not None and job.state == "cancelled":
        raise Refused(f"{job.id} was cancelled", where=turn, remedy="create another job")


def free(platform: Platform, spec: ModelSpec, turn: str) -> None:
    """End whatever still runs for a cancelled turn: its search with its trials, and the exam of what it made."""
    trainer = picks.trainer(platform, spec)
    with platform.db.reading() as conn:
        version = turns.get(conn, turn).version
        mine = sa.select(trials.searches.c.id).where(trials.searches.c.turn == turn)
        running = conn.execute(mine.where(trials.searches.c.state == "running")).scalars().all()
    for search in running:
        with suppress(Conflict):  # it ended meanwhile
            searches.stop(platform.db, search, actor="its job")
    for trial in _trials(platform, turn):
        if trial.open:
            with platform.db.writing() as conn:
                trials.cancel(conn, trial, actor="its job")
            trainer.cancel(trial.job)
    for key in platform.jobs.keys() if version else ():
        if key.startswith(f"evaluate:{version}:") and platform.jobs.status(key).state == "running":
            platform.jobs.cancel(key)


def cancel(platform: Platform, identifier: str, *, tenant: str, actor: str) -> Tuning:
    """End a job. What runs for it is ended by the leader within moments.

    Raises:
        NotFound: No such job. Conflict: It has ended.
    """
    with platform.db.writing() as conn:
        job = tunings.get(conn, identifier, tenant=tenant)
        if job.over:
            raise Conflict(f"Job has already completed: {job.id}", where="tunings", remedy="create another job")
        tunings.change(conn, job.id, state="cancelled", ended_at=clock.iso())
        tunings.say(conn, job.id, [Said(f"Fine-tuning job cancelled: by {actor}", "warn")])
        audit.record(conn, actor=actor, action="tuning.cancelled", subject=job.id, detail={"turn": job.turn})
        return tunings.get(conn, job.id)


# --- what the leader does ----------------------------------------------------------------------------------------------


def tick(platform: Platform) -> None:
    """Begin jobs whose line is free, follow those that run, and end turns whose job was cancelled."""
    with platform.db.reading() as conn:
        due = tunings.open_(conn)
        busy = {turn.id: turn for turn in turns.in_state(conn, *turns.OPEN) if turn.cause == CAUSE}
        gone = tunings.cancelled(conn, list(busy)) if busy else []
    for job in gone:
        _stop(platform, job, busy[str(job.turn)])
    for job in due:
        if job.turn is None:
            _begin(platform, job)
        else:
            _follow(platform, job)


def _begin(platform: Platform, job: Tuning) -> None:
    with platform.db.writing() as conn:
        now = tunings.get(conn, job.id)
        if now.over or now.turn:
            return
        try:
            turn = turns.ask(
                conn, job.model, cause=CAUSE, event=job.id, actor=job.created_by,
                reason=f"{job.id} of {job.created_by}: {job.method} on {job.training_file}",
            )  # fmt: skip
        except Conflict:
            return  # the line is busy; jobs wait in their order
        tunings.change(conn, job.id, turn=turn, state="validating_files")
        tunings.say(conn, job.id, [Said(f"Validating training file: {job.training_file}")])


def _stop(platform: Platform, job: Tuning, turn: Turn) -> None:
    """A turn that has not begun ends here; one under way is robbed of its jobs, and ends itself (`Work.fail`)."""
    if turn.state in UNTOUCHED:
        with platform.db.writing() as conn:
            if turns.get(conn, turn.id).state in UNTOUCHED:
                turns.end(conn, turn.id, "cancelled")
                return
    with platform.db.reading() as conn:
        spec = models.get(conn, job.model).spec
    free(platform, spec, turn.id)


def _follow(platform: Platform, job: Tuning) -> None:
    """Write down what is new about a job's turn."""
    with platform.db.reading() as conn:
        turn = turns.get(conn, str(job.turn))
        known = tunings.marks(conn, job.id)
    found = _trials(platform, turn.id)
    state = standing.state_of(turn)
    said = [one for one in standing.happened(turn, found, state) if one.mark not in known]
    if state == job.state and not said:
        return
    values: dict[str, Any] = {"state": state}
    if state in tunings.ENDED:
        best = next((one for one in found if one.state == "complete"), None)
        values |= {
            "ended_at": clock.iso(), "version": turn.version if state == "succeeded" else None,
            "error": standing.why(turn) if state == "failed" else None,
            "result_file": _results(platform, job, found) if best and not job.result_file else job.result_file,
        }  # fmt: skip
    with platform.db.writing() as conn:
        if tunings.get(conn, job.id).over:
            return
        tunings.change(conn, job.id, **values)
        tunings.say(conn, job.id, said)


def _results(platform: Platform, job: Tuning, found: Iterable[Trial]) -> str | None:
    """The losses of all trials as a file of the tenant's; none when there is no room for it, which fails no job."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("trial", "step", "train_loss", "valid_loss", "exact_match"))
    for trial in found:
        writer.writerows((trial.number, step, loss, "", "") for step, loss in trial.loss_curve)
        writer.writerow((trial.number, trial.recipe.steps, "", trial.loss, trial.objective))
    arrived = uploads.arriving(platform.home)
    try:
        arrived.write_text(text.getvalue())
        kept = uploads.add(
            platform.db, platform.home, arrived, filename=f"{job.id}.csv", purpose=uploads.RESULTS, tenant=job.tenant,
            actor="loop",
        )  # fmt: skip
    except (CirandaError, OSError):
        arrived.unlink(missing_ok=True)
        return None
    return kept.id


def _trials(platform: Platform, turn: str) -> list[Trial]:
    """The trials of the turn's search."""
    with platform.db.reading() as conn:
        found = conn.execute(sa.select(trials.searches.c.id).where(trials.searches.c.turn == turn)).scalars().all()
    return [trial for search in found for trial in trials.of(platform.db, search)]


def trained(platform: Platform, job: Tuning) -> tuple[Trial, str] | None:
    """The trial that became the job's version, and when it ended; None before that."""
    if not job.version:
        return None
    best = [one for one in _trials(platform, str(job.turn)) if one.state == "complete"]
    with platform.db.reading() as conn:
        made = versions.get(conn, job.version).trial
    chosen = next((one for one in best if one.id == made), None)
    return (chosen, chosen.ended_at or job.ended_at or job.created_at) if chosen else None
