"""The catalogue: datasets found and narrowed, one dataset with what is said of it and its versions, the glossary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ciranda.data.descriptions import Description
from ciranda.data.entries import Entry, Wanted
from ciranda.data.glossary import Term
from ciranda.web.views.datasets import DatasetVersionRow

PAGE = 30


@dataclass(frozen=True)
class Catalogue:
    """One page of the catalogue. `tags` and `owners` are what there is to narrow by; `next` is where the next page begins."""

    rows: tuple[Entry, ...]
    total: int
    asked: Wanted
    next: str = ""
    later: bool = False  # whether this is not the first page
    tags: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()


@dataclass(frozen=True)
class FieldRow:
    """What people say of one field of a dataset's rows."""

    name: str
    said: Description
    tags: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()


@dataclass(frozen=True)
class LinePage:
    """One dataset: what is said of it and of its fields, its versions (the newest first), who learns from it."""

    entry: Entry
    fields: tuple[FieldRow, ...]
    history: tuple[DatasetVersionRow, ...]
    learners: tuple[str, ...] = ()  # models whose files name it
    older: int = 0  # the number to go on before, when there are older versions
    sources: tuple[str, ...] = ()

    @property
    def named(self) -> Mapping[str, FieldRow]:
        """The fields by name; the dataset itself is the empty one."""
        mine = FieldRow("", self.entry.said, self.entry.tags.get("", ()), self.entry.terms.get("", ()))
        return {"": mine, **{one.name: one for one in self.fields}}


@dataclass(frozen=True)
class TermRow:
    """One word of the glossary, and the datasets and fields that it stands on."""

    term: Term
    on: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Glossary:
    """One page of the glossary."""

    rows: tuple[TermRow, ...]
    next: str = ""
