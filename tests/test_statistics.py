"""What fields hold, how new data is, and how it is found."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ciranda.config import Home
from ciranda.data import catalog, entries, erasure, freshness, reading, search, statistics, versions
from ciranda.data import descriptions as told
from ciranda.data.descriptions import Change
from ciranda.data.entries import Wanted
from ciranda.data.rows import Row
from ciranda.data.search import Text
from ciranda.monitor import alerts, staleness
from ciranda.store import clock
from ciranda.store.database import Database, metadata

ITSELF = reading.itself("viewing")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


@pytest.fixture
def db(home: Home) -> Database:
    made = Database(f"sqlite:///{home.database}")
    metadata.create_all(made.engine)
    return made


def rows(count: int) -> list[Row]:
    return [
        Row.of(
            f"question {n}", ("yes", "no")[n % 4 == 0], language=("en", "pt")[n % 2], subject=f"person-{n % 7}", thumb=n % 2,
            source="files", origin=f"f:{n}", extra={"tier": ("gold", "plain")[n % 3 == 0], "age": n % 50} if n % 2 else {},
        )
        for n in range(count)
    ]  # fmt: skip


def commit(db: Database, home: Home, made: list[Row], name: str = "tickets") -> str:
    return versions.commit(db, home, name, made, transformation={"kind": "test"}, actor="test").ref


def test_a_version_is_counted_once_field_by_field(db: Database, home: Home) -> None:
    ref = commit(db, home, rows(200))
    assert statistics.missing(db) == ref
    fields = {one.name: one for one in catalog.figures(db, home, ref, ITSELF) or ()}
    assert statistics.missing(db) is None
    assert statistics.hidden(statistics.of(db, ref) or (), {"subject"}) == tuple(fields.values()), (
        "by the default policy"
    )
    assert (fields["messages"].distinct, fields["messages"].exact, fields["messages"].empty) == (200, True, 0)
    assert fields["language"].top == (("en", 100), ("pt", 100))
    assert fields["completion"].top == (("yes", 150), ("no", 50))
    assert (fields["thumb"].empty, fields["thumb"].top) == (100, (("1", 100),))
    assert (fields["rejected"].empty, fields["rejected"].distinct) == (200, 0)
    assert (fields["extra.tier"].rows, fields["extra.tier"].empty) == (200, 100)
    assert fields["extra.age"].numbers == (1.0, 25.0, 49.0)
    assert fields["completion"].lengths is not None
    assert (fields["completion"].lengths.least, fields["completion"].lengths.most) == (2, 3)


def test_figures_name_nobody(db: Database, home: Home) -> None:
    ref = commit(db, home, [*rows(200), Row.of("q", "my CPF is 529.982.247-25")])
    text = json.dumps([one.to_dict() for one in catalog.figures(db, home, ref, ITSELF) or ()])
    assert "person-" not in text
    assert "529.982" not in text, "a value that fewer than five rows have"
    shown = {
        one.name: one
        for one in statistics.hidden(catalog.figures(db, home, ref, ITSELF) or (), {"extra.tier", "extra.age"})
    }
    assert (shown["extra.tier"].top, shown["extra.tier"].hidden, shown["extra.age"].numbers) == ((), True, None)
    with db.writing() as conn:
        statistics.forget(conn, "tickets")
    assert statistics.missing(db) == ref


def batches(values: list[str], size: int) -> list[pa.RecordBatch]:
    made = []
    for start in range(0, len(values), size):
        part = values[start : start + size]
        fixed = {name: [""] * len(part) for name in statistics.COLUMNS}
        given = {
            **fixed,
            "thumb": pa.array([0] * len(part), pa.int8()),
            "completion": part,
            "extra": ["{}"] * len(part),
        }
        made.append(pa.RecordBatch.from_pydict(given))
    return made


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=6), max_size=200), st.integers(1, 70))
def test_figures_do_not_depend_on_how_rows_are_batched(values: list[str], size: int) -> None:
    assert statistics.count(batches(values, size)) == statistics.count(batches(values, 1000))


def test_distinct_values_are_estimated_within_a_few_percent() -> None:
    values = [f"value {random.Random(n).random()}" for n in range(60_000)]
    (field,) = [one for one in statistics.count(batches(values, 5000)) if one.name == "completion"]
    assert not field.exact
    assert field.distinct == pytest.approx(60_000, rel=0.08)
    assert field.top == (), "nearly each value is another"


def test_data_goes_stale_is_told_once_and_is_fresh_again_with_new_rows(db: Database, home: Home) -> None:
    commit(db, home, rows(10))
    old = clock.iso(clock.now() - timedelta(hours=30))
    with db.writing() as conn:
        conn.execute(versions.dataset_versions.update().values(created_at=old))
        told.change(conn, "tickets", "", Change(every_s=86400.0), actor="ana")
        assert [name for name, _ in freshness.stale(conn)] == ["tickets"]
    staleness.tell(db)
    staleness.tell(db)
    with db.reading() as conn:
        (alert,) = conn.execute(sa.select(alerts.alerts)).mappings()
    assert (alert["kind"], alert["state"]) == ("stale", "open")
    assert entries.one(db, "tickets").freshness.state == "stale"
    commit(db, home, rows(12))
    staleness.tell(db)
    with db.reading() as conn:
        assert conn.execute(sa.select(alerts.alerts.c.state)).scalar() == "closed"
    assert entries.look(db, Wanted(state="stale"))[2] == 0


def test_words_are_found_without_accents_and_the_best_place_comes_first() -> None:
    documents = {
        "orders": [Text("name", "orders"), Text("description", "Pedidos de clientes, com endereço")],
        "clientes": [Text("name", "clientes"), Text("tag", "pii", "subject")],
        "weather": [Text("name", "weather"), Text("term", "Tempo clima", "extra.city")],
    }
    index = search.Index(documents)
    assert [hit.name for hit in index.find("cliente")] == ["clientes", "orders"]
    assert [hit.name for hit in index.find("ENDERECO clientes")] == ["orders"]
    assert index.find("clima")[0].why[0].field == "extra.city"
    assert index.find("order weather") == []
    assert index.find("") == []


def test_the_catalogue_is_narrowed_and_paged(db: Database, home: Home) -> None:
    for n in range(5):
        commit(db, home, rows(3 + n), name=f"set-{n}")
    with db.writing() as conn:
        told.change(conn, "set-1", "subject", Change(tags=["pii"], description="Quem escreveu"), actor="ana")
        told.change(conn, "set-3", "", Change(tags=["pii"], owner="ana"), actor="ana")
        told.change(conn, "planned", "", Change(owner="rui", description="Not here yet"), actor="ana")
    seen, after = [], None
    while True:
        found, after, total = entries.look(db, Wanted(), after=after, limit=2)
        seen += [one.name for one in found]
        if after is None:
            break
    assert (seen, total) == (["planned", "set-0", "set-1", "set-2", "set-3", "set-4"], 6)
    assert [one.name for one in entries.look(db, Wanted(tag="pii"))[0]] == ["set-1", "set-3"]
    assert [one.name for one in entries.look(db, Wanted(q="ana"))[0]] == ["set-3"]
    assert entries.look(db, Wanted(q="escreveu"))[0][0].why[0].field == "subject"
    assert [one.name for one in entries.look(db, Wanted(tag="pii"), reach={"set-3"})[0]] == ["set-3"]


def test_an_erasure_takes_the_figures_along(db: Database, home: Home) -> None:
    """Six rows of one person are enough to name a value; nothing of it stays."""
    theirs = [Row.of(f"q {n}", "rua das Laranjeiras 7", subject="ana") for n in range(6)]
    ref = commit(db, home, [*rows(20), *theirs])
    assert "Laranjeiras" in json.dumps([one.to_dict() for one in statistics.tell(db, home, ref)])
    erasure.erase(db, home, "erasure_1", erasure.Theirs(names=frozenset({"ana"})))
    assert statistics.of(db, ref) is None
    assert "Laranjeiras" not in json.dumps([one.to_dict() for one in statistics.tell(db, home, ref)])
