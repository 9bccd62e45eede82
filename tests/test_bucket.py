"""Datasets in a bucket of a real S3 server: the same versions, and a server that breaks its word is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import errands
import kubeapi
import seaweed
from ciranda.config import Home
from ciranda.data import aliases, branches, collect, place, shelf, versions
from ciranda.data.rows import Row
from ciranda.engines.kubernetes import Kubernetes, Place
from ciranda.errors import Conflict, Failed, Invalid, NotFound, Refused, Unavailable
from ciranda.jobs.orders import Address
from ciranda.jobs.remote import Remote
from ciranda.store import depot, ids, objects
from ciranda.store.database import Database, metadata
from gatewayrig import wait_for


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with seaweed.server() as found:
        found.make("ciranda")
        yield found.url


@pytest.fixture
def home(tmp_path: Path, url: str) -> Home:
    return settled(tmp_path, url, f"s3://ciranda/{ids.new('t')}")


def settled(path: Path, url: str, bucket: str) -> Home:
    made = Home(path / "home")
    made.make()
    secret = made.path / "s3.secret"
    secret.write_text(f"{seaweed.KEY}:{seaweed.SECRET}")
    (made.path / "config.toml").write_text(
        f'datasets_url = "{bucket}"\ns3_endpoint = "{url}"\ns3_credentials = "file:{secret}"\n'
    )
    return made


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    made = Database(f"sqlite:///{home.database}")
    metadata.create_all(made.engine)
    yield made
    made.close()


def test_a_job_elsewhere_and_this_machine_meet_in_a_bucket(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with a key of its own; the job's is a variable that its Secret gives it."""
    monkeypatch.setenv("KUBE_TOKEN", kubeapi.TOKEN)
    monkeypatch.setenv("OUR_PAIR", f"{seaweed.KEY}:{seaweed.SECRET}")
    where = Address("s3://ciranda/jobs", "", 1, url, "us-east-1", "env:THEIR_PAIR")
    spec = errands.spec(tmp_path)
    with kubeapi.running() as api:
        api.secrets["ciranda-s3"] = {"THEIR_PAIR": f"{seaweed.KEY}:{seaweed.SECRET}"}
        cluster = Kubernetes(api.url, "env:KUBE_TOKEN", "", Place("models", "i", secret="ciranda-s3"), where)
        store = depot.at(where.depot, endpoint=url, credentials="env:OUR_PAIR")
        there = Remote(tmp_path / "a" / "jobs", cluster, store, "home-a")
        sent, here = errands.away(tmp_path, there), errands.local(tmp_path / "here")
        for trainer in (sent, here):
            trainer.submit("train:1", spec)
            wait_for(lambda: trainer.status("train:1").state != "running", what="a trained adapter")  # noqa: B023
        one, two = sent.collect("train:1"), here.collect("train:1")
    assert errands.artefact(one.folder) == errands.artefact(two.folder)
    assert sent.curve("train:1") == two.curve
    assert store.names("home-a") == []
    assert store.names("shared")


def rows(*numbers: int) -> list[Row]:
    return [Row.of(f"question {n}", f"answer {n}", language="en") for n in numbers]


def commit(db: Database, home: Home, *numbers: int, **more: str) -> versions.DatasetVersion:
    return versions.commit(db, home, "home", rows(*numbers), transformation={}, actor="tester", **more)


def test_versions_live_in_the_bucket_and_not_in_the_home(db: Database, home: Home) -> None:
    commit(db, home, 1, 2)
    versions.amend(db, home, "home", add=rows(3), remove=[rows(1)[0].key], transformation={}, actor="tester")
    assert {row.prompt for row in versions.read(home, "home@2")} == {"question 2", "question 3"}
    assert len(versions.read(home, "home@1")) == 2
    assert versions.diff(home, "home@1", "home@2").summary() == {"added": 1, "removed": 1, "changed": 0}
    assert branches.branch(db, home, "home@1", "other", actor="ana").ref == "other@1"
    assert len(versions.read(home, "other@1")) == 2
    assert branches.revert(db, home, "home@1", actor="ana").ref == "home@3"
    assert not list(home.datasets.glob("*.lance"))
    with db.writing() as conn:
        aliases.put(conn, "home", "golden", 1, fixed=True, actor="ana")
    swept = collect.collect(db, home, dataset="home", keep=1, age=timedelta(0), dry=False, actor="ana")
    assert swept.collected == ("home@2",)
    with pytest.raises(NotFound):
        versions.read(home, "home@2")
    assert len(versions.read(home, "home@3")) == len(versions.read(home, "other@1")) == 2


def test_two_machines_that_commit_at_once_never_mix_their_rows(
    db: Database, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks are files of one machine, so without them this is what two machines do to one bucket."""
    commit(db, home, 0)
    monkeypatch.setattr(shelf.fcntl, "flock", lambda *_: None)
    start = threading.Barrier(4)

    def write(number: int) -> str:
        start.wait(30)
        try:
            return commit(db, home, number, number + 1).ref
        except Conflict:
            return ""

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(write, (100, 200, 300, 400)))
    refs = [ref for ref in made if ref]
    assert len(refs) == len(set(refs))
    for ref in refs:
        assert versions.get(db, ref).digest == versions.digest_of(versions.read(home, ref))
    assert commit(db, home, 7).rows == 1


def test_a_bucket_that_cannot_be_reached_or_opened_is_told_as_such(tmp_path: Path, url: str) -> None:
    with pytest.raises(Failed, match="privileges"):
        objects.Bucket("s3://ciranda/x", url, credentials="").proved()
    with pytest.raises(Unavailable, match="object store"):
        objects.Bucket("s3://ciranda/x", "http://127.0.0.1:9", credentials="").proved()
    with pytest.raises(NotFound, match="no `key id:secret`"):
        objects.Bucket("s3://ciranda/x", url, credentials="file:/none").options()
    with pytest.raises(Invalid, match="datasets_url"):
        place.of(settled(tmp_path, url, "http://x"), "home")


class Careless(BaseHTTPRequestHandler):
    """Speaks S3 as some servers do: it takes every write, whatever its condition says."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("etag", '"e"')
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, *_given: object) -> None:
        """Nobody reads it."""


def test_a_server_that_ignores_conditions_is_refused_before_a_row_is_written(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = settled(tmp_path, f"http://127.0.0.1:{server.server_port}", "s3://ciranda")
    with pytest.raises(Refused, match="ignores put-if-absent and put-if-match"):
        place.of(home, "home")
    server.shutdown()
