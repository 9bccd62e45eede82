"""What sources find, as values: an item, the window of a run, what one source brought, and what reading it needs.

A kind of source is a function `items(source, desk) -> Iterator[Item]`: it yields what it finds in the order in which it may
go on, and leaves in `desk.place` where the next run begins. It writes nothing: the place holds once the version that has the
rows is registered, in the same transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Unpack

from ciranda.data.feedback import Traffic
from ciranda.data.rows import Row
from ciranda.govern.outgoing import Door
from ciranda.interactions.filters import Filters

if TYPE_CHECKING:
    from ciranda.config.source import Source
    from ciranda.data.sources.heap import Heap
    from ciranda.interactions.table import Interaction

BEGINNING = "beginning"
NAMED = 100


class Sampler(Protocol):
    """Whoever knows the sentences of the home; `engines.hassil` does."""

    def sample(
        self, language: str, count: int, seed: int, *, intents: Sequence[str] | None = None, split: str | None = None
    ) -> list[Row]:
        """`count` rows of a language, the same for the same seed."""


class Recorded(Traffic, Protocol):
    """Our own traffic, as sources read it."""

    def everything(self, **chosen: Unpack[Filters]) -> Iterator[Interaction]:
        """All interactions that the filters leave, oldest first, with feedback and scores."""


@dataclass(frozen=True)
class Inputs:
    """What sources need from outside this package.

    Args:
        root: Where relative file globs start; the model file's folder. SQLite files must lie below it too.
        sampler: Gives the sentences of the home; None when nobody asks for them.
        traffic: Our own interactions; None when the collector is not up.
        languages_of: Names the languages of prompts from live traffic.
        door: The private addresses that the operator lets sources call.
        connectors: Modules whose dlt sources may be used.
        scratch: Folder for what has to lie on disk while it is read.
    """

    root: Path = Path()
    sampler: Sampler | None = None
    traffic: Recorded | None = None
    languages_of: Callable[[Sequence[str]], Sequence[str]] | None = None
    door: Door = Door()  # noqa: RUF009 - frozen
    connectors: frozenset[str] = frozenset()
    scratch: Path = Path()


@dataclass(frozen=True)
class Window:
    """A stretch to read again: from a moment (or a value of the cursor, or `beginning`) to another; empty texts bind nothing."""

    since: str = ""
    until: str = ""

    def __bool__(self) -> bool:
        return bool(self.since or self.until)


@dataclass(frozen=True)
class Item:
    """One record and where it stands; an Invalid in place of a record is a bad row. `cursor` is its value of the cursor field."""

    origin: str
    record: object
    cursor: Any = None


@dataclass
class Place:
    """Where the next run goes on: a cursor, and the marks of files that were read."""

    cursor: str = ""
    marks: dict[str, str] = field(default_factory=dict)
    waiting: int = 0


@dataclass
class Tally:
    """What came so far; `tell` is called now and then, so that people see it."""

    tell: Callable[[Tally], None]
    rows: int = 0
    bad: int = 0
    bytes: int = 0
    pages: int = 0
    named: list[dict[str, str]] = field(default_factory=list)

    def wrong(self, bad: Bad) -> None:
        """One more bad row; the first hundred are named in the record of the run."""
        if len(self.named) < NAMED:
            self.named.append({"where": bad.origin, "reason": bad.reason})
        self.add(bad=1)

    def add(self, *, rows: int = 0, bad: int = 0, size: int = 0, pages: int = 0) -> None:
        self.rows, self.bad, self.bytes, self.pages = (
            self.rows + rows, self.bad + bad, self.bytes + size, self.pages + pages,
        )  # fmt: skip
        self.tell(self)


@dataclass(frozen=True)
class Desk:
    """What reading one source needs: what is outside, where it left off, what to read again, where to tell how it goes.

    `folder` is where rows may lie that are too many for memory.
    """

    label: str
    model: str
    inputs: Inputs
    cursor: str
    marks: Mapping[str, str]
    window: Window
    tally: Tally
    place: Place
    folder: Path | None = None

    @property
    def again(self) -> bool:
        """Whether everything is asked for, whatever was read before."""
        return self.window.since == BEGINNING


@dataclass(frozen=True)
class Bad:
    """A bad row: where it stands, why, and what stood there."""

    origin: str
    reason: str
    record: str
    remedy: str = ""
    name: str = ""  # its name in quarantine, when it was there already


@dataclass(frozen=True)
class Brought:
    """What one source brought: its rows, its bad rows, where to go on from, the fields that its records had.

    Args:
        source: The source's label, the name of its cursor.
        replaces: Whether an old row of this source (by its origin) makes place for what was brought.
        dropped: Whether bad rows are counted and not kept.
        retried: Bad rows of old (by name) that are good now.
    """

    source: str
    rows: Heap
    bad: tuple[Bad, ...] = ()
    place: Place = field(default_factory=Place)
    detail: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    changes: tuple[dict[str, str], ...] = ()
    replaces: Callable[[Row], bool] | None = None
    retried: tuple[str, ...] = ()
    dropped: bool = False


def label(source: Source) -> str:
    """A source in a line, as `files: data/*.jsonl`, or its name; its cursor is kept under it."""
    if source.name:
        return source.name
    if source.http:
        return f"http: {source.http.url.partition('?')[0]}"[:500]
    if source.sql:
        return f"sql: {source.sql.table or source.sql.query}"[:500]
    if source.s3:
        return f"s3: {source.s3.url.removeprefix('s3://')}"[:500]
    if source.dlt:
        return f"dlt: {source.dlt.source} {source.dlt.resource}".strip()[:500]
    if source.interactions is not None and not isinstance(source.interactions, str):
        chosen = source.interactions.model_dump(exclude_defaults=True)
        return ("interactions: " + ", ".join(f"{name} {value}" for name, value in chosen.items()))[:500]
    for kind in ("files", "folder", "intents"):
        if (value := getattr(source, kind)) is not None:
            return f"{kind}: {value}"[:500]
    return f"interactions: {source.interactions}"


def source_of(source: Source) -> str:
    """What rows of a source carry as theirs. Of files it is the file, of sentences what samples them."""
    return "interactions" if source.interactions == "feedback" else label(source)
