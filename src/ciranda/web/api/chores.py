"""Heavy work on data: imports, preparations, rebuilds and distillations, each a job that is asked for and then looked at."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import Field

from ciranda.data import versions as datasets
from ciranda.errors import Invalid
from ciranda.govern.access import Principal
from ciranda.loop import chores, distil, prepare
from ciranda.registry import versions
from ciranda.web.api import rows
from ciranda.web.api.asked import Asked, Import, Nothing, Page, Recipe
from ciranda.web.api.catalogue import demand, reached
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item


class Distil(Asked):
    """Whom to ask, and what."""

    teacher: str = Field(
        min_length=1, max_length=200, description="A version of ours, a model (its live version), or its name at `url`."
    )
    url: str = Field("", max_length=2000, description="An OpenAI-compatible address, for a teacher elsewhere.")
    key: str = Field("", pattern=r"^((env|file):\S+)?$", max_length=500, description="Its key: env:NAME or file:/path.")
    prompts: str = Field("", max_length=5_000_000, description="JSON lines with `prompt` (and `system`) or `messages`.")
    rows: str = Field("", max_length=100, description="A dataset version whose prompts are asked.")
    max_tokens: int = Field(256, ge=1, le=32_768, description="Bound of one answer.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 takes the likeliest words.")
    abreast: int = Field(4, ge=1, le=64, description="Questions at the same time.")


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


def learn(call: Call[Distil]) -> Item:
    """Have a teacher answer prompts, and keep its answers as rows; everything is found before the job begins."""
    name, asked = demand(call, right="data"), call.asked
    if not asked.prompts and not asked.rows:
        raise Invalid("there is nothing to ask", where="prompts", remedy="give prompts as JSON lines, or `rows`")
    who = distil.teacher(call.platform, asked.teacher, url=asked.url, key=asked.key)
    if not who.url:
        call.require(versions.split(who.name)[0], right="view")
    if asked.prompts:
        distil.prompts(asked.prompts)
    ref = datasets.get(call.platform.db, asked.rows).ref if asked.rows else ""
    if ref:
        _reach(call, ref.partition("@")[0])
    whom = _whom(call.principal)
    values = {**asked.model_dump(exclude={"url", "key"}), "teacher": asdict(who), "rows": ref, "dataset": name,
              "role": whom["role"], "key_id": whom["key"], "tenant": whom["tenant"]}  # fmt: skip
    return {"job": chores.begin(call.platform, "distil", values, subject=name, actor=call.actor, event=call.key)}


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
