"""MLflow's tracking door, by MLflow's own client over HTTP: runs, artefacts, searches, registered models, and what is refused."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import httpx
import pytest
import uvicorn

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
mlflow = pytest.importorskip("mlflow")

from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

import smallmodel  # noqa: E402
from ciranda import loop  # noqa: E402
from ciranda.config import Settings  # noqa: E402
from ciranda.deploy import rollout  # noqa: E402
from ciranda.errors import Invalid  # noqa: E402
from ciranda.govern import access  # noqa: E402
from ciranda.loop import registering  # noqa: E402
from ciranda.registry import aliases, models, registered  # noqa: E402
from ciranda.train import conditions  # noqa: E402
from ciranda.web.app import create  # noqa: E402
from registry_world import MODEL, World  # noqa: E402


class House:
    """Control of one home, listening on loopback, and keys for it."""

    def __init__(self, path: Path) -> None:
        self.world = World(path, base="tiny")
        self.platform = loop.Platform(self.world.home, Settings(), self.world.db)
        self.server = uvicorn.Server(uvicorn.Config(create(self.platform), port=0, log_level="warning", lifespan="on"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/mlflow"

    def key(self, role: str = "admin", **more: Any) -> str:
        with self.world.db.writing() as conn:
            return access.create(conn, role, role=role, actor="test", **more)[1]

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("tracking"))
    yield made
    made.close()


@pytest.fixture
def client(door: House, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """The official client, as the environment of a script makes it; in a tenant of its own, so that tests do not meet."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", door.key(tenant=f"t{os.urandom(4).hex()}"))
    mlflow.set_tracking_uri(door.url)
    return MlflowClient(door.url)


def test_a_script_logs_a_run_with_everything_and_finds_it_again(client: MlflowClient, tmp_path: Path) -> None:
    mlflow.set_experiment("tickets")
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "loss.txt").write_text("a falling line")
    with mlflow.start_run(run_name="first", tags={"team": "home"}) as active:
        mlflow.log_params({"lr": 0.1, "layers": 12})
        for step in range(5):
            mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
        mlflow.log_metrics({"acc": 0.75, "worst": math.nan, "best": math.inf})
        mlflow.set_tag("note", "olá, café")
        mlflow.log_artifacts(str(tmp_path / "plots"), "plots")
        mlflow.log_dict({"a": [1, 2]}, "config/settings.json")
        mlflow.log_text("x" * 300_000, "long.txt")
    run = client.get_run(active.info.run_id)
    assert (run.info.status, run.info.run_name, run.data.params) == ("FINISHED", "first", {"lr": "0.1", "layers": "12"})
    assert run.data.metrics["acc"] == 0.75
    assert math.isnan(run.data.metrics["worst"])
    assert run.data.metrics["best"] == math.inf
    assert (run.data.metrics["loss"], run.data.tags["note"], run.data.tags["team"]) == (0.2, "olá, café", "home")
    assert [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss")] == [
        (step, 1.0 / (step + 1)) for step in range(5)
    ]
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {"plots", "config", "long.txt"}
    (plot,) = client.list_artifacts(run.info.run_id, "plots")
    assert (plot.path, plot.is_dir, plot.file_size) == ("plots/loss.txt", False, 14)
    fetched = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="plots/loss.txt", dst_path=str(tmp_path)
    )
    assert Path(fetched).read_text() == "a falling line"
    assert len(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/long.txt")) == 300_000
    assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/config/settings.json") == {"a": [1, 2]}


def test_runs_are_searched_sorted_and_paged_as_in_mlflow(client: MlflowClient) -> None:
    experiment = client.create_experiment("search", tags={"kind": "test"})
    for number in range(7):
        run = client.create_run(experiment, start_time=1000 + number, run_name=f"run {number}")
        client.log_batch(
            run.info.run_id,
            [Metric("acc", number / 10, 5, 0)],
            [Param("lr", str(number % 2))],
            [RunTag("my key", f"v{number}")],
        )

    def names(filter_: str = "", **more: Any) -> list[str]:
        return [one.info.run_name[-1] for one in client.search_runs([experiment], filter_, **more)]

    assert names() == list("6543210")
    assert names("metrics.acc > 0.35 and params.lr = '0'") == list("64")
    assert names("tags.`my key` LIKE 'v%' and metric.acc <= 0.1") == list("10")
    assert names("tags.\"my key\" IN ('v2', 'v5')") == list("52")
    assert names("attributes.run_name ILIKE 'RUN 3'") == ["3"]
    assert names("run_name = 'run 4' AND status = 'RUNNING'") == ["4"]
    assert names(order_by=["params.lr ASC", "metrics.acc DESC"]) == list("6420531")
    pages, token = [], None
    while True:
        page = client.search_runs([experiment], max_results=3, page_token=token)
        pages.append([one.info.run_name[-1] for one in page])
        if not (token := page.token):
            break
    assert pages == [list("654"), list("321"), ["0"]]
    client.delete_run(client.search_runs([experiment])[0].info.run_id)
    assert names() == list("543210")
    assert names(run_view_type=ViewType.DELETED_ONLY) == ["6"]
    assert [one.name for one in client.search_experiments(filter_string="name LIKE 'sea%'")] == ["search"]
    client.delete_experiment(experiment)
    assert [one.name for one in client.search_experiments()] == ["Default"]
    client.restore_experiment(experiment)
    client.rename_experiment(experiment, "found")
    client.set_experiment_tag(experiment, "kind", "other")
    found = client.get_experiment_by_name("found")
    assert found is not None
    assert (found.experiment_id, found.tags["kind"]) == (experiment, "other")


def test_what_was_logged_twice_is_there_once_and_a_parameter_never_changes(client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    for _ in range(2):
        client.log_batch(run, [Metric("loss", 0.5, 10, 1)], [Param("lr", "1")], [])
    assert len(client.get_metric_history(run, "loss")) == 1
    client.log_metric(run, "loss", 0.9, timestamp=5, step=0)
    assert client.get_run(run).data.metrics == {"loss": 0.5}
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        client.log_param(run, "lr", "2")
    client.set_terminated(run, "FAILED")
    assert client.get_run(run).info.status == "FAILED"


def test_errors_are_those_that_the_client_knows(client: MlflowClient) -> None:
    for call, code in (
        (lambda: client.get_run("0" * 32), "RESOURCE_DOES_NOT_EXIST"),
        (lambda: client.get_experiment("77"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda: client.search_runs(["0"], "metrics.acc >"), "INVALID_PARAMETER_VALUE"),
        (lambda: client.search_runs(["0"], "attributes.colour = 'red'"), "INVALID_PARAMETER_VALUE"),
        (lambda: (client.create_experiment("twice"), client.create_experiment("twice")), "RESOURCE_ALREADY_EXISTS"),
        (lambda: client.get_registered_model("nobody"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda: client.get_logged_model("m-none"), "RESOURCE_DOES_NOT_EXIST"),
    ):
        if code == "INVALID_PARAMETER_VALUE":
            client.create_run("0")
        with pytest.raises(MlflowException) as error:
            call()
        assert error.value.error_code == code, error.value


def test_registered_models_of_their_own_are_kept_as_the_client_says(client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    client.log_text(run, "weights", "model/weights.txt")
    folder = client.get_run(run).info.artifact_uri
    first = mlflow.register_model(f"{folder}/model", "churn", tags={"by": "script"})
    second = mlflow.register_model(f"{folder}/model", "churn")
    assert (first.version, second.version, second.status, second.run_id) == ("1", "2", "READY", run)
    client.set_registered_model_alias("churn", "champion", "1")
    client.set_model_version_tag("churn", "1", "checked", "yes")
    client.update_model_version("churn", "1", description="the first")
    client.update_registered_model("churn", description="who leaves")
    champion = client.get_model_version_by_alias("churn", "champion")
    assert (champion.version, champion.tags, champion.description) == (
        "1",
        {"by": "script", "checked": "yes"},
        "the first",
    )
    assert client.get_registered_model("churn").aliases == {"champion": "1"}
    assert [one.version for one in client.search_model_versions("name = 'churn'")] == ["2", "1"]
    assert [one.version for one in client.search_model_versions("tags.checked = 'yes'")] == ["1"]
    assert {one.name for one in client.search_registered_models("name LIKE 'ch%'")} == {"churn"}
    uri = client.get_model_version_download_uri("churn", "1")
    assert mlflow.artifacts.load_text(f"{uri}/weights.txt") == "weights"
    client.delete_model_version("churn", "2")
    third = mlflow.register_model(f"{folder}/model", "churn")
    assert third.version == "3"
    client.rename_registered_model("churn", "leavers")
    assert [one.version for one in client.search_model_versions("name = 'leavers'")] == ["3", "1"]
    client.delete_registered_model("leavers")
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model("leavers")


def test_log_model_keeps_a_model_with_its_files_beside_its_run(client: MlflowClient, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    from mlflow import pyfunc

    class Upper(pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: list[str]) -> list[str]:
            return [one.upper() for one in model_input]

    mlflow.set_experiment("models")
    with mlflow.start_run() as active:
        mlflow.log_param("lr", 0.1)
        made = pyfunc.log_model(name="upper", python_model=Upper(), tags={"by": "script"}, pip_requirements=[])
    assert pyfunc.load_model(made.model_uri).predict(["said"]) == ["SAID"]
    kept = client.get_logged_model(made.model_id)
    assert (kept.name, kept.status.value, kept.source_run_id) == ("upper", "READY", active.info.run_id)
    assert (kept.params, kept.tags["by"]) == ({"lr": "0.1"}, "script")
    outputs = client.get_run(active.info.run_id).outputs
    assert [one.model_id for one in outputs.model_outputs] == [made.model_id]
    assert "MLmodel" in {one.path for one in client.list_logged_model_artifacts(made.model_id)}
    found = client.search_logged_models([kept.experiment_id], "name = 'upper' AND params.lr = '0.1'")
    assert [one.model_id for one in found] == [made.model_id]
    client.set_logged_model_tags(made.model_id, {"seen": "yes"})
    client.delete_logged_model_tag(made.model_id, "by")
    assert "by" not in client.get_logged_model(made.model_id).tags
    version = mlflow.register_model(made.model_uri, "shouting")
    assert (version.version, version.run_id) == ("1", active.info.run_id)
    assert pyfunc.load_model("models:/shouting/1").predict(["again"]) == ["AGAIN"]
    client.delete_logged_model(made.model_id)
    assert not client.search_logged_models([kept.experiment_id])
    with pytest.raises(MlflowException, match="not found"):
        client.get_logged_model(made.model_id)


def test_logged_models_are_a_tenants_own_and_stay_within_bounds(door: House, client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    (model,) = (
        client.create_logged_model("0", source_run_id=run, params={str(n): "1" for n in range(250)}) for _ in "1"
    )
    assert len(client.get_logged_model(model.model_id).params) == 250
    other = {"authorization": f"Bearer {door.key(tenant='stranger')}"}
    for method, path in (
        ("GET", f"mlflow/logged-models/{model.model_id}"), ("DELETE", f"mlflow/logged-models/{model.model_id}"),
        ("PUT", f"mlflow-artifacts/artifacts/0/models/{model.model_id}/artifacts/a.txt"),
        ("GET", f"mlflow-artifacts/artifacts/0/models/{model.model_id}/artifacts/a.txt"),
    ):  # fmt: skip
        assert httpx.request(method, f"{door.url}/api/2.0/{path}", headers=other).status_code == 404, path
    with pytest.raises(MlflowException, match="not allowed"):
        client.log_model_params(model.model_id, {"1": "2"})
    with pytest.raises(MlflowException):
        client.create_model_version(MODEL, f"models:/{model.model_id}", run)  # no adapter of ours
    with pytest.raises(MlflowException) as refused:
        client.log_inputs(run, datasets=[DatasetInput(Dataset("rows", "1", "local", "here"))])
    assert refused.value.error_code == "NOT_IMPLEMENTED"


@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")
def test_a_model_of_ours_is_its_line_and_no_client_moves_it_around_a_gate(door: House, client: MlflowClient) -> None:
    passed, plain = door.world.passed(1), door.world.register(2)
    shown = client.get_registered_model(MODEL)
    assert {one.version for one in client.search_model_versions(f"name = '{MODEL}'")} == {"1", "2"}
    assert shown.aliases.get("live") in (None, "0")
    told = client.get_model_version(MODEL, "1")
    assert (told.tags["ciranda.ref"], told.tags["ciranda.digest"]) == (passed.ref, passed.digest)
    for forbidden in (
        lambda: client.transition_model_version_stage(MODEL, plain.number, "Production"),
        lambda: client.transition_model_version_stage(MODEL, plain.number, "Staging"),
        lambda: client.set_registered_model_alias(MODEL, "live", str(plain.number)),
        lambda: client.delete_model_version(MODEL, str(plain.number)),
        lambda: client.delete_registered_model(MODEL),
        lambda: client.rename_registered_model(MODEL, "mine"),
        lambda: client.create_registered_model(MODEL),
    ):
        with pytest.raises(MlflowException):
            forbidden()
    assert door.world.version(plain.ref).stage == "candidate"
    with door.world.db.writing() as conn:
        rollout.promote(conn, f"{MODEL}@0", actor="test")
    assert client.transition_model_version_stage(MODEL, passed.number, "Production").current_stage == "Production"
    assert client.get_model_version_by_alias(MODEL, "live").version == str(passed.number)
    client.set_registered_model_alias(MODEL, "favourite", str(plain.number))
    client.set_model_version_tag(MODEL, str(plain.number), "seen", "yes")
    assert client.get_model_version_by_alias(MODEL, "favourite").tags["seen"] == "yes"
    with door.world.db.reading() as conn:
        assert aliases.resolve(conn, f"{MODEL}@favourite") == plain.ref
    client.delete_registered_model_alias(MODEL, "favourite")
    assert client.get_registered_model(MODEL).aliases == {"live": str(passed.number)}
    with door.world.db.reading() as conn:
        assert registered.unjudged(conn) == []  # a note asks for no turn


def test_what_is_no_adapter_becomes_no_version_of_ours(door: House, client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    client.log_text(run, "{}", "model/adapter_config.json")
    before = len(client.search_model_versions(f"name = '{MODEL}'"))
    with pytest.raises(MlflowException, match="adapter"):
        client.create_model_version(MODEL, f"runs:/{run}/model", run)
    with pytest.raises(MlflowException):
        client.create_model_version(MODEL, "file:///etc/passwd", run)
    with pytest.raises(MlflowException):
        client.create_model_version(MODEL, f"runs:/{run}/../../x", run)
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == before


@pytest.mark.slow
def test_a_real_adapter_becomes_the_candidate_that_its_trainer_would_have_made(tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    smallmodel.trained(job, smallmodel.spec(job))
    world = World(tmp_path, base=smallmodel.NAME)
    platform = loop.Platform(world.home, Settings(), world.db)
    place = world.home.bases / smallmodel.NAME
    place.symlink_to(smallmodel.base().folder)
    with world.db.reading() as conn:
        spec = models.get(conn, MODEL).spec
    made = registering.take(platform, spec, job / "output" / "adapter", facts={"by": "mlflow"}, actor="test")
    assert (made.ref, made.stage, made.tuning) == (f"{MODEL}@1", "candidate", "lora")
    assert made.gguf is not None
    ours, theirs = (gguf.GGUFReader(path).tensors for path in (job / "output" / "adapter.gguf", made.gguf))
    assert [(one.name, one.data.tobytes()) for one in ours] == [(one.name, one.data.tobytes()) for one in theirs]
    (job / "output" / "adapter" / "evil.bin").write_bytes(b"pickle")
    with pytest.raises(Invalid, match="evil"):
        registering.take(platform, spec, job / "output" / "adapter", facts={}, actor="test")


def test_tenants_do_not_meet_and_a_viewer_only_looks(door: House, client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    client.log_text(run, "mine", "a.txt")
    path = f"{door.url}/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/a.txt"
    other = {"authorization": f"Bearer {door.key(tenant='stranger')}"}
    assert httpx.get(path, headers=other).status_code == 404
    assert httpx.put(path, headers=other, content=b"x").status_code == 404
    assert httpx.get(f"{door.url}/api/2.0/mlflow/runs/get", params={"run_id": run}, headers=other).json() == {
        "error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"Run with id={run} not found. search the runs",
    }  # fmt: skip
    viewer = {"authorization": f"Bearer {door.key('viewer')}"}
    refused = httpx.post(f"{door.url}/api/2.0/mlflow/runs/create", headers=viewer, json={"experiment_id": "0"})
    assert (refused.status_code, refused.json()["error_code"]) == (403, "PERMISSION_DENIED")
    nobody = httpx.post(f"{door.url}/api/2.0/mlflow/runs/create", json={})
    assert (nobody.status_code, nobody.json()["error_code"]) == (401, "UNAUTHENTICATED")
    unknown = httpx.post(f"{door.url}/api/2.0/mlflow/traces", headers=viewer, json={})
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize("path", ["../../ciranda.db", "a/../../b", "a//b", "a\\b", "%2e%2e/x", "x" * 300, ""])
def test_no_artefact_leaves_the_folder_of_its_run(door: House, client: MlflowClient, path: str) -> None:
    run = client.create_run("0").info.run_id
    carrying = {"authorization": f"Bearer {os.environ['MLFLOW_TRACKING_TOKEN']}"}
    address = httpx.URL(f"{door.url}/api/2.0/mlflow-artifacts/artifacts/").copy_with(
        raw_path=f"/mlflow/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/{path}".encode()
    )
    before = sorted(one for one in door.world.home.path.rglob("*") if one.is_file() and "ciranda.db" not in one.name)
    answer = httpx.put(address, headers=carrying, content=b"evil")
    assert answer.status_code in (400, 404), answer.text
    after = sorted(one for one in door.world.home.path.rglob("*") if one.is_file() and "ciranda.db" not in one.name)
    assert before == after


@pytest.mark.parametrize(
    ("text", "held", "met"),
    [
        ("metrics.a > 1", {"a": 2.0}, True), ("metrics.a > 1", {}, False), ("metrics.a IS NULL", {}, True),
        ("metrics.a IS NOT NULL and metrics.a != 2", {"a": 2.0}, False), ("tags.a LIKE '%b_d%'", {"a": "xxbcdxx"}, True),
        ("tags.a LIKE 'b%b'", {"a": "b"}, False), ("tags.a ILIKE 'ABC'", {"a": "abc"}, True),
        ("tags.a NOT IN ('x', 'y')", {"a": "z"}, True), ("params.a = 'it\\'s'", {"a": "it's"}, True),
        ("tags.a LIKE '%" + "a%" * 40 + "b'", {"a": "a" * 5000}, False),
    ],
)  # fmt: skip
def test_the_search_language(text: str, held: dict[str, Any], met: bool) -> None:
    found = conditions.parse(text, entities=("attributes", "metrics", "params", "tags"))
    assert conditions.holds(found, lambda entity, key: held.get(key)) is met
