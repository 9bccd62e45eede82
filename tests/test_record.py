"""The record's shape: one definition for code, tables and docs; older stores are brought up to date, newer ones left alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from ciranda.errors import Conflict
from ciranda.gateway.noting import Notes
from ciranda.gateway.record import Record
from ciranda.interactions import rows, schema, upgrade
from ciranda.interactions.ingestion import Ingestion
from ciranda.interactions.intake import PATIENCE_MS
from ciranda.interactions.rollups import VIEWS
from ciranda.interactions.sink import Sink
from ciranda.interactions.spool import INTERACTION
from ciranda.interactions.sql import CLOCKS_APART_MS
from ciranda.interactions.table import Feedback, Interaction, Score
from ciranda.interactions.upgrade import Layout
from ciranda.store import clock, ids
from recorded import Recorded, answered, asked, opinion, record

DOC = Path(__file__).parent.parent / "docs" / "interactions.md"
MADE_BY_THE_COLLECTOR = {"sequence", "request", "response", "input_text", "output_text"}


def present() -> int:
    """A minute ago, near the moment that new ids carry, however long after the start of the suite a test's turn comes."""
    return clock.now_ms() - 60_000


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    store = Sink.embedded(tmp_path / "chdb")
    yield store
    store.close()


def stepped(world: Recorded, store: Sink) -> None:
    """Take in what is spooled, in this process."""
    ingestion = Ingestion(world.home.spool, world.home.interactions, store=store, database=world.database)
    while ingestion.step().frames:
        pass


# One definition


@pytest.mark.parametrize("table", upgrade.TABLES, ids=lambda table: table.name)
def test_the_table_and_its_page_are_what_the_code_says(sink: Sink, table: schema.Table) -> None:
    found = sink.rows(
        "SELECT name, type, comment FROM system.columns"
        " WHERE database = currentDatabase() AND table = {table:String} ORDER BY position",
        {"table": table.name},
    )
    assert [(row["name"], row["comment"]) for row in found] == [(one.name, one.meaning) for one in table.columns]
    page = DOC.read_text().split(f"\n## {table.name}\n", 1)[1].split("\n## ", 1)[0]
    for column, row in zip(table.columns, found, strict=True):
        assert row["type"].replace(" ", "") == column.type.replace(" ", "")
        assert f"| `{column.name}` | `{column.type}` | {column.unit} | {column.meaning} |" in page
        assert column.meaning


def test_rows_and_values_have_the_fields_of_their_tables() -> None:
    spooled = set(schema.INTERACTIONS.keys) - MADE_BY_THE_COLLECTOR
    assert {one.name for one in msgspec.structs.fields(rows.InteractionMeta)} == spooled
    assert {one.name for one in msgspec.structs.fields(Record)} <= spooled
    assert tuple(one.name for one in fields(Interaction))[:-2] == schema.INTERACTIONS.keys
    assert tuple(one.name for one in fields(Feedback)) == schema.FEEDBACK.keys
    assert {one.name for one in fields(Score)} == set(schema.SCORES.keys)


def test_what_the_gateway_notes_is_what_it_stores() -> None:
    notes = Notes("an id", 1, "a tenant", "a key")
    told = {"id": "an id", "ts_ms": 1, "tenant": "a tenant", "key": "a key"}
    for number, name in enumerate(Record.__struct_fields__[4:]):
        value = {int: number + 1, float: number + 0.5}.get(type(getattr(notes, name)), f"the {name}")
        told[name] = 0.25 if name == "cost" else value
        setattr(notes, name, told[name])
    assert msgspec.json.decode(notes.encoded()) == told
    assert b"trace_id" not in Notes("an id", 1, "a tenant", "a key").encoded(), "what is as always is left out"


def test_times_and_amounts_name_their_unit() -> None:
    for table in upgrade.TABLES:
        for column in table.columns:
            if column.name.endswith(("_ms", "_tokens", "ts", "start", "cost")):
                assert column.unit, f"{table.name}.{column.name}"


# Roll-ups


def votes(sink: Sink, model: str) -> list[tuple[str, int, int]]:
    found = sink.rows(
        "SELECT version, sum(m.thumbs_up) AS up, sum(m.thumbs_down) AS down FROM minutes AS m"
        " WHERE model = {model:String} GROUP BY version ORDER BY version",
        {"model": model},
    )
    return [(row["version"], row["up"], row["down"]) for row in found]


def test_a_vote_that_is_changed_counts_once(tmp_path: Path, sink: Sink) -> None:
    world, start = Recorded(tmp_path / "home"), present()
    writer = world.writer()
    fickle, steady = (record(writer, model="v", version=f"v@{number}", ts_ms=start) for number in (1, 2))
    opinion(writer, fickle, thumb=1, ts_ms=start + 1)
    opinion(writer, steady, thumb=1, ts_ms=start + 1)
    stepped(world, sink)
    assert votes(sink, "v") == [("v@1", 1, 0), ("v@2", 1, 0)]
    opinion(writer, fickle, thumb=-1, ts_ms=start + 9)
    opinion(writer, fickle, thumb=-1, ts_ms=start + 10)
    opinion(writer, fickle, thumb=0, ts_ms=start + 11, comment="hm")
    stepped(world, sink)
    assert votes(sink, "v") == [("v@1", 0, 1), ("v@2", 1, 0)]
    opinion(writer, fickle, thumb=1, ts_ms=start + 5)  # was given before, comes late
    stepped(world, sink)
    assert votes(sink, "v") == [("v@1", 0, 1), ("v@2", 1, 0)]
    opinion(writer, fickle, thumb=1, ts_ms=start + 20)
    opinion(writer, fickle, thumb=-1, ts_ms=start + 21)
    opinion(writer, fickle, thumb=1, ts_ms=start + 22)
    stepped(world, sink)
    assert votes(sink, "v") == [("v@1", 1, 0), ("v@2", 1, 0)]
    world.close()


def test_a_vote_on_an_answer_that_is_not_where_its_id_says_is_counted_late(
    tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector knows by heart what it took in since its start; else it looks around the moment in the id, at last everywhere."""
    world = Recorded(tmp_path / "home")
    writer = world.writer()
    moved = record(writer, model="v", version="v@1", ts_ms=clock.now_ms() - CLOCKS_APART_MS - 60_000)
    stepped(world, sink)
    record(writer, model="w", version="w@1")  # a collector that starts reads its last batch again
    stepped(world, sink)
    opinion(writer, moved, thumb=1)
    stepped(world, sink)
    assert votes(sink, "v") == [("v@1", 0, 0)]
    later = clock.now_ms() + PATIENCE_MS
    monkeypatch.setattr(clock, "now_ms", lambda: later)
    stepped(world, sink)
    assert votes(sink, "v") == [("v@1", 1, 0)]
    world.close()


def test_an_interaction_that_comes_again_is_kept_once(tmp_path: Path, sink: Sink) -> None:
    """A trace that its exporter sends again has the same id and time; the collector may have been restarted meanwhile."""
    world, start = Recorded(tmp_path / "home"), present()
    known = str(ids.uuid7())
    for _ in range(3):
        writer = world.writer()
        for identifier in ("trace-1", known):
            meta = {"id": identifier, "ts_ms": start, "model": "twice", "version": "twice@1"}
            writer.append(INTERACTION, meta, asked("a"), answered("b"))
            if identifier == "trace-1":
                writer.append(INTERACTION, meta, asked("a"), answered("b"))
        writer.seal()
        if identifier == known:
            stepped(world, sink)
            known = str(ids.uuid7())  # the gateway never gives an id twice
    (found,) = sink.rows("SELECT countIf(id = 'trace-1') AS traces, count() AS n FROM interactions", {})
    assert found == {"traces": 1, "n": 4}
    (rolled,) = sink.rows("SELECT sum(requests) AS n FROM minutes", {})
    assert rolled["n"] == 4
    world.close()


# Shapes of the store

FIRST = (Path(__file__).parent / "data" / "store_1.sql").read_text()


def test_a_store_of_the_first_shape_is_brought_up_to_date(tmp_path: Path) -> None:
    client = bare(tmp_path / "chdb")
    for statement in FIRST.split(";\n"):
        client.command(statement)
    client.close()
    for _ in range(2):  # a second start changes nothing
        store = Sink.embedded(tmp_path / "chdb")
        assert store.rows("SELECT max(version) AS n FROM store_versions", {}) == [{"n": upgrade.VERSION}]
        assert votes(store, "m") == [("m@1", 1, 1)]
        (sums,) = store.rows("SELECT sum(requests) AS n, sum(errors) AS bad, sum(prompt_tokens) AS t FROM hours", {})
        assert sums == {"n": 3, "bad": 1, "t": 30}
        columns = store.rows("SELECT name FROM system.columns WHERE table = 'feedback' AND name LIKE 'thumbs%'", {})
        assert len(columns) == 2
        store.close()


def test_an_upgrade_that_dies_anywhere_is_repeated(tmp_path: Path) -> None:
    client = bare(tmp_path / "chdb")
    steps = 1 << 30
    crash_at = 0
    while crash_at <= steps:
        client.command("DROP DATABASE IF EXISTS again SYNC")
        client.command("CREATE DATABASE again")
        client.command("USE again")
        for statement in FIRST.split(";\n"):
            client.command(statement)
        done: list[str] = []

        def run(sql: str, at: int = crash_at, done: list[str] = done) -> None:
            if len(done) + 1 == at:
                raise KeyboardInterrupt
            client.command(sql)
            done.append(sql)

        def ask(sql: str) -> list[dict[str, object]]:
            return list(client.query(sql).named_results())

        try:
            upgrade.prepare(run, ask, Layout())
        except KeyboardInterrupt:
            upgrade.prepare(client.command, ask, Layout())
        steps = len(done) if crash_at == 0 else steps
        (sums,) = ask("SELECT sum(requests) AS n, sum(thumbs_up) AS up, sum(thumbs_down) AS down FROM minutes")
        assert sums == {"n": 3, "up": 1, "down": 1}, f"crash at {crash_at}"
        assert {row["name"] for row in ask("SHOW TABLES")} >= {view.name for view in VIEWS}
        crash_at += 6 if crash_at else 1
    client.close()


def test_a_store_of_a_newer_ciranda_is_refused_and_left_alone(tmp_path: Path) -> None:
    world = Recorded(tmp_path / "home")
    store = Sink.embedded(world.home.interactions / "chdb")
    store.run(f"INSERT INTO store_versions (version, ts) VALUES ({upgrade.VERSION + 1}, now64(3))")
    store.close()
    with pytest.raises(Conflict, match=f"has the shape {upgrade.VERSION + 1}") as raised:
        Sink.embedded(world.home.interactions / "chdb")
    assert "install the Ciranda that wrote it" in raised.value.remedy
    refused = subprocess.run(world.command(), capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 5
    assert "do: install the Ciranda that wrote it" in refused.stderr
    world.close()


def test_a_field_that_is_new_reaches_a_store_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Sink.embedded(tmp_path / "chdb").close()
    more = schema.Table(
        **{
            **{one.name: getattr(schema.EVENTS, one.name) for one in fields(schema.EVENTS)},
            "columns": (*schema.EVENTS.columns, schema.Column("mood", schema.NAME, "it's new")),
            "indexes": (schema.Index("by_mood", "mood", "bloom_filter(0.01)"),),
        }
    )
    monkeypatch.setattr(upgrade, "TABLES", tuple(more if one.name == "events" else one for one in upgrade.TABLES))
    store = Sink.embedded(tmp_path / "chdb")
    (found,) = store.rows("SELECT comment FROM system.columns WHERE table = 'events' AND name = 'mood'", {})
    assert found == {"comment": "it's new"}
    store.close()


def test_a_cluster_gets_replicated_tables() -> None:
    made = Layout("prod").create(schema.INTERACTIONS)
    assert "interactions ON CLUSTER `prod` (" in made
    assert "ENGINE = ReplicatedMergeTree" in made
    assert " replicated_deduplication_window = 10000" in made
    assert "ON CLUSTER `prod` TO minutes AS" in Layout("prod").view(VIEWS[0])
    alone = Layout().create(schema.INTERACTIONS)
    assert "Replicated" not in alone
    assert "ON CLUSTER" not in alone


def bare(folder: Path):  # type: ignore[no-untyped-def]
    """The engine, as nothing of ours has prepared it."""
    import clickhouse_connect

    from ciranda.interactions.sink import ENGINE_OPTIONS

    folder.mkdir(parents=True, exist_ok=True)
    return clickhouse_connect.get_client(interface="chdb", path=str(folder.resolve()), chdb_options=ENGINE_OPTIONS)
