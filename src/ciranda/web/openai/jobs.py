"""`/v1/fine_tuning/jobs`: orders for a turn of a model's line, and what became of them.

`model` names a model of this installation; `fine_tuned_model` is the version that the job made, once its gates let it pass: the
gateway serves it under that name as soon as it is deployed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ciranda.data import uploads
from ciranda.errors import Conflict, Invalid, NotFound
from ciranda.loop import tuning
from ciranda.loop.tuning import Wanted
from ciranda.registry import models, versions
from ciranda.store import clock
from ciranda.train import tunings
from ciranda.train.tunings import Tuning
from ciranda.web.api.asked import Asked, Nothing
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.openai.door import Missing, Wrong
from ciranda.web.openai.files import paged

Auto = Literal["auto"]
FROM_VERSION = "a job goes on from the live version; name the model alone"


class Hyperparameters(Asked):
    """What a client may fix; `auto` leaves it to the model's file and the search."""

    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] | None = None
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=30)] | None = None
    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] | None = None

    def given(self) -> dict[str, Any]:
        return {name: value for name, value in self if value not in (None, "auto")}


class Preferring(Hyperparameters):
    """Those of DPO."""

    beta: Auto | Annotated[float, Field(gt=0, le=2)] | None = None


class Supervised(Asked):
    hyperparameters: Hyperparameters = Hyperparameters()


class Dpo(Asked):
    hyperparameters: Preferring = Preferring()


class Method(Asked):
    """How to train."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised = Supervised()
    dpo: Dpo = Dpo()
    reinforcement: dict[str, Any] | None = None


class Create(Asked):
    """A job as it is asked for."""

    model: str = Field(max_length=200)
    training_file: str = Field(max_length=100)
    validation_file: str | None = Field(None, max_length=100)
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    suffix: str | None = Field(None, min_length=1, max_length=64)
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        None, max_length=16
    )
    integrations: list[Any] | None = None

    @field_validator("integrations")
    @classmethod
    def _none(cls, given: list[Any] | None) -> list[Any] | None:
        if given:
            raise ValueError("no integration is supported; log runs with MLflow's client instead")
        return given

    @model_validator(mode="after")
    def _one_place(self) -> Create:
        if self.method is not None and self.hyperparameters is not None:
            raise ValueError("hyperparameters stand in `method` or beside it, not in both")
        return self


class After(Asked):
    """One page."""

    after: str = Field("", max_length=120, description="The id of the last one seen.")
    limit: int = Field(20, ge=1, le=100, description="How many.")


class Jobs(After):
    """Which jobs; `metadata[key]=value` narrows them."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Anything(BaseModel):
    """A body that is not read."""


def create(call: Call[Create]) -> Item:
    """Write a job. The leader begins it when the model's line is free."""
    asked = call.asked
    method = asked.method.type if asked.method else "supervised"
    if method == "reinforcement":
        raise Wrong(
            "Invalid value for 'method.type': reinforcement is not done here", param="method.type", code="invalid_value",
            remedy="choose supervised or dpo",
        )  # fmt: skip
    call.require(_model(call, asked.model), right="train")
    wanted = Wanted(
        model=_model(call, asked.model), training_file=asked.training_file, validation_file=asked.validation_file,
        method=method, hyperparameters=_hyperparameters(asked, method), seed=asked.seed, suffix=asked.suffix,
        details=asked.metadata,
    )  # fmt: skip
    _demand_files(call)
    try:
        job = tuning.create(call.platform, wanted, tenant=call.principal.tenant, actor=call.actor)
    except Invalid as error:
        raise Wrong(error.message, param=f"method.{method}.hyperparameters", code="invalid_value") from None
    return shown(call, job)


def _hyperparameters(asked: Create, method: str) -> dict[str, Any]:
    if asked.method is None:
        return asked.hyperparameters.given() if asked.hyperparameters else {}
    return (asked.method.dpo if method == "dpo" else asked.method.supervised).hyperparameters.given()


def _model(call: Call[Any], name: str) -> str:
    """The model that a job is for; the live version's own name means the same. Raises Wrong."""
    model, at, _ = name.partition("@")
    with call.platform.db.reading() as conn:
        known = models.find(conn, model)
        live = versions.live(conn, model) if known and at else None
    if known is None or not call.reaches(model):
        raise Wrong(
            f"Model {name[:100]} is not available for fine-tuning or does not exist", code="model_not_available",
            remedy="name a model of this installation: GET /v1/models lists them",
        )  # fmt: skip
    if at and (live is None or live.ref != name):
        raise Wrong(f"{name[:100]} is not the live version", param="model", code="invalid_value", remedy=FROM_VERSION)
    return model


def _demand_files(call: Call[Create]) -> None:
    for param in ("training_file", "validation_file"):
        name = getattr(call.asked, param)
        try:
            if name:
                with call.platform.db.reading() as conn:
                    kept = uploads.get(conn, name, tenant=call.principal.tenant)
                if kept.purpose != uploads.TRAINING:
                    raise Wrong(f"{name} is of the purpose {kept.purpose}", param=param, code="invalid_value")
        except NotFound:
            raise Wrong(f"invalid {param}: {name[:100]} does not exist", param=param, code="invalid_value") from None


def listing(call: Call[Jobs]) -> Item:
    """The tenant's jobs of the models that the key reaches."""
    asked = call.asked
    wanted = {
        name.removeprefix("metadata[").removesuffix("]"): value for name, value in (asked.model_extra or {}).items()
    }
    found: list[Tuning] = []
    after = asked.after
    with call.platform.db.reading() as conn:
        while len(found) <= asked.limit and (page := _page(call, conn, after, asked.limit + 1)):
            found += [one for one in page if all(one.details.get(name) == value for name, value in wanted.items())]
            after = page[-1].id
    return paged([shown(call, one) for one in found[: asked.limit + 1]], asked.limit)


def _page(call: Call[Any], conn: Any, after: str, limit: int) -> list[Tuning]:
    return tunings.page(conn, tenant=call.principal.tenant, models=call.reach, after=after, limit=limit)


def one(call: Call[Nothing]) -> Item:
    return shown(call, _own(call))


def cancel(call: Call[Anything]) -> Item:
    """End a job; what runs for it is gone within moments."""
    job = _own(call, right="train")
    try:
        return shown(call, tuning.cancel(call.platform, job.id, tenant=call.principal.tenant, actor=call.actor))
    except Conflict as error:
        raise Wrong(error.message, code="invalid_value") from None


def refused(verb: str, call: Call[Anything]) -> Item:
    """What this door does not do."""
    _own(call, right="train")
    raise Wrong(f"a job cannot {verb} here", code="unsupported_value", remedy="cancel it, or leave it to its end")


def events(call: Call[After]) -> Item:
    """What happened, newest first."""
    job, asked = _own(call), call.asked
    before = _sequence(asked.after, job.id)
    with call.platform.db.reading() as conn:
        found = tunings.events(conn, job.id, before=before, limit=asked.limit + 1)
    return paged([_event(one) for one in found], asked.limit)


def _sequence(after: str, job: str) -> int:
    """Where a page goes on. Raises Wrong for an id of another job, or of none."""
    if not after:
        return 0
    mark, _, number = after.rpartition("-")
    if mark != f"ftevent-{job.removeprefix('ftjob-')}" or not number.isdecimal() or len(number) > 9:
        raise Wrong(f"Invalid value for 'after': no event {after}", param="after", code="invalid_value")
    return int(number)


def _event(one: Item) -> Item:
    return {
        "object": "fine_tuning.job.event", "id": f"ftevent-{one['job'].removeprefix('ftjob-')}-{one['sequence']}",
        "created_at": seconds(one["at"]), "level": one["level"], "message": one["message"], "type": one["kind"],
        "data": one["data"] or {},
    }  # fmt: skip


def checkpoints(call: Call[After]) -> Item:
    """What can be used of a job: the one version that it made. Trials that lost are not kept to be served."""
    job = _own(call)
    found = tuning.trained(call.platform, job)
    if found is None or call.asked.after:
        return paged([], call.asked.limit)
    trial, at = found
    loss = trial.loss_curve[-1][1] if trial.loss_curve else None
    return paged(
        [
            {
                "object": "fine_tuning.job.checkpoint", "id": f"ftckpt-{job.id.removeprefix('ftjob-')}-{trial.number}",
                "created_at": seconds(at), "fine_tuning_job_id": job.id, "fine_tuned_model_checkpoint": job.version,
                "step_number": trial.recipe.steps,
                "metrics": {"step": trial.recipe.steps, "train_loss": loss, "full_valid_loss": trial.loss},
            }
        ],
        call.asked.limit,
    )  # fmt: skip


def _own(call: Call[Any], *, right: str = "view") -> Tuning:
    """The job in the address, when it is the tenant's and the key reaches its model."""
    identifier = call.path["job"]
    try:
        with call.platform.db.reading() as conn:
            job = tunings.get(conn, identifier, tenant=call.principal.tenant)
    except NotFound:
        job = None
    if job is None or not call.reaches(job.model):
        raise Missing(f"Could not find fine tune: {identifier[:100]}", param="fine_tune_id", code="fine_tune_not_found")
    call.require(job.model, right=right)
    return job


def shown(call: Call[Any], job: Tuning) -> Item:
    """A job as OpenAI's API has it. What was left to us is shown once it is known."""
    used = {**dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto"), **job.hyperparameters}
    if job.method == "dpo":
        used.setdefault("beta", "auto")
    plain = {name: value for name, value in used.items() if name != "beta"}
    return {
        "object": "fine_tuning.job", "id": job.id, "model": job.model, "created_at": seconds(job.created_at),
        "finished_at": seconds(job.ended_at) if job.ended_at else None, "fine_tuned_model": job.version,
        "organization_id": job.tenant, "result_files": [job.result_file] if job.result_file else [], "status": job.state,
        "validation_file": job.validation_file, "training_file": job.training_file, "hyperparameters": plain,
        "trained_tokens": None, "error": job.error, "user_provided_suffix": job.suffix, "seed": job.seed,
        "estimated_finish": None, "integrations": [], "metadata": job.details or None,
        "method": {"type": job.method, job.method: {"hyperparameters": used}},
    }  # fmt: skip


def seconds(moment: str) -> int:
    """A time as OpenAI's API has it."""
    return int(clock.parse(moment).timestamp())
