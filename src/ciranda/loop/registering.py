"""An adapter that was trained elsewhere becomes a candidate of a model's line, and goes through the line's gates like any other.

    take    copies the adapter into the registry, derives what the engine serves, and registers the version
    tick    the leader asks for a turn that evaluates and judges it, when the line is free

The turn is the usual one: its steps `data` and `train` find that there is nothing to do (`Work`). Only PEFT adapters in safetensors
are taken, on the model's own base, in a shape that its engine serves. Nobody trains on from such a version: how it was trained is
not known here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ciranda.config.model import ModelSpec
from ciranda.data import versions as datasets
from ciranda.errors import Conflict, Invalid, NotFound
from ciranda.loop import picks, turns
from ciranda.loop.platform import Platform
from ciranda.registry import registered, versions
from ciranda.registry.versions import Draft, Version
from ciranda.store import ids
from ciranda.train import bases

CAUSE = "registered"
ELSEWHERE = "trained_elsewhere"  # the key of the recipe that says so
NEEDED = "adapter_config.json"
TAKEN = (".json", ".safetensors", ".md", ".txt", ".jinja", ".model")
MOST_BYTES = 4 << 30


def take(platform: Platform, spec: ModelSpec, folder: Path, *, facts: Mapping[str, Any], actor: str) -> Version:
    """Register the adapter in a folder as a candidate; the same adapter again is the same version.

    Raises:
        Invalid: No PEFT adapter, or one with files that are none of its own.
        Refused: A shape that the model's engine cannot serve. NotFound: The base is not prepared here.
    """
    found = _demand(spec, folder)
    base = bases.need(platform.home.bases, spec.base)
    work = platform.home.run / ids.new("adapter")
    work.mkdir(mode=0o700)
    try:
        adapter, gguf = work / "adapter", work / "adapter.gguf"
        adapter.mkdir()
        for name in found:
            shutil.copyfile(folder / name, adapter / name)
        picks.derive(spec, adapter, base, gguf)
        draft = Draft(
            model=spec.model, base=spec.base, base_digest=base.digest, recipe={ELSEWHERE: dict(facts)}, adapter=adapter,
            gguf=gguf,
        )  # fmt: skip
        return versions.register(platform.db, platform.home, draft, actor=actor)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _demand(spec: ModelSpec, folder: Path) -> list[str]:
    """The files of an adapter. Raises Invalid."""
    where = f"adapter for {spec.model}"
    held = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    wanted = picks.marks(spec)
    if missing := sorted(set(wanted) - held.keys()):
        raise Invalid(
            f"no PEFT adapter: {missing[0]} is missing", where=where,
            remedy="log the folder that PEFT's save_pretrained wrote, and name it as the source",
        )  # fmt: skip
    odd = [name for name, path in held.items() if not path.is_file() or path.suffix not in TAKEN]
    if odd:
        raise Invalid(f"{sorted(odd)[0]} is no part of an adapter", where=where, remedy=f"only {', '.join(TAKEN)}")
    if sum(path.stat().st_size for path in held.values()) > MOST_BYTES:
        raise Invalid("the adapter is too large", where=where, remedy=f"at most {MOST_BYTES >> 30} GB")
    if NEEDED in held:
        _demand_config(held[NEEDED], where)
    return sorted(held)


def _demand_config(path: Path, where: str) -> None:
    try:
        if not isinstance(json.loads(path.read_bytes()), dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{NEEDED} cannot be read: {error}", where=where, remedy="log it again") from None


def tick(platform: Platform) -> None:
    """Ask for the turns of what was registered, one of a line at a time."""
    with platform.db.reading() as conn:
        due = registered.unjudged(conn)
    for one in due:
        with platform.db.writing() as conn:
            try:
                turn = turns.ask(
                    conn, one.name, cause=CAUSE, event=str(one.ref), actor=one.created_by,
                    reason=f"{one.ref} was registered by {one.created_by}, from {one.source[:200]}",
                )  # fmt: skip
            except Conflict:
                continue
            registered.change_version(conn, one, turn=turn)


def data(platform: Platform, spec: ModelSpec) -> dict[str, Any]:
    """What the version is judged on: the newest rows of the model, as they are."""
    newest = datasets.newest_of(platform.db, spec.dataset)
    if newest is None:
        return {"dataset": "", "digest": "", "rows": 0}
    return {"dataset": newest.ref, "digest": newest.digest, "rows": newest.rows}


def trained(event: str) -> dict[str, Any]:
    """In place of a search's best trial."""
    return {"trial": "", "trials": 0, "version": event, "summary": "trained elsewhere"}


def demand(platform: Platform, ref: str) -> Version:
    """The version that a turn is about. Raises NotFound."""
    with platform.db.reading() as conn:
        found = versions.find(conn, ref)
    if found is None:
        raise NotFound(f"no version {ref}", where="versions", remedy="register it again")
    return found
