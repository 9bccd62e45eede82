"""What people say of data: descriptions, tags, terms; on SQLite and PostgreSQL, over REST and the command line."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import postgres
from ciranda.config import Home
from ciranda.data import catalog, descriptions, entries, fields, freshness, glossary, statistics, tags, versions
from ciranda.data.descriptions import Change
from ciranda.data.entries import Wanted
from ciranda.data.rows import Message, Row
from ciranda.errors import Conflict, Invalid, NotFound
from ciranda.evals import library
from ciranda.evals.cases import Case, Suite
from ciranda.govern import audit
from ciranda.store import schema
from ciranda.store.database import Database

NAMES = itertools.count()


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
    def db(self, url: str) -> Iterator[Database]:
        made = Database(url)
        schema.migrate(made)
        yield made
        made.close()

    def test_a_change_sets_what_it_names_and_is_audited(self, db: Database) -> None:
        with db.writing() as conn:
            descriptions.change(
                conn, "tickets", "", Change(owner="ana", licence="cc-by-4.0", every_s=3600), actor="ana"
            )
            descriptions.change(conn, "tickets", "", Change(sensitivity="personal", tags=["PII", "br"]), actor="rui")
            descriptions.change(conn, "tickets", "subject", Change(tags=["pii"], description="Who wrote"), actor="rui")
        said = catalog.said(db, "tickets")
        assert (said["owner"], said["licence"], said["sensitivity"], said["tags"]) == (
            "ana",
            "CC-BY-4.0",
            "personal",
            ["br", "pii"],
        )
        assert said["changed_by"] == "rui"
        assert said["fields"]["subject"]["tags"] == ["pii"]
        events = audit.page(db, subject="tickets")
        assert [event.action for event in events] == ["dataset.described"] * 3
        assert audit.verify(db).ok

    def test_a_term_is_found_by_its_synonyms_and_stays_while_it_is_used(self, db: Database) -> None:
        with db.writing() as conn:
            glossary.put(conn, "Customer", definition="Who pays us.", synonyms=["cliente", "Client"], actor="ana")
            descriptions.change(conn, "tickets", "extra.tier", Change(terms=["CLIENTE"]), actor="ana")
        with db.reading() as conn:
            assert glossary.get(conn, "client").term == "Customer"
            assert glossary.of_all(conn) == {"tickets": {"extra.tier": ("Customer",)}}
        with pytest.raises(Conflict, match=r"stands on tickets:extra\.tier"), db.writing() as conn:
            glossary.remove(conn, "customer", actor="ana")
        with pytest.raises(Conflict, match="already means 'Customer'"), db.writing() as conn:
            glossary.put(conn, "Cliente", definition="Someone else.", actor="ana")
        with db.writing() as conn:
            descriptions.change(conn, "tickets", "extra.tier", Change(terms=[]), actor="ana")
            glossary.remove(conn, "cliente", actor="ana")
            assert glossary.every(conn) == []

    def test_it_is_looked_through_alike_everywhere(self, db: Database, tmp_path: Path) -> None:
        home = Home(tmp_path / "home")
        home.make()
        for name in ("tickets", "invoices"):
            ref = versions.commit(db, home, name, [Row.of("a", name)], transformation={}, actor="test").ref
            statistics.tell(db, home, ref)
        with db.writing() as conn:
            descriptions.change(conn, "tickets", "", Change(owner="ana", every_s=60.0, tags=["br"]), actor="ana")
            assert freshness.stale(conn) == []
        found, following, total = entries.look(db, Wanted(q="ANA", state="fresh"), limit=1)
        assert ([one.name for one in found], following, total) == (["tickets"], None, 1)
        assert [one.name for one in entries.look(db, Wanted())[0]] == ["invoices", "tickets"]
        assert entries.look(db, Wanted(q="completion"))[2] == 2, "by the fields that hold something"
        assert statistics.missing(db) is None

    def test_tags_are_replaced_as_a_whole_and_counted_by_dataset(self, db: Database) -> None:
        with db.writing() as conn:
            tags.put(conn, "a", "", ["eu", "pii"])
            tags.put(conn, "a", "subject", ["pii"])
            tags.put(conn, "b", "messages", ["pii"])
            tags.put(conn, "a", "", ["eu"])
            assert tags.of(conn, "a") == {"": ("eu",), "subject": ("pii",)}
            assert tags.used(conn) == [("pii", 2), ("eu", 1)]

    def test_what_cannot_be_is_refused_and_nothing_is_kept(self, db: Database) -> None:
        wrong = [
            ("tickets", "nowhere", Change(description="x")),
            ("tickets", "subject", Change(owner="ana")),
            ("tickets", "", Change(licence="free for friends")),
            ("tickets", "", Change(tags=["two words"])),
            ("tickets", "", Change(sensitivity="secret")),
            ("No Such", "", Change(owner="ana")),
        ]
        for dataset, field, change in wrong:
            with pytest.raises(Invalid) as told, db.writing() as conn:
                descriptions.change(conn, dataset, field, change, actor="ana")
            assert told.value.remedy
        with pytest.raises(NotFound), db.writing() as conn:
            descriptions.change(conn, "tickets", "", Change(owner="ana", terms=["unheard"]), actor="ana")
        assert catalog.said(db, "tickets")["owner"] == ""
        assert audit.page(db) == []


class TestSqlite(Contract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/ciranda.db"


def test_suites_that_are_registered_at_once_get_numbers_of_their_own(server: str, tmp_path: Path) -> None:
    """On PostgreSQL writers are not alone: five suites of one name, the last of them twice."""
    db, home = Database(postgres.fresh(server, f"suites{next(NAMES)}")), Home(tmp_path)
    home.make()
    schema.migrate(db)
    cases = [*range(5), 4]
    barrier = threading.Barrier(len(cases))

    def one(number: int) -> library.SuiteVersion:
        barrier.wait(20)
        asked = Suite("routing", (Case("c", (Message("user", f"question {number}"),), "yes"),))
        return library.register(db, home, asked, actor="ana")

    with ThreadPoolExecutor(len(cases)) as pool:
        made = list(pool.map(one, cases))
    assert {one.number for one in made} == set(range(1, len({one.number for one in made}) + 1))
    assert len({one.digest for one in made}) == 5
    with db.reading() as conn:
        assert library.find(conn, "routing").number == len({one.ref for one in made})
    db.close()


class TestPostgresql(Contract):
    @pytest.fixture
    def url(self, server: str) -> str:
        return postgres.fresh(server, f"catalogue{next(NAMES)}")


@pytest.mark.parametrize("name", ["", "messages", "rejected", "tags", "extra.região", "extra.tier.1"])
def test_fields_are_those_of_rows(name: str) -> None:
    assert fields.field(name) == name


@pytest.mark.parametrize("name", ["Messages", "extra.", "extra. a", "extra.a/b", "prompt", "x" * 200])
def test_other_fields_are_refused(name: str) -> None:
    with pytest.raises(Invalid, match="no field"):
        fields.field(name)
