"""What `apply` would do, as a frozen value; `apply` performs exactly its steps, or nothing.

A step carries the generation of the model that it was computed from: when somebody else applied in between, the plan is refused
rather than silently merged. A model that the files do not name stays as it is; nothing is ever deleted by leaving it out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.deploy import rollout
from ciranda.errors import Conflict
from ciranda.registry import models, versions
from ciranda.registry.models import Model

Kind = Literal["model.create", "model.change", "deployment.settle"]


@dataclass(frozen=True)
class PlanStep:
    """One thing to do.

    Args:
        kind: `model.create`, `model.change` or `deployment.settle`.
        subject: The model.
        summary: One line for people.
        detail: `changes` as [key, old, new]; `generation` that it was computed from; `spec` to write.
    """

    kind: Kind
    subject: str
    summary: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """Steps in the order they are done. No steps: everything is as the files say."""

    steps: tuple[PlanStep, ...]

    def text(self) -> str:
        """The plan as a terminal shows it."""
        if not self.steps:
            return "Nothing to do: everything is as the files say."
        return "\n".join(line for step in self.steps for line in _lines(step))

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {"steps": [asdict(step) for step in self.steps]}


def _lines(step: PlanStep) -> Iterator[str]:
    sign = {"model.create": "+", "model.change": "~", "deployment.settle": ">"}[step.kind]
    yield f"{sign} {step.summary}"
    for key, old, new in step.detail.get("changes", ()):
        yield f"    {key}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def plan(
    applied: Mapping[str, Model], wanted: Mapping[str, ModelSpec], *, live: Mapping[str, str] | None = None
) -> Plan:
    """Compare what was applied with what the files want. Pure.

    Args:
        applied: The models as they are, by name.
        wanted: The specs from the files, by model name.
        live: The live version of each model that has one, to tell what a change of `serve` does to it.
    """
    steps: list[PlanStep] = []
    for name in sorted(wanted):
        before, spec = applied.get(name), wanted[name]
        if before is None:
            steps.append(_create(spec))
        elif before.spec != spec:
            steps.extend(_change(before, spec, (live or {}).get(name)))
    return Plan(tuple(steps))


def _create(spec: ModelSpec) -> PlanStep:
    detail = {"generation": 0, "spec": spec.model_dump(mode="json")}
    return PlanStep("model.create", spec.model, f"model {spec.model}: new, on {spec.base}", detail)


def _change(before: Model, spec: ModelSpec, live: str | None) -> Iterator[PlanStep]:
    changes = list(differences(before.spec.model_dump(mode="json"), spec.model_dump(mode="json")))
    detail = {"generation": before.generation, "spec": spec.model_dump(mode="json"), "changes": changes}
    summary = f"model {spec.model}: {len(changes)} {'change' if len(changes) == 1 else 'changes'}"
    yield PlanStep("model.change", spec.model, summary, detail)
    if live is not None and before.spec.serve != spec.serve:
        yield PlanStep("deployment.settle", spec.model, f"deployment of {live}: {_effect(before.spec, spec)}", {})


def _effect(before: ModelSpec, after: ModelSpec) -> str:
    parts = []
    if before.serve.replicas != after.serve.replicas:
        parts.append(f"{before.serve.replicas} -> {after.serve.replicas} replicas")
    if any(
        getattr(before.serve, key) != getattr(after.serve, key) for key in ("engine", "slots", "context", "threads")
    ):
        parts.append("processes replaced, new ones first")
    return ", ".join(parts) or "limits at the gateway change, no process is touched"


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ, as (dotted key, old, new); lists are compared whole."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield key, old, new


def current(conn: sa.Connection) -> tuple[dict[str, Model], dict[str, str]]:
    """What `plan` compares with: the applied models, and the live version of each that has one."""
    applied = {model.name: model for model in models.every(conn)}
    lives = {name: version.ref for name in applied if (version := versions.live(conn, name))}
    return applied, lives


def perform(conn: sa.Connection, todo: Plan, *, actor: str) -> None:
    """Do exactly the steps of the plan, all in the caller's transaction.

    Raises:
        Conflict: A model was changed since the plan was made; nothing is done.
    """
    for step in todo.steps:
        if step.kind == "deployment.settle":
            rollout.settle(conn, step.subject, actor=actor)
        else:
            _demand_generation(conn, step)
            models.put(conn, ModelSpec.model_validate(step.detail["spec"]), actor=actor)


def _demand_generation(conn: sa.Connection, step: PlanStep) -> None:
    now = models.find(conn, step.subject)
    if (now.generation if now else 0) != step.detail["generation"]:
        raise Conflict(
            f"model {step.subject} was changed by {now.applied_by if now else 'somebody'} since this plan was made",
            where="models", remedy="`ciranda plan` again, look, then apply",
        )  # fmt: skip
