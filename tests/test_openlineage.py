"""Lineage as OpenLineage events: valid by the client's own types, told once per run, kept while the receiver is away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ciranda.config import Settings
from ciranda.config.source import Source
from ciranda.data import descriptions, sources, versions
from ciranda.data.descriptions import Change
from ciranda.data.sources import Inputs
from ciranda.errors import Invalid, Unavailable
from ciranda.monitor import export, openlineage
from ciranda.monitor.openlineage import Lineage
from ciranda.store import clock
from ciranda.train.trials import searches, trials
from registry_world import MODEL, World

facet_v2 = pytest.importorskip("openlineage.client.facet_v2")
event_v2 = pytest.importorskip("openlineage.client.event_v2")
FACETS = {
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
    "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
    "documentation": facet_v2.documentation_dataset.DocumentationDatasetFacet,
    "ownership": facet_v2.ownership_dataset.OwnershipDatasetFacet,
    "tags": facet_v2.tags_dataset.TagsDatasetFacet,
    "outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "parent": facet_v2.parent_run.ParentRunFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openlineage, "SETTLED_S", 0.0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.db.close()


def told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def happen(world: World, folder: Path) -> None:
    """An ingestion, its commit, a trial that went well and one that failed, a registered version."""
    (folder / "rows.jsonl").write_text("".join(f'{{"prompt": "say {n}", "completion": "{n}"}}\n' for n in range(9)))
    source = Source.model_validate({"files": "rows.jsonl"})
    with sources.ingest(
        world.db, world.home, dataset=MODEL, model=MODEL, sources=[source], inputs=Inputs(folder)
    ) as batch:
        versions.commit(
            world.db,
            world.home,
            MODEL,
            batch.rows,
            transformation=batch.transformation,
            actor="test",
            within=batch.finish,
        )
    with world.db.writing() as conn:
        change = Change(owner="ana", description="What people say", tags=["br"])
        descriptions.change(conn, MODEL, "", change, actor="ana")
        now = clock.iso()
        conn.execute(
            searches.insert().values(
                id="search_1", model=MODEL, dataset=f"{MODEL}@1", turn="", state="complete", objective="x", plan={}, best=1,
                reason="", started_at=now, ended_at=now,
            )
        )  # fmt: skip
        for number, state in ((1, "complete"), (2, "failed")):
            conn.execute(
                trials.insert().values(
                    id=f"trial_{number}", search="search_1", number=number, state=state, recipe={}, loss_curve=[], job="",
                    folder="", reason="out of memory" if number == 2 else "", figures={}, started_at=now, ended_at=now,
                )
            )  # fmt: skip
    world.register(1)


def valid(event: dict[str, Any]) -> None:
    """The client's own types take the event and each of its facets, under the schema that they name."""
    for kind, given in facets_of(event):
        known = FACETS[kind]
        assert given["_schemaURL"] == known._get_schema(), kind
        known(**{name: value for name, value in given.items() if not name.startswith("_")})
    made = event_v2.RunEvent(
        eventType=getattr(event_v2.RunState, event["eventType"]),
        eventTime=event["eventTime"],
        run=event_v2.Run(runId=event["run"]["runId"]),
        job=event_v2.Job(namespace=event["job"]["namespace"], name=event["job"]["name"]),
        inputs=[event_v2.InputDataset(namespace=one["namespace"], name=one["name"]) for one in event["inputs"]],
        outputs=[event_v2.OutputDataset(namespace=one["namespace"], name=one["name"]) for one in event["outputs"]],
        producer=event["producer"],
    )
    assert made.schemaURL == event["schemaURL"]


def facets_of(event: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from event["run"]["facets"].items()
    yield from event["job"]["facets"].items()
    for one in (*event["inputs"], *event["outputs"]):
        yield from one["facets"].items()
        yield from one.get("outputFacets", {}).items()


def test_what_happens_is_told_in_valid_events_and_once(world: World, tmp_path: Path) -> None:
    file = tmp_path / "lineage.jsonl"
    lineage = Lineage(world.db, Settings(openlineage=f"file:{file}"))
    lineage.tick()
    happen(world, tmp_path)
    assert lineage.tick() == 10
    assert lineage.tick() == 0
    events = told(file)
    for event in events:
        valid(event)
    by_job = {(event["job"]["name"], event["eventType"]) for event in events}
    assert by_job == {
        (f"{job}.{MODEL}", kind) for job in ("ingest", "commit", "train", "register") for kind in ("START", "COMPLETE")
    } | {(f"train.{MODEL}", "FAIL")}
    (commit,) = [one for one in events if one["job"]["name"] == f"commit.{MODEL}" and one["eventType"] == "COMPLETE"]
    (output,) = commit["outputs"]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 9
    assert output["facets"]["ownership"]["owners"] == [{"name": "ana", "type": "OWNER"}]
    assert commit["run"]["facets"]["parent"]["job"]["name"] == f"ingest.{MODEL}"
    (register,) = [
        one for one in events if one["job"]["name"] == f"register.{MODEL}" and one["eventType"] == "COMPLETE"
    ]
    assert register["inputs"][0]["name"] == f"datasets/{MODEL}"
    assert register["outputs"][0]["name"] == f"models/{MODEL}"
    assert "say 1" not in file.read_text(), "no rows"


def test_a_receiver_that_is_away_loses_nothing_and_one_that_refuses_holds_nothing_up(
    world: World, tmp_path: Path
) -> None:
    taken: list[dict[str, Any]] = []
    answers = [503]

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            code = answers[0]
            if code < 300:
                taken.append({**body, "key": self.headers["authorization"], "path": self.path})
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    key = tmp_path / "key"
    key.write_text("secret\n")
    url = f"http://127.0.0.1:{server.server_port}"
    lineage = Lineage(world.db, Settings(openlineage=url, openlineage_key_file=str(key)))
    try:
        lineage.tick()
        happen(world, tmp_path)
        with pytest.raises(Unavailable, match="503"):
            lineage.tick()
        answers[0] = 201
        assert lineage.tick() == 10
        assert {(one["key"], one["path"]) for one in taken} == {("Bearer secret", "/api/v1/lineage")}
        answers[0] = 422
        world.register(2)
        assert lineage.tick() == 0
        assert export.position(world.db, "openlineage:audit") is not None
        answers[0] = 201
        assert lineage.tick() == 0, "what it called bad is passed over"
    finally:
        server.shutdown()
        server.server_close()


def test_a_wrong_setting_is_told(world: World, tmp_path: Path) -> None:
    lineage = Lineage(world.db, Settings(openlineage="ftp://nowhere"))
    lineage.tick()
    happen(world, tmp_path)
    with pytest.raises(Invalid, match="takes no events"):
        lineage.tick()
