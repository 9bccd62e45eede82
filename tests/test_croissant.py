"""The card of a version, validated and read by the reference implementation of Croissant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ciranda.config import Home
from ciranda.data import croissant, exports, reading, versions
from ciranda.data import descriptions as told
from ciranda.data.descriptions import Change
from ciranda.data.rows import Row
from ciranda.store.database import Database, metadata

ITSELF = reading.itself("export")
READ = """
import json, sys
import mlcroissant
read = mlcroissant.Dataset(jsonld=sys.argv[1])
records = list(read.records("rows")) if len(sys.argv) > 2 else []
issues, conforms_to = read.metadata.ctx.issues, str(read.metadata.ctx.conforms_to.value)
told = {"issues": issues.report(), "errors": sorted(issues.errors), "conforms_to": conforms_to, "records": records}
print(json.dumps(told, default=bytes.decode))
"""


def read(card: Path, *more: str) -> dict[str, Any]:
    """What the format's own library says of a card. In a process of its own: it takes over the logging of whoever loads it."""
    told = subprocess.run([sys.executable, "-c", READ, str(card), *more], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return found


def rows(count: int) -> list[Row]:
    return [
        Row.of(
            f"pergunta {n}", f"resposta {n}", system="be brief", language="pt", thumb=n % 2, tags=("x", "y")[: n % 3],
            subject=f"person-{n}", source="files", origin=f"f:{n}", extra={"tier": "gold", "age": n},
        )
        for n in range(count)
    ]  # fmt: skip


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


def test_a_card_is_valid_croissant_and_its_file_is_read_by_it(db: Database, home: Home, tmp_path: Path) -> None:
    version = versions.commit(db, home, "tickets", rows(20), transformation={}, actor="test")
    with db.writing() as conn:
        change = Change(owner="ana", licence="CC-BY-4.0", description="Perguntas", purpose="Support", tags=["br"])
        told.change(conn, "tickets", "", change, actor="ana")
        told.change(conn, "tickets", "extra.tier", Change(description="What they pay", tags=["pii"]), actor="ana")
    card = croissant.card(db, home, version, ITSELF, origin="https://c.example.com")
    assert (
        card["distribution"][0]["contentUrl"] == "https://c.example.com/api/v1/datasets/tickets@1/export?format=jsonl"
    )
    assert card["license"] == "https://spdx.org/licenses/CC-BY-4.0"
    assert card["rai:personalSensitiveInformation"] == "extra.tier"
    file = tmp_path / "rows.jsonl"
    taken = reading.batches(db, home, version.ref, ITSELF, columns=reading.TAKEN)
    file.write_bytes(b"".join(exports.written(taken, "jsonl")))
    card["distribution"][0]["contentUrl"] = file.name
    (tmp_path / "card.json").write_text(json.dumps(card))
    found = read(tmp_path / "card.json", "rows")
    assert (found["issues"], found["conforms_to"]) == ("", croissant.CONFORMS_TO)
    records = found["records"]
    assert len(records) == 20
    assert {record["rows/completion"] for record in records} == {f"resposta {n}" for n in range(20)}
    assert records[0]["rows/messages.role"] == ["system", "user"]
    assert {record["rows/extra.age"] for record in records} == {float(n) for n in range(20)}
    assert "person-" not in json.dumps(records)


def test_a_bare_dataset_has_a_valid_card_too(db: Database, home: Home, tmp_path: Path) -> None:
    version = versions.commit(db, home, "bare", [Row.of("a", "b")], transformation={}, actor="test")
    card = croissant.card(db, home, version, ITSELF, origin="http://127.0.0.1:7700")
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert read(tmp_path / "card.json")["errors"] == []


def test_a_large_one_is_made_when_asked_for(
    db: Database, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(croissant, "HASHED", 5)
    version = versions.commit(db, home, "tickets", rows(9), transformation={}, actor="test")
    card = croissant.card(db, home, version, ITSELF, origin="http://127.0.0.1:7700")
    assert card["isLiveDataset"]
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert read(tmp_path / "card.json")["errors"] == []
