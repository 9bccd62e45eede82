"""The card of a version, validated and read by the reference implementation of Croissant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ciranda.config import Home
from ciranda.data import croissant, exports, reading, versions
from ciranda.data import descriptions as told
from ciranda.data.descriptions import Change
from ciranda.data.rows import Row
from ciranda.store.database import Database, metadata

mlcroissant = pytest.importorskip("mlcroissant")
ITSELF = reading.itself("export")


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
    read = mlcroissant.Dataset(jsonld=str(tmp_path / "card.json"))
    assert read.metadata.ctx.issues.report() == ""
    assert str(read.metadata.ctx.conforms_to.value) == croissant.CONFORMS_TO
    records = list(read.records("rows"))
    assert len(records) == 20
    assert {record["rows/completion"].decode() for record in records} == {f"resposta {n}" for n in range(20)}
    assert records[0]["rows/messages.role"] == [b"system", b"user"]
    assert {record["rows/extra.age"] for record in records} == {float(n) for n in range(20)}
    assert not any(b"person-" in value for record in records for value in record.values() if isinstance(value, bytes))


def test_a_bare_dataset_has_a_valid_card_too(db: Database, home: Home) -> None:
    version = versions.commit(db, home, "bare", [Row.of("a", "b")], transformation={}, actor="test")
    card = croissant.card(db, home, version, ITSELF, origin="http://127.0.0.1:7700")
    assert not mlcroissant.Dataset(jsonld=card).metadata.ctx.issues.errors


def test_a_large_one_is_made_when_asked_for(db: Database, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(croissant, "HASHED", 5)
    version = versions.commit(db, home, "tickets", rows(9), transformation={}, actor="test")
    card = croissant.card(db, home, version, ITSELF, origin="http://127.0.0.1:7700")
    assert card["isLiveDataset"]
    assert not mlcroissant.Dataset(jsonld=card).metadata.ctx.issues.errors
