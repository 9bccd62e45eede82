"""Every finding of a run: the newest as values, older ones as Arrow, on disk once there is a folder, so that millions fit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ciranda.data.checks import stage

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLES = 100  # findings kept per check in a stored report; the counts, and the version's findings, are of all
CHUNK = 100_000


class Finding(msgspec.Struct, frozen=True):
    """A flaw, and what policy did about it. The key is the row's as it came, before anything was masked."""

    check: str
    action: str
    origin: str
    key: str
    reason: str


COLUMNS = Finding.__struct_fields__


class Findings:
    """Findings in the order they were made."""

    def __init__(self) -> None:
        self.examples: dict[str, list[Finding]] = defaultdict(list)
        self.folder: Path | None = None
        self._older: list[pa.RecordBatch | Path] = []
        self._newest: list[Finding] = []

    def add(self, found: Iterable[Finding]) -> None:
        """More of them."""
        for one in found:
            self._newest.append(one)
            if len(shown := self.examples[one.check]) < EXAMPLES:
                shown.append(one)
            if len(self._newest) >= CHUNK:
                self._put_by()

    def __iter__(self) -> Iterator[Finding]:
        for batch in self.batches():
            yield from (Finding(**told) for told in batch.to_pylist())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """As Arrow, with the columns COLUMNS."""
        for part in self._older:
            yield stage.loaded(part)
        if self._newest:
            yield _batch(self._newest)

    @staticmethod
    def schema() -> pa.Schema:
        """The columns of `batches`; all are text."""
        import pyarrow as pa

        return pa.schema([(name, pa.string()) for name in COLUMNS])

    def _put_by(self) -> None:
        batch, self._newest = _batch(self._newest), []
        if self.folder is None:
            self._older.append(batch)
            return
        path = self.folder / f"findings-{len(self._older):08}.arrow"
        stage.put(path, batch)
        self._older.append(path)


def _batch(found: list[Finding]) -> pa.RecordBatch:
    import pyarrow as pa

    columns = zip(*map(msgspec.structs.astuple, found), strict=True)
    return pa.RecordBatch.from_arrays([pa.array(values, pa.string()) for values in columns], schema=Findings.schema())
