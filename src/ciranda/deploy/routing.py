"""The routing snapshot: all that a gateway must know to serve, as one file.

`snapshot` is pure; `refresh` reads the database, and writes `run/routing.json` whole, with a higher generation, when
something in it changed. Gateways look at the file every 50 ms and keep the last good one, so they go on serving while
control is down.

What is refused is an empty promise: a candidate without a replica that answers gets no share, and while a live
version has none (just promoted, or all its processes died) the version that was live before answers. Records always
name the version that really did.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ciranda.config import Home
from ciranda.config.model import Serve
from ciranda.deploy import apply, stages
from ciranda.deploy.apply import Deployment, Replica
from ciranda.deploy.stages import Rollout
from ciranda.govern import access, erasures, tenants
from ciranda.registry import models, versions
from ciranda.registry.models import Model
from ciranda.store import clock, files
from ciranda.store.database import Database

ENGINE_KEY = "run/engine.key"
TAKEN_S = 1.0
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Facts:
    """What a snapshot is made of.

    Args:
        keys: Open API keys by the SHA-256 of their secret, see `govern.access.for_gateway`.
        tenants: Bounds of tenants that have any.
        erasures: How many people were to be forgotten so far: when it rises, gateways drop the answers that they keep.
        models: Every applied model.
        live: The live version of each model that has one.
        deployments: All deployments, and `replicas` all replicas.
        rollouts: Those whose candidate may have traffic.
    """

    keys: Mapping[str, Mapping[str, object]]
    models: Sequence[Model]
    live: Mapping[str, str]
    deployments: Sequence[Deployment]
    replicas: Sequence[Replica]
    rollouts: Sequence[Rollout]
    tenants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    erasures: int = 0


def gather(db: Database) -> Facts:
    """Read everything in one consistent view (keys apart, which nothing else depends on)."""
    keys = access.for_gateway(db)
    with db.reading() as conn:
        every = models.every(conn)
        live = {model.name: now.ref for model in every if (now := versions.live(conn, model.name))}
        return Facts(
            keys,
            every,
            live,
            apply.deployments(conn),
            apply.replicas(conn),
            stages.with_traffic(conn),
            tenants.bounds(conn),
            erasures.begun(conn),
        )


def snapshot(facts: Facts) -> dict[str, Any]:
    """Keys and models in the shape that gateways read, without generation and time. Pure."""
    routes = {model.name: _route(model, facts) for model in facts.models}
    keys = {digest: dict(key) for digest, key in facts.keys.items()}
    bounds = {name: dict(one) for name, one in facts.tenants.items()}
    return {"keys": keys, "models": routes, "tenants": bounds, "erasures": facts.erasures}


def _route(model: Model, facts: Facts) -> dict[str, Any]:
    rollout = next((one for one in facts.rollouts if one.model == model.name), None)
    places = {one.version: _place(one, facts.replicas) for one in facts.deployments if one.model == model.name}
    answers, candidate = _answering(model.name, facts, places), places.get(rollout.candidate) if rollout else None
    takes = rollout.percent if rollout and candidate and candidate["replicas"] and rollout.kind == "canary" else 0.0
    arms = [{"arm": "live", **answers, "weight": 100.0 - takes}] if answers else []
    if takes and candidate:
        arms.append({"arm": "canary", **candidate, "weight": takes})
    return {
        "arms": arms,
        "shadow": _shadow(rollout, candidate),
        "rollout": rollout.id if rollout else None,
        "engine_key_file": ENGINE_KEY,
        "guard": {"input": list(model.spec.guard.input), "output": list(model.spec.guard.output)},
        **_terms(model.spec.serve),
        "fallbacks": list(_fallbacks(model, facts, places, answers)),
    }


def _terms(serve: Serve) -> dict[str, Any]:
    """What the gateway keeps to while it serves the model."""
    return {
        "limits": {
            "max_in_flight": serve.max_in_flight, "timeout_s": serve.timeout, "try_timeout_s": serve.try_timeout,
            "tries": serve.tries,
        },
        "bounds": serve.limits.to_dict() or None,
        "price": serve.price.model_dump() if serve.price else None,
        "cache": {"age_s": serve.cache.age, "bytes": serve.cache.megabytes << 20} if serve.cache else None,
    }  # fmt: skip


def _fallbacks(
    model: Model, facts: Facts, places: Mapping[str, dict[str, Any]], answers: Mapping[str, Any] | None
) -> Iterator[dict[str, Any] | str]:
    """Who stands in, in the order of the file. Secrets stay where they are: only where to find them is said."""
    for one in model.spec.serve.fallback:
        if one.model is not None:
            yield one.model
        elif one.url is not None:
            wire = one.name or model.name
            replica = {"id": f"remote:{one.url}", "url": one.url, "wire_model": wire}
            yield {
                "arm": "fallback", "version": f"{wire} at {urlsplit(one.url).hostname}", "engine": "openai", "key": one.key or "",
                "replicas": [replica], "price": one.price.model_dump() if one.price else None,
            }  # fmt: skip
        else:
            warm = [
                places[d.version] for d in facts.deployments if d.model == model.name and d.role in ("standby", "idle")
            ]
            yield from ({"arm": "fallback", **place} for place in warm if place["replicas"] and place != answers)


def _shadow(rollout: Rollout | None, candidate: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if rollout is None or candidate is None or rollout.kind != "shadow" or not candidate["replicas"]:
        return None
    return {"arm": "shadow", **candidate, "share": rollout.percent / 100}


def _answering(model: str, facts: Facts, places: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The live version's place; while it has no replica, that of the version kept warm, if that one has."""
    live = places.get(facts.live.get(model, ""))
    if live and live["replicas"]:
        return live
    warm = [places[one.version] for one in facts.deployments if one.model == model and one.role in ("standby", "idle")]
    return next((place for place in warm if place["replicas"]), live)


def _place(deployment: Deployment, replicas: Sequence[Replica]) -> dict[str, Any]:
    ready = [one for one in replicas if one.deployment == deployment.id and one.state == "ready" and one.url]
    return {
        "version": deployment.version,
        "digest": deployment.digest,
        "deployment": deployment.id,
        "engine": deployment.engine,
        "replicas": [{"id": one.id, "url": one.url, "wire_model": deployment.version} for one in ready],
    }


def refresh(db: Database, home: Home) -> int:
    """Publish what is true now; the generation in force afterwards.

    Reading and writing happen under one lock, so that of two callers the later state is the one that stays.
    """
    with _locked(home.run / "routing.lock"):
        return publish(home, snapshot(gather(db)))


def publish(home: Home, new: Mapping[str, Any]) -> int:
    """Write a snapshot under the next generation, unless the file says exactly this already. One caller at a time."""
    old = current(home.routing)
    generation = int(old.get("generation", 0))
    if {name: old.get(name) for name in new} == json.loads(json.dumps(dict(new))):
        return generation
    whole = {"generation": generation + 1, "written_at": clock.iso(), **new}
    files.write_atomic(home.routing, json.dumps(whole, indent=1, sort_keys=True))
    return generation + 1


def taken(home: Home, generation: int, *, limit_s: float = TAKEN_S) -> bool:
    """Wait until every gateway worker of this machine goes by this generation; whether all did in time.

    A worker that is gone or leaving is passed over: it, or the next one, begins with the newest.
    """
    deadline = time.monotonic() + limit_s
    waiting = [url for file in home.run.glob("gateway-*.json") if (url := str(current(file).get("own_url", "")))]
    while waiting := [url for url in waiting if _behind(url, generation)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _behind(url: str, generation: int) -> bool:
    try:
        with _opener.open(f"{url}/readyz", timeout=TAKEN_S) as answer:
            return int(json.loads(answer.read())["generation"]) < generation
    except TimeoutError:
        return True
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return False


def current(path: Path) -> dict[str, Any]:
    """The published snapshot; empty when there is none or it cannot be read."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
