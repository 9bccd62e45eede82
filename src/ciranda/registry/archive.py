"""A version as one file, to be carried to another installation and back: a ZIP that proves itself.

Inside is the version's folder (weights, card, bill of materials, figures), `evidence.json` with its verdicts, what people said and
its history, `manifest.json` with the SHA-256 of each, `manifest.sig` over that, and `signing.pub`. Entries are stored, not packed
(weights do not pack), sorted, and dated alike, so that the same version gives the same bytes.

Whoever brings one in trusts nobody: every entry is refused that is packed, linked, encrypted, doubled, named outside of the folder
or of another kind than weights and their texts; sizes are counted while they are written; nothing is used before the signature
holds, the signer is the one that the caller named, and every file is what the manifest says. No verdict comes in: it is evidence to
read, and the version begins as a candidate.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ciranda.config import Home
from ciranda.config.shape import NAME
from ciranda.errors import Invalid, Refused, TooLarge
from ciranda.govern import signatures
from ciranda.registry import folders
from ciranda.registry.folders import MANIFEST, SIGNATURE
from ciranda.store import files

PUBLIC, EVIDENCE = "signing.pub", "evidence.json"
LOOSE = (MANIFEST, SIGNATURE, PUBLIC)
ENTRIES, TEXT_BYTES = 2000, 16 << 20  # how many files, and how large one of them that is no weights may be
WEIGHTS = frozenset({".safetensors", ".gguf"})
TEXTS = frozenset({".json", ".md", ".txt", ".jinja", ".model"})
DIGEST = r"^(sha256:[0-9a-f]{64})?$"
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}(/[A-Za-z0-9][A-Za-z0-9._-]{0,100}){0,4}")
DATED = (1980, 1, 1, 0, 0, 0)
PIECE = 1 << 20


class Bound(BaseModel):
    """The policies that the rows went through: their names and one digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str = Field(max_length=100)
    names: list[str] = Field(max_length=200)


class Manifest(BaseModel):
    """What an archive's manifest must say, with bounds; what it says beside that is not read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ref: str = Field(max_length=80)
    model: str = Field(pattern=NAME, max_length=63)
    digest: str = Field(pattern=DIGEST, min_length=1)
    base: str = Field(min_length=1, max_length=300)
    base_digest: str = Field(min_length=1, max_length=80)
    dataset: str = Field("", max_length=200)
    dataset_digest: str = Field("", max_length=80)
    recipe: dict[str, bool | int | float | str | list[str] | None] = Field(default={}, max_length=60)
    tuning: str = Field(pattern=r"^(lora|full)$")
    adapter_digest: str = Field(pattern=DIGEST, min_length=1)
    policies: Bound | None = None
    environment: dict[str, str] = Field(default={}, max_length=60)
    files: dict[str, str] = Field(max_length=ENTRIES)
    signer: dict[str, str]

    @field_validator("policies", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return value or None


@dataclass(frozen=True)
class Opened:
    """An archive whose every byte was checked, laid out in a folder."""

    folder: Path
    manifest: Manifest
    signer: str
    evidence: Mapping[str, Any]
    evaluation: Mapping[str, Any]


def pack(home: Home, folder: Path, record: Mapping[str, Any], evidence: Mapping[str, Any], target: Path) -> str:
    """Write a version's archive; returns its SHA-256.

    Args:
        folder: The version's folder, which must be whole.
        record: What its manifest says, and `about.facts`.
        evidence: Verdicts, words and history, as JSON values.
        target: The file to write; beside it a working folder is made and removed.

    Raises:
        Refused: A file of the folder is not what its manifest says.
    """
    if problems := folders.verify(folder, signer=signatures.signer(home).fingerprint):
        raise Refused(
            f"the folder is not whole: {problems[0]}", where=str(folder), remedy="bring the file back from a backup"
        )
    beside = target.with_name(f".{target.name}.parts")
    beside.mkdir(mode=0o700)
    try:
        return _pack(home, folder, record, evidence, target, beside)
    finally:
        for path in beside.iterdir():
            path.unlink()
        beside.rmdir()


def _pack(
    home: Home, folder: Path, record: Mapping[str, Any], evidence: Mapping[str, Any], target: Path, beside: Path
) -> str:
    files.write_atomic(beside / EVIDENCE, json.dumps(evidence, indent=1, sort_keys=True, ensure_ascii=False))
    named = {name: f"sha256:{digest}" for name, digest in folders.digests(folder).items()}
    named[EVIDENCE] = f"sha256:{files.sha256_of(beside / EVIDENCE)}"
    old = json.loads((folder / MANIFEST).read_text())
    kept = {name: old[name] for name in folders.RECORD if name in old}
    folders.sealed(home, beside, {**kept, **{name: record[name] for name in kept if name in record}}, named)
    files.write_atomic(beside / PUBLIC, signatures.signer(home).public)
    placed = {name: beside / name if (beside / name).exists() else folder / name for name in (*LOOSE, *named)}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in sorted(placed):
            entry = zipfile.ZipInfo(name, DATED)
            entry.external_attr = 0o600 << 16
            with placed[name].open("rb") as source, archive.open(entry, "w", force_zip64=True) as into:
                while piece := source.read(PIECE):
                    into.write(piece)
    return files.sha256_of(target)


def unpack(source: Path, folder: Path, *, signer: str) -> Opened:
    """Lay an archive out in an empty folder, having checked all of it.

    Args:
        signer: The fingerprint of whoever must have signed it.

    Raises:
        Invalid: It is no archive of ours, or holds something that none of ours does.
        Refused: Its signature does not hold, somebody else signed it, or a file is not what its manifest says.
        TooLarge: It holds more than it may.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            entries = _entries(archive, source.stat().st_size)
            manifest, signed = _manifest(archive, entries, signer)
            _demand_listed(entries, manifest)
            for name, said in manifest.files.items():
                _extract(archive, entries[name], folder, said)
            return Opened(folder, manifest, signed, _json(folder / EVIDENCE), _json(folder / folders.EVALUATION))
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        UnicodeDecodeError,
    ) as error:
        raise _odd(f"it is no whole ZIP: {error}") from None


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The entries by name, none of which could write elsewhere, grow, or be another one."""
    listed = archive.infolist()
    if len(listed) > ENTRIES:
        raise TooLarge(f"the archive has {len(listed)} entries", where="archive", remedy=f"{ENTRIES} are the bound")
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in listed:
        name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
        if not PLAIN.fullmatch(name):
            raise _odd(f"an entry is called {name[:100]!r}")
        if name.casefold() in {one.casefold() for one in found}:
            raise _odd(f"two entries are called {name!r}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1 or entry.file_size != entry.compress_size:
            raise _odd(f"{name!r} is packed or encrypted")
        if kind not in (0, stat.S_IFREG):
            raise _odd(f"{name!r} is a link or a device")
        if name not in LOOSE and Path(name).suffix not in WEIGHTS | TEXTS:
            raise _odd(
                f"{name!r} is no kind of file that a version has; weights come as safetensors or GGUF, never as a pickle"
            )
        if Path(name).suffix not in WEIGHTS and entry.file_size > TEXT_BYTES:
            raise TooLarge(
                f"{name!r} has {entry.file_size} bytes", where="archive", remedy=f"{TEXT_BYTES} are the bound"
            )
        found[name] = entry
    if sum(entry.file_size for entry in listed) > size:
        raise _odd("its entries say more than it holds")
    return found


def _manifest(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], signer: str) -> tuple[Manifest, str]:
    """The manifest, after its signature held and its signer is the one that was asked for."""
    missing = [name for name in LOOSE if name not in entries]
    if missing:
        raise _odd(f"{missing[0]} is missing")
    content, signature, public = (archive.read(entries[name]) for name in LOOSE)
    who = signatures.read(public.decode("ascii", "replace"))
    if len(signature) != signatures.SIZE or not signatures.holds(who.public, content, signature):
        raise Refused("the archive was changed: its signature does not hold", where=MANIFEST, remedy="ask for it again")
    if who.fingerprint != signer:
        raise Refused(
            f"the archive was signed by {who.fingerprint}, not by {signer}", where=PUBLIC,
            remedy="ask the sender for the fingerprint by another way (`ciranda versions signer` there), and name it",
        )  # fmt: skip
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _odd(f"its manifest says {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if manifest.signer.get("fingerprint") != who.fingerprint:
        raise _odd("its manifest names another signer")
    return manifest, who.fingerprint


def _demand_listed(entries: Mapping[str, zipfile.ZipInfo], manifest: Manifest) -> None:
    """Exactly the files of the manifest, and those that every version has."""
    listed, there = set(manifest.files), set(entries) - set(LOOSE)
    for name in sorted(listed ^ there):
        raise _odd(f"{name!r} is {'missing' if name in listed else 'not in its manifest'}")
    for name in (EVIDENCE, folders.EVALUATION):
        if name not in there:
            raise _odd(f"{name!r} is missing")


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, said: str) -> None:
    """Write one file, counting and hashing while it is written."""
    target, digest, size = folder / entry.filename, hashlib.sha256(), 0
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as into:
        while piece := source.read(PIECE):
            size += len(piece)
            if size > entry.file_size:
                raise _odd(f"{entry.filename!r} is longer than it says")
            digest.update(piece)
            into.write(piece)
    if f"sha256:{digest.hexdigest()}" != said:
        raise Refused(
            f"{entry.filename!r} is not what the manifest says", where=MANIFEST, remedy="ask for the archive again"
        )
    _demand_kind(target)


def _demand_kind(path: Path) -> None:
    """Weights are what their name says: a pickle under another name is refused too."""
    with path.open("rb") as file:
        head = file.read(9)
    if path.suffix == ".gguf" and head[:4] != b"GGUF":
        raise _odd(f"{path.name!r} is no GGUF file")
    if path.suffix == ".safetensors":
        length = int.from_bytes(head[:8], "little")
        if length + 8 > path.stat().st_size or head[8:9] != b"{":
            raise _odd(f"{path.name!r} is no safetensors file")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _odd(f"{path.name} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise _odd(f"{path.name} is no object")
    return found


def _odd(what: str) -> Invalid:
    return Invalid(
        f"the archive is refused: {what}", where="archive", remedy="bring one that `ciranda versions export` wrote"
    )
