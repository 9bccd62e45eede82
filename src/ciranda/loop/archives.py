"""Versions that leave and come in as one file (`registry.archive`): what goes along, and what is demanded of one that arrives.

A version that is brought in begins as a candidate without a verdict, whatever its archive says of it: its gates are judged here
(`ciranda evaluate`), on this home's cases, against what is live here. It must stand on the very base that its model has here, and
be signed by this home or by whom the caller named. Names of datasets and runs of the other home are kept as words, never taken for
ours.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.data.versions import dataset_versions
from ciranda.errors import Refused
from ciranda.govern import audit, signatures
from ciranda.loop.platform import Platform
from ciranda.registry import approvals, archive, folders, history, models, verdicts, versions
from ciranda.registry.archive import Opened
from ciranda.registry.versions import Draft, Version
from ciranda.store import clock, files, ids
from ciranda.train import bases

AGE_S = 86_400  # of a file that somebody who died left in the arrivals
SAID = 20  # verdicts of another home that are kept to be read


def arrivals(platform: Platform) -> Path:
    """Where archives lie while they are written or looked at; what a killed process left there goes after a day."""
    folder = platform.home.artefacts / "arrivals"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.iterdir():
        if clock.now().timestamp() - path.stat().st_mtime > AGE_S:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return folder


def take(platform: Platform, ref: str, actor: str) -> tuple[Path, str]:
    """Write a version's archive; its file, which is the caller's to remove, and its SHA-256.

    Raises:
        Refused: Its weights were removed, or a file is not what its manifest says.
    """
    with platform.db.reading() as conn:
        version = versions.get(conn, ref)
        record = versions.known(conn, version)
        said = {
            "verdicts": [one.to_dict() for one in verdicts.of(conn, ref)],
            "words": [one.to_dict() for one in approvals.of(conn, ref)],
            "history": [asdict(one) for one in history.of(conn, version.model) if one.number == version.number],
        }
    if version.removed_at or not version.tuning:
        what = f"the weights of {ref} were removed" if version.removed_at else f"{ref} is the bare base"
        raise Refused(
            f"{what}: there is nothing to carry", where="versions", remedy="export a version that was trained"
        )
    target = arrivals(platform) / f"{ids.new('out')}.zip"
    digest = archive.pack(platform.home, Path(version.folder), record, said, target)
    with platform.db.writing() as conn:
        audit.record(conn, actor=actor, action="version.exported", subject=ref, detail={"archive": f"sha256:{digest}"})
    return target, digest


def bring(platform: Platform, model: str, file: Path, *, signer: str, actor: str) -> Version:
    """Make a candidate of an archive. The same one again is the same version.

    Args:
        signer: The fingerprint of whoever must have signed it; empty is this home itself.

    Raises:
        Invalid, Refused, TooLarge: It is no archive of ours, was changed, was signed by somebody else, or stands on another base.
        NotFound: The model was never applied.
    """
    with platform.db.reading() as conn:
        spec = models.get(conn, model).spec
    folder = arrivals(platform) / ids.new("in")
    folder.mkdir(mode=0o700)
    try:
        opened = archive.unpack(file, folder, signer=signer or signatures.signer(platform.home).fingerprint)
        base = bases.find(platform.home.bases, spec.base)
        if base is None or base.digest != opened.manifest.base_digest:
            has = f"{spec.base} ({base.digest[:19]})" if base else f"{spec.base}, which is not prepared"
            raise Refused(
                f"it stands on {opened.manifest.base} ({opened.manifest.base_digest[:19]}), and {model} has {has}",
                where="archive: base", remedy=f"give {model} that base, or prepare it: `ciranda base prepare {spec.base}`",
            )  # fmt: skip
        draft = _draft(platform, model, spec.base, opened, files.sha256_of(file))
        _demand_same(draft, opened)
        version = versions.register(platform.db, platform.home, draft, actor=actor)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    with platform.db.writing() as conn:
        detail = {"archive": (draft.origin or {})["archive"], "ref": opened.manifest.ref, "signer": opened.signer}
        audit.record(conn, actor=actor, action="version.imported", subject=version.ref, detail=detail)
    return version


def _draft(platform: Platform, model: str, base: str, opened: Opened, digest: str) -> Draft:
    told, folder = opened.manifest, opened.folder
    whole = told.tuning == "full"
    return Draft(
        model=model,
        base=base,
        base_digest=told.base_digest,
        dataset=told.dataset if _ours(platform, told.dataset, told.dataset_digest) else "",
        dataset_digest=told.dataset_digest,
        recipe=dict(told.recipe),
        adapter=None if whole else folder / folders.ADAPTER,
        weights=folder / folders.WEIGHTS if whole else None,
        gguf=folder / (folders.MODEL_GGUF if whole else folders.ADAPTER_GGUF),
        environment=told.environment,
        policies=told.policies.model_dump() if told.policies else None,
        origin={
            "ref": told.ref, "digest": told.digest, "signer": opened.signer, "archive": f"sha256:{digest}",
            "dataset": told.dataset, "evaluation": dict(opened.evaluation), "verdicts": list(_said(opened.evidence)),
        },
    )  # fmt: skip


def _ours(platform: Platform, ref: str, digest: str) -> bool:
    """Whether a dataset version of that name is the very same one here."""
    name, _, number = ref.rpartition("@")
    if not name or not number.isdecimal():
        return False
    mine = (dataset_versions.c.dataset == name) & (dataset_versions.c.number == int(number))
    with platform.db.reading() as conn:
        return conn.execute(sa.select(dataset_versions.c.digest).where(mine)).scalar() == digest


def _said(evidence: Mapping[str, Any]) -> list[dict[str, str]]:
    """What gates and people of the other home said, as words to read."""
    rulings = evidence.get("verdicts")
    found = [one for one in rulings if isinstance(one, dict)] if isinstance(rulings, list) else []
    return [
        {name: str(one.get(name, ""))[:500] for name in ("kind", "outcome", "note", "actor", "at")}
        for one in found[:SAID]
    ]


def _demand_same(draft: Draft, opened: Opened) -> None:
    """The weights are those that the version's digest was made over."""
    told = opened.manifest
    trained = draft.trained
    found = f"sha256:{files.sha256_of_folder(trained)}" if trained and trained.is_dir() else ""
    if found != told.adapter_digest:
        raise Refused("its weights are not those of its digest", where="archive", remedy="ask for the archive again")
    if draft.model == told.model and versions.digest_of(draft, found) != told.digest:
        raise Refused("its record is not that of its digest", where="archive", remedy="ask for the archive again")
