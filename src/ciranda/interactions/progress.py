"""How far the collector has come, in one small file that is replaced whole before each batch.

The file says what the next batch will be before anything of it is inserted: which bytes of which segments, under which
sequence numbers, and the feedback and scores exactly as they will be stored. A collector that is killed at any point makes
the same inserts again under the same tokens, and the store keeps each once. Writing the next batch is what confirms the one
before, so a batch costs one write of this file.

It lies beside the embedded tables, so that a copy or a removal takes both.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ciranda.errors import Failed
from ciranda.interactions.rows import Row
from ciranda.store.files import write_atomic


class Cut(msgspec.Struct, frozen=True):
    """A run of whole frames of one segment."""

    segment: str
    start: int
    end: int
    frames: int


class Waiting(msgspec.Struct, frozen=True):
    """Feedback whose interaction has not come yet, and since when it waits."""

    row: Row
    since_ms: int


class Batch(msgspec.Struct, frozen=True):
    """What is about to be inserted: enough to do it again to the letter. `rows` take a number from `sequence` on.

    `doubles` are the interactions among the frames, by their places, that are left out.
    """

    sequence: int
    rows: int
    cuts: list[Cut]
    feedback: list[Row]
    scores: list[Row]
    doubles: list[int] = []

    @property
    def token(self) -> str:
        """One name for this batch and no other: segments are never cut twice at the same place, ids are unique."""
        names = [f"{cut.segment}:{cut.start}:{cut.end}" for cut in self.cuts]
        names += [str(row["id"]) for row in (*self.feedback, *self.scores)]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()


class Reached(msgspec.Struct, frozen=True):
    """Up to where a segment is stored, and how many frames that were."""

    offset: int = 0
    frames: int = 0


class _Saved(msgspec.Struct, frozen=True):
    """The file."""

    sequence: int
    reached: dict[str, Reached]
    waiting: list[Waiting]
    batch: Batch | None


@dataclass
class Progress:
    """The state between batches: everything up to `reached` is stored for good.

    Args:
        path: The file; absent at the very first start.
    """

    path: Path
    sequence: int = 1
    reached: dict[str, Reached] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    batch: Batch | None = None

    @classmethod
    def load(cls, path: Path) -> Progress:
        """The state as last saved; with a `batch`, that one has to be inserted (again) first.

        Raises:
            Failed: the file is damaged; to begin anew would store what is in the spool a second time.
        """
        if not path.exists():
            return cls(path)
        try:
            saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Failed(f"the collector's progress cannot be read: {error}", where=str(path),
                         remedy="restore this file together with the folder it lies in from a backup") from error  # fmt: skip
        return cls(path, saved.sequence, saved.reached, saved.waiting, saved.batch)

    def at(self, segment: str) -> Reached:
        return self.reached.get(segment, Reached())

    def begin(self, batch: Batch, waiting: list[Waiting]) -> None:
        """Make the intent durable; on an error (a full disk) nothing has changed."""
        self._save(batch, waiting)
        self.batch, self.waiting = batch, waiting

    def done(self) -> None:
        """The batch is stored. The next save tells the disk; until then a restart would repeat it, harmlessly."""
        batch, self.batch = self.batch, None
        if batch is None:
            return
        for cut in batch.cuts:
            self.reached[cut.segment] = Reached(cut.end, self.at(cut.segment).frames + cut.frames)
        self.sequence += batch.rows

    def skip(self, segment: str, offset: int) -> None:
        """Go on behind bytes that were put aside."""
        self.reached[segment] = Reached(offset, self.at(segment).frames)

    def settle(self) -> None:
        """Tell the disk now: needed before a segment goes, since a repeated batch would look for it."""
        self._save(self.batch, self.waiting)

    def forget(self, segments: set[str]) -> None:
        """Segments that are gone for good."""
        for segment in segments:
            self.reached.pop(segment, None)

    def _save(self, batch: Batch | None, waiting: list[Waiting]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self.path, msgspec.json.encode(_Saved(self.sequence, self.reached, waiting, batch)))
