"""What a job is on a Ray cluster: `main` of this module trains with Ray Train. The one file that names Ray.

The entry point runs on the head and does nothing heavy: it asks Ray Train for one worker with the processors, the memory and the
accelerators of the order, wherever in the cluster there is room. The worker brings what the order needs, does the same work as at
home in the same process, and sends back what it made (`jobs.errand`); figures also go to Ray Train, so that the cluster's own
dashboard shows the run. A worker whose node dies is begun again elsewhere and goes on from the checkpoint in the depot.

Trials of a search are jobs of their own, so the cluster trains as many at a time as it has room for. One run has one worker: what
several would train together is another artefact than the one that is trained at home.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
from ray.exceptions import RayError

from ciranda.errors import Failed
from ciranda.jobs import errand, inside, orders
from ciranda.jobs.inside import Progress
from ciranda.jobs.orders import Address, Order
from ciranda.store.depot import Depot, Shared

RETRIES = 2  # of a worker whose node died
REPORT_S = 2.0
ENTRIES = ("ciranda.engines.peft_job", "ciranda.engines.fake_job")  # the trainers there are


class Reported(Progress):
    """Progress that Ray Train hears of too, now and then: a report is a round trip to its controller."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._next = 0.0

    def __call__(self, values: Mapping[str, Any]) -> None:
        super().__call__(values)
        figures = {name: value for name, value in values.items() if isinstance(value, int | float)}
        if figures and time.monotonic() >= self._next:
            ray.train.report(figures)
            self._next = time.monotonic() + REPORT_S


def here(folder: Path, order: Order) -> int:
    """The work of an order, in this process. Raises Failed when its command is not one of our trainers'."""
    name = order.argv[2] if order.argv[:2] == (orders.PYTHON, "-m") else ""
    if name not in ENTRIES:
        raise Failed(
            f"Ray trains, it does not run {' '.join(order.argv)[:200]!r}", where=order.key, remedy="run it locally"
        )
    return inside.main(importlib.import_module(name).KINDS, [str(folder)], progress=Reported)


def work(told: Mapping[str, Any]) -> None:
    """What Ray Train's worker does."""
    where = Address(**told)
    errand.attempted(where, lambda store: errand.do(store, errand.order(store, where.place, where.attempt), work=here))


def train(store: Depot, where: Address) -> int:
    """Have an order done by Ray Train; returns the exit code that the work ended with. Raises Failed when it never ended."""
    order = errand.order(store, where.place, where.attempt)
    reserved = {"CPU": order.cpus, "GPU": order.gpus, "memory": order.memory_gb * (1 << 30)}
    with tempfile.TemporaryDirectory(prefix="ciranda-ray-") as scratch:
        trainer = ray.train.torch.TorchTrainer(
            work,
            train_loop_config=asdict(where),
            scaling_config=ray.train.ScalingConfig(
                num_workers=1,
                use_gpu=order.gpus > 0,
                resources_per_worker={name: amount for name, amount in reserved.items() if amount},
            ),
            run_config=ray.train.RunConfig(
                name=order.name,
                storage_path=str(store.path("ray")) if isinstance(store, Shared) else scratch,
                failure_config=ray.train.FailureConfig(max_failures=RETRIES),
            ),
        )
        try:
            trainer.fit()
            store.remove(f"ray/{order.name}")
        except (ray.train.TrainingFailedError, RayError) as error:
            raise Failed(
                f"Ray Train gave up: {str(error)[-500:]}", where=order.key, remedy="read the job's log on the cluster"
            ) from error
    return errand.ended(store, order)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point on the head; returns its exit code."""
    where = orders.address(sys.argv[1:] if argv is None else argv)
    return errand.attempted(where, lambda store: train(store, where))
