"""Sources of every kind against the real thing: an HTTP server with pages, PostgreSQL, folders that change, real questions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import postgres
from ciranda.config.model import Data, ModelSpec, Serve, Watch, read_dataset
from ciranda.config.source import Source
from ciranda.data import sources, versions
from ciranda.data.columns import BATCH_ROWS
from ciranda.data.rows import Row
from ciranda.data.sources import Inputs, quarantine, runs, schedule
from ciranda.data.sources.fields import Fields, said
from ciranda.data.sources.heap import Heap
from ciranda.errors import Conflict, Failed, Invalid, Refused, Unavailable
from ciranda.govern import audit
from ciranda.govern.outgoing import Door
from ciranda.loop import intake as intake_of
from ciranda.loop import turns
from ciranda.loop.intake import Intake
from ciranda.registry import models
from ciranda.store import clock
from feeding import Api, Front, World, finance, line, paged, served, settled, since, source, world

__all__ = ["world"]
MAP = {"prompt": "question", "completion": "answer", "group": "=fiqa"}


@pytest.fixture
def api() -> Iterator[Api]:
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture
def base(server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Engine]:
    url = postgres.fresh(server, f"t{abs(hash(request.node.name)) % 10**9}")
    monkeypatch.setenv("TICKETS_DB", url)
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


# --- pages ------------------------------------------------------------------------------------------------------------


def test_real_questions_come_over_http_by_links_in_the_body(world: World, api: Api) -> None:
    pages = paged(finance(), 100)

    def answer(path: str, query: dict[str, str], headers: Any) -> Any:
        number = int(query.get("page", 1))
        following = f"/v1/questions?page={number + 1}" if number < len(pages) else None
        return 200, {}, {"data": {"items": pages[number - 1]}, "links": {"next": following}}

    api.answer = answer
    wanted = source(
        http={"url": f"{api.url}/v1/questions", "items": "data.items", "paging": {"kind": "link", "at": "links.next"}},
        id="id", map=MAP,
    )  # fmt: skip
    version = world.ingest(wanted)
    assert (version.rows, len(api.asked)) == (len({one["question"] + one["answer"] for one in finance()}), 7)
    run = world.last()
    assert (run["state"], run["rows_in"], run["rows_kept"], run["pages"]) == ("done", 648, version.rows, 7)
    assert run["bytes"] > 100_000
    row = next(row for row in world.rows() if row.prompt == finance()[17]["question"])
    assert row.origin == f"{api.url}/v1/questions#17"
    assert row.source == f"http: {api.url}/v1/questions"
    assert row.extra == {"id": 17}


PAGINGS = {
    "page": {"kind": "page", "size": 10, "size_param": "per_page"},
    "offset": {"kind": "offset", "size": 10},
    "cursor": {"kind": "cursor", "at": "next"},
    "header": {"kind": "header"},
}


@pytest.mark.parametrize("kind", PAGINGS)
def test_every_way_of_paging_brings_every_record_once(world: World, api: Api, kind: str) -> None:
    records = [{"prompt": f"q{n}", "completion": f"a{n}"} for n in range(35)]

    def answer(path: str, query: dict[str, str], headers: Any) -> Any:
        if kind == "page":
            start, size = (int(query["page"]) - 1) * int(query["per_page"]), int(query["per_page"])
        else:
            start, size = int(query.get("offset", query.get("cursor", query.get("at", 0)))), 10
        end, told = start + size, {}
        if kind == "header" and end < len(records):
            told = {"link": f'<{api.url}/all?at={end}>; rel="next"'}
        return 200, told, {"items": records[start:end], "next": end if end < len(records) else None}

    api.answer = answer
    world.ingest(source(http={"url": f"{api.url}/all", "items": "items", "paging": PAGINGS[kind]}))
    assert len(world.said()) == 35
    assert len(api.asked) == 4


def test_only_what_is_new_is_asked_for_and_a_record_that_comes_again_replaces_its_row(world: World, api: Api) -> None:
    records = [
        {"id": n, "prompt": f"q{n}", "completion": "first", "at": f"2026-01-{n:02d}T00:00:00Z"} for n in range(1, 9)
    ]
    api.answer = lambda path, query, headers: (
        200, {}, [one for one in records if one["at"] >= query.get("updated_after", "")]
    )  # fmt: skip
    wanted = source(http={"url": f"{api.url}/t", "since": "updated_after"}, id="id", cursor="at", lag="2d")
    world.ingest(wanted)
    records[7] |= {"completion": "second"}
    records.append({"id": 6, "prompt": "q6", "completion": "late", "at": "2026-01-07T12:00:00Z"})
    records.append({"id": 9, "prompt": "q9", "completion": "new", "at": "2026-01-09T00:00:00Z"})
    version = world.ingest(wanted)
    assert api.asked[-1][1] == {"updated_after": "2026-01-06T00:00:00Z"}
    assert version.rows == 9
    assert {name: world.said()[name] for name in ("q1", "q6", "q8", "q9")} == {
        "q1": "first", "q6": "late", "q8": "second", "q9": "new",
    }  # fmt: skip
    run = world.last()
    assert (run["cursor_before"], run["cursor"]) == (
        '{"text": "2026-01-08T00:00:00Z"}',
        '{"text": "2026-01-09T00:00:00Z"}',
    )
    before = len(sources.history(world.db, "d"))
    assert world.ingest(wanted).ref == version.ref
    assert world.ingest(wanted, lazy=True).ref == version.ref
    assert world.ingest(wanted, lazy=True).ref == version.ref
    assert [one["state"] for one in sources.history(world.db, "d", limit=2)] == ["unchanged", "done"]
    assert len(sources.history(world.db, "d")) == before + 2


def test_a_back_fill_reads_a_stretch_again_and_never_moves_the_cursor_back(world: World, api: Api) -> None:
    records = [{"id": n, "prompt": f"q{n}", "completion": "first", "at": f"2026-01-{n:02d}"} for n in range(1, 9)]
    api.answer = lambda path, query, headers: (200, {}, [one for one in records if one["at"] >= query.get("since", "")])
    wanted = source(http={"url": f"{api.url}/t", "since": "since"}, id="id", cursor="at")
    world.ingest(wanted)
    for one in records:
        one["completion"] = "again"
    world.ingest(wanted, window=since("2026-01-03", "2026-01-05"))
    assert sorted(name for name, completion in world.said().items() if completion == "again") == ["q3", "q4"]
    assert world.last()["cursor"] == '{"text": "2026-01-08"}'
    world.ingest(wanted, window=since("beginning"))
    assert set(world.said().values()) == {"again"}
    assert api.asked[-1][1] == {}


def test_what_passes_by_itself_is_tried_again_and_what_does_not_is_told(world: World, api: Api) -> None:
    statuses = [503, 429, 200]
    api.answer = lambda path, query, headers: (
        statuses.pop(0), {"retry-after": "0"}, [{"prompt": "q", "completion": "a"}]
    )  # fmt: skip
    assert world.ingest(source(http={"url": f"{api.url}/busy"})).rows == 1
    api.answer = lambda path, query, headers: (401, {}, {})
    with pytest.raises(Failed, match="401"):
        world.ingest(source(http={"url": f"{api.url}/closed"}))
    assert world.last()["error"]["remedy"] == "check the secret that `auth` refers to"
    api.answer = lambda path, query, headers: (302, {"location": "http://evil.example/"}, b"")
    with pytest.raises(Refused, match=r"leads on to http://evil\.example/"):
        world.ingest(source(http={"url": f"{api.url}/moved"}))
    api.answer = lambda path, query, headers: (200, {}, {"next": "http://evil.example/2", "items": [{"prompt": "q"}]})
    with pytest.raises(Refused, match="another host"):
        world.ingest(
            source(http={"url": f"{api.url}/away", "items": "items", "paging": {"kind": "link", "at": "next"}})
        )
    assert versions.get(world.db, "d").number == 1


def test_the_secret_goes_into_the_header_and_into_nothing_else(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "s3cr3t-word")
    heard: list[str] = []

    def answer(path: str, query: dict[str, str], headers: Any) -> Any:
        heard.append(headers.get("authorization", "") + query.get("key", ""))
        return 200, {}, [{"prompt": "q", "completion": "a"}]

    api.answer = answer
    world.ingest(source(http={"url": f"{api.url}/a", "auth": {"bearer": "env:API_TOKEN"}}))
    world.ingest(source(http={"url": f"{api.url}/b", "auth": {"param": "key", "secret": "env:API_TOKEN"}}))
    assert heard == ["Bearer s3cr3t-word", "s3cr3t-word"]
    world.db.engine.dispose()
    assert b"s3cr3t-word" not in b"".join(path.read_bytes() for path in world.root.rglob("*") if path.is_file())
    with pytest.raises(Unavailable, match="no secret at env:NOBODY"):
        world.ingest(source(http={"url": f"{api.url}/c", "auth": {"bearer": "env:NOBODY"}}))


def test_a_private_address_is_refused_unless_the_operator_lets_it_through(world: World, api: Api) -> None:
    api.answer = lambda path, query, headers: (200, {}, [{"prompt": "q", "completion": "a"}])
    wanted = source(http={"url": f"{api.url}/a"})
    closed = Inputs(root=world.root, scratch=world.home.run)
    with pytest.raises(Refused, match=r"private address 127\.0\.0\.1"):
        world.ingest(wanted, inputs=closed)
    assert api.asked == []
    host = api.url.removeprefix("http://")
    named = Inputs(root=world.root, scratch=world.home.run, door=Door.of(False, f"elsewhere.example, {host}"))
    assert world.ingest(wanted, inputs=named).rows == 1


# --- databases --------------------------------------------------------------------------------------------------------


def fill(base: sa.Engine, records: list[dict[str, Any]]) -> None:
    with base.begin() as conn:
        conn.execute(sa.text(
            "CREATE TABLE IF NOT EXISTS tickets (id int PRIMARY KEY, question text, answer text, area jsonb, changed timestamptz)"
        ))  # fmt: skip
        put = "INSERT INTO tickets VALUES (:id, :question, :answer, :area, :changed) ON CONFLICT (id) DO UPDATE SET "
        put += "question = excluded.question, answer = excluded.answer, changed = excluded.changed"
        conn.execute(sa.text(put), [{"area": '{"topic": "money"}', **one} for one in records])


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, tzinfo=UTC)


def test_real_questions_come_out_of_postgresql_and_then_only_what_changed(world: World, base: sa.Engine) -> None:
    records = [{**one, "changed": at(1) + timedelta(minutes=one["id"])} for one in finance()]
    fill(base, records)
    wanted = source(
        sql={"url": "env:TICKETS_DB", "table": "tickets"}, cursor="changed", lag="10m",
        map={"prompt": "question", "completion": "answer", "group": "area.topic", "extra": ["id", "changed"]},
    )  # fmt: skip
    version = world.ingest(wanted)
    assert version.rows == len({one["question"] + one["answer"] for one in finance()})
    row = next(row for row in world.rows() if row.prompt == finance()[17]["question"])
    assert (row.origin, row.group) == ("tickets/17", "money")
    assert row.extra == {"id": 17, "changed": "2026-01-01T00:17:00+00:00"}
    fill(base, [{**records[3], "answer": "Ask your bank.", "changed": at(2)}])
    fill(base, [{"id": 9000, "question": "late one", "answer": "yes", "changed": at(1) + timedelta(minutes=640)}])
    assert world.ingest(wanted).rows == version.rows + 1
    assert world.said()[records[3]["question"]] == "Ask your bank."
    assert world.said()["late one"] == "yes"
    run = world.last()
    assert run["rows_in"] == 11 + 2  # ten minutes before the cursor, the late one, the changed one
    assert json.loads(run["cursor"]) == {"time": "2026-01-02T00:00:00+00:00"}


def test_a_query_is_read_in_a_session_that_cannot_write(world: World, base: sa.Engine) -> None:
    fill(base, [{"id": 1, "question": "q", "answer": "a", "changed": at(1)}])
    query = "SELECT question AS prompt, upper(answer) AS completion FROM tickets"
    assert world.ingest(source(sql={"url": "env:TICKETS_DB", "query": query})).rows == 1
    assert world.said() == {"q": "A"}
    with base.begin() as conn:
        conn.execute(sa.text("CREATE FUNCTION vanish() RETURNS int LANGUAGE sql AS 'DELETE FROM tickets; SELECT 1'"))
    with pytest.raises(Failed, match="read-only transaction"):
        world.ingest(source(sql={"url": "env:TICKETS_DB", "query": "SELECT vanish() AS prompt"}))
    with pytest.raises(Invalid, match="no table 'nothing'"):
        world.ingest(source(sql={"url": "env:TICKETS_DB", "table": "nothing"}))


def test_a_database_that_is_away_says_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciranda.data.sources.tables.PAUSE_S", 0.01)
    monkeypatch.setenv("AWAY", "postgresql+psycopg://who:pass-word@127.0.0.1:9/none")
    with pytest.raises(Unavailable, match="the database says") as told:
        world.ingest(source(sql={"url": "env:AWAY", "table": "t"}))
    assert "pass-word" not in str(told.value)
    with pytest.raises(Refused, match="private address"):
        world.ingest(source(sql={"url": "env:AWAY", "table": "t"}), inputs=Inputs(root=world.root))


def test_a_sqlite_file_is_read_below_the_data_root_and_never_in_the_home(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sa.create_engine(f"sqlite:///{world.root}/own.db")
    with engine.begin() as conn:
        conn.execute(sa.text("CREATE TABLE said (id INTEGER PRIMARY KEY, prompt TEXT, completion TEXT, at INTEGER)"))
        conn.execute(sa.text("INSERT INTO said VALUES (1, 'q1', 'a1', 10), (2, 'q2', 'a2', 20)"))
    monkeypatch.setenv("OWN", f"sqlite:///{world.root}/own.db")
    wanted = source(sql={"url": "env:OWN", "table": "said"}, cursor="at", lag=5)
    assert world.ingest(wanted).rows == 2
    with engine.begin() as conn:
        conn.execute(sa.text("INSERT INTO said VALUES (3, 'late', 'a3', 16), (4, 'too late', 'a4', 12)"))
    world.ingest(wanted)
    assert set(world.said()) == {"q1", "q2", "late"}
    monkeypatch.setenv("OWN", f"sqlite:///{world.home.database}")
    with pytest.raises(Refused, match="in the home"):
        world.ingest(wanted)


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_watched_folder_reads_new_and_changed_files_and_nothing_that_is_half_written(world: World) -> None:
    inbox, wanted = world.root / "inbox", source(folder="inbox/*", quiet="0s")
    settled(inbox / "a.jsonl", line("a1", "x") + line("a2", "x"))
    settled(inbox / ".hidden.jsonl", line("no", "x"))
    settled(inbox / "b.jsonl.part", line("no", "x"))
    settled(inbox / "c.jsonl", line("c1", "x") + '{"prompt": "c2", "comp', age_s=1)
    world.ingest(wanted)
    assert set(world.said()) == {"a1", "a2"}
    assert world.last()["detail"]["waiting"] == 1
    settled(inbox / "c.jsonl", line("c1", "x") + line("c2", "x"), age_s=1)
    settled(inbox / "a.jsonl", line("a1", "other"))
    world.ingest(wanted)
    assert world.said() == {"a1": "other", "c1": "x", "c2": "x"}
    assert world.last()["rows_in"] == 3
    (inbox / "a.jsonl").unlink()
    world.ingest(wanted)
    assert set(world.said()) == {"a1", "c1", "c2"}
    assert {row.origin for row in world.rows()} == {"inbox/a.jsonl:1", "inbox/c.jsonl:1", "inbox/c.jsonl:2"}


def test_a_file_that_was_just_touched_waits(world: World) -> None:
    settled(world.root / "inbox" / "a.jsonl", line("a", "x"))
    settled(world.root / "old" / "b.jsonl", line("b", "x"))
    world.ingest(source(folder="inbox/*.jsonl", quiet="1h"), source(files="old/*.jsonl"))
    assert set(world.said()) == {"b"}


# --- bad rows, changing fields ----------------------------------------------------------------------------------------


def test_bad_rows_are_kept_aside_and_come_back_when_the_mapping_is_mended(world: World, api: Api) -> None:
    records: list[dict[str, Any]] = [{"id": n, "q": f"q{n}", "a": "x", "at": n} for n in range(5)]
    records[2] = {"id": 2, "q": "q2", "reply": "y", "at": 2}
    api.answer = lambda path, query, headers: (
        200,
        {},
        [one for one in records if one["at"] >= int(query.get("from", 0))],
    )
    wanted = {"http": {"url": f"{api.url}/t", "since": "from"}, "id": "id", "cursor": "at", "name": "tickets"}
    world.ingest(source(**wanted, map={"prompt": "q", "completion": "a"}))
    assert len(world.said()) == 4
    (bad,) = quarantine.page(world.db, dataset="d")
    assert (bad["source"], bad["origin"], bad["state"]) == ("tickets", f"{api.url}/t#2", "waiting")
    assert "completion is missing" in bad["reason"]
    assert json.loads(bad["record"]) == records[2]
    with world.db.writing() as conn:
        assert quarantine.ask(conn, "d", names=[bad["id"]], state="retry", actor="ana") == 1
    world.ingest(source(**wanted, map={"prompt": "q", "completion": "a"}))
    assert quarantine.page(world.db, dataset="d")[0]["state"] == "waiting"
    with world.db.writing() as conn:
        quarantine.ask(conn, "d", names=[], state="retry", actor="ana")
    world.ingest(source(**wanted, map={"prompt": "q", "completion": "reply"}, bad_rows="drop"))
    assert world.said()["q2"] == "y"
    assert [(one["state"], one["record"]) for one in quarantine.page(world.db)] == [("mended", "")]


def test_a_bad_row_that_a_whole_reading_no_longer_finds_is_mended(world: World) -> None:
    settled(world.root / "in" / "rows.jsonl", line("a", "x") + "{oops\n")
    wanted = source(files="in/rows.jsonl")
    world.ingest(wanted)
    world.ingest(wanted)
    (bad,) = quarantine.page(world.db, dataset="d", state="waiting")
    assert (bad["origin"], bad["record"]) == ("in/rows.jsonl:2", "{oops")
    settled(world.root / "in" / "rows.jsonl", line("a", "x") + line("b", "x"))
    world.ingest(wanted)
    assert quarantine.waiting(world.db, "d") == 0
    assert [one["record"] for one in quarantine.page(world.db)] == [""]


def test_a_source_of_which_no_row_is_good_fails_and_says_why(world: World, api: Api) -> None:
    api.answer = lambda path, query, headers: (200, {}, [{"frage": "q", "antwort": "a"}])
    with pytest.raises(Refused, match="no row of") as told:
        world.ingest(source(http={"url": f"{api.url}/t"}))
    assert "say with `map`" in told.value.remedy
    assert world.last()["rows_bad"] == 1


def test_changed_fields_are_told_and_refused_when_frozen(world: World, api: Api) -> None:
    records: list[dict[str, Any]] = [{"prompt": f"q{n}", "completion": "x", "stars": n, "area": "eu"} for n in range(4)]
    api.answer = lambda path, query, headers: (200, {}, records)
    wanted = {"http": {"url": f"{api.url}/t"}, "name": "t"}
    world.ingest(source(**wanted))
    records[:] = [{"prompt": f"q{n}", "completion": "x", "stars": "many", "city": "Recife"} for n in range(4)]
    with pytest.raises(Refused, match="area is missing; stars: whole number -> text; city is new"):
        world.ingest(source(**wanted, schema="freeze"))
    assert versions.get(world.db, "d").number == 1
    world.ingest(source(**wanted))
    assert [(one["change"], one["field"]) for one in world.last()["changes"]] == [
        ("missing", "area"), ("retyped", "stars"), ("new", "city"),
    ]  # fmt: skip
    world.ingest(source(**wanted))
    assert world.last()["changes"] == []


def test_a_field_that_is_sometimes_empty_is_not_missing_and_a_whole_number_may_become_a_fraction() -> None:
    before, after = Fields(), Fields()
    for record in ({"a": 1, "b": None}, {"a": 2, "b": "x"}):
        before.see(record)
    after.see({"a": 1.5, "c": None})
    assert said(after.changes(before.seen(None))) == ""


# --- together ---------------------------------------------------------------------------------------------------------


def test_a_source_that_is_away_leaves_the_rows_that_it_brought_and_holds_up_no_other(world: World, api: Api) -> None:
    api.answer = lambda path, query, headers: (200, {}, [{"prompt": "from the api", "completion": "x"}])
    settled(world.root / "in" / "rows.jsonl", line("from a file", "x"))
    remote, files = source(http={"url": f"{api.url}/t"}), source(files="in/*.jsonl")
    world.ingest(remote, files)
    api.answer = lambda path, query, headers: (403, {}, {})
    settled(world.root / "in" / "rows.jsonl", line("from a file", "x") + line("another", "x"))
    with pytest.raises(Failed):
        world.ingest(remote, files)
    world.ingest(remote, files, patient=True)
    assert set(world.said()) == {"from the api", "from a file", "another"}
    states = {run["source"]: run["state"] for run in sources.history(world.db, "d", limit=2)}
    assert states == {sources.label(remote): "failed", "files: in/*.jsonl": "done"}
    world.ingest(remote, files, only=["files: in/*.jsonl"])
    assert "from the api" in world.said()


def test_two_ingestions_of_one_dataset_do_not_lose_each_others_rows(world: World, api: Api) -> None:
    api.answer = lambda path, query, headers: (200, {}, [{"prompt": path, "completion": "x"}])
    one, two = (source(http={"url": f"{api.url}/{name}"}, cursor="at", name=name) for name in ("one", "two"))
    wanted = {"dataset": "d", "model": "d", "inputs": world.inputs, "actor": "t"}
    with sources.ingest(world.db, world.home, sources=[one, two], only=["one"], **wanted) as first:  # type: ignore[arg-type]
        with pytest.raises(Conflict, match="under way"):
            world.ingest(one, two, only=["two"])
        (world.home.run / "ingest-d.lock").unlink()  # as from another machine
        world.ingest(one, two, only=["two"])
        with pytest.raises(Conflict, match="came while"):
            versions.commit(
                world.db, world.home, "d", list(first.rows), transformation={}, actor="t", within=first.finish
            )
    world.ingest(one, two, only=["one"])
    assert set(world.said()) == {"/one", "/two"}


def test_when_a_source_is_due_by_period_by_cron_and_after_failures(world: World) -> None:
    hourly, nightly = source(files="x", every="1h", name="h"), source(files="x", cron="30 3 * * *", name="n")
    assert schedule.next_at(world.db, "d", hourly) == schedule.NEVER_RUN
    assert schedule.next_at(world.db, "d", source(files="x")) is None
    name, entries = runs.begin(
        world.db, "d", [runs.Opening("h", "files", ""), runs.Opening("n", "files", "")], actor="t", window={}
    )
    began = clock.parse(runs.get(world.db, entries["h"])["started_at"])
    assert schedule.next_at(world.db, "d", hourly) == began + timedelta(hours=1)
    night = schedule.next_at(world.db, "d", nightly)
    assert night is not None
    assert (night.hour, night.minute, timedelta(0) < night - began <= timedelta(days=1)) == (3, 30, True)
    runs.failed(world.db, entries["h"], Unavailable("away", where="x", remedy="wait"))
    soon = schedule.next_at(world.db, "d", hourly)
    assert soon is not None
    assert timedelta(seconds=55) < soon - began < timedelta(seconds=70)
    runs.failed(world.db, entries["h"], Invalid("wrong", where="x", remedy="mend it"))
    assert schedule.next_at(world.db, "d", hourly) == began + timedelta(hours=1)
    assert name


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"files": "x", "http": {"url": "http://x"}}, "exactly one of"),
        ({"files": "x", "every": "1h", "cron": "* * * * *"}, "not both"),
        ({"files": "x", "cron": "61 * * * *"}, "five fields"),
        ({"files": "x", "cursor": "at"}, "belongs to http and sql"),
        ({"sql": {"url": "postgresql://u:p@h/d", "table": "t"}}, "pattern"),
        ({"http": {"url": "http://u:p@h/d"}}, "pattern"),
        ({"http": {"url": "http://h", "paging": {"kind": "link"}}}, "needs `at`"),
        ({"http": {"url": "http://h", "auth": {"bearer": "abc"}}}, "pattern"),
    ],
)
def test_a_source_that_cannot_be_is_refused_when_it_is_written(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Source.model_validate(wrong)


# --- through the front door -------------------------------------------------------------------------------------------


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Front]:
    made = Front(tmp_path)
    yield made
    made.close()


def test_a_dataset_without_a_model_is_fed_by_a_file_of_its_own(door: Front) -> None:
    settled(door.root / "in" / "a.jsonl", line("a", "x") + '{"prompt": "b"}\n')
    text = "dataset: tickets\nsources: [{files: ../in/*.jsonl, name: inbox}]\nchecks: {duplicates: drop}\n"
    file = str(door.root / "datasets" / "tickets.yaml")
    assert door.post("/sources", {"files": {file: text}}) == {"datasets": ["tickets"]}
    told = door.post("/datasets/tickets/ingest", {})
    assert (told["dataset"], told["rows"], told["bad"], told["failed"]) == ("tickets@1", 1, 1, {})
    (one,) = door.get("/sources")["items"]
    assert (one["dataset"], one["source"], one["kind"], one["waiting"]) == ("tickets", "inbox", "files", 1)
    assert (one["last"]["state"], one["last"]["version"]) == ("done", "tickets@1")
    (run,) = door.get("/sources/runs", dataset="tickets")["items"]
    assert door.get(f"/sources/runs/{run['id']}")["detail"]["bad"][0]["where"] == "in/a.jsonl:2"
    (bad,) = door.get("/quarantine", dataset="tickets")["items"]
    assert door.post("/datasets/tickets/quarantine/drop", {"rows": [bad["id"]]}) == {"dataset": "tickets", "rows": 1}
    assert door.get("/quarantine", state="waiting")["items"] == []
    assert [one.title for one in door.alerts()] == ["tickets: 1 bad rows of inbox wait in quarantine"]
    assert door.post("/datasets/tickets/sources/remove") == {"dataset": "tickets", "removed": True}
    assert door.get("/sources")["items"] == []
    actions = [event.action for event in audit.page(door.platform.db, limit=20)]
    assert {"feed.applied", "ingestion.asked", "dataset.committed", "quarantine.dropped", "feed.removed"} <= set(
        actions
    )


def test_what_is_wrong_with_a_dataset_file_is_named(door: Front) -> None:
    file = str(door.root / "datasets" / "t.yaml")
    for text, said_ in (
        ("dataset: t\nsources: [{http: {url: ftp://x}}]\n", "t.yaml:2"),
        ("dataset: t\nsources: [{folder: /etc/*}]\n", "lies outside of"),
        ("dataset: t\nsources: [{intents: en}, {intents: en}]\n", "two sources are called"),
        ("dataset: t\nsources: [{intents: en, schema: freez}]\n", "sources.0.schema"),
    ):
        answer = door.call("POST", "/sources", json={"files": {file: text}})
        assert answer.status_code == 400
        assert said_ in json.dumps(answer.json()["error"])


def test_what_somebody_asked_for_and_what_is_watched_comes_in_by_itself(door: Front) -> None:
    (door.root / "in").mkdir()
    text = "dataset: tickets\nsources: [{folder: ../in/*.jsonl, quiet: 0s, name: inbox}]\n"
    door.post("/sources", {"files": {str(door.root / "datasets" / "tickets.yaml"): text}})
    intake = Intake(door.platform)
    try:
        intake.tick()
        assert door.get("/sources/runs")["items"] == []
        settled(door.root / "in" / "a.jsonl", line("a", "x"))
        door.settle(intake)
        assert door.get("/sources/runs")["items"][0]["version"] == "tickets@1"
        settled(door.root / "in" / "b.jsonl", line("b", "x"))
        door.settle(intake)
        assert [one["state"] for one in door.get("/sources/runs")["items"]] == ["done", "done"]
        # the newest is first: both rows went through the checks, one of them was read before
        assert [(one["rows_in"], one["rows_checked"]) for one in door.get("/sources/runs")["items"]] == [(1, 2), (1, 1)]
        settled(door.root / "in" / "b.jsonl", "not json\n" + line("c", "x"))
        assert door.post("/datasets/tickets/ingest", {"wait": False, "since": "beginning"}) == {
            "dataset": "tickets", "asked": True,
        }  # fmt: skip
        door.settle(intake)
        run = door.get("/sources/runs")["items"][0]
        assert (run["window"]["since"], run["rows_in"], run["rows_bad"], run["version"]) == (
            "beginning",
            2,
            1,
            "tickets@3",
        )
        assert {row.prompt for row in versions.read(door.platform.home, "tickets@3")} == {"a", "c"}
    finally:
        intake.close()


def test_the_files_that_the_page_of_sources_shows_are_valid() -> None:
    page = (Path(__file__).parent.parent / "docs" / "sources.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.S)
    assert [read_dataset(block, file="sources.md").dataset for block in blocks] == ["tickets", "helpdesk"]


def test_more_rows_than_fit_go_to_disk_and_come_back_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciranda.data.sources.heap.INLINE_ROWS", 500)
    small, large = Heap(named=True), Heap(tmp_path, named=True)
    made = [Row.of(f"q{n}", "x", origin=f"t/{n % 40}", source="t", extra={"n": n}) for n in range(500 + BATCH_ROWS + 9)]
    for heap in (small, large):
        assert len(heap + made) == 40
    assert len(list(tmp_path.iterdir())) == 2
    assert list(large) == list(small) == made[-40:]
    assert large.fingerprint == small.fingerprint == (Heap() + reversed(made)).fingerprint
    assert large.has("t/7")
    assert not large.has("t/40")


def test_an_ingestion_says_how_far_its_checks_are(door: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "TOLD_EVERY_S", 0.0)
    (door.root / "in").mkdir()
    (door.root / "in" / "a.jsonl").write_text("".join(line(f"question {n}", f"answer {n}") for n in range(9000)))
    text = "dataset: tickets\nchecks: {duplicates: drop}\nsources: [{files: ../in/*.jsonl}]\n"
    door.post("/sources", {"files": {str(door.root / "datasets" / "tickets.yaml"): text}})
    heard: list[str] = []
    intake_of.take(door.platform, intake_of.feeder(door.platform, "tickets"), actor="ana", tell=heard.append)
    assert [one.partition(" checked")[0] for one in heard] == ["8,192 rows", "9,000 rows", "9,000 rows"]
    assert heard[-1].endswith("among all: duplicates")


def test_rows_that_came_by_themselves_ask_for_one_turn_of_the_models_that_learn_from_them(door: Front) -> None:
    model = ModelSpec(model="desk", data=Data(dataset="tickets"), serve=Serve(engine="fake"))
    text = "dataset: tickets\nsources: [{folder: ../in/*.jsonl, quiet: 0s}]\n"
    door.post("/sources", {"files": {str(door.root / "datasets" / "tickets.yaml"): text}})
    with door.platform.db.writing() as conn:
        models.put(conn, model, actor="ana")
    settled(door.root / "in" / "a.jsonl", line("a", "x"))
    intake = Intake(door.platform)
    try:
        door.settle(intake)
        intake.tick()
        intake.tick()
        (turn,) = turns.page(door.platform.db, model="desk")
        assert (turn.cause, turn.automatic, turn.reason) == ("schedule", True, "tickets@1 has new rows")
        with door.platform.db.writing() as conn:
            turns.change(conn, turn.id, state="promoted", dataset="tickets@1")
        settled(door.root / "in" / "b.jsonl", line("b", "x"))
        door.settle(intake)
        intake.tick()
        assert len(turns.page(door.platform.db, model="desk")) == 1, "it cools down"
        with door.platform.db.writing() as conn:
            models.put(conn, model.model_copy(update={"watch": Watch(cooldown=0)}), actor="ana")
        intake.tick()
        assert turns.page(door.platform.db, model="desk")[0].reason == "tickets@2 has new rows"
    finally:
        intake.close()
