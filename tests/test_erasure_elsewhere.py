"""A person is forgotten where the state lies on servers: PostgreSQL, ClickHouse and a bucket. What each of them holds is searched
afterwards, byte by byte; and what clients uploaded and logged goes with the home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import obstore
import pytest
import sqlalchemy as sa

import clickhouse
import postgres
import seaweed
from ciranda.data import reading, uploads, versions
from ciranda.govern import audit
from ciranda.store import files, scrub
from ciranda.store.scrub import Needles
from test_erasure import JOAO, MARIA, THEIRS, World

NEEDLES = Needles.of([MARIA], THEIRS)


class Elsewhere:
    """A world whose state lies on three servers."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        server = stack.enter_context(seaweed.server())
        self.bucket = server.make("ciranda")
        self.tables = folder / "clickhouse"
        self.url = postgres.fresh(stack.enter_context(postgres.server()), "control")
        secret = folder / "s3.secret"
        secret.write_text(f"{seaweed.KEY}:{seaweed.SECRET}")
        settings = {
            "database_url": self.url, "clickhouse_url": stack.enter_context(clickhouse.standing(self.tables)),
            "datasets_url": "s3://ciranda/rows", "s3_endpoint": server.url, "s3_credentials": f"file:{secret}",
        }  # fmt: skip
        (folder / "home").mkdir()
        (folder / "home" / "config.toml").write_text(
            "".join(f"{name} = {json.dumps(one)}\n" for name, one in settings.items())
        )
        self.world = World(folder)
        stack.callback(self.world.close)

    def objects(self) -> dict[str, bytes]:
        """What the bucket holds."""
        listed = [one["path"] for some in obstore.list(self.bucket) for one in some]
        return {path: bytes(obstore.get(self.bucket, path).bytes()) for path in listed}

    def pages(self) -> list[Path]:
        """Files of PostgreSQL, without its write-ahead log."""
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            conn.exec_driver_sql("CHECKPOINT")
            folder = Path(str(conn.execute(sa.text("SHOW data_directory")).scalar()))
        engine.dispose()
        return [path for path in scrub.below(folder) if "pg_wal" not in path.parts]

    def traces(self) -> list[str]:
        """Where the name or a text still stands."""
        held = [name for name, content in self.objects().items() if any(one in content for one in NEEDLES.raw)]
        files_ = [*self.pages(), *scrub.below(self.tables), *scrub.below(self.world.home.path)]
        return held + [str(path) for path in files_ if NEEDLES.within(path)]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    postgres.demand()
    with ExitStack() as stack:
        yield Elsewhere(stack, tmp_path)


@pytest.mark.slow
def test_a_person_is_forgotten_on_servers_too(elsewhere: Elsewhere) -> None:
    world = elsewhere.world
    quoted = {"error": f"could not learn {THEIRS[0]!r}"}
    with world.db.writing() as conn:
        conn.execute(sa.text("CREATE SCHEMA dbos"))
        conn.execute(sa.text("CREATE TABLE dbos.workflow_status (workflow_uuid TEXT PRIMARY KEY, error TEXT)"))
        conn.execute(sa.text("INSERT INTO dbos.workflow_status VALUES ('w', :error)"), {"error": json.dumps(quoted)})
    before = elsewhere.objects()
    places = elsewhere.traces()
    assert any(place in before for place in places), "the bucket holds their words"
    assert any("/base/" in place for place in places), "PostgreSQL does"
    assert any(str(elsewhere.tables) in place for place in places) or world.platform.interactions.page(limit=10)

    done = world.run(world.erase())
    assert (done.step, (done.receipt or {})["traces"]) == ("done", [])
    assert elsewhere.traces() == []
    assert [one.user for one in world.platform.interactions.page(limit=10)] == [JOAO, JOAO]
    for ref, rows in (("desk@1", 10), ("desk@2", 20), ("desk@3", 15), ("derived@1", 1)):
        held = list(reading.read(world.db, world.home, ref, reading.Reader("ana", "admin", "viewing")))
        assert (len(held), versions.get(world.db, ref).digest) == (rows, versions.digest_of(held))
    told = " ".join((done.receipt or {})["elsewhere"])
    assert all(word in told for word in ("object store", "PostgreSQL", "ClickHouse"))
    assert audit.verify(world.db).ok


def test_uploads_and_logged_artefacts_go_with_the_home(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        arrived = uploads.arriving(world.home)
        arrived.write_text(json.dumps({"messages": [{"role": "user", "content": THEIRS[0]}], "user": MARIA}) + "\n")
        sent = uploads.add(world.db, world.home, arrived, filename=f"{MARIA}.jsonl", purpose="fine-tune",
                           tenant="default", actor="ana")  # fmt: skip
        run = world.home.tracked / "run"
        run.mkdir(parents=True)
        (run / "examples.txt").write_text(f"asked: {THEIRS[0]}\n")
        (run / "table.zip").write_bytes(b"PK\x03\x04\0\0")
        done = world.run(world.erase())
        assert world.traces() == []
        with world.db.reading() as conn:
            kept = uploads.get(conn, sent.id, tenant="default")
        assert kept.filename == f"{scrub.ERASED}.jsonl"
        assert kept.sha256 == files.sha256_of(uploads.content(world.home, kept)) != sent.sha256
        assert any("1 packed files" in one for one in (done.receipt or {})["elsewhere"])
    finally:
        world.close()
