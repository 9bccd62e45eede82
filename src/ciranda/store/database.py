"""The control database: SQLite in WAL mode on one machine, PostgreSQL when it is outgrown. Same tables, same migrations.

A writing transaction begins with `BEGIN IMMEDIATE` on SQLite: with the default deferred BEGIN most concurrent writers fail
with `database is locked`. Keep them short: never hold one across an HTTP call, a model call or a sleep.
Tables are declared by the module that writes them, on the `metadata` of this file; each table has one writer.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


BUSY_S = 30.0


def tune(connection: Any, _record: Any) -> None:
    """Set what durability and concurrency need on a new SQLite connection (a SQLAlchemy `connect` listener)."""
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_S * 1000:.0f}", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _write_ahead(cursor)
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Switch to the write-ahead log. SQLite waits for nobody at that, so of several first openers all but one would fail."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _own(connection: Any, _record: Any) -> None:
    """Hand transactions to us: pysqlite begins them too late."""
    connection.isolation_level = None


def _begin(connection: sa.Connection) -> None:
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


class Database:
    """One control database.

    Args:
        url: A SQLAlchemy URL, `sqlite:////path/ciranda.db` or `postgresql+psycopg://…`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = sa.create_engine(url, json_serializer=lambda value: json.dumps(value, sort_keys=True))
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _own)
            sa.event.listen(self.engine, "connect", tune)
            sa.event.listen(self.engine, "begin", _begin)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A short read-only transaction: one consistent view."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A short writing transaction: commits at the end, rolls back on any exception."""
        with self.engine.connect().execution_options(writing=True) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Give every connection back to the system."""
        self.engine.dispose()
