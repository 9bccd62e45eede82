"""Heavy work on data: imports, preparations and rebuilds, each a job that is asked for and then looked at."""

from __future__ import annotations

from typing import Any

from ciranda.data import versions as datasets
from ciranda.govern.access import Principal
from ciranda.loop import chores, prepare
from ciranda.web.api import rows
from ciranda.web.api.asked import Import, Nothing, Page, Recipe
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
    _reach(call, str(told["dataset"]))
    return told


def bring(call: Call[Import]) -> Item:
    """Import a file or a folder that lies below the data root."""
    name = demand(call, right="data")
    values: dict[str, Any] = {**call.asked.model_dump(), "dataset": name}
    key = chores.begin(call.platform, "import", values, subject=name, actor=call.actor, event=call.key)
    return {"job": key}


def cook(call: Call[Recipe]) -> Item:
    """Run a recipe; it is checked whole before the job begins."""
    asked = call.asked
    pinned = prepare.asked(call.platform, asked.text, asked.file)
    for name in dict.fromkeys((pinned.recipe.into, *(one.name for one in pinned.inputs))):
        _reach(call, name)
    values = {"text": asked.text, "file": asked.file, "inputs": [one.ref for one in pinned.inputs], "dry": asked.dry,
              "dataset": pinned.recipe.into, **_whom(call.principal)}  # fmt: skip
    key = chores.begin(call.platform, "prepare", values, subject=pinned.recipe.into, actor=call.actor, event=call.key)
    return {"job": key, "inputs": [one.ref for one in pinned.inputs], "into": pinned.recipe.into}


def again(call: Call[Nothing]) -> Item:
    """Make a version's rows again from its recipe, and say whether they are the same."""
    name, ref = demand(call, right="data"), f"{call.path['dataset']}@{call.path['number']}"
    pinned = prepare.repeatable(call.platform, datasets.get(call.platform.db, ref).ref)
    for one in pinned.inputs:
        _reach(call, one.name)
    values = {"ref": ref, "dataset": name, **_whom(call.principal)}
    return {"job": chores.begin(call.platform, "rebuild", values, subject=ref, actor=call.actor, event=call.key)}


def _reach(call: Call[Any], name: str) -> None:
    """Raise Forbidden unless the key reaches the dataset."""
    reach = reached(call)
    if reach is not None and name not in reach:
        call.require(name, right="data")


def _whom(principal: Principal) -> dict[str, str]:
    """Who asks, for the policies that bind them inside the job."""
    return {"role": principal.role, "key": principal.key, "tenant": principal.tenant}
