"""Heavy work on data that somebody asked for (an import, a preparation, a rebuild, a distillation): each is a job with progress
and one result.

    begin(platform, "import", {...})      writes the spec, starts the job, returns its key `data:import:…`
    told(platform, key)                   state, progress, and at the end the result or the error
    keep(platform)                        the leader starts again what died without a result (kill -9, a restart)

    python -m ciranda.loop.chores <folder>     the job itself

A job may die at any line: a dataset version is committed whole or not at all, and the same rows again are the same version, so
the next attempt ends where the first would have. What a job may read is bounded as model files are: below the data root.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ciranda import config
from ciranda.config import Home
from ciranda.errors import Failed, NotFound
from ciranda.govern import audit
from ciranda.jobs import inside
from ciranda.jobs.inside import Progress
from ciranda.jobs.local import ATTEMPTS, JobSpec
from ciranda.loop.platform import Platform
from ciranda.store import clock, files, ids
from ciranda.store.database import Database

PREFIX = "data:"
TELL_S = 0.5

One = TypeVar("One")


def begin(
    platform: Platform, kind: str, values: Mapping[str, Any], *, subject: str, actor: str, event: str = ""
) -> str:
    """Start a job of a kind; the same `event` again is the same job. Returns its key."""
    key = f"{PREFIX}{kind}:{_slug(event) or ids.uuid7().hex}"
    folder = platform.home.jobs / key
    if not (folder / "spec.json").exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = {"kind": kind, "home": str(platform.home.path), "actor": actor, "asked_at": clock.iso(),
                "scratch": str(folder / "scratch"), **values}  # fmt: skip
        with platform.db.writing() as conn:
            audit.record(conn, actor=actor, action=f"dataset.{kind}_asked", subject=subject, detail={"job": key})
        files.write_atomic(folder / "spec.json", json.dumps(told, ensure_ascii=False))
    _submit(platform, key)
    return key


def _slug(event: str) -> str:
    return "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "-" for one in event)[:100]


def _submit(platform: Platform, key: str) -> None:
    folder = platform.home.jobs / key
    platform.jobs.submit(key, JobSpec((sys.executable, "-m", "ciranda.loop.chores", str(folder)), folder))


def told(platform: Platform, key: str) -> dict[str, Any]:
    """How a job stands. Raises NotFound for a key that nobody was given."""
    folder = platform.home.jobs / key
    if not key.startswith(PREFIX) or "/" in key or not (folder / "spec.json").is_file():
        raise NotFound(f"no job {key!r}", where="jobs of data", remedy="`ciranda data` lists them")
    spec, state = _read(folder / "spec.json"), platform.jobs.status(key)
    lines, _ = platform.jobs.progress(key, 0)
    done = state.state == "succeeded"
    error = _read(folder / "error.json") if state.state == "failed" else {}
    if state.state == "failed" and not error:
        error = Failed(
            state.reason or "the job failed", where=f"job {key}", remedy="read its log.txt, then ask again"
        ).to_dict()
    return {
        "job": key, "kind": spec["kind"], "actor": spec["actor"], "dataset": spec.get("dataset", ""),
        "asked_at": spec["asked_at"], "state": state.state, "attempt": state.attempt, "progress": lines[-1] if lines else {},
        "result": _read(folder / "result.json") if done else None, "error": error or None,
    }  # fmt: skip


def listing(platform: Platform, *, before: str = "", limit: int = 50) -> list[dict[str, Any]]:
    """Jobs on data, the newest first, without their results; `before` is the key of the last one seen."""
    ordered = sorted(((_asked_at(platform, key), key) for key in _known(platform)), reverse=True)
    start = next((place + 1 for place, (_, key) in enumerate(ordered) if key == before), 0)
    found = [told(platform, key) for _, key in ordered[start : start + limit]]
    return [{name: value for name, value in one.items() if name != "result"} for one in found]


def _asked_at(platform: Platform, key: str) -> str:
    return str(_read(platform.home.jobs / key / "spec.json").get("asked_at", ""))


def keep(platform: Platform) -> None:
    """Start again every job that died without a result, a bounded number of times."""
    for key in _known(platform):
        state = platform.jobs.status(key)
        if state.state == "lost" and state.attempt < ATTEMPTS:
            _submit(platform, key)


def _known(platform: Platform) -> list[str]:
    started = platform.jobs.keys()
    return [key for key in started if key.startswith(PREFIX)]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# --- inside the job -------------------------------------------------------------------------------------------------


def counted(found: Iterable[One], tell: Callable[[Mapping[str, Any]], None], **more: Any) -> Iterator[One]:
    """The same things, telling now and then how many there were so far and how many a second."""
    began = last = time.monotonic()
    count = 0
    for one in found:
        yield one
        count += 1
        if count % 256 == 0 and (now := time.monotonic()) - last > TELL_S:
            tell({"rows": count, "rows_per_s": round(count / (now - began)), **more})
            last = now
    tell({"rows": count, "rows_per_s": round(count / max(time.monotonic() - began, 1e-6)), **more})


def _working(work: Callable[[Platform, Mapping[str, Any], Progress], dict[str, Any]]) -> inside.Kind:
    """A kind of job: open the home, do the work, keep the result."""

    def run(folder: Path, values: Mapping[str, Any], report: Progress) -> None:
        home = Home(Path(values["home"]))
        settings = config.settings(home)
        platform = Platform(
            home, settings, Database(config.database_url(home, settings))
        )  # control has seen to its shape
        try:
            result = work(platform, values, report)
        finally:
            platform.close()
        files.write_atomic(folder / "result.json", json.dumps(result, ensure_ascii=False))

    return run


def main() -> int:
    """Do what the folder on the command line asks for."""
    from ciranda.loop import bring, distil, prepare

    kinds = {"import": bring.bring, "prepare": prepare.prepare, "rebuild": prepare.rebuild, "distil": distil.distil}
    return inside.main({name: _working(work) for name, work in kinds.items()})


if __name__ == "__main__":
    sys.exit(main())
