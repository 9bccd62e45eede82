"""The control database's shape, on SQLite and on PostgreSQL: made, compared with what the modules declare, guarded, refused."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import pkgutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import ciranda
import postgres
from ciranda.errors import Conflict
from ciranda.govern import audit
from ciranda.store import schema
from ciranda.store.database import Database, metadata

NAMES = itertools.count()
HEAVY = ("ciranda.engines", "ciranda.web", "ciranda.cli", "ciranda.store.migrations")


@pytest.fixture(scope="module", autouse=True)
def every_table() -> None:
    """Import whatever declares a table."""
    for module in pkgutil.walk_packages(ciranda.__path__, "ciranda."):
        if not module.name.startswith(HEAVY) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


class Contract:
    """What holds on every kind of database."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def database(self, url: str) -> Iterator[Database]:
        database = Database(url)
        yield database
        database.close()

    def test_a_fresh_database_has_every_table_and_the_newest_revision(self, database: Database) -> None:
        head = schema.migrate(database)
        assert head == ScriptDirectory(str(schema.FOLDER)).get_current_head()
        assert set(metadata.tables) < set(sa.inspect(database.engine).get_table_names())
        assert schema.migrate(database) == head

    def test_the_migrations_make_exactly_what_the_modules_declare(self, database: Database) -> None:
        """A table, column, index or constraint that was changed without a migration is named here."""
        schema.migrate(database)
        with database.reading() as conn:
            context = MigrationContext.configure(conn, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []

    def test_the_audit_log_refuses_to_be_edited_even_by_its_owner(self, database: Database) -> None:
        schema.migrate(database)
        with database.writing() as conn:
            audit.record(conn, actor="test", action="thing.made", subject="thing")
        table = audit.audit_events
        for statement in (table.update().values(actor="somebody else"), table.delete()):
            with pytest.raises(sa.exc.DatabaseError, match="append-only"), database.writing() as conn:
                conn.execute(statement)
        assert audit.verify(database) == audit.Verification(True, 1, audit.page(database)[0].hash)

    def test_a_newer_shape_is_refused_with_what_to_do_and_left_alone(self, database: Database) -> None:
        schema.migrate(database)
        with database.writing() as conn:
            conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(Conflict, match="schema '9999'") as refused:
            schema.migrate(database)
        assert "start the newer Ciranda" in refused.value.remedy
        with database.reading() as conn:
            assert MigrationContext.configure(conn).get_current_revision() == "9999"

    def test_a_migration_that_breaks_in_the_middle_leaves_nothing_and_the_next_start_succeeds(
        self, database: Database
    ) -> None:
        made = itertools.count()

        def break_down(*arguments: object) -> None:
            if "CREATE TABLE" in str(arguments[2]) and next(made) == 7:
                raise KeyboardInterrupt

        sa.event.listen(database.engine, "before_cursor_execute", break_down)
        with pytest.raises(KeyboardInterrupt):
            schema.migrate(database)
        sa.event.remove(database.engine, "before_cursor_execute", break_down)
        assert sa.inspect(database.engine).get_table_names() == []
        schema.migrate(database)
        assert set(metadata.tables) < set(sa.inspect(database.engine).get_table_names())

    def test_of_several_that_start_at_once_one_makes_the_tables_and_all_find_them(self, url: str) -> None:
        databases, found = [Database(url) for _ in range(4)], []
        threads = [threading.Thread(target=lambda one=one: found.append(schema.migrate(one))) for one in databases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(found)) == 1
        for database in databases:
            database.close()

    def test_many_writers_make_one_chain(self, database: Database) -> None:
        schema.migrate(database)

        def write(name: str) -> None:
            for number in range(10):
                with database.writing() as conn:
                    audit.record(conn, actor=name, action="thing.made", subject=str(number))

        threads = [threading.Thread(target=write, args=(f"writer-{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = audit.verify(database)
        assert (found.ok, found.events, found.problem) == (True, 40, "")


class TestSqlite(Contract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/ciranda.db"

    def test_an_older_database_is_copied_before_it_changes(
        self, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = schema.migrate(database)
        monkeypatch.setattr(ScriptDirectory, "get_current_head", lambda _: "0002-of-tomorrow")
        monkeypatch.setattr(schema.command, "upgrade", lambda *_: None)
        schema.migrate(database)
        (copy,) = tmp_path.glob(f"ciranda.db.{made}.*.backup")
        kept = Database(f"sqlite:///{copy}")
        with kept.reading() as conn:
            assert MigrationContext.configure(conn).get_current_revision() == made
        kept.close()


def test_before_the_first_release_another_shape_is_another_revision() -> None:
    """The first migration is made anew then, so a home of an older commit must be refused, not half understood."""
    shape = "\n".join(str(sa.schema.CreateTable(metadata.tables[name])) for name in sorted(metadata.tables))
    digest = hashlib.sha256(shape.encode()).hexdigest()[:8]
    assert ScriptDirectory(str(schema.FOLDER)).get_current_head() == f"0001_{digest}", "give it this revision"


class TestPostgresql(Contract):
    @pytest.fixture
    def url(self, server: str) -> str:
        return postgres.fresh(server, f"test{next(NAMES)}")
