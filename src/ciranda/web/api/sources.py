"""Where data comes from: sources, their runs, bad rows, and the verbs of ingestion."""

from __future__ import annotations

from typing import Any

from ciranda.config import model as files
from ciranda.data.sources import Window, quarantine, runs
from ciranda.loop import feeding
from ciranda.store import clock
from ciranda.web.api import rows
from ciranda.web.api.asked import BadRows, Files, Ingestion, Named, Nothing, OfDataset
from ciranda.web.api.catalogue import demand, reached
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.load import sources as load


def listing(call: Call[OfDataset]) -> Item:
    """Every source with its last run and its next, in one page: there are as many as files say."""
    return rows.listed(load.listing(call.platform, reached(call), dataset=call.asked.dataset))


def runs_(call: Call[OfDataset]) -> Item:
    """Runs, newest first."""
    asked, reach = call.asked, reached(call)
    found = runs.page(
        call.platform.db, dataset=asked.dataset, within=None if reach is None else sorted(reach),
        before=asked.cursor, limit=asked.limit + 1,
    )  # fmt: skip
    shown = [load.slim(one) for one in found[: asked.limit]]
    return rows.listed(shown, shown[-1]["id"] if len(found) > asked.limit else None)


def run(call: Call[Nothing]) -> Item:
    """One run of one source, whole."""
    found = runs.get(call.platform.db, call.path["ingestion"])
    reach = reached(call)
    if reach is not None and found["dataset"] not in reach:
        call.require(found["dataset"])
    return {**found, "seconds": load.seconds(found)}


def bad_rows(call: Call[BadRows]) -> Item:
    """Bad rows that were kept, newest first."""
    asked, reach = call.asked, reached(call)
    found = quarantine.page(
        call.platform.db, dataset=asked.dataset, state=asked.state, before=asked.cursor, limit=asked.limit + 1,
        within=None if reach is None else sorted(reach),
    )  # fmt: skip
    shown = found[: asked.limit]
    return rows.listed(shown, quarantine.place(shown[-1]) if len(found) > asked.limit else None)


def ingest(call: Call[Ingestion]) -> Item:
    """Bring in what the sources of a model have, now; or soon, without waiting."""
    return _ingested(call, call.path["model"])


def ingest_dataset(call: Call[Ingestion]) -> Item:
    """The same for a dataset, whoever feeds it."""
    return _ingested(call, demand(call, right="data"))


def _ingested(call: Call[Ingestion], name: str) -> Item:
    asked = call.asked
    window = Window(_moment(asked.since), _moment(asked.until))
    if not asked.wait:
        dataset = feeding.ask(call.platform, name, call.actor, only=asked.sources, window=window)
        return {"dataset": dataset, "asked": True}
    return feeding.ingest(call.platform, name, call.actor, only=asked.sources, window=window)


def _moment(text: str) -> str:
    """A day is its first moment; what is no time is a value of the cursor, as it stands."""
    try:
        return clock.iso(clock.parse(text)) if text and not text.isdecimal() else text
    except ValueError:
        return text


def add(call: Call[Files]) -> Item:
    """Apply the files of datasets that are fed without a model."""
    for name, text in call.asked.files.items():
        call.require(files.read_dataset(text, file=name).dataset, right="apply")
    return {"datasets": feeding.feed(call.platform, call.asked.files, call.actor)}


def remove(call: Call[Nothing]) -> Item:
    """Stop feeding a dataset by a file of its own."""
    name = demand(call, right="apply")
    feeding.unfeed(call.platform, name, call.actor)
    return {"dataset": name, "removed": True}


def retry(call: Call[Named]) -> Item:
    """Have bad rows read again with the mapping of today."""
    return _judged(call, retry=True)


def drop(call: Call[Named]) -> Item:
    """Give bad rows up; their content is removed."""
    return _judged(call, retry=False)


def _judged(call: Call[Any], *, retry: bool) -> Item:
    name = demand(call, right="data")
    count = feeding.judge_bad_rows(call.platform, name, call.actor, names=call.asked.rows, retry=retry)
    return {"dataset": name, "rows": count}
