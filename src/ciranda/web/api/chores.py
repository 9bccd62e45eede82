"""Heavy work on data: imports, preparations and rebuilds, each a job that is asked for and then looked at."""

from __future__ import annotations

from typing import Any

from ciranda.loop import chores
from ciranda.web.api import rows
from ciranda.web.api.asked import Import, Nothing, Page
from ciranda.web.api.catalogue import demand, reached
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item


def listing(call: Call[Page]) -> Item:
    """Jobs on data, the newest first."""
    reach = reached(call)
    found = chores.listing(call.platform, before=call.asked.cursor, limit=call.asked.limit)
    following = found[-1]["job"] if len(found) == call.asked.limit else None
    return rows.listed([one for one in found if reach is None or one["dataset"] in reach], following)


def one(call: Call[Nothing]) -> Item:
    """One job: its progress, and at its end the result or the error."""
    told = chores.told(call.platform, call.path["job"])
    reach = reached(call)
    if reach is not None and told["dataset"] not in reach:
        call.require(str(told["dataset"]) or "*", right="data")
    return told


def bring(call: Call[Import]) -> Item:
    """Import a file or a folder that lies below the data root."""
    name = demand(call, right="data")
    values: dict[str, Any] = {**call.asked.model_dump(), "dataset": name}
    key = chores.begin(call.platform, "import", values, subject=name, actor=call.actor, event=call.key)
    return {"job": key}
