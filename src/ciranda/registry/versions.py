"""Model versions: immutable, numbered without gaps, each with a folder that proves itself.

    home/artefacts/versions/<model>@<n>/   adapter/  adapter.gguf   (tuning: lora)
                                           weights/  model.gguf     (tuning: full)
                                           evaluation.json  card.md  bom.cdx.json  manifest.json  manifest.sig

A version is base + adapter (or weights) + dataset version + recipe; its digest is the SHA-256 over exactly these, so the same work
registered twice (a step of the loop that runs again after a crash) is one version. Number 0 is the bare base, the first champion
to beat. The folder is built beside, synced and renamed inside the transaction that writes the row: both exist or neither. A folder
whose transaction died is replaced by the next registration under its number.

Stages say what is true: `candidate`, `approved` (passed its gates), `live` (at most one), `retired`, `refused`. Each change is one
row of an append-only table, so "what was live at T" is a query. `approved` and `live` are reached only with an admission
(see `admission`): there is no parameter to leave it out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.errors import Conflict, Invalid, NotFound
from ciranda.govern import audit
from ciranda.registry import about, admission, folders, history, models, verdicts
from ciranda.registry.history import Stage
from ciranda.store import clock
from ciranda.store.database import Database, metadata

Tuning = Literal["", "lora", "full"]
MOVES: dict[Stage, frozenset[Stage]] = {
    "candidate": frozenset({"approved", "refused"}),
    "approved": frozenset({"live", "retired", "refused"}),
    "live": frozenset({"retired"}),
    "retired": frozenset({"live"}),
    "refused": frozenset({"approved"}),
}

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("model", sa.String(63), sa.ForeignKey("models.model"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("dataset", sa.String(200), nullable=False),
    sa.Column("dataset_digest", sa.String(80), nullable=False),
    sa.Column("base", sa.String(300), nullable=False),
    sa.Column("base_digest", sa.String(80), nullable=False),
    sa.Column("recipe", sa.JSON, nullable=False),
    sa.Column("tuning", sa.String(10), nullable=False),
    sa.Column("adapter_digest", sa.String(80), nullable=False),
    sa.Column("evaluation", sa.JSON, nullable=False),
    sa.Column("policies", sa.JSON, nullable=False),
    sa.Column("stage", sa.String(20), nullable=False, index=True),
    sa.Column("folder", sa.String(500), nullable=False),
    sa.Column("trial", sa.String(200), nullable=False),
    sa.Column("turn", sa.String(200), nullable=False),
    sa.Column("origin", sa.JSON, nullable=False),
    sa.Column("removed_at", sa.String(32), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.UniqueConstraint("model", "digest"),
)


@dataclass(frozen=True)
class Draft:
    """What a version shall be made of.

    Args:
        model: The model it belongs to, already applied.
        base: The base's name, and `base_digest` the SHA-256 of its weights.
        dataset: The dataset version it learned from, such as `smart-home@2`; empty for the bare base.
        recipe: How it was trained, seed included.
        adapter: The PEFT folder, or `weights`: whole weights in safetensors; neither for the bare base.
        gguf: The one or the other as llama.cpp reads it, derived from it.
        evaluation: Figures known by now; `evaluated` adds them later.
        environment: Versions of the libraries that trained it.
        trial: The trial it comes from, and `turn` the turn of the loop.
        policies: The policies that its rows went through: their names and one digest; empty when none touched them.
        origin: Where it was brought in from: `ref`, `digest`, `signer` and figures of the archive; empty for our own.
    """

    model: str
    base: str
    base_digest: str
    dataset: str = ""
    dataset_digest: str = ""
    recipe: Mapping[str, Any] | None = None
    adapter: Path | None = None
    weights: Path | None = None
    gguf: Path | None = None
    evaluation: Mapping[str, Any] | None = None
    environment: Mapping[str, str] | None = None
    trial: str = ""
    turn: str = ""
    policies: Mapping[str, Any] | None = None
    origin: Mapping[str, Any] | None = None

    @property
    def trained(self) -> Path | None:
        """The folder that training left; None for the bare base."""
        return self.adapter or self.weights

    @property
    def tuning(self) -> Tuning:
        return "lora" if self.adapter else "full" if self.weights else ""


@dataclass(frozen=True)
class Version:
    """One registered version. `ref` is how people write it, `folder` where its files are.

    `tuning` says what its folder holds: an adapter (`lora`), whole weights (`full`), or nothing of the kind for the bare base;
    `adapter_digest` is the digest of the one or the other. `removed_at` says since when its weights are gone; empty while they are
    there.
    """

    model: str
    number: int
    digest: str
    dataset: str
    dataset_digest: str
    base: str
    base_digest: str
    recipe: dict[str, Any]
    tuning: Tuning
    adapter_digest: str
    evaluation: dict[str, Any]
    policies: dict[str, Any]
    stage: Stage
    folder: str
    trial: str
    turn: str
    origin: dict[str, Any]
    removed_at: str
    created_at: str
    created_by: str

    @property
    def ref(self) -> str:
        return f"{self.model}@{self.number}"

    @property
    def gguf(self) -> Path | None:
        """The adapter for llama.cpp; None for the bare base and for whole weights."""
        return Path(self.folder) / folders.ADAPTER_GGUF if self.tuning == "lora" else None

    @property
    def whole(self) -> Path | None:
        """The whole weights for llama.cpp, which then needs no base; None for an adapter and for the bare base."""
        return Path(self.folder) / folders.MODEL_GGUF if self.tuning == "full" else None

    @property
    def trained(self) -> Path | None:
        """The folder that training left, to go on from: `adapter/` or `weights/`."""
        return Path(self.folder) / folders.TRAINED[self.tuning] if self.tuning else None

    def to_dict(self) -> dict[str, Any]:
        """As the REST API sends it."""
        return {"ref": self.ref, **asdict(self)}


def split(ref: str) -> tuple[str, int]:
    """`smart-home@2` as its model and number."""
    model, at, number = ref.rpartition("@")
    if not at or not model or not number.isdecimal():
        raise Invalid(
            f"{ref!r} is no version", where="version", remedy="write it as model@number, such as smart-home@2"
        )
    return model, int(number)


def register(db: Database, home: Home, draft: Draft, *, actor: str) -> Version:
    """Make a new version, stage `candidate`, or return the one that was made of exactly this before.

    Raises:
        NotFound: The model was never applied.
        Invalid: A file of the draft is missing.
        StorageFull: The disk is full; nothing was registered.
    """
    with db.reading() as conn:
        models.get(conn, draft.model)
    staged = folders.stage(home, adapter=draft.adapter, weights=draft.weights, gguf=draft.gguf)
    try:
        digest = digest_of(draft, staged.adapter_digest)
        with db.writing() as conn:
            models.lock(conn, draft.model)
            return _known(conn, draft.model, digest) or _insert(conn, home, draft, staged, digest, actor)
    finally:
        folders.discard(staged)


def register_base(db: Database, home: Home, *, model: str, base: str, base_digest: str, actor: str) -> Version:
    """Version 0, the bare base: admitted without a gate, since there is nothing before it. Again: the same version."""
    version = register(db, home, Draft(model=model, base=base, base_digest=base_digest), actor=actor)
    with db.writing() as conn:
        if get(conn, version.ref).stage == "candidate":
            verdicts.admit_base(conn, version.ref, actor=actor)
            move(
                conn,
                version.ref,
                "approved",
                actor=actor,
                reason="the bare base, with nothing before it to compare with",
            )
        return get(conn, version.ref)


def _known(conn: sa.Connection, model: str, digest: str) -> Version | None:
    row = conn.execute(sa.select(versions).where(versions.c.model == model, versions.c.digest == digest)).first()
    return _version(row) if row else None


def _insert(conn: sa.Connection, home: Home, draft: Draft, staged: folders.Staged, digest: str, actor: str) -> Version:
    """The row and the folder under the next number, in the caller's transaction."""
    version = Version(
        model=draft.model, number=_next_number(conn, draft), digest=digest, dataset=draft.dataset,
        dataset_digest=draft.dataset_digest, base=draft.base, base_digest=draft.base_digest,
        recipe=dict(draft.recipe or {}), tuning=draft.tuning, adapter_digest=staged.adapter_digest,
        evaluation=dict(draft.evaluation or {}),
        policies=dict(draft.policies or {}), stage="candidate", folder="", trial=draft.trial,
        turn=draft.turn, origin=dict(draft.origin or {}), removed_at="", created_at=clock.iso(), created_by=actor,
    )  # fmt: skip
    record = known(conn, version) | {"environment": dict(draft.environment or {})}
    folder = folders.place(home, staged, record)
    version = Version(**{**asdict(version), "folder": str(folder)})
    conn.execute(versions.insert().values(**asdict(version)))
    history.note(conn, version.model, version.number, "candidate", actor=actor, reason="registered")
    audit.record(
        conn, actor=actor, action="version.registered", subject=version.ref,
        detail={"digest": digest, "dataset": draft.dataset, "base": draft.base, "trial": draft.trial, "turn": draft.turn},
    )  # fmt: skip
    return version


def _next_number(conn: sa.Connection, draft: Draft) -> int:
    """0 for the bare base, else one more than the highest, so numbers have no gaps and are never used again."""
    highest = conn.execute(sa.select(sa.func.max(versions.c.number)).where(versions.c.model == draft.model)).scalar()
    if draft.trained is None and highest is not None:
        raise Conflict(
            f"{draft.model} has versions already, and another base without an adapter cannot become number 0",
            where="versions", remedy="train an adapter on the new base; it gets the next number",
        )  # fmt: skip
    return 0 if draft.trained is None else (highest or 0) + 1


def digest_of(draft: Draft, adapter_digest: str) -> str:
    """SHA-256 over what the version is made of; figures, times and names of people are not part of it."""
    parts = {
        "model": draft.model, "base": draft.base_digest, "adapter": adapter_digest,
        "dataset": draft.dataset_digest or draft.dataset, "recipe": dict(draft.recipe or {}),
        **({"policies": dict(draft.policies)["digest"]} if draft.policies else {}),
    }  # fmt: skip
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def evaluated(conn: sa.Connection, home: Home, ref: str, evaluation: Mapping[str, Any], *, actor: str) -> Version:
    """Add figures to a version's record, card and folder. Its digest does not change: figures are about it, not part of it."""
    version = get(conn, ref)
    figures = {**version.evaluation, **evaluation}
    if figures == version.evaluation:
        return version
    _update(conn, version, evaluation=figures)
    after = get(conn, ref)
    folders.refresh(home, known(conn, after))
    audit.record(conn, actor=actor, action="version.evaluated", subject=ref, detail={"evaluation": dict(evaluation)})
    return after


def known(conn: sa.Connection, version: Version) -> dict[str, Any]:
    """A version with all that the record knows about it, as card and bill of materials are written from."""
    return version.to_dict() | about.facts(conn, version.to_dict())


def move(conn: sa.Connection, ref: str, stage: Stage, *, actor: str, reason: str) -> Version:
    """Change a version's stage. Moving to the stage it has does nothing.

    `live` retires the version that was live, in the same transaction.

    Raises:
        Conflict: No such move, for instance from `candidate` to `live`.
        Refused: `approved` or `live` without a passed verdict and the approvals that the model file asks for, or without
            a recorded override; or back to live what live traffic has refuted since.
    """
    version = get(conn, ref)
    models.lock(conn, version.model)
    if version.stage == stage:
        return version
    if version.removed_at and stage != "refused":
        raise Conflict(f"the weights of {ref} were removed at {version.removed_at}", where="version stages",
                       remedy="bring them back from an archive (`ciranda versions import`), which is another version")  # fmt: skip
    if stage not in MOVES[version.stage]:
        raise Conflict(
            f"{ref} is {version.stage} and cannot become {stage}", where="version stages",
            remedy=f"from {version.stage} it can become {' or '.join(sorted(MOVES[version.stage]))}",
        )  # fmt: skip
    if stage == "approved" or (stage == "live" and not returns(conn, ref)):
        admission.demand(conn, ref)
    before = live(conn, version.model) if stage == "live" else None
    if before is not None:
        _change(conn, before, "retired", actor=actor, reason=f"{ref} went live")
    _change(conn, version, stage, actor=actor, reason=reason)
    return get(conn, ref)


def removed(conn: sa.Connection, ref: str, *, reason: str, actor: str) -> None:
    """Mark that a version's weights are gone (`removal` takes them away); one that was never judged or released is refused."""
    version = get(conn, ref)
    if version.stage in ("candidate", "approved"):
        _change(conn, version, "refused", actor=actor, reason=f"its weights were removed: {reason}")
    _update(conn, version, removed_at=clock.iso())
    audit.record(conn, actor=actor, action="version.removed", subject=ref, detail={"reason": reason[:500]})


def admit(conn: sa.Connection, ref: str, *, actor: str) -> Version:
    """Make a candidate `approved` when its verdict and its approvals are complete; nothing happens before."""
    version = get(conn, ref)
    now = admission.standing(conn, ref)
    if version.stage not in ("candidate", "refused") or not now.complete:
        return version
    reason = "its gates passed" + (f", {now.quorum.told}" if now.quorum.needed else "")
    return move(conn, ref, "approved", actor=actor, reason=reason)


def returns(conn: sa.Connection, ref: str) -> bool:
    """Whether going live would be a way back: it was live once, and live traffic has not refuted it since, or there is no other."""
    if not was_live(conn, ref):
        return False
    before = previous(conn, split(ref)[0])
    return not _refuted(conn, ref) or (before is not None and before.ref == ref)


def _refuted(conn: sa.Connection, ref: str) -> bool:
    newest = verdicts.newest(conn, ref)
    return newest is not None and newest.kind == "refuted"


def _change(conn: sa.Connection, version: Version, stage: Stage, *, actor: str, reason: str) -> None:
    _update(conn, version, stage=stage)
    history.note(conn, version.model, version.number, stage, actor=actor, reason=reason)
    audit.record(
        conn,
        actor=actor,
        action=f"version.{stage}",
        subject=version.ref,
        detail={"from": version.stage, "reason": reason},
    )


def _update(conn: sa.Connection, version: Version, **values: Any) -> None:
    mine = (versions.c.model == version.model) & (versions.c.number == version.number)
    conn.execute(versions.update().where(mine).values(**values))


def find(conn: sa.Connection, ref: str) -> Version | None:
    """The version, or None."""
    model, number = split(ref)
    row = conn.execute(sa.select(versions).where(versions.c.model == model, versions.c.number == number)).first()
    return _version(row) if row else None


def get(conn: sa.Connection, ref: str) -> Version:
    """The version.

    Raises:
        NotFound: There is none; says which there are.
    """
    found = find(conn, ref)
    if found is None:
        there = ", ".join(version.ref for version in of(conn, split(ref)[0])[:10])
        raise NotFound(f"no version {ref}; there {'are ' + there if there else 'is none yet'}", where="versions",
                       remedy=f"see `ciranda status {split(ref)[0]}`")  # fmt: skip
    return found


def of(conn: sa.Connection, model: str) -> list[Version]:
    """All versions of a model, newest first."""
    query = sa.select(versions).where(versions.c.model == model).order_by(versions.c.number.desc())
    return [_version(row) for row in conn.execute(query)]


def live(conn: sa.Connection, model: str) -> Version | None:
    """The live version, if any."""
    row = conn.execute(sa.select(versions).where(versions.c.model == model, versions.c.stage == "live")).first()
    return _version(row) if row else None


def was_live(conn: sa.Connection, ref: str) -> bool:
    """Whether the version is live or was so at any time."""
    model, number = split(ref)
    return number in history.lives(conn, model)


def previous(conn: sa.Connection, model: str) -> Version | None:
    """The version that was live before the present one and could be again: where a rollback goes.

    One that live traffic has refuted since is the last resort.
    """
    now = live(conn, model)
    lived = [
        get(conn, f"{model}@{number}") for number in history.lives(conn, model) if now is None or number != now.number
    ]
    able = [version for version in lived if version.stage == "retired" and not version.removed_at]
    return next((version for version in able if not _refuted(conn, version.ref)), able[0] if able else None)


def _version(row: sa.Row[Any]) -> Version:
    return Version(**row._mapping)
