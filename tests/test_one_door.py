"""Door by door: a value that policy hides comes out of none of them. A canary lies in hidden fields of a dataset that is then
looked at, exported, trained on, evaluated on and watched against; the raw bytes of everything that came out are searched for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

import house
from ciranda import loop
from ciranda.config import Home
from ciranda.data import exports, reading
from ciranda.govern import access, policies
from ciranda.loop import steps
from ciranda.loop.platform import Platform
from ciranda.loop.work import Work
from ciranda.monitor import drift
from ciranda.registry import versions
from ciranda.web import app

CANARIES = ("canary-question", "canary-answer", "canary-person", "canary-note")
POLICIES: tuple[dict[str, Any], ...] = (
    {
        "policy": "secrets", "effect": "mask", "fields": {"names": ["messages", "completion"]},
        "rows": [{"field": "extra.secret", "present": True}],
    },
    {"policy": "notes", "effect": "deny", "fields": {"names": ["extra"]}},
    {"policy": "people-are-hashed", "effect": "hash", "fields": {"names": ["subject"]}},
)  # fmt: skip
REF = f"{house.MODEL}@1"


class World:
    """A home whose dataset has canaries, and whose model learnt from it under the policies."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / ".ciranda")
        self.platform: Platform = loop.open(self.home)
        file = house.project(folder, spec=house.SPEC.replace("    - {interactions: feedback}\n", ""))
        with (folder / "data" / "said.jsonl").open("a") as data:
            for split in ("train", "validation", "test"):
                for number in range(4):
                    data.write(json.dumps(_row(split, number)) + "\n")
        loop.apply(self.platform, loop.plan(self.platform, {str(file): file.read_text()}), "test")
        with self.platform.db.writing() as conn:
            for one in POLICIES:
                policies.put(conn, policies.read(one), actor="test")
            self.key = access.create(conn, "vera", role="engineer", actor="test")[1]
        self.client = TestClient(app.create(self.platform), base_url="http://127.0.0.1")

    def learn(self) -> None:
        """Ingest, train, register and evaluate, as a turn does."""
        turn = loop.start_turn(self.platform, house.MODEL, event="one", actor="test")
        work = Work(self.platform, turn)
        data = work.data()
        while versions_of(self.platform) == 0:
            steps.found(self.platform)
        best = work.train(data)
        self.version = work.register(data, best)["version"]
        work.evaluate(data, {"version": self.version})

    def get(self, path: str) -> bytes:
        answer = self.client.get(f"/api/v1{path}", headers={"authorization": f"Bearer {self.key}"})
        assert answer.status_code == 200, answer.text
        return answer.content

    def page(self, path: str) -> bytes:
        if "sign-in" in str((asked := self.client.get("/sign-in")).url):
            self.client.post("/sign-in", data={"key": self.key, "token": token_of(asked.text)})
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text[:500]
        return answer.content


def _row(split: str, number: int) -> dict[str, Any]:
    return {
        "prompt": f"canary-question {split} {number}", "completion": f"canary-answer {number}", "split": split, "language": "en",
        "subject": "canary-person", "extra": {"secret": True, "note": f"canary-note {number}"},
    }  # fmt: skip


def versions_of(platform: Platform) -> int:
    with platform.db.reading() as conn:
        return conn.execute(sa.select(sa.func.count()).select_from(versions.versions)).scalar() or 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("door"))
    made.learn()
    yield made
    made.platform.close()


def token_of(text: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f]+)"', text)
    assert found is not None
    return found[1]


def clean(content: bytes, place: str) -> None:
    found = [canary for canary in CANARIES if canary.encode() in content]
    assert not found, f"{place} shows {found}"


def test_the_dataset_has_them(world: World) -> None:
    admin = reading.read(world.platform.db, world.home, REF, reading.Reader("ana", "admin", "viewing"))
    stored = [row for row in admin if "[masked]" in row.completion]
    assert len(stored) == 12, "the policies bind admins too; what the shelf holds is whole"
    assert {row.split for row in stored} == {"train", "validation", "test"}


@pytest.mark.parametrize("path", ["/datasets", f"/datasets/{house.MODEL}", f"/datasets/{REF}"])
def test_the_api(world: World, path: str) -> None:
    clean(world.get(path), path)


@pytest.mark.parametrize(
    "path",
    [
        f"/datasets/{house.MODEL}/1", f"/datasets/{house.MODEL}/1?q=masked", f"/datasets/{house.MODEL}/1?split=test",
        f"/datasets/{house.MODEL}/diff/1..1",
    ],
)  # fmt: skip
def test_the_pages(world: World, path: str) -> None:
    content = world.page(path)
    clean(content, path)
    assert b"/sign-in" not in content, "the page itself was looked at"
    assert b"[masked]" in content or "masked" not in path


@pytest.mark.parametrize("format_", exports.FORMATS)
def test_exports(world: World, format_: str, tmp_path: Path) -> None:
    content = world.get(f"/datasets/{REF}/export?format={format_}")
    if format_ == "parquet":
        (tmp_path / "rows.parquet").write_bytes(content)
        rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
        content = json.dumps(rows).encode()
    assert content.count(b"[masked]") >= 12
    clean(content, f"the {format_}")
    newest = exports.listing(world.platform.db)[0]
    assert (newest["what"], newest["actor"], newest["format"]) == (REF, "vera", format_)
    assert newest["policies"] == ["notes", "people-are-hashed", "secrets"]


def test_training_evaluation_and_what_they_leave_in_the_home(world: World) -> None:
    searched = 0
    for folder in (world.home.jobs, world.home.artefacts, world.home.run, world.home.logs):
        for file in folder.rglob("*"):
            if file.is_file():
                searched += 1
                clean(file.read_bytes(), str(file))
    assert searched > 20
    staged = next((world.home.jobs / "rows").glob("*-train.jsonl")).read_text()
    assert staged.count("[masked]") == 8, "the rows are there, without what they hide"


def test_the_registry_says_which_policies_the_rows_went_through(world: World) -> None:
    with world.platform.db.reading() as conn:
        version = versions.get(conn, world.version)
    assert version.policies["names"] == ["secrets"], "people and notes are not part of what is trained on"
    bound = reading.decision(world.platform.db, REF, reading.itself("training")).narrowed(reading.TRAINED)
    assert version.policies["digest"] == bound.digest
    card = (Path(version.folder) / "card.md").read_text()
    assert f"secrets ({bound.digest})" in card
    clean(world.get(f"/versions/{world.version}"), "the version")
    clean(world.page(f"/versions/{world.version}"), "its page")


def test_evaluations(world: World) -> None:
    with world.platform.db.reading() as conn:
        known = conn.execute(sa.text("SELECT id FROM evaluations")).scalars().all()
    assert known
    for one in known:
        clean(world.get(f"/evaluations/{one}"), one)


def test_what_drift_is_measured_against(world: World) -> None:
    control_reads = reading.batches(
        world.platform.db, world.home, REF, reading.itself("monitoring", actor="monitor"), columns=("prompt",)
    )
    prompts = [prompt for batch in control_reads for prompt in batch.column("prompt").to_pylist()]
    assert "[masked]" in prompts
    clean(repr(drift.expected(prompts, [])).encode(), "the reference")


def test_a_dry_run_shows_what_another_would_see(world: World) -> None:
    with world.platform.db.writing() as conn:
        admin = access.create(conn, "ana", role="admin", actor="test")[1]
    answer = world.client.get(
        f"/api/v1/datasets/{REF}/preview?role=labeller&purpose=viewing&samples=50",
        headers={"authorization": f"Bearer {admin}"},
    )
    told = answer.json()
    clean(answer.content, "the dry run")
    assert told["effects"]["completion"] == ["mask (secrets)"]
    assert (told["closed"], told["rows"], told["seen"]) == ("", told["rows"], told["rows"])
