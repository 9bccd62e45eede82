"""Everything that one home knows of itself in figures, for Prometheus: one scrape of control instead of one of each process.

    gateways   each worker's own `/metrics`, at the address that reaches it alone, with the label `worker`
    engines    each replica's own (llama.cpp's, vLLM's), with `model`, `version` and `replica`
    control    processes, tasks, alerts, shares of traffic, thumbs and scores, the collector, the export

Processes are asked at the same time, each with a bound on time and size; one that does not answer shows as 0 in `ciranda_scrape_up`
and holds up nobody. A scrape is kept for a second, so that many who look cost what one costs. It refuses labels that clients
could choose: names of models and versions only.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import sqlalchemy as sa

from ciranda.config import Home
from ciranda.deploy import apply, routing
from ciranda.errors import CirandaError
from ciranda.interactions.client import status_of
from ciranda.interactions.query import Interactions
from ciranda.monitor import export
from ciranda.monitor.alerts import alerts
from ciranda.monitor.exposition import Exposition, Labels
from ciranda.store import clock
from ciranda.store.database import Database

TIMEOUT_S = 2.0
MOST_BYTES = 4 << 20
KEPT_S = 1.0
AT_ONCE = 16
WINDOW = timedelta(hours=1)

Samples = Iterable[tuple[Labels, float]]


@dataclass(frozen=True)
class Target:
    """A process that has figures of its own."""

    job: str
    url: str
    labels: Labels
    secret: str = field(default="", repr=False)


class Scrape:
    """The figures of one home. Safe to share between threads."""

    def __init__(self, home: Home, db: Database, interactions: Interactions) -> None:
        self._home, self._db, self._interactions = home, db, interactions
        self._lock = threading.Lock()
        self._kept, self._kept_at = "", -KEPT_S

    def text(self) -> str:
        """All of it, at most a second old."""
        with self._lock:
            if monotonic() - self._kept_at >= KEPT_S:
                self._kept, self._kept_at = self._taken(), monotonic()
            return self._kept

    def _taken(self) -> str:
        told = Exposition()
        targets = [*gateways(self._home), *engines(self._home, self._db)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            texts = list(pool.map(fetched, targets))
        up = [
            ({"job": one.job, **one.labels}, float(text is not None)) for one, text in zip(targets, texts, strict=True)
        ]
        told.add("ciranda_scrape_up", "gauge", "Whether a process showed its figures.", up)
        for target, text in zip(targets, texts, strict=True):
            told.take(text or "", target.labels)
        self._own(told)
        return told.text()

    def _own(self, told: Exposition) -> None:
        _processes(told, _file(self._home.run / "supervisor.json").get("children", []))
        _tasks(told, _file(self._home.run / "loop.json").get("tasks", []))
        _shares(told, routing.current(self._home.routing))
        told.add("ciranda_alerts_open", "gauge", "Alerts that nobody has closed.", _alerts(self._db))
        done = export.progress(self._db)
        told.add(
            "ciranda_export_spans_total", "counter", "Spans that were exported.", [({}, done.sent)] if done else []
        )
        told.add("ciranda_export_refused_total", "counter", "Spans that the receiver refused.",
                 [({}, done.refused)] if done else [])  # fmt: skip
        self._record(told)

    def _record(self, told: Exposition) -> None:
        """What the record of interactions tells, and whether it answers."""
        try:
            totals = self._interactions.totals(clock.now() - WINDOW)
            well = status_of(self._home)
        except CirandaError:
            told.add("ciranda_collector_up", "gauge", "Whether the record of interactions answers.", [({}, 0)])
            return
        told.add("ciranda_collector_up", "gauge", "Whether the record of interactions answers.", [({}, 1)])
        told.add(
            "ciranda_collector_blocked",
            "gauge",
            "Whether what is spooled cannot be stored.",
            [({}, bool(well["blocked"]))],
        )
        told.add("ciranda_collector_records_total", "counter", "Records stored since it began.", [({}, well["frames"])])
        told.add("ciranda_collector_waiting_feedback", "gauge", "Feedback that waits for its interaction.",
                 [({}, well["waiting_feedback"])])  # fmt: skip
        lines = [({"model": one.model, "version": one.version, "arm": one.arm}, one) for one in totals]
        thumbs = [({**labels, "thumb": name}, float(getattr(one, f"thumbs_{name}"))) for labels, one in lines
                  for name in ("up", "down")]  # fmt: skip
        told.add("ciranda_model_thumbs", "gauge", "Votes of users in the last hour.", thumbs)
        scores = [({**labels, "scorer": name}, mean) for labels, one in lines for name, mean in one.scores.items()]
        told.add("ciranda_model_score", "gauge", "Mean of a scorer over the answers of the last hour.", scores)


def gateways(home: Home) -> Iterator[Target]:
    """The workers of this machine."""
    for file in sorted(home.run.glob("gateway-*.json")):
        told = _file(file)
        if url := told.get("own_url"):
            yield Target("gateway", f"{url}/metrics", {"worker": file.stem.removeprefix("gateway-")})


def engines(home: Home, db: Database) -> Iterator[Target]:
    """The replicas that answer."""
    secret = home.engine_key.read_text().strip() if home.engine_key.exists() else ""
    with db.reading() as conn:
        placed = {one.id: one for one in apply.deployments(conn)}
        found = [(placed[one.deployment], one) for one in apply.replicas(conn) if one.deployment in placed]
    for deployment, replica in found:
        if replica.state == "ready" and replica.url:
            labels = {"model": deployment.model, "version": deployment.version, "replica": replica.id}
            yield Target("engine", f"{replica.url.rstrip('/').removesuffix('/v1')}/metrics", labels, secret)


def fetched(target: Target) -> str | None:
    """What a process shows; None when it shows nothing in time."""
    given = {"authorization": f"Bearer {target.secret}"} if target.secret else {}
    pieces, size = [], 0
    try:
        with httpx.stream("GET", target.url, headers=given, timeout=TIMEOUT_S, trust_env=False) as answer:
            if answer.status_code != 200:
                return None
            for piece in answer.iter_bytes():
                pieces.append(piece)
                size += len(piece)
                if size > MOST_BYTES:
                    return None
    except httpx.HTTPError:
        return None
    return b"".join(pieces).decode("utf-8", "replace")


def _processes(told: Exposition, children: list[Mapping[str, Any]]) -> None:
    """Those of the supervisor but for replicas, which come and go under names of their own."""
    mine = [one for one in children if not one["name"].startswith("rep_")]
    told.add("ciranda_process_up", "gauge", "Whether a process of this home is ready.",
             [({"process": one["name"]}, float(one["state"] == "ready")) for one in mine])  # fmt: skip
    told.add("ciranda_process_restarts_total", "counter", "How often it had to be started again.",
             [({"process": one["name"]}, float(one["restarts"])) for one in mine])  # fmt: skip


def _tasks(told: Exposition, tasks: list[Mapping[str, Any]]) -> None:
    samples = [({"task": one["name"]}, float(one["failures"])) for one in tasks]
    told.add("ciranda_task_failures", "gauge", "Failures of a task of control since it last went well.", samples)


def _shares(told: Exposition, snapshot: Mapping[str, Any]) -> None:
    arms = [(name, arm) for name, model in snapshot.get("models", {}).items() for arm in model["arms"]]
    shares = [
        ({"model": name, "version": arm["version"], "arm": arm["arm"]}, float(arm["weight"])) for name, arm in arms
    ]
    told.add("ciranda_model_traffic_percent", "gauge", "Share of a model's traffic that goes to a version.", shares)
    ready = [({"model": name, "version": arm["version"]}, float(len(arm["replicas"]))) for name, arm in arms]
    told.add("ciranda_model_replicas", "gauge", "Replicas of a version that answer.", ready)


def _alerts(db: Database) -> Samples:
    columns = (alerts.c.model, alerts.c.kind, alerts.c.severity)
    query = sa.select(*columns, sa.func.count().label("n")).where(alerts.c.state == "open").group_by(*columns)
    with db.reading() as conn:
        rows = conn.execute(query).mappings().all()
    return [
        ({"model": row["model"], "kind": row["kind"], "severity": row["severity"]}, float(row["n"])) for row in rows
    ]


def _file(path: Path) -> dict[str, Any]:
    """A small JSON file of another process, which may not be there."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
