"""Rows of an SQL database, streamed, from the cursor on.

The question is `SELECT * FROM table (or your query) WHERE cursor >= value less the lag ORDER BY cursor`: equal values are
read again, so that a row that was written late at the same moment is not missed, and a row that comes again takes the place
of its old one by its key. The session only reads. The address is checked like a webhook's; SQLite files lie below the data
root, outside of the home."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.config.source import Source, Sql
from ciranda.data.sources import cursors
from ciranda.data.sources.found import BEGINNING, Desk, Item
from ciranda.data.sources.mapping import written
from ciranda.data.sources.pages import secret
from ciranda.errors import Failed, Invalid, Refused, Unavailable
from ciranda.govern import outgoing

BATCH = 1000
ATTEMPTS, PAUSE_S = 4, 0.5
READ_ONLY = {"postgresql": "SET TRANSACTION READ ONLY", "sqlite": "PRAGMA query_only = ON"}
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}


def items(source: Source, desk: Desk) -> Iterator[Item]:
    """Every row from the cursor on, in its order."""
    assert source.sql is not None
    engine = sa.create_engine(_url(source.sql, desk), poolclass=sa.NullPool)
    try:
        with _connected(engine, desk) as conn:
            yield from _rows(source, desk, conn)
    except sa.exc.OperationalError as error:
        raise Unavailable(_said(error), where=desk.label, remedy="it is tried again when the source is due") from error
    except (sa.exc.DBAPIError, sa.exc.SQLAlchemyError) as error:
        raise Failed(_said(error), where=desk.label, remedy="correct `table`, `query` or `cursor`") from error
    finally:
        engine.dispose()


def _rows(source: Source, desk: Desk, conn: sa.Connection) -> Iterator[Item]:
    assert source.sql is not None
    if statement := READ_ONLY.get(conn.dialect.name):
        conn.execute(sa.text(statement))
    name, keys = source.sql.table or "query", _keys(source, conn)
    greatest = cursors.value_of(desk.cursor)
    streamed = conn.execution_options(stream_results=True, yield_per=BATCH)
    for row in streamed.execute(_question(source, desk)).mappings():
        record = dict(row)
        value = _cursor_in(record, source.cursor, desk.label)
        greatest = cursors.later(greatest, value)
        size = sum(len(one) if isinstance(one, str | bytes) else 8 for one in record.values())
        desk.tally.add(size=size)
        yield Item(f"{name}/{_identity(record, keys)}", record, value)
    desk.place.cursor = cursors.written(greatest)


def _question(source: Source, desk: Desk) -> sa.Select[Any]:
    assert source.sql is not None
    sql, window = source.sql, desk.window
    if sql.table:
        schema, _, table = sql.table.rpartition(".")
        asked = sa.select(sa.text("*")).select_from(sa.table(table, schema=schema or None))
    else:
        asked = sa.select(sa.text("*")).select_from(sa.text(f"({(sql.query or '').rstrip().rstrip(';')}) AS asked"))
    if not source.cursor:
        return asked
    column: sa.ColumnClause[Any] = sa.column(source.cursor)
    like = cursors.value_of(desk.cursor)
    start = cursors.before(like, source.lag)
    if window.since:
        start = None if window.since == BEGINNING else cursors.given(window.since, like)
    if start is not None:
        asked = asked.where(column >= start)
    if window.until:
        asked = asked.where(column < cursors.given(window.until, like))
    return asked.order_by(column)


def _keys(source: Source, conn: sa.Connection) -> list[str]:
    """The columns that name a row: as told, else the table's primary key."""
    assert source.sql is not None
    if source.id:
        return [source.id]
    if not source.sql.table:
        return []
    schema, _, table = source.sql.table.rpartition(".")
    try:
        return list(sa.inspect(conn).get_pk_constraint(table, schema=schema or None)["constrained_columns"] or [])
    except sa.exc.NoSuchTableError as error:
        raise Invalid(
            f"there is no table {source.sql.table!r}", where="data: sources: sql: table", remedy="correct its name"
        ) from error


def _identity(record: dict[str, Any], keys: list[str]) -> str:
    """A row's name in its table; of one without a key, its content."""
    if keys and all(record.get(key) is not None for key in keys):
        return ",".join(str(record[key]) for key in keys)
    return hashlib.sha256(written(record).encode()).hexdigest()[:16]


def _cursor_in(record: dict[str, Any], name: str | None, where: str) -> Any:
    if name is None:
        return None
    if name not in record:
        raise Invalid(
            f"there is no column {name!r}", where=where, remedy=f"`cursor` is one of {', '.join(list(record)[:20])}"
        )
    return record[name]


def _connected(engine: sa.Engine, desk: Desk) -> sa.Connection:
    """A connection; a database that is away is tried again with growing pauses."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return engine.connect()
        except sa.exc.OperationalError:
            time.sleep(PAUSE_S * 2**attempt)
    return engine.connect()


def _url(sql: Sql, desk: Desk) -> sa.URL:
    """The database's address, once it is one that may be called."""
    try:
        url = sa.make_url(secret(sql.url, desk.label))
        dialect = url.get_backend_name()
        url.get_dialect()
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise Invalid(
            f"{sql.url} holds no URL of a database",
            where=desk.label,
            remedy="write postgresql+psycopg://user:…@host/db",
        ) from error
    except ImportError as error:
        raise Unavailable(f"its driver is not here: {error}", where=desk.label, remedy="install the driver") from error
    if dialect == "sqlite":
        return _confined(url, desk)
    if url.host and not url.host.startswith("/"):
        port = url.port or PORTS.get(dialect, 0)
        outgoing.address_of(url.host, port, allow_private=desk.inputs.door.opens(url.host, port), where=desk.label)
    elif not desk.inputs.door.private:
        raise Refused(
            "the database is on this machine", where=desk.label, remedy="set allow_private_addresses in config.toml"
        )
    return url


def _confined(url: sa.URL, desk: Desk) -> sa.URL:
    file = Path(url.database or "").resolve()
    inside = desk.inputs.scratch.parent.resolve()
    if not file.is_relative_to(desk.inputs.root.resolve()) or file.is_relative_to(inside) or not file.is_file():
        raise Refused(
            "the SQLite file is not below the data root, or is in the home", where=desk.label,
            remedy=f"move it below {desk.inputs.root}, or set `data_root` in config.toml",
        )  # fmt: skip
    return sa.URL.create("sqlite", database=f"file:{file}", query={"mode": "ro", "uri": "true"})


def _said(error: Exception) -> str:
    """What the driver said, in a line, without the statement and its values."""
    told = str(getattr(error, "orig", None) or error).strip().splitlines()
    return f"the database says: {told[0][:300] if told else type(error).__name__}"
