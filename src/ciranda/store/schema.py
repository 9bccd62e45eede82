"""The shape of the control database: one ordered list of migrations, forward only, each in one transaction.

A start on an empty database makes it; on an older one it backs the file up and brings it forward; on one that a newer Ciranda
made it refuses, since guessing would destroy what that version knows.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from ciranda.errors import Conflict
from ciranda.store import clock
from ciranda.store.database import Database

FOLDER = Path(__file__).parent / "migrations"
LOCK = 0x43495242


def migrate(database: Database) -> str:
    """Bring the database to this version's shape; returns the revision. Two at once: the second waits, then finds it done.

    Raises:
        Conflict: The database was made by a newer Ciranda.
    """
    head = ScriptDirectory(str(FOLDER)).get_current_head() or ""
    with database.reading() as conn:
        present = MigrationContext.configure(conn).get_current_revision()
    if present == head:
        return head
    if present is not None:
        _refuse_unknown(database, present)
        _back_up(database, present)
    with database.writing() as conn:
        if conn.dialect.name == "postgresql":
            conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        command.upgrade(_config(conn), "head")
    return head


def _config(conn: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = conn
    return config


def _refuse_unknown(database: Database, present: str) -> None:
    try:
        ScriptDirectory(str(FOLDER)).get_revision(present)
    except CommandError:
        raise Conflict(
            f"the control database has schema {present!r}, which this version of Ciranda does not know",
            where=database.engine.url.render_as_string(hide_password=True),
            remedy="start the newer Ciranda that made it (`pip install -U ciranda`; an unreleased one: its commit), restore the "
            "backup beside it, or begin with another home",
        ) from None


def _back_up(database: Database, present: str) -> None:
    """A whole copy of a SQLite file before it changes; PostgreSQL's own tools do that better."""
    if not database.is_sqlite or not database.engine.url.database:
        return
    with database.writing() as conn:  # nobody else writes while the file is copied
        conn.exec_driver_sql("SELECT 1")
        source = Path(database.engine.url.database)
        stamp = clock.iso().replace(":", "").replace(".", "")
        for suffix in ("", "-wal"):
            part = source.with_name(source.name + suffix)
            if part.exists():
                shutil.copy2(part, source.with_name(f"{source.name}.{present}.{stamp}.backup{suffix}"))
