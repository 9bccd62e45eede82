"""Training jobs for executors elsewhere: the fake trainer on a few rows of the house, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import house
from ciranda.data.rows import Row
from ciranda.engines import fake_job
from ciranda.jobs.inside import Progress
from ciranda.jobs.placed import Placed
from ciranda.jobs.remote import Remote
from ciranda.store import files
from ciranda.train.recipe import Recipe, Spec
from ciranda.train.run import Away, Jobs

ENTRY = "ciranda.engines.fake_job"


LONG = 9_000  # steps: seconds, time enough to be killed in


def spec(folder: Path, **recipe: Any) -> Spec:
    """A run of the parrot, on a base of its own; a short one unless it is given its steps."""
    rows = house.rows()
    (folder / "base-job").mkdir(parents=True)
    base = {"bases": str(folder / "bases"), "base": "fake"}
    fake_job.prepare(folder / "base-job", base, Progress(folder / "base-job"))
    return Spec(
        base=folder / "bases/fake", rows=written(folder / "rows.jsonl", rows[:90]), output=Path("output"), threads=1,
        validation=written(folder / "validation.jsonl", rows[90:120]), recipe=Recipe(**{"steps": 12, "batch_size": 4} | recipe),
        checkpoint_steps=200 if recipe.get("steps") == LONG else 4,
    )  # fmt: skip


def written(path: Path, rows: Sequence[Row]) -> Path:
    lines = [
        json.dumps({"messages": [one.to_dict() for one in row.messages], "completion": row.completion}) for row in rows
    ]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def local(folder: Path, entry: str = ENTRY) -> Jobs:
    """A trainer on this machine."""
    return Jobs(Placed(folder / "jobs", {}), folder / "jobs", entry=entry)


def away(folder: Path, remote: Remote, entry: str = ENTRY, **takes: Any) -> Jobs:
    """A trainer on a cluster, for a home whose jobs are in `remote.root`."""
    kind = remote.cluster.kind
    return Jobs(Placed(remote.root, {kind: lambda: remote}), remote.root, entry=entry, away=Away(kind, **takes))


def artefact(folder: Path) -> str:
    """The digest of what a version is made of: the figures of the run are no part of it."""
    return " ".join(
        files.sha256_of(path) for path in (folder / "adapter.gguf", *sorted((folder / "adapter").iterdir()))
    )
