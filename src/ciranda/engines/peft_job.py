"""The process of a job that needs torch: `python -m ciranda.engines.peft_job <folder>`; `spec.json` there says what to do.

`base` prepares a base in the cache and links it into a home. `train` trains one version: an adapter or whole weights. Both may be
killed at any line and run again: preparing starts over beside the place and is renamed when whole, training goes on from its
checkpoint. `result.json` is written last; a job that has it is done and does nothing. A failure leaves `error.json`, the error as
the REST API shows it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ciranda.jobs import inside
from ciranda.jobs.inside import Progress
from ciranda.jobs.usage import Usage
from ciranda.store import clock, files
from ciranda.train import bases, provenance, recipe
from ciranda.train.bases import Source
from ciranda.train.recipe import Spec


def train(folder: Path, values: Mapping[str, Any], report: Progress) -> None:
    """Train, derive the form that llama.cpp serves, and write `output/result.json` last."""
    from ciranda.engines import peft

    spec = recipe.spec(values, where=str(folder / "spec.json"))
    spec = replace(spec, output=folder / spec.output)
    spec.output.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (spec.output / "result.json").exists():
        return
    report({"phase": "loading"})
    threads = {"threads": str(spec.threads or len(os.sched_getaffinity(0)))}
    made_of = provenance.of(spec, peft.environment() | threads)
    report({"run": made_of})
    with Usage(report):
        result = {**peft.train(spec, report), "provenance": made_of}
    served(spec, result["tuning"])
    files.write_atomic(spec.output / "result.json", json.dumps(result, indent=1))
    (spec.output / "checkpoint.safetensors").unlink(missing_ok=True)
    report({"phase": "done"})


def served(spec: Spec, tuning: str) -> None:
    """Derive the form that llama.cpp serves from the standard artefact, beside it."""
    from ciranda.engines import gguf

    config = json.loads((spec.base / "hf/config.json").read_text())
    if tuning == "full":
        gguf.model(spec.output / "weights", spec.base / "base.q8_0.gguf", spec.output / "model.gguf")
    else:
        gguf.adapter(spec.output / "adapter", config, spec.output / "adapter.gguf", name=spec.output.parent.name)


def prepare(folder: Path, values: Mapping[str, Any], report: Progress) -> None:
    """Prepare a base once for this machine and let the home use it."""
    name, cache = str(values["base"]), Path(values["cache"])
    source = bases.source(name)
    with _alone(cache / "bases", bases.slug(name)):
        source, mark = _fetched(source, cache, report)
        place = bases.cached(cache, name, mark)
        if not (place / "base.json").exists():
            _build(name, source, mark, place, report)
    base = bases.link(Path(values["bases"]), name, place)
    files.write_atomic(folder / "result.json", json.dumps({"digest": base.digest, "folder": str(base.folder)}))
    report({"phase": "done"})


def _fetched(source: Source, cache: Path, report: Progress) -> tuple[Source, str]:
    """The source as files of this machine, and a mark that changes with its content."""
    if source.kind == "hub":
        from ciranda.engines import peft_bases

        report({"phase": "downloading", "repository": source.place})
        source = Source("folder", str(peft_bases.download(source.place, cache / "hub")))
    path = Path(source.place)
    return source, files.sha256_of(path) if path.is_file() else files.sha256_of_folder(path)


def _build(name: str, source: Source, mark: str, place: Path, report: Progress) -> None:
    """Build beside, rename when whole. The caller holds the lock, so what lies beside is a dead process's."""
    from ciranda.engines import gguf

    beside = place.with_name(f".{place.name}.building")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700)
    origin = Path(source.place)
    served = origin if origin.is_file() else next(iter(sorted(origin.glob("*.gguf"))), None)
    if served is not None:  # first, since it finds a broken file long before torch is loaded
        report({"phase": "weights for serving"})
        gguf.base(served, beside / "base.q8_0.gguf")
    from ciranda.engines import peft, peft_bases

    report({"phase": "weights for training"})
    peft_bases.export(origin, beside / "hf")
    about = {
        "format": bases.FORMAT,
        "name": name,
        "source": source.place if source.kind != "gguf" else origin.name,
        "source_sha256": mark,
        "licence": source.licence,
        "files": _digests(beside),
        "digest": f"sha256:{files.sha256_of_folder(beside)}",
        "environment": peft.environment(),
        "prepared_at": clock.iso(),
    }
    files.write_atomic(beside / "base.json", json.dumps(about, indent=1))
    shutil.rmtree(place, ignore_errors=True)
    beside.replace(place)
    files.sync_folder(place.parent)


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): files.sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Two homes that need the same base at once: the second waits and finds it done."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


KINDS = {"train": train, "base": prepare}


def main(argv: Sequence[str] | None = None) -> int:
    """The process's entry point; returns its exit code."""
    return inside.main(KINDS, argv)


if __name__ == "__main__":
    sys.exit(main())
