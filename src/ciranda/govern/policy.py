"""Policies: who may see which rows and fields of which datasets, for what purpose. Pure decisions on values; nothing is read here.

A policy is data: whom it concerns (roles, keys, tenants), for which purposes, on which datasets, rows and fields, and its effect:

    deny    the field is emptied; without fields the rows are left out; without rows and fields the dataset is closed
    mask    the value is replaced by a fixed word: that there was one still shows
    hash    the value is replaced by a keyed hash of it: equal values stay equal, so that joins and counts still work
    allow   an exception list: what it names is open to those it names, and denied to everybody else

Policies combine without an order: of all that bind a value the most restrictive wins, deny before mask before hash. So adding a
policy never opens what another one closed, and nobody has to know them all to write one. An `allow` only closes to others;
a value that several allow-lists name is open to whoever is on one of them.
What follows from the text follows its effect: the prompt is part of the messages; the row's key and group, which are digests of
the text, are hashed when any text of the row is restricted, since a short text can be guessed from its digest.
A policy on a dataset also binds what was made from it, however many recipes later: reading is not a way around.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Effect = Literal["allow", "hash", "mask", "deny"]
Purpose = Literal["training", "evaluation", "labelling", "viewing", "export", "monitoring"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
STRICTNESS: dict[Effect, int] = {"allow": 0, "hash": 1, "mask": 2, "deny": 3}
FIELDS = (
    "messages", "completion", "rejected", "language", "group", "source", "origin", "subject", "thumb", "tags", "extra",
)  # fmt: skip
"""What a policy may name, and `extra.<name>`. The split is no secret: hiding it would only mix training and test."""
TEXTS = ("messages", "completion", "rejected")
PLATFORM = "platform"  # the role of the loop itself, when nobody asks
WHOLE = ""  # in place of a field: the row
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"

Word = Annotated[str, Field(min_length=1, max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class People(_Part):
    """Some of those who ask, by role, key (its id or name) or tenant; nothing named is nobody."""

    roles: tuple[Word, ...] = ()
    keys: tuple[Word, ...] = ()
    tenants: tuple[Word, ...] = ()

    def has(self, reader: Reader) -> bool:
        """Whether the reader is one of them."""
        mine = reader.role in self.roles or reader.tenant in self.tenants
        return mine or bool({reader.actor, reader.key} & set(self.keys))


class Who(People):
    """Whom a policy concerns: those named (nothing named: everybody), but not those excepted."""

    excepted: People = Field(People(), alias="except")

    def concerns(self, reader: Reader) -> bool:
        """Whether the policy speaks of this reader."""
        everybody = not (self.roles or self.keys or self.tenants)
        return (everybody or self.has(reader)) and not self.excepted.has(reader)


class Datasets(_Part):
    """Which datasets: by name, by tag, by sensitivity; what is not given does not narrow."""

    names: tuple[Word, ...] = ()
    tags: tuple[Word, ...] = ()
    sensitivity: tuple[Word, ...] = ()

    def match(self, facts: Facts) -> bool:
        """Whether the dataset, or one it was made from, is meant."""
        asked = ((self.names, facts.names), (self.tags, facts.tags), (self.sensitivity, facts.sensitivity))
        return all(not wanted or set(wanted) & had for wanted, had in asked)


class Condition(_Part):
    """One test on a field of a row; on tags, whether the row has (one of) them."""

    field: Word
    equals: str | int | float | bool | None = None
    among: tuple[str | int | float | bool, ...] | None = Field(None, alias="in")
    present: bool | None = None

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        given = [self.equals is not None, self.among is not None, self.present is not None]
        if sum(given) != 1:
            raise ValueError("a condition has one of equals, in, present")
        _known(self.field)
        return self


class Fields(_Part):
    """Which fields: by name, or by the tags and glossary terms that the catalogue gives them."""

    names: tuple[Word, ...] = ()
    tags: tuple[Word, ...] = ()

    @model_validator(mode="after")
    def _are_known(self) -> Self:
        for name in self.names:
            _known(name)
        return self

    def of(self, facts: Facts) -> tuple[str, ...]:
        """The fields of this dataset that are meant."""
        tagged = (name for name, tags in facts.fields.items() if tags & set(self.tags) and _is_known(name))
        return tuple(sorted({*self.names, *tagged}))


def _is_known(name: str) -> bool:
    return name in FIELDS or (name.startswith("extra.") and len(name) > len("extra."))


def _known(name: str) -> None:
    if not _is_known(name):
        raise ValueError(f"no field {name!r}; fields are {', '.join(FIELDS)} and extra.<name>")


class Policy(_Part):
    """One policy, as people write it."""

    policy: Annotated[str, Field(pattern=NAME, description="Its name.")]
    effect: Annotated[Effect, Field(description="allow, hash, mask or deny.")]
    why: Annotated[str, Field(max_length=2000, description="The reason, for those who meet it.")] = ""
    who: Annotated[Who, Field(description="Whom it concerns; without it everybody.")] = Who()
    purposes: Annotated[tuple[Purpose, ...], Field(description="For which purposes; without it all.")] = ()
    datasets: Annotated[Datasets, Field(description="On which datasets; without it all.")] = Datasets()
    rows: Annotated[
        tuple[Condition, ...], Field(max_length=20, description="Rows for which all hold; without: all.")
    ] = ()
    fields: Annotated[Fields, Field(description="Which fields; without them the whole row.")] = Fields()

    @model_validator(mode="after")
    def _whole_rows_are_denied(self) -> Self:
        if self.effect in ("mask", "hash") and not (self.fields.names or self.fields.tags):
            raise ValueError(f"{self.effect} needs fields; to leave rows out, use deny")
        return self

    def to_dict(self) -> dict[str, Any]:
        """As it is stored and shown: only what was said."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @property
    def whole(self) -> bool:
        """Whether it speaks of rows rather than of fields."""
        return not (self.fields.names or self.fields.tags)

    def concerns(self, reader: Reader) -> bool:
        """Whether it speaks of this reader and purpose."""
        return self.who.concerns(reader) and (not self.purposes or reader.purpose in self.purposes)


@dataclass(frozen=True)
class Reader:
    """Who reads, in which role, what for. `key` and `tenant` are known when a key of ours asks."""

    actor: str
    role: str
    purpose: Purpose
    key: str = ""
    tenant: str = ""


@dataclass(frozen=True)
class Facts:
    """What the catalogue says of a dataset and of all it was made from: names, tags, sensitivity, and tags by field."""

    names: frozenset[str]
    tags: frozenset[str] = frozenset()
    sensitivity: frozenset[str] = frozenset()
    fields: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """A policy as it binds one reading: its effect on a field (`WHOLE`: the row), on rows for which all conditions hold."""

    policy: str
    effect: Effect
    field: str
    rows: tuple[Condition, ...]


@dataclass(frozen=True)
class Decision:
    """Everything that binds one reading of one dataset, and which policies said so.

    `rules` restrict. `lists` are the allow-lists: a field (or row) that one of them names is denied unless one with True, which
    has the reader on it, names it too.
    """

    rules: tuple[Rule, ...] = ()
    lists: tuple[tuple[Rule, bool], ...] = ()
    policies: tuple[Policy, ...] = ()

    @property
    def closed(self) -> str:
        """The name of a policy that closes the whole dataset to this reader; empty when it is open."""
        for rule in self.rules:
            if rule.effect == "deny" and rule.field == WHOLE and not rule.rows:
                return rule.policy
        opened = any(mine and rule.field == WHOLE for rule, mine in self.lists)
        shut = (r.policy for r, mine in self.lists if not mine and r.field == WHOLE and not r.rows)
        return "" if opened else next(shut, "")

    @property
    def fields(self) -> frozenset[str]:
        """The fields that may look otherwise than they are stored."""
        rules = (*self.rules, *(rule for rule, mine in self.lists if not mine))
        return frozenset(rule.field for rule in rules if rule.field != WHOLE)

    @property
    def rows(self) -> bool:
        """Whether rows may be missing."""
        rules = (*self.rules, *(rule for rule, mine in self.lists if not mine))
        return any(rule.field == WHOLE for rule in rules)

    @property
    def texts(self) -> bool:
        """Whether any text of a row is restricted, so that what was derived from texts must be too."""
        return bool(self.fields & {*TEXTS, "extra", "subject"}) or any(one.startswith("extra.") for one in self.fields)

    @property
    def asked(self) -> frozenset[str]:
        """The fields that conditions look at."""
        rules = (*self.rules, *(rule for rule, _ in self.lists))
        return frozenset(condition.field for rule in rules for condition in rule.rows)

    def narrowed(self, fields: Iterable[str]) -> Decision:
        """What of it binds a reading of only these fields."""
        kept = {*fields, WHOLE}
        rules = tuple(rule for rule in self.rules if _of(rule.field) in kept or rule.field == WHOLE)
        lists = tuple((rule, mine) for rule, mine in self.lists if _of(rule.field) in kept or rule.field == WHOLE)
        names = {rule.policy for rule in (*rules, *(rule for rule, _ in lists))}
        return Decision(rules, lists, tuple(one for one in self.policies if one.policy in names))

    @property
    def names(self) -> tuple[str, ...]:
        """The policies that bind, by name."""
        return tuple(sorted(one.policy for one in self.policies))

    @property
    def digest(self) -> str:
        """One name for exactly these policies; empty when none binds."""
        return digest_of(self.policies)

    def __bool__(self) -> bool:
        return bool(self.rules or any(not mine for _, mine in self.lists))


def _of(field: str) -> str:
    return "extra" if field.startswith("extra.") else field


def digest_of(policies: Iterable[Policy]) -> str:
    """SHA-256 over the policies as stored, in any order; empty for none."""
    texts = sorted(json.dumps(one.to_dict(), sort_keys=True, ensure_ascii=False) for one in policies)
    return f"sha256:{hashlib.sha256(chr(10).join(texts).encode()).hexdigest()}" if texts else ""


def decide(policies: Iterable[Policy], reader: Reader, facts: Facts) -> Decision:
    """What binds this reader on this dataset."""
    rules: list[Rule] = []
    lists: list[tuple[Rule, bool]] = []
    bound: list[Policy] = []
    for policy in policies:
        if not policy.datasets.match(facts):
            continue
        mine = policy.concerns(reader)
        fields = (WHOLE,) if policy.whole else policy.fields.of(facts)
        made = [Rule(policy.policy, policy.effect, field, policy.rows) for field in fields]
        if policy.effect == "allow":
            lists += [(rule, mine) for rule in made]
        elif mine:
            rules += made
        if made and (mine != (policy.effect == "allow")):
            bound.append(policy)
    return Decision(tuple(rules), tuple(lists), tuple(bound))
