"""Sets of the Hugging Face hub: fetched by its own client from a hub on loopback, read as their card says, commit by commit."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

CARD = b"---\nlicense: cc-by-4.0\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: data/*.jsonl\n---\n"
OLD, NEW = "a" * 40, "b" * 40
ROW = b'{"prompt": "p", "completion": "c"}\n'
COMMITS = {
    OLD: {"README.md": CARD, "data/one.jsonl": ROW, "data/withdrawn.jsonl": ROW, "loader.py": b"raise SystemExit"},
    NEW: {"README.md": CARD, "data/one.jsonl": ROW * 2},
}
NAMES = {"v1": OLD, "main": NEW, OLD: OLD, NEW: NEW}
LOOK = """
import json, sys
from pathlib import Path
from ciranda.data import imports
from ciranda.errors import CirandaError
for name in sys.argv[2:]:
    try:
        found = imports.look(name, Path(sys.argv[1]), cache=Path(sys.argv[1]) / "hub")
        told = [(part.name, part.split, part.path.read_text().count("prompt")) for part in found.parts]
        print(json.dumps([found.saw, sorted(told), found.card.get("license")]))
    except CirandaError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


class Hub(BaseHTTPRequestHandler):
    """The three routes that fetching a set takes: a commit, its files, and one of them."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        route, _, rest = path.partition("/org/name/")
        kind, _, rest = rest.partition("/")
        commit, _, name = rest.partition("/")
        files = COMMITS.get(NAMES.get(commit, ""), {})
        if route == "/api/datasets" and kind == "revision" and files:
            self._out({"id": "org/name", "sha": NAMES[commit], "siblings": [{"rfilename": one} for one in files]})
        elif route == "/api/datasets" and kind == "tree" and files:
            self._out(
                [{"type": "file", "path": one, "size": len(files[one]), "oid": _oid(files[one])} for one in files]
            )
        elif route == "/datasets" and kind == "resolve" and name in files:
            self._out(files[name], {"ETag": f'"{_oid(files[name])}"', "X-Repo-Commit": commit})
        else:
            self._out({}, {"X-Error-Code": "RepoNotFound"}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _out(self, told: object, headers: dict[str, str] | None = None, status: int = 200) -> None:
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_set_is_fetched_as_of_its_commit_and_read_as_its_card_says(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}.items():
        monkeypatch.setenv(name, value)
    names = ["hf:org/name@v1", "hf:org/name", "hf:org/name/data", "hf:org/elsewhere"]
    ended = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path), *names], capture_output=True, text=True, check=True
    )
    old, new, below, nowhere = map(json.loads, ended.stdout.splitlines())
    saw = "a folder with a dataset card, configuration default"
    one, withdrawn = (f"hf:org/name@v1/data/{name}.jsonl" for name in ("one", "withdrawn"))
    assert old == [saw, [[one, "test", 1], [withdrawn, "test", 1]], "cc-by-4.0"]
    assert new == [saw, [["hf:org/name/data/one.jsonl", "test", 2]], "cc-by-4.0"], "no file of the older commit is left"
    assert below[1] == [["hf:org/name/data/one.jsonl", "", 2]]
    assert nowhere[0] == "Unavailable"
    assert "org/elsewhere" in nowhere[1]
    assert not list(tmp_path.rglob("loader.py")), "scripts are not even fetched"


def test_a_hub_that_is_not_there_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}.items():
        monkeypatch.setenv(name, value)
    ended = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path), "hf:org/name"], capture_output=True, text=True, check=True
    )
    name, told = json.loads(ended.stdout)
    assert name == "Unavailable"
    assert "check the name, the network and the token" in told
