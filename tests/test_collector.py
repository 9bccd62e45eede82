"""The collector brings the spool into the tables: what comes in, what is put aside, what it refuses, what it leaves behind."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import httpx
import pytest
import sqlalchemy as sa
from clickhouse_connect.driver.exceptions import DatabaseError

from ciranda.errors import StorageFull
from ciranda.govern import audit
from ciranda.interactions import intake
from ciranda.interactions.client import status_of
from ciranda.interactions.collector import Collector
from ciranda.interactions.ingestion import Ingestion
from ciranda.interactions.seals import segments
from ciranda.interactions.sink import Sink
from ciranda.interactions.spool import EVENT, INTERACTION, SCORE, STARTED, pack
from ciranda.store import clock, ids
from recorded import Recorded, answered, asked, opinion, record, until


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    world = Recorded(tmp_path_factory.mktemp("home"))
    world.start()
    yield world
    world.close()


def test_what_is_spooled_is_found_with_its_texts(recorded: Recorded) -> None:
    identifier = record(recorded.writer(), "Turn on the lamp\tin the Küche", "ok, on", user="ana", language="en")
    found = until(lambda: recorded.interactions.get(identifier))
    assert (found.input_text, found.output_text) == ("Turn on the lamp\tin the Küche", "ok, on")
    assert (found.user, found.version, found.status, found.latency_ms) == ("ana", "m@1", 200, 20.0)
    assert json.loads(found.request)["messages"][0]["role"] == "system"


def test_a_stream_is_stored_as_sent_and_read_as_one_text(recorded: Recorded) -> None:
    events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("Olá", ", ", "mundo")]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    meta = {"id": str(ids.uuid7()), "ts_ms": clock.now_ms(), "model": "m", "version": "m@1", "stream": 1, "status": 200}
    recorded.writer().append(INTERACTION, meta, asked("oi"), stream)
    found = until(lambda: recorded.interactions.get(str(meta["id"])))
    assert found.output_text == "Olá, mundo"
    assert found.response.encode() == stream


def test_bodies_that_nobody_can_read_are_kept_all_the_same(recorded: Recorded) -> None:
    meta = {"id": str(ids.uuid7()), "ts_ms": clock.now_ms(), "model": "m", "status": 400}
    recorded.writer().append(
        INTERACTION, meta, b'{"messages": [{"role": "user", "content": "\\ud800"}, 3', b"\xff\x00<html>"
    )
    found = until(lambda: recorded.interactions.get(str(meta["id"])))
    assert (found.input_text, found.output_text) == ("", "")


def test_feedback_carries_what_its_interaction_was(recorded: Recorded) -> None:
    writer = recorded.writer()
    identifier = record(writer, version="m@3", arm="canary", rollout="roll_1")
    opinion(writer, identifier, thumb=-1, correction="better", reasons=["wrong", "rude"], rating=2.5)
    (given,) = until(lambda: (one := recorded.interactions.get(identifier)) and one.feedback)
    assert (given.model, given.version, given.arm, given.rollout) == ("m", "m@3", "canary", "roll_1")
    assert (given.thumb, given.correction, given.reasons, given.rating) == (-1, "better", ("wrong", "rude"), 2.5)


def test_feedback_may_come_before_its_interaction(recorded: Recorded) -> None:
    identifier = str(ids.uuid7())
    opinion(recorded.writer("gateway-1"), identifier)
    early = record(recorded.writer("gateway-1"))
    until(lambda: recorded.interactions.get(early))
    assert not recorded.interactions.count(model="m", version="m@8")
    record(recorded.writer("gateway-0"), id=identifier, version="m@8")
    (given,) = until(lambda: (one := recorded.interactions.get(identifier)) and one.feedback)
    assert given.version == "m@8"


def test_feedback_counts_once_by_id_and_by_idempotency_key(recorded: Recorded) -> None:
    writer = recorded.writer()
    identifier = record(writer, version="m@once")
    first = opinion(writer, identifier, idempotency_key="again")
    opinion(writer, identifier, idempotency_key="again")
    until(lambda: (one := recorded.interactions.get(identifier)) and one.feedback)
    opinion(writer, identifier, idempotency_key="again")
    opinion(writer, identifier, id=first)
    last = record(writer)
    until(lambda: recorded.interactions.get(last))
    assert [given.id for given in recorded.interactions.get(identifier).feedback] == [first]  # type: ignore[union-attr]
    assert [row.thumbs_up for row in recorded.interactions.totals(model="m") if row.version == "m@once"] == [1]


def test_feedback_on_another_tenants_interaction_is_put_aside(recorded: Recorded) -> None:
    writer = recorded.writer()
    identifier = record(writer, tenant="acme")
    opinion(writer, identifier, tenant="rival")
    last = record(writer)
    until(lambda: recorded.interactions.get(last))
    assert recorded.interactions.get(identifier).feedback == ()  # type: ignore[union-attr]
    assert "another tenant's interaction" in recorded.log()


def test_the_first_vote_on_an_answer_is_an_observation_and_a_changed_one_is_not(recorded: Recorded) -> None:
    writer = recorded.writer()
    identifier, now = record(writer, version="m@votes"), clock.now_ms()
    opinion(writer, identifier, thumb=1, ts_ms=now)
    opinion(writer, identifier, thumb=-1, ts_ms=now + 10, reasons=["wrong"])
    opinion(writer, identifier, thumb=-1, ts_ms=now + 20, comment="the same again")
    opinion(writer, identifier, thumb=1, ts_ms=now + 1)  # was on its way for longer than its successors
    found = until(lambda: (one := recorded.interactions.get(identifier)) and len(one.feedback) == 4 and one)
    assert [(one.thumb, one.first) for one in found.feedback] == [(1, True), (1, False), (-1, False), (-1, False)]
    totals = lambda: [row for row in recorded.interactions.totals(model="m") if row.version == "m@votes"]  # noqa: E731
    until(lambda: [(row.thumbs_up, row.thumbs_down) for row in totals()] == [(0, 1)])  # a moment after the rows


def test_a_public_key_has_one_vote_on_an_answer_of_its_models_and_none_on_others(recorded: Recorded) -> None:
    writer = recorded.writer()
    mine, other = record(writer, model="open", version="open@1"), record(writer, model="m", version="m@shut")
    public = {"key": "key_public", "models": ["open"], "public": True}
    for number in range(3):
        opinion(writer, mine, user=f"robot {number}", **public)
    opinion(writer, other, **public)
    opinion(writer, str(ids.uuid7()), **public)
    until(lambda: (one := recorded.interactions.get(mine)) and len(one.feedback) == 3)
    assert recorded.interactions.get(other).feedback == ()  # type: ignore[union-attr]
    assert [row.thumbs_up for row in recorded.interactions.totals(model="open")] == [1]
    kept = [path.read_bytes() for path in recorded.home.interactions.glob("quarantine/*")]
    assert not any(b"key_public" in content for content in kept)


def test_scores_starts_and_events_come_through_the_spool_too(recorded: Recorded) -> None:
    writer = recorded.writer()
    identifier = record(writer, version="m@4")
    now = clock.now_ms()
    score = {"id": f"{identifier}:judge", "ts_ms": now, "interaction": identifier, "scorer": "judge", "value": 0.5}
    writer.append(SCORE, score)
    writer.append(SCORE, score)
    begun = str(ids.uuid7())
    for started in (identifier, begun):
        writer.append(STARTED, {"id": started, "ts_ms": now - 60_000, "model": "m", "version": "m@4", "user": "ana"})
    writer.append(EVENT, {"id": str(ids.uuid7()), "ts_ms": now, "event": "retry", "model": "m", "reason": "timeout"})
    (given,) = until(lambda: (one := recorded.interactions.get(identifier)) and one.scores)
    assert (given.scorer, given.value, given.version) == ("judge", 0.5, "m@4")
    lost = until(lambda: recorded.interactions.interrupted(clock.parse("2026-01-01T00:00:00Z"), older_than_s=30))
    assert [one["id"] for one in lost] == [begun]


def test_a_record_that_is_no_record_is_put_aside_and_holds_up_nobody(recorded: Recorded) -> None:
    writer = recorded.writer()
    writer.append(INTERACTION, {"id": "odd", "ts_ms": "yesterday"})
    writer.append(99, {"id": "unheard-of", "ts_ms": 1})
    identifier = record(writer)
    until(lambda: recorded.interactions.get(identifier))
    assert "ALERT quarantined" in recorded.log()
    assert len(list((recorded.home.interactions / "quarantine").glob("*.frame"))) >= 2


def test_a_damaged_record_in_a_sealed_segment_costs_only_itself(recorded: Recorded) -> None:
    folder = recorded.home.spool / "gateway-7"
    folder.mkdir()
    meta = [{"id": str(ids.uuid7()), "ts_ms": clock.now_ms(), "model": "m"} for _ in range(3)]
    frames = [b"".join(pack(INTERACTION, json.dumps(one).encode(), asked("x"), answered("y"))) for one in meta]
    frames[1] = frames[1][:-1] + b"!"
    (folder / "other-host-1.tmp").write_bytes(b"".join(frames))
    (folder / "other-host-1.tmp").rename(folder / "other-host-1.ready")
    until(lambda: recorded.interactions.get(str(meta[2]["id"])))
    assert recorded.interactions.get(str(meta[0]["id"]))
    assert recorded.interactions.get(str(meta[1]["id"])) is None
    until(lambda: not (folder / "other-host-1.ready").exists())
    assert (recorded.home.interactions / "quarantine" / f"other-host-1-{len(frames[0])}.frame").exists()


def test_a_dead_writers_segment_is_read_up_to_its_torn_tail(recorded: Recorded) -> None:
    script = f"""
import os, sys
from pathlib import Path
from ciranda.interactions.spool import SpoolWriter
sys.path.insert(0, {str(Path(__file__).parent)!r})
from recorded import record
writer = SpoolWriter(Path({str(recorded.home.spool / "gateway-9")!r}))
print(record(writer), flush=True)
os.write(writer._descriptor, b"\\xff\\x01\\x00\\x00torn")
os.kill(os.getpid(), 9)
"""
    output = subprocess.run([*recorded.command()[:1], "-c", script], capture_output=True, text=True, check=False).stdout
    identifier = output.split()[-1]
    until(lambda: recorded.interactions.get(identifier))
    until(lambda: not list((recorded.home.spool / "gateway-9").iterdir()))
    assert "bytes of a torn record cut" in recorded.log()


def test_a_finished_segment_leaves_its_digest_in_the_audit_chain_once(recorded: Recorded) -> None:
    writer = recorded.writer("gateway-3")
    record(writer)
    record(writer)
    (path,) = (recorded.home.spool / "gateway-3").glob("*.open")
    writer.seal()
    until(lambda: not list((recorded.home.spool / "gateway-3").iterdir()))
    with recorded.database.reading() as conn:
        row = conn.execute(sa.select(segments).where(segments.c.name == path.stem)).one()
    (event,) = audit.page(recorded.database, subject=path.stem)
    assert row.records == 2
    assert json.loads(event.detail)["sha256"] == row.sha256
    assert audit.verify(recorded.database).ok


def test_a_second_collector_in_the_same_home_is_refused(recorded: Recorded) -> None:
    second = subprocess.run(recorded.command(), capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 5
    assert f"a collector runs here already, as process {recorded.announced()['pid']}" in second.stderr
    assert "do: use that one, or stop it first" in second.stderr


def test_an_unprepared_home_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ciranda.interactions.collector", "--home", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 8
    assert "do: run `ciranda init` first" in refused.stderr


def test_its_address_is_for_the_owner_only(recorded: Recorded) -> None:
    assert (recorded.home.run / "collector.json").stat().st_mode & 0o777 == 0o600


def test_an_unmodified_client_reads_and_is_kept_from_writing(recorded: Recorded, tmp_path: Path) -> None:
    identifier = record(recorded.writer())
    until(lambda: recorded.interactions.get(identifier))
    url = httpx.URL(recorded.announced()["url"])
    client = clickhouse_connect.get_client(
        host=url.host, port=url.port, username="any", password=recorded.announced()["token"]
    )
    assert client.ping()
    rows = client.query("SELECT id FROM interactions WHERE id = {id:String}", parameters={"id": identifier}).result_rows
    assert rows == [(identifier,)]
    arrow = client.query_arrow("SELECT count() AS n FROM interactions", settings={"max_threads": 1})
    assert arrow["n"][0].as_py() > 0
    assert client.command("SELECT 40 + 2") == 42
    for statement in (
        "DROP TABLE interactions",
        "INSERT INTO interactions (id) VALUES ('x')",
        "ALTER TABLE interactions DELETE WHERE 1",
        "SET readonly = 0",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        f"SELECT 1 INTO OUTFILE '{tmp_path}/out'",
        "SELECT 1; DROP TABLE interactions",
        "SELECT 1 SETTINGS readonly = 0",
        "KILL QUERY WHERE 1",
    ):
        with pytest.raises(DatabaseError):
            client.command(statement)
    with pytest.raises(DatabaseError, match="only scores are inserted"):
        client.insert("feedback", [["x"]], column_names=["id"])
    assert recorded.interactions.get(identifier)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"X-ClickHouse-Key": "é".encode()},
                                     {"Authorization": "Basic " + base64.b64encode(b"a:wrong").decode()}])  # fmt: skip
def test_without_the_token_nothing_is_answered(recorded: Recorded, headers: dict[str, str]) -> None:
    for path in ("/?query=SELECT+1", "/status"):
        answer = httpx.get(recorded.announced()["url"] + path, headers=headers)
        assert answer.status_code == 401
        assert "Code: 516" in answer.text


def test_the_token_is_taken_in_each_of_clickhouses_ways(recorded: Recorded) -> None:
    url, token = recorded.announced()["url"], recorded.announced()["token"]
    basic = "Basic " + base64.b64encode(f"x:{token}".encode()).decode()
    for headers in ({"Authorization": f"Bearer {token}"}, {"X-ClickHouse-Key": token}, {"Authorization": basic}):
        assert httpx.get(url, params={"query": "SELECT 1"}, headers=headers).text == "1\n"
    status = status_of(recorded.home)
    assert status["blocked"] == ""
    assert status["frames"] > 0


def test_odd_requests_get_an_answer_and_harm_nobody(recorded: Recorded) -> None:
    url, token = recorded.announced()["url"], recorded.announced()["token"]
    with httpx.Client(base_url=url, headers={"X-ClickHouse-Key": token}) as client:
        assert client.get("/nothing").status_code == 404
        assert client.post("/", content=b"").status_code == 403
        assert client.post("/", content=b"SELECT nonsense").is_error
        assert client.get("/", params={"query": "SELECT 1", "no such": "1"}).status_code == 400
        assert client.post("/", content=b"\x00", headers={"Content-Encoding": "lz4"}).status_code == 400
        assert client.post("/", content=b"x", headers={"Content-Encoding": "br"}).status_code == 400
        assert client.post("/", content=iter([b"SELECT ", b"7"])).text == "7\n"
        unbounded = {"query": "SELECT getSetting('max_execution_time')", "max_execution_time": "0"}
        assert client.get("/", params=unbounded).text == "30\n"
    with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 0), timeout=10) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 400")


class Full:
    """A store whose disk is full for the first inserts."""

    def __init__(self, sink: Sink, times: int) -> None:
        self.rows = sink.rows
        self._sink = sink
        self._times = times

    def insert(self, table: str, rows: object, *, token: str) -> None:
        if self._times:
            self._times -= 1
            raise StorageFull("no space", where="the test", remedy="wait")
        self._sink.insert(table, rows, token=token)  # type: ignore[arg-type]


def test_a_full_disk_is_waited_out_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = Recorded(tmp_path / "home")
    sink = Sink.embedded(tmp_path / "chdb")
    store = Full(sink, times=2)
    collector = Collector(Ingestion(world.home.spool, world.home.interactions, store=store, database=world.database))
    record(world.writer())
    thread = threading.Thread(target=collector.run)
    thread.start()
    try:
        until(lambda: "no space" in collector.status()["blocked"])
        until(lambda: collector.status()["frames"] == 1)
        assert collector.status()["blocked"] == ""
        assert "ALERT ingestion is held up by a full disk" in caplog.text
        assert sink.rows("SELECT count() AS n FROM interactions", {}) == [{"n": 1}]
    finally:
        collector.stop()
        thread.join()
        sink.close()
        world.close()


def test_feedback_of_an_unknown_interaction_is_stored_bare_in_the_end() -> None:
    desk = intake.Desk(lambda sql, values: [])
    row = {"id": "f", "ts_ms": 5, "interaction": "never", "tenant": "t", "key": "k", "idempotency_key": "", "thumb": 1}
    sorted_ = desk.feedback([row], [], now_ms=1000)
    assert sorted_.ready == []
    later = desk.feedback([], sorted_.waiting, now_ms=1000 + intake.PATIENCE_MS)
    assert later.waiting == []
    assert (later.ready[0]["model"], later.ready[0]["interaction_ts_ms"]) == ("", 5)
    crowd = [row | {"id": str(number)} for number in range(intake.MOST_WAITING + 5)]
    assert len(desk.feedback(crowd, [], now_ms=1000).ready) == 5


def test_feedback_of_a_public_key_on_an_answer_that_never_came_is_dropped() -> None:
    desk = intake.Desk(lambda question, values: [])
    row = {"id": "f", "interaction": "i", "tenant": "default", "key": "k", "user": "", "idempotency_key": "", "thumb": 1,
           "ts_ms": 1, "models": ["m"], "public": True}  # fmt: skip
    sorted_ = desk.feedback([row], [], now_ms=1000)
    later = desk.feedback([], sorted_.waiting, now_ms=1000 + intake.PATIENCE_MS)
    assert (later.ready, later.refused) == ([], [row])
