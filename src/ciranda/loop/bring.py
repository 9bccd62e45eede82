"""An import, done: look, read, check, commit; or only the report of a dry run.

Rows are streamed from the files into the version. Unless it says otherwise, one row that cannot be read refuses the whole import,
with all of them named, since half of a set looks like a whole one. `add` puts the rows beside those of the newest version,
`replace` makes them the whole of the next one. What is checked is what the model that learns from the dataset says in its file;
without one, doubles are dropped and personal data is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from ciranda.data import imports, succession, versions
from ciranda.data.imports import Look, Report
from ciranda.data.rows import Row
from ciranda.jobs.inside import Progress
from ciranda.loop import committed
from ciranda.loop.chores import counted
from ciranda.loop.platform import Platform
from ciranda.store import files

UNCLAIMED = {"duplicates": "drop", "pii": "warn"}  # checks of a dataset that no model learns from (yet)


def bring(platform: Platform, asked: Mapping[str, Any], tell: Progress) -> dict[str, Any]:
    """Import what the spec of the job names; returns the version and the report."""
    dataset, report = str(asked["dataset"]), Report()
    found = imports.look(
        str(asked["path"]), platform.root, subset=str(asked.get("set", "")), format_=str(asked.get("format", "auto")),
        columns=asked.get("map") or {}, cache=platform.home.path / "hub",
    )  # fmt: skip
    read = counted(_read(found, report, str(asked.get("bad_rows", "block"))), tell, phase="reading")
    if asked.get("dry"):
        for _ in read:
            pass
        return {"dataset": "", "dry": True, "report": report.to_dict()}
    newest = versions.newest_of(platform.db, dataset)
    before = (
        succession.inherited(platform.home, newest.ref) if newest and asked.get("mode", "add") == "add" else iter(())
    )
    version = committed.commit(
        platform, dataset, chain(before, read), committed.policy(platform, dataset, otherwise=UNCLAIMED),
        made=lambda: _made(found, report, asked), actor=str(asked["actor"]), also=lambda: {"import": report.to_dict()},
    )  # fmt: skip
    return {
        "dataset": version.ref, "rows": version.rows, "digest": version.digest, "before": newest.ref if newest else "",
        "new": newest is None or newest.ref != version.ref, "report": report.to_dict(),
        "checks": {name: told for name, told in version.report.items() if name != "import"},
    }  # fmt: skip


def _read(found: Look, report: Report, bad_rows: str) -> Iterator[Row]:
    """The rows; at the end the refusal, when some were bad and none may be left out."""
    for one in imports.rows(found, report):
        if isinstance(one, Row):
            yield one
    if report.bad and bad_rows != "drop":
        raise imports.refusal(report)


def _made(found: Look, report: Report, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What made the rows, for the version's lineage: each file by its digest, and how it was read."""
    sources = [
        {"source": part.name, "sha256": files.sha256_of(part.path), **report.files.get(part.name, {})}
        for part in found.parts
    ]
    card = {name: found.card[name] for name in ("license", "pretty_name", "language") if name in found.card}
    return {
        "kind": "import", "path": asked["path"], "saw": report.saw, "layouts": dict(report.layouts), "sources": sources,
        "format": asked.get("format", "auto"), "map": asked.get("map") or {}, "set": asked.get("set", ""),
        "mode": asked.get("mode", "add"), **({"card": card} if card else {}),
    }  # fmt: skip
