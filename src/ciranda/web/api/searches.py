"""Searches for a recipe: what was asked for and found, and the verbs that start, stop, resume and staff them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ciranda.config.shape import seconds
from ciranda.errors import NotFound
from ciranda.loop import searching
from ciranda.train import search as searches
from ciranda.train import trials
from ciranda.web.api import rows
from ciranda.web.api.asked import VERSION, Asked, Nothing, OfModel
from ciranda.web.api.door import Call
from ciranda.web.api.fleet import within
from ciranda.web.api.rows import Item

Lasting = Annotated[float | None, BeforeValidator(lambda value: None if value is None else seconds(value))]


class Bounds(Asked):
    """What a search may use; what is left out is as it was, or as the model's file says."""

    trials: int | None = Field(None, ge=1, le=1000, description="How many recipes to try.")
    budget: Lasting = Field(None, description="No new trial starts after this long, such as 20m.")
    money: float | None = Field(None, gt=0, description="No new trial starts that would spend more.")

    @property
    def given(self) -> dict[str, Any]:
        """The bounds by the names that a plan has for them."""
        found = {"limit": self.trials, "budget_s": self.budget, "money": self.money}
        return {name: value for name, value in found.items() if value is not None}


class Start(Bounds):
    """What to search."""

    event: str = Field("", max_length=80, description="Its identity: the same event again is the same search.")
    dataset: str = Field(
        "", pattern=rf"({VERSION})|^$", description="The dataset version to learn from; else the newest."
    )
    workers: int | None = Field(None, ge=0, le=256, description="Trials at the same time; 0 fits them to the machine.")


class Workers(Asked):
    """How many train at the same time."""

    workers: int = Field(ge=0, le=256, description="From now on; 0 fits them to the machine.")


def listing(call: Call[OfModel]) -> Item:
    """Searches, newest first, each with how many trials it has and what they cost."""
    db = call.platform.db
    found = rows.page(db, "searches", call.asked, order="started_at", model=within(call, call.asked.model))
    return {**found, "items": [searching.summed(call.platform, one) for one in found["items"]]}


def one(call: Call[Nothing]) -> Item:
    """One search with its trials: what they drew, what they reached, which are beaten by none."""
    return searching.told(call.platform, _mine(call)["id"])


def start(call: Call[Start]) -> Item:
    """Begin one; told with what it will take, within its bounds."""
    asked = call.asked
    identifier = searching.start(
        call.platform, call.path["model"], actor=call.actor, event=asked.event or call.key, dataset=asked.dataset,
        workers=asked.workers, bounds=asked.given,
    )  # fmt: skip
    return {"search": identifier, "estimate": searching.expected(call.platform, identifier)}


def stop(call: Call[Nothing]) -> Item:
    """Begin nothing more, and free what runs."""
    return _state(searches.stop(call.platform.db, _mine(call)["id"], actor=call.actor))


def resume(call: Call[Bounds]) -> Item:
    """Go on, also with more room."""
    return _state(searches.resume(call.platform.db, _mine(call)["id"], actor=call.actor, bounds=call.asked.given))


def workers(call: Call[Workers]) -> Item:
    """More or fewer trials at the same time."""
    return _state(searches.staff(call.platform.db, _mine(call)["id"], call.asked.workers, actor=call.actor))


def release(call: Call[Nothing]) -> Item:
    """Take its best through the gates: a turn."""
    return {"turn": searching.release(call.platform, _mine(call)["id"], actor=call.actor)}


def _mine(call: Call[Any]) -> dict[str, Any]:
    """The search in the address, which must be of a model that the key reaches, and of the one in the address."""
    row = trials.get(call.platform.db, call.path["search"])
    call.require(row["model"])
    if call.path.get("model", row["model"]) != row["model"]:
        raise NotFound(f"{row['id']} is no search of {call.path['model']}", where="searches",
                       remedy=f"it is one of {row['model']}")  # fmt: skip
    return row


def _state(row: dict[str, Any]) -> Item:
    return {name: row[name] for name in ("id", "model", "state", "workers", "reason")}
