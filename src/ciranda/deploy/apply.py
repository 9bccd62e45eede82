"""Deployments and replicas: what shall run, and what was last seen of it.

    deployments   desired: this version, by this engine, so many replicas; a generation that grows with every change
    replicas      observed: one row per serving process

The desired state follows from what is true elsewhere: the live version, the one live before it (kept warm, so that a rollback is a
change of routing), and the candidate of a running rollout. `settle` computes it anew whenever asked, so it repairs itself and no
caller can leave it half changed. The supervisor (or another target) reads it, acts, and reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.errors import NotFound
from ciranda.govern import audit
from ciranda.registry import models, versions
from ciranda.registry.versions import Version
from ciranda.store import clock, ids
from ciranda.store.database import metadata

Role = Literal["live", "standby", "candidate", "idle"]
ReplicaState = Literal["starting", "ready", "draining", "failing"]

deployments_table = sa.Table(
    "deployments",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("version", sa.String(80), nullable=False, unique=True),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("engine", sa.String(40), nullable=False),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("replicas", sa.Integer, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("status", sa.String(200), nullable=False),
    sa.Column("changed_at", sa.String(32), nullable=False),
)

replicas_table = sa.Table(
    "replicas",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("deployment", sa.String(40), sa.ForeignKey("deployments.id"), nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("url", sa.String(300), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("restarts", sa.Integer, nullable=False),
    sa.Column("ready_at", sa.String(32), nullable=False),
    sa.Column("changed_at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Deployment:
    """Desired state of one version in production.

    Args:
        spec: What an engine must know: `base`, `adapter` (the GGUF's path or None), `folder`, and `serve` as the model file says.
            A change of it replaces the processes, new ones first.
        generation: Grows with every change of `spec` or `engine`; a replica carries the one it was started for.
        status: A few words by the target, such as `2 of 2 ready`.
    """

    id: str
    model: str
    version: str
    digest: str
    engine: str
    role: Role
    replicas: int
    spec: dict[str, Any]
    generation: int
    status: str
    changed_at: str


@dataclass(frozen=True)
class Replica:
    """One serving process as last seen. `url` and `pid` are of its newest start; empty and 0 until it is ready."""

    id: str
    deployment: str
    generation: int
    url: str
    pid: int
    state: ReplicaState
    reason: str
    restarts: int
    ready_at: str
    changed_at: str


@dataclass(frozen=True)
class Want:
    """How many replicas of a version, and as what."""

    replicas: int
    role: Role


def wanted(spec: ModelSpec, *, live: str | None, standby: str | None, candidate: str | None) -> dict[str, Want]:
    """The versions that shall run, by name. Pure: what a preview shows is what `settle` does."""
    count = spec.serve.replicas
    wants = {standby: Want(count, "standby"), candidate: Want(count, "candidate"), live: Want(count, "live")}
    return {ref: want for ref, want in wants.items() if ref is not None}


def settle(conn: sa.Connection, model: str, *, candidate: str | None, actor: str) -> None:
    """Bring the desired state of a model's deployments to what its stages, spec and `candidate` say. Again: no change."""
    applied, now, before = models.get(conn, model), versions.live(conn, model), versions.previous(conn, model)
    wants = wanted(
        applied.spec, live=now.ref if now else None, standby=before.ref if before else None, candidate=candidate
    )
    for ref, want in wants.items():
        set_desired(conn, versions.get(conn, ref), applied.spec, want, actor=actor)
    for deployment in deployments(conn, model):
        if deployment.version not in wants:
            set_desired(conn, versions.get(conn, deployment.version), applied.spec, Want(0, "idle"), actor=actor)


def set_desired(conn: sa.Connection, version: Version, spec: ModelSpec, want: Want, *, actor: str) -> Deployment:
    """Write the desired state of one version; nothing happens when it is so already."""
    before = find(conn, version.ref)
    serve = spec.serve.model_dump(mode="json", include={"slots", "context", "threads"})
    gguf = str(version.gguf) if version.gguf else None
    what: dict[str, Any] = {"base": version.base, "adapter": gguf, "folder": version.folder, "serve": serve}
    what |= {"weights": str(version.whole)} if version.whole else {}
    if want.replicas == 0 and before is not None:
        what = before.spec  # what does not run keeps its processes' description: nothing to replace
    engine = spec.engine_for(version.base)
    changed = {"engine": engine, "role": want.role, "replicas": want.replicas, "spec": what}
    if before is None:
        return _create(conn, version, changed, actor=actor)
    if all(getattr(before, name) == value for name, value in changed.items()):
        return before
    anew = before.spec != what or before.engine != engine
    _write(conn, before, changed | {"generation": before.generation + anew}, actor=actor)
    return get(conn, version.ref)


def _create(conn: sa.Connection, version: Version, values: Mapping[str, Any], *, actor: str) -> Deployment:
    deployment = Deployment(
        id=ids.new("dep"), model=version.model, version=version.ref, digest=version.digest, generation=1,
        status="new", changed_at=clock.iso(), **values,
    )  # fmt: skip
    conn.execute(deployments_table.insert().values(**deployment.__dict__))
    _audit(conn, deployment.version, values, actor=actor)
    return deployment


def _write(conn: sa.Connection, before: Deployment, values: Mapping[str, Any], *, actor: str) -> None:
    mine = deployments_table.c.id == before.id
    conn.execute(deployments_table.update().where(mine).values(**values, changed_at=clock.iso()))
    _audit(conn, before.version, values, actor=actor)


def _audit(conn: sa.Connection, ref: str, values: Mapping[str, Any], *, actor: str) -> None:
    detail = {name: values[name] for name in ("role", "replicas", "engine")}
    audit.record(conn, actor=actor, action="deployment.desired", subject=ref, detail=detail)


def deployments(conn: sa.Connection, model: str | None = None) -> list[Deployment]:
    """Deployments of one model, or all, oldest first."""
    query = sa.select(deployments_table).order_by(deployments_table.c.id)
    if model is not None:
        query = query.where(deployments_table.c.model == model)
    return [Deployment(**row._mapping) for row in conn.execute(query)]


def find(conn: sa.Connection, ref: str) -> Deployment | None:
    """The deployment of a version, or None when it never had one."""
    row = conn.execute(sa.select(deployments_table).where(deployments_table.c.version == ref)).first()
    return Deployment(**row._mapping) if row else None


def get(conn: sa.Connection, ref: str) -> Deployment:
    """The deployment of a version. Raises NotFound when it never had one."""
    found = find(conn, ref)
    if found is None:
        raise NotFound(f"{ref} was never deployed", where="deployments", remedy=f"`ciranda promote {ref}`")
    return found


def replicas(conn: sa.Connection, deployment: str | None = None) -> list[Replica]:
    """Replicas of one deployment, or all, oldest first."""
    query = sa.select(replicas_table).order_by(replicas_table.c.id)
    if deployment is not None:
        query = query.where(replicas_table.c.deployment == deployment)
    return [Replica(**row._mapping) for row in conn.execute(query)]


def ready(conn: sa.Connection, ref: str) -> int:
    """How many replicas of a version answer now."""
    deployment = find(conn, ref)
    mine = replicas(conn, deployment.id) if deployment else []
    return sum(replica.state == "ready" for replica in mine)


# --- what the target reports -----------------------------------------------------------------------------------------


def add_replica(conn: sa.Connection, deployment: Deployment) -> Replica:
    """A new process is about to start for this deployment."""
    replica = Replica(ids.new("rep"), deployment.id, deployment.generation, "", 0, "starting", "", 0, "", clock.iso())
    conn.execute(replicas_table.insert().values(**replica.__dict__))
    return replica


def report(conn: sa.Connection, replica: str, **seen: Any) -> None:
    """Write what was observed of a replica: any of `url`, `pid`, `state`, `reason`, `restarts`, `ready_at`."""
    mine = replicas_table.c.id == replica
    conn.execute(replicas_table.update().where(mine).values(**seen, changed_at=clock.iso()))


def remove_replica(conn: sa.Connection, replica: str) -> None:
    """The process is gone for good."""
    conn.execute(replicas_table.delete().where(replicas_table.c.id == replica))


def forget_replicas(conn: sa.Connection) -> None:
    """A new supervisor begins: what ran under the one before is gone."""
    conn.execute(replicas_table.delete())


def report_status(conn: sa.Connection, deployment: str, status: str) -> None:
    """A few words on how far the target is."""
    mine = deployments_table.c.id == deployment
    conn.execute(deployments_table.update().where(mine, deployments_table.c.status != status).values(status=status))
