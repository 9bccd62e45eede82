"""What a check is, and how it sees rows: `Part` is one batch, `Whole` the notes that were taken of all of them.

Everything here crosses the border to worker processes or runs in them, so functions are named, values are small, and a part
builds each of its views only when a check asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ciranda.config.checks import Checks, Contamination
from ciranda.data import columns
from ciranda.data.overlap import Asked
from ciranda.data.rows import Row, normalised
from ciranda.data.shift import Profile

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]
    Notes = Mapping[str, Array]

PLAIN_ACTIONS = ("block", "drop", "warn")
MASKING = ("block", "drop", "mask", "warn")
ALL = -1


_ODD = bytes(code == 0x5C or code >= 0x7F for code in range(256))
"""Of the bytes of messages in JSON: a backslash, which white space other than a space is written with, and what is no ASCII."""


class Flaw(msgspec.Struct, frozen=True):
    """One check's word on one row (by its place); `mended` is the row without the flaw, where that is possible.

    In a reason, `{row}` and `{answer}` stand for origin and completion of the row at place `other`. What is true of all rows
    together has the place ALL; its reason says which.
    """

    place: int
    reason: str
    mended: Row | None = None
    other: int = -1


@dataclass(frozen=True)
class Bounds:
    """What checks compare with, and their settings; sent to each worker once.

    Args:
        suites: The prompts that training must not see, by the name of their suite.
        parent: What the version before was like, for the drift check; None when there is none.
        custom: The folder of this home that functions of its own stand in.
        row_s: How long such a function may take on one row, in seconds.
    """

    max_characters: int = 2000
    suites: Mapping[str, Sequence[str]] = field(default_factory=dict)
    settings: Checks = field(default_factory=Checks)
    parent: Profile | None = None
    custom: Path | None = None
    row_s: float = 10.0

    @cached_property
    def asked(self) -> Asked:
        """The suites' prompts, ready to be compared with."""
        setting = self.settings.contamination or Contamination()
        return Asked(self.suites, similarity=setting.similarity, run=setting.run)


class Part:
    """A batch of rows as checks read it."""

    def __init__(self, batch: pa.RecordBatch, turns: list[list[columns.Turn]] | None = None) -> None:
        self.batch = batch
        if turns is not None:
            self.turns = turns

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def column(self, name: str) -> list[Any]:
        """The values of a stored column, as in `columns.COLUMNS`."""
        return list(self.batch.column(name).to_pylist())

    @cached_property
    def rows(self) -> list[Row]:
        """The rows as values; the slowest view, for checks that need the whole conversation."""
        return list(columns.rows_of(self.batch))

    @cached_property
    def prompts(self) -> list[str]:
        """What the person said last, of each row."""
        return self.column("prompt")

    @cached_property
    def completions(self) -> list[str]:
        """The answer (or the text, in a row that is plain text) of each row."""
        return self.column("completion")

    @cached_property
    def rejected(self) -> list[str]:
        """The rejected answer of each row, mostly empty."""
        return self.column("rejected")

    @cached_property
    def turns(self) -> list[list[columns.Turn]]:
        """The messages of each row; far cheaper than `rows`."""
        return columns.turns_of(self.batch)

    @cached_property
    def texts(self) -> list[tuple[str, ...]]:
        """Every text of each row: the messages in their order, the completion, the rejected answer when there is one."""
        every = zip(self.turns, self.completions, self.rejected, strict=True)
        return [
            (*[turn.content for turn in turns], answer, *([other] if other else [])) for turns, answer, other in every
        ]

    @cached_property
    def plain(self) -> list[list[str]]:
        """The messages of each row as phrasings are compared (`rows.normalised`)."""
        odd = columns.holding(self.batch.column("messages"), _ODD).tolist()
        return [
            [normalised(turn.content) if strange else _folded(turn.content) for turn in turns]
            for turns, strange in zip(self.turns, odd, strict=True)
        ]

    @cached_property
    def said(self) -> list[str]:
        """The conversation of each row as one text, to be compared; empty without messages."""
        return [
            f"{turns[0].role}\0{texts[0]}"
            if len(turns) == 1
            else "\0".join(f"{turn.role}\0{text}" for turn, text in zip(turns, texts, strict=True))
            for turns, texts in zip(self.turns, self.plain, strict=True)
        ]

    @cached_property
    def said_names(self) -> list[bytes]:
        """A hash for each of `said`."""
        return [_named(text.encode()) for text in self.said]

    @cached_property
    def answer_names(self) -> list[bytes]:
        """A hash of each answer, spaces around it aside."""
        return [_named(text.strip().encode()) for text in self.completions]

    @cached_property
    def phrases(self) -> list[str]:
        """`prompts`, as phrasings are compared."""
        return [
            texts[-1]
            if turns and turns[-1].role == "user"
            else next((text for turn, text in zip(turns[::-1], texts[::-1], strict=True) if turn.role == "user"), "")
            for turns, texts in zip(self.turns, self.plain, strict=True)
        ]

    def only(self, keep: Array) -> Part:
        """The rows where `keep` is true."""
        import pyarrow as pa

        return Part(self.batch.filter(pa.array(keep)))

    def mended(self, rows: Mapping[int, Row]) -> Part:
        """The part with the rows at these places replaced."""
        import pyarrow as pa

        fresh = columns.batch_of(list(rows.values()))
        order = list(range(len(self)))
        for at, place in enumerate(rows):
            order[place] = len(self) + at
        both = pa.Table.from_batches([self.batch, fresh]).take(pa.array(order)).combine_chunks()
        return Part(both.to_batches()[0])


@dataclass(frozen=True)
class Whole:
    """The notes that one check took of all rows, in their order."""

    rows: int
    notes: Notes

    def __len__(self) -> int:
        return self.rows


@dataclass(frozen=True)
class RowCheck:
    """A check that needs one row at a time."""

    name: str
    flaws: Callable[[Part, Bounds], Iterable[Flaw]]
    actions: tuple[str, ...] = PLAIN_ACTIONS


@dataclass(frozen=True)
class WholeCheck:
    """A check that needs to know of all rows; it cannot mask."""

    name: str
    notes: Callable[[Part, Bounds], Notes]
    flaws: Callable[[Whole, Bounds], Iterable[Flaw]]
    actions: tuple[str, ...] = PLAIN_ACTIONS


Check = RowCheck | WholeCheck


def hashes(texts: Iterable[str]) -> Array:
    """16 bytes for each text (BLAKE2b), for notes that are compared for equality."""
    return noted(_named(text.encode()) for text in texts)


def noted(names: Iterable[bytes]) -> Array:
    """Hashes as notes; an empty one stands for nothing."""
    import numpy as np

    return np.array(list(names), dtype="S16")


def paired(one: bytes, two: bytes, rest: str) -> bytes:
    """The hash of two that were hashed and a text."""
    return _named(one + two + rest.encode())


def _named(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


def _folded(text: str) -> str:
    """`rows.normalised` of a text that is ASCII with no other white space than spaces."""
    lower = text.lower()
    return (" ".join(lower.split()) if "  " in lower else lower).strip(" .,;:!?")
