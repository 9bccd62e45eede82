"""Jobs that ask judges: begun, kept, started again when they died. What they are asked for is decided elsewhere.

Questions go to our own gateway by a key of their own, which can only chat, or to an address elsewhere by the key that the
judge's registration names. What a job has found is kept once: a calibration (`loop.calibrating`), a judgement (`loop.judging`), or
scores of live answers (`loop.sampling`).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ciranda.deploy import routing
from ciranda.errors import NotFound, Unauthenticated, Unavailable
from ciranda.evals import asking, calibration, judge, judgements
from ciranda.evals.asking import Spec
from ciranda.evals.calibration import Calibration
from ciranda.evals.judge import Ask, Judge
from ciranda.evals.judgements import Judgement
from ciranda.govern import access
from ciranda.govern.outgoing import Door
from ciranda.interactions.table import Score
from ciranda.jobs.local import ATTEMPTS, JobSpec
from ciranda.loop.platform import Platform
from ciranda.store import clock, files

log = logging.getLogger("ciranda.loop")

PREFIX = "judge:"
KEY = "judges"  # the name of the key that our own gateway is asked with
LIVE = "live"  # the purpose of opinions about live answers


def begin(platform: Platform, key: str, by: Judge, asks: Sequence[Ask], about: Mapping[str, Any]) -> None:
    """Start a job that asks a judge; `about` says what its answers are for."""
    url, secret, private = endpoint(platform, by)
    spec = Spec(by.model, url, secret, private, by.max_tokens, tuple(asks), dict(about))
    folder = platform.home.jobs / key
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_atomic(folder / "spec.json", json.dumps(spec.to_dict(), ensure_ascii=False))
    _submit(platform, key)


def _submit(platform: Platform, key: str) -> None:
    folder = platform.home.jobs / key
    platform.jobs.submit(key, JobSpec((sys.executable, "-m", "ciranda.evals.asking", str(folder)), folder))


def endpoint(platform: Platform, by: Judge) -> tuple[str, str, bool]:
    """Where a judge is asked, the reference of its key, and whether a private address is fine."""
    if by.url:
        parts, settings = urlsplit(by.url), platform.settings
        door = Door.of(settings.allow_private_addresses, settings.allow_hosts)
        return by.url, by.key, door.opens(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    try:
        url = str(json.loads((platform.home.run / "gateway-1.json").read_text())["url"])
    except (OSError, ValueError, KeyError):
        raise Unavailable("no gateway runs in this home", where=f"judge {by.name}",
                          remedy="start it with `ciranda up`, or give the judge the address of yours: --at") from None  # fmt: skip
    return url, f"file:{_key_file(platform)}", True


def _key_file(platform: Platform) -> Path:
    """The judges' own key, made at its first use, and again when somebody revoked it."""
    path = platform.home.run / "judges.key"
    try:
        access.check(platform.db, path.read_text().strip())
    except (FileNotFoundError, Unauthenticated):
        with platform.db.writing() as conn:
            _, secret = access.create(conn, KEY, role="client", actor="loop")
            files.write_atomic(path, secret)
        routing.taken(platform.home, routing.refresh(platform.db, platform.home))
    return path


def keep(platform: Platform) -> None:
    """Keep what jobs have found, once, and start again those that died without a result."""
    known = platform.jobs.keys()
    mine = [key for key in known if key.startswith(PREFIX)]
    revive(platform, mine)
    for key in mine:
        folder = platform.home.jobs / key
        if not (folder / "recorded").exists() and platform.jobs.status(key).state == "succeeded":
            try:
                _record(platform, folder)
            except Unavailable as error:
                log.warning("what %s found waits to be kept: %s", key, error)
                continue
            files.write_atomic(folder / "recorded", "")


def revive(platform: Platform, keys: Iterable[str]) -> None:
    """Start those again that died without a result, a bounded number of times."""
    for key in keys:
        state = platform.jobs.status(key)
        if state.state == "lost" and state.attempt < ATTEMPTS:
            _submit(platform, key)


def _record(platform: Platform, folder: Path) -> None:
    about = json.loads((folder / "spec.json").read_text())["about"]
    said = asking.read(folder)
    by = Judge(about["judge"], "", "", scale=int(about["scale"]))
    opinions = judge.opinions(by, about["kind"], {one.id: one.text for one in said.values()})
    served = tuple(sorted({one.served for one in said.values() if one.served}))
    spoken = {case: score for case, score in opinions.items() if score is not None}
    silent = len(opinions) - len(spoken)
    if about["purpose"] == LIVE:
        platform.interactions.insert_scores(_scores(about, spoken))
        files.write_atomic(folder / "spec.json", json.dumps({"kind": "judge", "asks": [], "about": about}))
        (folder / "answers.jsonl").unlink(missing_ok=True)
        return
    with platform.db.writing() as conn:
        if about["purpose"] == "calibrate":
            calibration.record(conn, _calibration(about, spoken, silent, served))
        else:
            fields = ("id", "judge", "digest", "kind", "version", "against", "suite", "report", "against_report")
            made = Judgement(**{name: about[name] for name in fields}, scores=spoken, silent=silent, served=served,
                             created_at=clock.iso())  # fmt: skip
            judgements.record(conn, made, actor=about["actor"])


def _scores(about: Mapping[str, Any], spoken: Mapping[str, float]) -> list[Score]:
    """What a judge said of live answers, as scores of them; kept twice, they are there once."""
    name, of = f"judge:{about['judge']}", about["of"]
    return [
        Score(one, name, value, model=about["model"], version=of[one][0], arm=of[one][1], rollout=of[one][2], ts_ms=clock.now_ms())
        for one, value in spoken.items()
    ]  # fmt: skip


def _calibration(
    about: Mapping[str, Any], spoken: Mapping[str, float], silent: int, served: tuple[str, ...]
) -> Calibration:
    labels: Mapping[str, Any] = about["labels"]
    pairs = calibration.counted((score, float(labels[case][0]), str(labels[case][1])) for case, score in spoken.items())
    return Calibration(
        about["id"], about["judge"], about["digest"], about["kind"], about["model"], about["source"], pairs, silent, served,
        clock.iso(), about["actor"], about["valid_until"],
    )  # fmt: skip


def told(platform: Platform, key: str) -> dict[str, Any]:
    """How a job of a judge stands. Raises NotFound for a key that nobody was given."""
    folder = platform.home.jobs / key
    if not key.startswith(PREFIX) or "/" in key or not (folder / "spec.json").is_file():
        raise NotFound(f"no job {key!r}", where="judges", remedy="`ciranda judges show <judge>` lists what was kept")
    state = platform.jobs.status(key)
    lines, _ = platform.jobs.progress(key, 0)
    error = json.loads((folder / "error.json").read_text()) if (folder / "error.json").exists() else None
    about = json.loads((folder / "spec.json").read_text())["about"]
    return {
        "job": key, "judge": about["judge"], "purpose": about["purpose"], "id": about["id"], "state": state.state,
        "progress": lines[-1] if lines else {}, "recorded": (folder / "recorded").exists(),
        "error": error if state.state == "failed" else None, "reason": state.reason,
    }  # fmt: skip
