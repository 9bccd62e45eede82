"""A recipe as people write it: datasets in, steps, dataset out. Everything that can be wrong without rows is found here.

from: smart-home@3                     # or several; without a number the newest, which is pinned when it runs
into: smart-home-clean
seed: 17
steps:
  - filter: language in ["en", "pt-BR"] and length(completion) < 400
  - map: {set: {completion: trim(completion)}}
  - deduplicate: {near: 0.85}
  - split: {by: group, test: 0.2, validation: 0.1}
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ciranda.config import lines
from ciranda.config.shape import NAME
from ciranda.data.recipes import expressions, fields, functions
from ciranda.data.recipes.expressions import Node, Wrong
from ciranda.store import clock

REF = r"^[a-z0-9][a-z0-9-]{0,62}(@[1-9]\d{0,8})?$"
MOST_STEPS = 100


class Part(BaseModel):
    """A part of the file; a key that nobody knows is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def understood(source: str) -> Node:
    """The tree of an expression that a recipe was checked with."""
    return expressions.parse(source, fields.readable)


def _expression(source: str) -> str:
    try:
        understood(source)
    except Wrong as error:
        raise ValueError(f"the expression {error}" if str(error).startswith("cannot") else str(error)) from None
    return source


def _function(name: str) -> str:
    if not functions.NAME.match(name):
        raise ValueError("a function is written file:function, such as clean:fix")
    return name


def _writable(name: str) -> str:
    if not fields.writable(name):
        raise ValueError(f"no field {name!r} can be written; those that can: {', '.join(fields.WRITTEN)}, extra.<name>")
    return name


def _readable(name: str) -> str:
    if not fields.readable(name):
        raise ValueError(f"no field {name!r}; there are {', '.join(fields.READ)}, extra.<name>")
    return name


def _moment(value: str) -> str:
    return clock.iso(clock.parse(value))


def _short(key: str) -> Callable[[Any], Any]:
    """A text stands for the section with that one key."""
    return lambda given: {key: given} if isinstance(given, str) else given


def _list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


Expression = Annotated[str, Field(min_length=1), AfterValidator(_expression)]
Function = Annotated[str, AfterValidator(_function)]
Writable = Annotated[str, AfterValidator(_writable)]
Readable = Annotated[str, AfterValidator(_readable)]
Moment = Annotated[str, BeforeValidator(str), AfterValidator(_moment)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Filter(Part):
    """Keep the rows for which it holds."""

    where: Expression | None = Field(None, description="Keep the rows for which this is true.")
    fn: Function | None = Field(None, description="Or those for which this function says so.")

    @model_validator(mode="after")
    def _one(self) -> Filter:
        _exactly(self, "where", "fn")
        return self


class Map(Part):
    """Change rows."""

    set: dict[Writable, Expression] = Field(
        default={}, description="Value by field; all are computed from the row as it was."
    )
    fn: Function | None = Field(None, description="Or a function: a row, several rows, or None for none.")

    @model_validator(mode="after")
    def _one(self) -> Map:
        if bool(self.set) == bool(self.fn):
            raise ValueError("map has either set or fn")
        return self


class Mask(Part):
    """Replace what must not be seen."""

    fields: tuple[Readable, ...] = Field(
        ("messages", "completion", "rejected"),
        min_length=1,
        description="Where: messages, completion, rejected, extra.<name>.",
    )
    pattern: str | None = Field(None, description="What is replaced; without it personal data, by its kind.")
    with_: str = Field("[masked]", alias="with", description="What stands in its place, for a pattern.")

    @model_validator(mode="after")
    def _known(self) -> Mask:
        for name in self.fields:
            if name not in ("messages", "completion", "rejected") and not name.startswith("extra."):
                raise ValueError(f"mask changes messages, completion, rejected and extra.<name>, not {name}")
        if self.pattern is not None:
            _expression(f"replace(prompt, {_quoted(self.pattern)}, {_quoted(self.with_)})")
        return self


class Deduplicate(Part):
    """Keep one of the rows that say the same."""

    fields: tuple[Readable, ...] = Field(
        ("all",), min_length=1, description="The fields that must be alike, case and spaces aside."
    )
    near: float | None = Field(
        None, ge=0.5, le=1, description="Texts this similar count as alike (Jaccard of 5 bytes)."
    )

    @model_validator(mode="after")
    def _texts(self) -> Deduplicate:
        if self.near is not None and not set(self.fields) <= {"all", "prompt", "completion", "rejected"}:
            raise ValueError("near compares all, prompt, completion or rejected")
        return self


class Balance(Part):
    """Leave out rows of large classes, by the hash of the seed."""

    by: Expression = Field(description="The class of a row, such as language or extra.intent.")
    to: Literal["smallest"] | Annotated[int, Field(ge=1)] = Field(
        "smallest", description="At most so many rows of each class."
    )


class Sample(Part):
    """Keep some rows, by the hash of the seed: the same ones each time, and of more rows mostly the same."""

    rows: int | None = Field(None, ge=1, description="So many.")
    share: float | None = Field(None, gt=0, lt=1, description="Or this share of them.")
    by: Expression | None = Field(None, description="So many, or this share, of each class.")

    @model_validator(mode="after")
    def _one(self) -> Sample:
        _exactly(self, "rows", "share")
        return self


class Split(Part):
    """Give every row its split; what belongs together stays together."""

    by: Literal["group", "template", "hash", "time"] = Field("group", description="What stays together.")
    test: Share = Field(0.2, description="Share of the test split.")
    validation: Share = Field(0.1, description="Share of the validation split.")
    time: Expression | None = Field(None, description="When a row is from (ISO 8601), for `by: time`.")
    test_from: Moment | None = Field(
        None, description="Later rows are the test split, for `by: time`, in place of shares."
    )
    validation_from: Moment | None = Field(None, description="Later rows, up to those, are the validation split.")

    @model_validator(mode="after")
    def _timed(self) -> Split:
        if self.test + self.validation >= 1:
            raise ValueError("test and validation together leave nothing to train on")
        if (self.by == "time") != (self.time is not None):
            raise ValueError("`time: <expression>` goes with `by: time`")
        if (self.test_from or self.validation_from) and self.by != "time":
            raise ValueError("test_from and validation_from go with `by: time`")
        if self.test_from and self.validation_from and self.validation_from > self.test_from:
            raise ValueError("validation_from is later than test_from")
        return self


class Chat(Part):
    """The form of conversations."""

    system: str | None = Field(None, description="A system prompt; an empty one takes it away.")
    mode: Literal["replace", "set"] = Field("replace", description="`set`: only where there is none.")
    turns: int | None = Field(None, ge=1, description="At most so many exchanges; older ones are left out.")

    @model_validator(mode="after")
    def _something(self) -> Chat:
        if self.system is None and self.turns is None:
            raise ValueError("chat has system, turns, or both")
        return self


class Step(Part):
    """One step: exactly one of its keys."""

    filter: Annotated[Filter, BeforeValidator(_short("where"))] | None = None
    map: Map | None = None
    rename: dict[Readable, Writable] | None = None
    mask: Mask | None = None
    deduplicate: Deduplicate | None = None
    balance: Annotated[Balance, BeforeValidator(_short("by"))] | None = None
    sample: Sample | None = None
    split: Split | None = None
    chat: Chat | None = None

    @model_validator(mode="after")
    def _one(self) -> Step:
        found = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(found) != 1:
            raise ValueError(f"a step is one of {', '.join(type(self).model_fields)}; this one has {found or 'none'}")
        for old, new in (self.rename or {}).items():
            if not old.startswith("extra.") or not (
                new.startswith("extra.") or new in ("language", "group", "subject")
            ):
                raise ValueError(
                    f"rename moves extra.<name> to another, or to language, group or subject, not {old} to {new}"
                )
        return self

    @property
    def kind(self) -> str:
        """Which step it is."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def given(self) -> Any:
        """What it is given."""
        return getattr(self, self.kind)


class Recipe(Part):
    """A recipe, whole."""

    from_: Annotated[tuple[Annotated[str, Field(pattern=REF)], ...], BeforeValidator(_list)] = Field(
        alias="from",
        min_length=1,
        max_length=20,
        description="The versions whose rows come in: smart-home@3, or smart-home.",
    )
    into: str = Field(pattern=NAME, description="The dataset that gets the version.")
    description: str = Field("", max_length=2000, description="What it is for.")
    seed: int = Field(17, ge=0, description="Of everything that is drawn.")
    steps: tuple[Step, ...] = Field(min_length=1, max_length=MOST_STEPS, description="What is done, in this order.")

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions that its steps name."""
        given = (step.given for step in self.steps)
        return tuple(dict.fromkeys(one.fn for one in given if isinstance(one, Filter | Map) and one.fn))


def read(text: str, *, file: str) -> Recipe:
    """A recipe's file. Raises Invalid with file, line, key and remedy."""
    return lines.read(text, Recipe, file=file, manual="docs/prepare.md")


def _exactly(part: Part, *names: str) -> None:
    found = [name for name in names if getattr(part, name) is not None]
    if len(found) != 1:
        raise ValueError(f"exactly one of {', '.join(names)} is needed; there is {found or 'none'}")


def _quoted(text: str) -> str:
    return '"' + re.sub(r'"', r"\"", text) + '"'
