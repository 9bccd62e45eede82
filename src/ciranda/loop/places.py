"""Where jobs run: this machine, and the clusters that the settings name. The only place that opens one.

    local        a process of this machine                          always
    ray          a Ray cluster, through the REST API of its head     settings ray_url, jobs_url
    kubernetes   a Job for each run, through the API server          settings kubernetes, kubernetes_image, jobs_url

A cluster and this machine share a place for files (`jobs_url`) and nothing else. Keys and tokens are references all the way.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ciranda.config import Home, Settings
from ciranda.config.model import ModelSpec
from ciranda.errors import CirandaError, Invalid
from ciranda.jobs.orders import FOLDER, PYTHON, Address, Order
from ciranda.jobs.placed import LOCAL, Placed
from ciranda.jobs.remote import Cluster, Remote
from ciranda.store import depot, ids
from ciranda.store.depot import Depot

KINDS = ("ray", "kubernetes")


@dataclass(frozen=True)
class Found:
    """An executor as the settings have it: `ready`, `off` (no settings), or `trouble`, with what was said."""

    name: str
    state: str
    told: str


def jobs(home: Home, settings: Settings) -> Placed:
    """The jobs of a home, wherever they run."""
    opened: Mapping[str, Callable[[], Remote]] = {kind: _opener(home, settings, kind) for kind in KINDS}
    return Placed(home.jobs, opened)


def _opener(home: Home, settings: Settings, kind: str) -> Callable[[], Remote]:
    return lambda: Remote(home.jobs, cluster(settings, kind), store(settings), mark(home))


def cluster(settings: Settings, kind: str) -> Cluster:
    """A cluster, not yet spoken to. Raises Invalid when the settings do not tell where it is."""
    url = settings.ray_url if kind == "ray" else settings.kubernetes
    if not url:
        name = "ray_url" if kind == "ray" else "kubernetes"
        raise Invalid(
            f"no cluster for executor {kind!r}", where=f"setting {name}", remedy=f"set {name} in the home's config.toml"
        )
    engine: Any = importlib.import_module(f"ciranda.engines.{kind}")
    where = address(settings)
    if kind == "ray":
        return cast(Cluster, engine.Ray(url, settings.ray_token, where))
    place = _place(settings)
    return cast(Cluster, engine.Kubernetes(url, settings.kubernetes_token, settings.kubernetes_ca, place, where))


def _place(settings: Settings) -> Any:
    return importlib.import_module("ciranda.engines.kubernetes").Place(
        namespace=settings.kubernetes_namespace, image=settings.kubernetes_image, queue=settings.kubernetes_queue,
        secret=settings.kubernetes_secret, claim=settings.kubernetes_claim, account=settings.kubernetes_account,
    )  # fmt: skip


def address(settings: Settings) -> Address:
    """Where jobs find their orders. Raises Invalid without a place for files."""
    if not settings.jobs_url:
        raise Invalid(
            "jobs elsewhere need a place for files that both sides reach", where="setting jobs_url",
            remedy="set it to s3://bucket/prefix, or to file:/folder that all machines mount",
        )  # fmt: skip
    if settings.jobs_url.startswith("file:"):
        return Address(settings.jobs_url.rstrip("/"), "", 1)
    return Address(
        settings.jobs_url.rstrip("/"), "", 1, settings.s3_endpoint, settings.s3_region, settings.jobs_credentials
    )


def store(settings: Settings) -> Depot:
    """The same place, as this machine opens it. Raises Invalid."""
    where = address(settings)
    return depot.at(where.depot, endpoint=where.endpoint, region=where.region, credentials=settings.s3_credentials)


def mark(home: Home) -> str:
    """This installation's own name in depots and clusters, made once: two of them may share both."""
    path = home.jobs / "installation"
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    if not path.exists():
        beside.write_text(ids.uuid7().hex)
        try:
            os.link(beside, path)
        except FileExistsError:
            pass  # another process was first: its name it is
        finally:
            beside.unlink()
    return path.read_text().strip()


def look(settings: Settings) -> list[Found]:
    """Every executor there may be, each asked whether it is there."""
    return [
        Found(LOCAL, "ready", f"{len(os.sched_getaffinity(0))} processors"),
        *(_found(settings, one) for one in KINDS),
    ]


def _found(settings: Settings, kind: str) -> Found:
    if not (settings.ray_url if kind == "ray" else settings.kubernetes):
        return Found(kind, "off", "not in the settings")
    try:
        told = cluster(settings, kind).check()
        store(settings).names("shared")
    except CirandaError as error:
        return Found(kind, "trouble", f"{error.message}; do: {error.remedy}")
    return Found(kind, "ready", f"{told}; files at {settings.jobs_url}")


def check(settings: Settings, spec: ModelSpec) -> None:
    """Refuse a model whose runs could not be sent anywhere. Raises Invalid."""
    if spec.train.executor != LOCAL:
        cluster(settings, spec.train.executor)
        store(settings)


def manifest(settings: Settings, spec: ModelSpec, entry: str) -> dict[str, Any]:
    """The Job that a run of this model would be; what differs between runs is written as an example. Raises Invalid."""
    kept = spec.train.resources
    order = Order(
        f"ciranda-{spec.model[:40]}-example-1", f"train:search:{spec.model}:example:0", f"installation/{spec.model}", 1,
        (PYTHON, "-m", entry, FOLDER), {"OMP_NUM_THREADS": str(kept.cpus), "OMP_WAIT_POLICY": "passive"}, (),
        kept.cpus, kept.memory_gb, kept.gpus, kept.timeout,
    )  # fmt: skip
    made = importlib.import_module("ciranda.engines.kubernetes").manifest(_place(settings), order, address(settings))
    return cast("dict[str, Any]", made)
