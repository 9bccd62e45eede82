"""Taking words out of everything that was written down: columns of the control database, files of the home, raw bytes.

`Needles` are what must go: names of a person, matched as whole words, and texts of theirs, matched wherever they stand. A name
shorter than SHORT is matched only where it is all that a field says, and texts under LONG are not looked for at all: "yes" is
nobody's. What is taken out of a column becomes ERASED, so that figures beside it keep their place; in a file it is written over.
The audit log is never touched: it holds no words of people, and it must stay what it was.
"""

from __future__ import annotations

import json
import mmap
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.errors import Unavailable
from ciranda.store.database import Database

ERASED = "[erased]"
BLOT = b"*"
SHORT, LONG = 4, 12
MOST_TEXTS = 5000
PIECE = 1 << 22
HEAD = 1 << 13
KEPT = frozenset({"audit_events", "alembic_version"})
SCHEMAS = frozenset({"dbos", "optuna"})  # of PostgreSQL, beside the first one
LOCK_MS = 10_000


@dataclass(frozen=True)
class Needles:
    """What must go: `names` of a person and `texts` that they wrote or were answered."""

    names: tuple[str, ...]
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str], texts: Iterable[str]) -> Needles:
        """Without doubles; the longest texts first, no more than MOST_TEXTS, none that is too short to be anybody's."""
        kept = sorted(
            {text.strip() for text in texts if len(text.strip()) >= LONG}, key=lambda text: (-len(text), text)
        )
        return cls(tuple(sorted({name for name in names if name})), tuple(kept[:MOST_TEXTS]))

    @cached_property
    def _word(self) -> re.Pattern[str] | None:
        long = [re.escape(name) for name in sorted(self.names, key=len, reverse=True) if len(name) >= SHORT]
        return re.compile(rf"(?<![\w@])(?:{'|'.join(long)})(?![\w@])") if long else None

    def text(self, value: str) -> str:
        """A text without them."""
        if value in self.names:
            return ERASED
        for text in self.texts:
            if text in value:
                value = value.replace(text, ERASED)
        return self._word.sub(ERASED, value) if self._word else value

    def value(self, value: Any) -> Any:
        """Any JSON value without them, names of fields included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self.value(one) for name, one in value.items()}
        return [self.value(one) for one in value] if isinstance(value, list | tuple) else value

    @cached_property
    def raw(self) -> tuple[bytes, ...]:
        """As they may stand in a file: as they are, and as JSON writes them."""
        words = [*(name for name in self.names if len(name) >= SHORT), *self.texts]
        forms = {
            form
            for word in words
            for form in (word, json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1])
        }
        return tuple(sorted(form.encode("utf-8", "replace") for form in forms))

    def within(self, path: Path) -> bool:
        """Whether a file's raw bytes hold one of them; a file that is gone holds none."""
        longest = max((len(one) for one in self.raw), default=0)
        try:
            with path.open("rb") as file:
                rest = b""
                while piece := file.read(PIECE):
                    if any(one in rest + piece for one in self.raw):
                        return True
                    rest = piece[-longest:]
        except FileNotFoundError:
            return False
        return False


def database(db: Database, needles: Needles, *, spared: frozenset[str] = frozenset()) -> dict[str, int]:
    """Take them out of every column of text of every table; returns changed rows by table. Keys of rows stay as they are.

    Args:
        spared: Tables that hold what is still needed to go on.
    """
    changed: dict[str, int] = {}
    for table in _tables(db):
        if table.name not in KEPT | spared and (count := _table(db, table, needles)):
            changed[table.name] = changed.get(table.name, 0) + count
    return changed


def _tables(db: Database) -> list[sa.Table]:
    """Every table: of PostgreSQL also those of workflows and searches, which have schemas of their own there."""
    held = sa.MetaData()
    held.reflect(db.engine)
    if not db.is_sqlite:
        for name in sorted(SCHEMAS & set(sa.inspect(db.engine).get_schema_names())):
            held.reflect(db.engine, schema=name)
    return held.sorted_tables


def _table(db: Database, table: sa.Table, needles: Needles) -> int:
    keys = list(table.primary_key.columns)
    columns = [column for column in table.columns if _wordy(column) and not column.primary_key]
    if not columns or not keys:
        return 0
    with db.reading() as conn:
        rows = conn.execute(sa.select(*keys, *columns)).all()
    changed = 0
    for row in rows:
        values = {column.name: _cleaned(row._mapping[column.name], needles) for column in columns}
        different = {name: value for name, value in values.items() if value != row._mapping[name]}
        if different:
            mine = sa.and_(*(column == row._mapping[column.name] for column in keys))
            with db.writing() as conn:
                conn.execute(table.update().where(mine).values(different))
            changed += 1
    return changed


def _wordy(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, sa.String | sa.JSON) and not column.foreign_keys


def _cleaned(value: Any, needles: Needles) -> Any:
    """A column's value; JSON that is kept as text is read, since its texts are escaped there."""
    if not isinstance(value, str) or value[:1] not in "{[":
        return needles.value(value) if value is not None else None
    try:
        held = json.loads(value)
    except ValueError:
        return needles.text(value)
    clean = needles.value(held)
    return value if clean == held else json.dumps(clean, ensure_ascii=False)


def blot(path: Path, needles: Needles) -> bool:
    """Write over them in a file, byte for byte, so that who has it open goes on writing to it; whether anything was there.

    JSON stays JSON, lines keep their length. Killed in between, the next time finds what is left.
    """
    if not needles.within(path):
        return False
    with path.open("r+b") as held, mmap.mmap(held.fileno(), 0) as content:
        for one in sorted(needles.raw, key=len, reverse=True):
            at = content.find(one)
            while at >= 0:
                content[at : at + len(one)] = BLOT * len(one)
                at = content.find(one, at + len(one))
        content.flush()
    return True


def head(path: Path) -> bytes:
    """How a file begins; nothing of one that is gone."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except FileNotFoundError:
        return b""


def below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, links left alone."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path


def compact(db: Database) -> None:
    """Leave nothing of deleted rows in the database's own files: pages are written anew, the log is emptied.

    Raises Unavailable while somebody else holds the database for longer than its patience.
    """
    if not db.is_sqlite:
        _written_anew(db)
        return
    raw = db.engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("VACUUM")
        busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise _held(db) from error
    finally:
        raw.close()
    if busy:
        raise _held(db)


def _written_anew(db: Database) -> None:
    """Tables of PostgreSQL as new files, since a plain VACUUM leaves the bytes of dead rows in their pages, and new statistics."""
    named = [db.engine.dialect.identifier_preparer.format_table(table) for table in _tables(db)]
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql(f"SET lock_timeout = {LOCK_MS}")
        try:
            for name in named:
                conn.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {name}")
        except sa.exc.OperationalError as error:
            raise _held(db) from error
        finally:
            conn.exec_driver_sql("RESET lock_timeout")


def _held(db: Database) -> Unavailable:
    return Unavailable(
        "the database is in use, so its pages cannot be written anew", where=db.engine.url.render_as_string(),
        remedy="it is tried again by itself; end what reads from it for minutes",
    )  # fmt: skip
