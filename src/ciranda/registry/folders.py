"""The folder of a version: built beside, synced, renamed; with a manifest that proves every file.

`manifest.json` names the SHA-256 of each file, and `manifest.sig` is this installation's Ed25519 signature over it, so a version
that was copied to another machine checks itself (`verify`). Beside it lie the figures, the model card and the bill of materials.
Weights come only as safetensors or GGUF: a pickle could run code, and is refused before anything is copied.

Whoever stages files holds a lock on their folder. A folder that nobody holds was left by a process that died, and the next one
that stages removes it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ciranda.config import Home
from ciranda.errors import Invalid, StorageFull
from ciranda.govern import signatures
from ciranda.registry import bom, card
from ciranda.store import files, ids

ADAPTER, ADAPTER_GGUF = "adapter", "adapter.gguf"
WEIGHTS, MODEL_GGUF = "weights", "model.gguf"
TRAINED = {"lora": ADAPTER, "full": WEIGHTS}
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
EVALUATION, CARD, BOM = "evaluation.json", "card.md", "bom.cdx.json"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
ABOUT = (EVALUATION, CARD, BOM)
RECORD = (
    "ref", "model", "number", "digest", "base", "base_digest", "dataset", "dataset_digest", "recipe", "tuning", "adapter_digest",
    "policies", "trial", "turn", "environment", "origin", "removed_at", "created_at", "created_by",
)  # fmt: skip
"""What of a version's record the manifest holds."""


@dataclass(frozen=True)
class Staged:
    """Files that wait under a temporary name for their number."""

    path: Path
    adapter_digest: str
    held: int = -1  # the descriptor whose lock says that they are somebody's


def root(home: Home) -> Path:
    """Where the folders of all versions are."""
    return home.artefacts / "versions"


def stage(home: Home, *, adapter: Path | None = None, weights: Path | None = None, gguf: Path | None = None) -> Staged:
    """Copy a version's files beside the others, synced to disk: an adapter or whole weights, and the form that is served.

    Raises:
        Invalid: A file is missing, or is a pickle.
        StorageFull: No room; nothing is left behind.
    """
    trained = adapter or weights
    _refuse_odd(trained, gguf)
    root(home).mkdir(parents=True, exist_ok=True)
    path = root(home) / f".{ids.new('staged')}"
    try:
        with _alone(home):
            _sweep(home)
            held = _hold(path)
    except OSError as error:
        raise _storage(error, path) from error
    try:
        if trained is not None:
            _copy(trained, path / (ADAPTER if adapter else WEIGHTS))
        if gguf is not None:
            shutil.copyfile(gguf, path / (ADAPTER_GGUF if adapter else MODEL_GGUF))
        sync(path)
    except BaseException as error:
        discard(Staged(path, "", held))
        if isinstance(error, OSError):
            raise _storage(error, path) from error
        raise
    digest = "sha256:" + files.sha256_of_folder(path / (ADAPTER if adapter else WEIGHTS)) if trained else ""
    return Staged(path, digest, held)


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Nobody else makes or removes a temporary folder meanwhile."""
    with _open(root(home)) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _hold(path: Path) -> int:
    path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _copy(source: Path, target: Path) -> None:
    """Copy a folder file by file: shutil's copytree hides the reason (a full disk) in a list."""
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_dir():
            _copy(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)


def _storage(error: OSError, path: Path) -> Exception:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return StorageFull(
        "no room for the version's files", where=str(path.parent), remedy="free some disk, then try again"
    )


def _refuse_odd(trained: Path | None, gguf: Path | None) -> None:
    for path, present in ((trained, Path.is_dir), (gguf, Path.is_file)):
        if path is not None and not present(path):
            raise Invalid(
                f"{path} is missing", where="version files", remedy="train again: the job's output is incomplete"
            )
    for path in trained.rglob("*") if trained else ():
        if path.suffix in PICKLES or path.is_symlink():
            raise Invalid(
                f"{path.name} is a {'link' if path.is_symlink() else 'pickle, which may run code when read'}",
                where=str(path), remedy="save the weights as safetensors",
            )  # fmt: skip


def place(home: Home, staged: Staged, record: Mapping[str, Any]) -> Path:
    """Give the staged files their name. Called inside the transaction that writes the row."""
    target = root(home) / str(record["ref"])
    try:
        describe(home, staged.path, record)
        if target.exists():  # left by a transaction that died: no row has this number, or we would not be here
            orphan = root(home) / f".{ids.new('orphan')}"
            os.rename(target, orphan)
            shutil.rmtree(orphan, ignore_errors=True)
        os.rename(staged.path, target)
        files.sync_folder(target.parent)
    except OSError as error:
        raise _storage(error, staged.path) from error
    return target


def refresh(home: Home, record: Mapping[str, Any]) -> None:
    """Write figures, card, bill of materials and manifest of a version anew, each whole."""
    folder = root(home) / str(record["ref"])
    old = json.loads((folder / MANIFEST).read_text())
    try:
        describe(home, folder, dict(record) | {"environment": old.get("environment", {})})
    except OSError as error:
        raise _storage(error, folder) from error


def describe(home: Home, folder: Path, record: Mapping[str, Any]) -> None:
    """Write what a folder says of itself, and sign it."""
    files.write_atomic(folder / EVALUATION, json.dumps(record["evaluation"], indent=1, sort_keys=True))
    files.write_atomic(folder / CARD, card.write(record))
    named = {name: f"sha256:{digest}" for name, digest in digests(folder).items() if name != BOM}
    files.write_atomic(folder / BOM, json.dumps(bom.write(record, named), indent=1, ensure_ascii=False))
    named[BOM] = f"sha256:{files.sha256_of(folder / BOM)}"
    sealed(home, folder, {name: record[name] for name in RECORD if name in record}, named)


def sealed(home: Home, folder: Path, record: Mapping[str, Any], named: Mapping[str, str]) -> None:
    """Write the manifest over these files, and its signature."""
    whole = {**record, "files": dict(named), "signer": signatures.signer(home).to_dict()}
    content = json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False).encode()
    files.write_atomic(folder / MANIFEST, content)
    files.write_atomic(folder / SIGNATURE, signatures.sign(home, content))


def digests(folder: Path) -> dict[str, str]:
    """The hex SHA-256 of every file but the manifest and its signature, by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: files.sha256_of(path) for name, path in found.items() if name not in (MANIFEST, SIGNATURE)}


def listed(folder: Path) -> dict[str, str]:
    """What the manifest says of each file but the bill of materials; nothing when it cannot be read."""
    try:
        told: dict[str, str] = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return {}
    return {name: digest for name, digest in told.items() if name != BOM}


def verify(folder: Path, *, signer: str = "") -> list[str]:
    """What is wrong with a version's folder, a sentence each; nothing when every file is what the signed manifest says.

    Args:
        signer: The fingerprint of whoever must have signed; without it, any signature that holds will do.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
        told = json.loads(content)
        listed: dict[str, str] = told["files"]
        public, signature = str(told["signer"]["public_key"]), (folder / SIGNATURE).read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{folder / MANIFEST} cannot be read: {error}"]
    problems = []
    try:
        if not signatures.holds(public, content, signature):
            problems.append("manifest.json was changed: its signature does not hold")
        elif signer and signatures.read(public).fingerprint != signer:
            problems.append("manifest.json was signed by somebody else")
    except Invalid as error:
        problems.append(f"manifest.json names no signer: {error.message}")
    found = {name: f"sha256:{digest}" for name, digest in digests(folder).items()}
    problems += [f"{name} is missing" for name in listed if name not in found]
    problems += [f"{name} is not in the manifest" for name in found if name not in listed]
    return problems + [f"{name} was changed" for name in listed if found.get(name, listed[name]) != listed[name]]


def sync(folder: Path) -> None:
    """Make every file and folder in `folder` durable."""
    for path in [*folder.rglob("*"), folder]:
        with _open(path) as descriptor:
            os.fsync(descriptor)


def discard(staged: Staged) -> None:
    """Remove staged files that got no number; nothing when they did."""
    shutil.rmtree(staged.path, ignore_errors=True)
    if staged.held >= 0:
        os.close(staged.held)


def _sweep(home: Home) -> None:
    """Remove what killed registrations left behind; what a living process holds stays."""
    for path in root(home).glob(".*"):
        with suppress(FileNotFoundError), _open(path) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _open(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
