"""kill -9 in every phase of an ingestion: afterwards one more run, and every record is there once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ciranda.data import sources, versions
from ciranda.data.sources import cursors, quarantine
from ciranda.govern import audit
from feeding import Api, World, line, served, settled, source

POINTS = {
    "begun": "ciranda.data.sources.runs:begin:after",
    "a page read": "ciranda.data.sources.pages:_Line.get:2",
    "bad rows kept": "ciranda.data.sources.quarantine:keep:after",
    "all read": "ciranda.data.sources.runs:phase:after",
    "checked": "ciranda.data.checks:run:after",
    "rows stored": "ciranda.data.shelf:tag:before",
    "rows tagged": "ciranda.data.shelf:tag:after",
    "inside the transaction": "ciranda.data.sources:Batch._hold:after",
    "committed": "ciranda.data.versions:commit:after",
}
"""Where the process dies: a function, before or after it, or after its n-th call."""

VICTIM = """
import importlib, os, signal, sys
from pathlib import Path
from feeding import World, source
root, url, (module, name, when) = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(":")
world = World(root)
owner = importlib.import_module(module)
*path, leaf = name.split(".")
for part in path:
    owner = getattr(owner, part)
real, calls = getattr(owner, leaf), []

def deadly(*args, **named):
    calls.append(1)
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    found = real(*args, **named)
    if when == "after" or len(calls) == int(when):
        os.kill(os.getpid(), signal.SIGKILL)
    return found

setattr(owner, leaf, deadly)
import test_sources_kill
world.ingest(*test_sources_kill.wanted(url))
"""


def wanted(url: str) -> list[Any]:
    """An API that is read by cursor, and a folder that is watched."""
    paging = {"kind": "page", "size": 2, "size_param": "size"}
    return [
        source(http={"url": f"{url}/t", "since": "from", "paging": paging}, id="id", cursor="at", name="api"),
        source(folder="in/*.jsonl", quiet="0s", name="inbox"),
    ]


@pytest.fixture
def api() -> Iterator[Api]:
    with served() as found:
        yield found


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_ingestion_loses_no_record_and_takes_none_twice(tmp_path: Path, api: Api, point: str) -> None:
    records: list[dict[str, Any]] = [{"id": n, "prompt": f"q{n}", "completion": "x", "at": n} for n in range(5)]

    def answer(path: str, query: dict[str, str], headers: Any) -> Any:
        new = [one for one in records if one["at"] >= int(query.get("from", 0))]
        first = (int(query["page"]) - 1) * 2
        return 200, {}, new[first : first + 2]

    api.answer = answer
    world = World(tmp_path)
    settled(tmp_path / "in" / "a.jsonl", line("a", "x"))
    world.ingest(*wanted(api.url))
    records += [{"id": n, "prompt": f"q{n}", "completion": "x", "at": n} for n in range(5, 9)]
    records.append({"id": 9, "prompt": "q9", "at": 9})
    records.append({"id": 0, "prompt": "q0", "completion": "mended", "at": 10})
    settled(tmp_path / "in" / "b.jsonl", line("b", "x") + "{bad\n")
    command = [sys.executable, "-c", VICTIM, str(tmp_path), api.url, POINTS[point]]
    victim = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120)
    assert victim.returncode == -signal.SIGKILL, victim.stderr
    died = sources.history(world.db, "d", limit=2)
    world.ingest(*wanted(api.url))
    expected = {f"q{n}": "x" for n in range(1, 9)} | {"q0": "mended", "a": "x", "b": "x"}
    assert world.said() == expected
    assert len(world.rows()) == len(expected)
    assert sorted(one["origin"] for one in quarantine.page(world.db)) == [f"{api.url}/t#9", "in/b.jsonl:2"]
    assert cursors.value_of(sources.cursor_of(world.db, "d", "api")) == 10
    after = {run["id"]: run["state"] for run in sources.history(world.db, "d")}
    assert {after[run["id"]] for run in died} == {"done" if point == "committed" else "interrupted"}
    assert versions.get(world.db, "d").number == 2
    assert audit.verify(world.db).ok
    assert json.loads(sources.cursor_of(world.db, "d", "api")) == {"number": "10"}
