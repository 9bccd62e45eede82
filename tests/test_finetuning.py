"""OpenAI's fine-tuning door, by OpenAI's own client, at the gateway's address: files, jobs, events, cancelling, errors, rights."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

import house
from ciranda.cli.stage import Stage
from ciranda.data import pieces, reading
from ciranda.data.rows import Row
from ciranda.loop import tuning, turns
from ciranda.train import trials

ENDED = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A platform whose house has data of its own, and talks."""
    folder = tmp_path_factory.mktemp("finetuning")
    file = house.project(folder)
    with house.platform(folder) as stage:
        house.apply(stage, file)
        stage.control.post("/models/house/ingest", {})
        house.live(stage, "house@0")
        yield stage


def client(stage: Stage, *, key: str = "", at: str = "") -> OpenAI:
    return OpenAI(base_url=f"{at or stage.gateway}/v1", api_key=key or stage.key, max_retries=0)


def own(stage: Stage, split: str) -> list[Row]:
    """The house's own rows of a split."""
    platform = stage.platform
    return list(reading.read(platform.db, platform.home, "house@1", reading.itself("evaluation"), split=split))


def said(row: Row, answer: str = "") -> dict[str, Any]:
    """A row as a line of a fine-tuning file."""
    turns = [message.to_dict() for message in row.messages]
    return {"messages": [*turns, {"role": "assistant", "content": answer or row.completion}], "language": row.language}


def sent(openai: OpenAI, records: Sequence[Any], *, name: str = "said.jsonl") -> str:
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records)
    return openai.files.create(file=(name, io.BytesIO(text.encode())), purpose="fine-tune").id


def ended(openai: OpenAI, job: str, *, within_s: float = 60) -> Any:
    deadline = time.monotonic() + within_s
    while (now := openai.fine_tuning.jobs.retrieve(job)).status not in ENDED:
        assert time.monotonic() < deadline, [one.message for one in openai.fine_tuning.jobs.list_events(job)]
        time.sleep(0.2)
    return now


def messages(openai: OpenAI, job: str) -> list[str]:
    return [one.message for one in openai.fine_tuning.jobs.list_events(job, limit=100)]


def lay_aside(stage: Stage) -> None:
    """End the rollout that a job began, so that the line is free again."""
    stage.control.post("/models/house/rollback", {})

    def free() -> bool:
        with stage.platform.db.reading() as conn:
            return not turns.in_state(conn, *turns.BUSY)

    stage.until("the line is free", free, limit_s=20)


def test_the_official_client_trains_a_version_and_talks_to_it(stage: Stage) -> None:
    openai = client(stage)
    file = sent(openai, [said(row) for row in own(stage, "train")])
    kept = openai.files.retrieve(file)
    assert (kept.filename, kept.purpose, kept.status) == ("said.jsonl", "fine-tune", "processed")
    assert len(openai.files.content(file).content) == kept.bytes
    job = openai.fine_tuning.jobs.create(
        model="house", training_file=file, suffix="first", seed=7, metadata={"team": "home"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 4}}},
    )  # fmt: skip
    assert (job.status, job.fine_tuned_model, job.model) == ("queued", None, "house")
    done = ended(openai, job.id)
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model == "house@1"
    assert done.method is not None
    assert done.method.type == "supervised"
    assert done.hyperparameters.n_epochs == 4
    story = messages(openai, job.id)
    assert story[0] == "The job has successfully completed"
    assert story[-1] == f"Created fine-tuning job: {job.id}"
    assert any("training loss=" in one for one in story)
    assert any(one.startswith("Gates: pass") for one in story)
    whole = [one.id for one in openai.fine_tuning.jobs.list_events(job.id, limit=7)]
    assert len(whole) == len(set(whole)) == len(list(openai.fine_tuning.jobs.list_events(job.id, limit=100)))
    (checkpoint,) = openai.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.fine_tuned_model_checkpoint == "house@1"
    assert checkpoint.metrics.full_valid_loss is not None
    results = openai.files.content(done.result_files[0]).text
    assert results.startswith("trial,step,train_loss")
    assert [one.id for one in openai.fine_tuning.jobs.list(metadata={"team": "home"})] == [job.id]
    assert not list(openai.fine_tuning.jobs.list(metadata={"team": "other"}))
    asked = own(stage, "train")[0]
    told = stage.until("the version is served", lambda: answer(openai, asked), limit_s=30)
    assert json.loads(told) == json.loads(asked.completion)
    lineage(stage, job.id, file)
    lay_aside(stage)


def answer(asking: OpenAI, row: Row) -> str | None:
    try:
        found = asking.chat.completions.create(
            model="house@1", messages=[{"role": "user", "content": row.prompt}], temperature=0
        )
    except (openai.NotFoundError, openai.APIStatusError):
        return None
    return found.choices[0].message.content


def lineage(stage: Stage, job: str, file: str) -> None:
    """The version learnt from the file, through the same steps as any other, and the log says who asked."""
    version = stage.control.get("/versions/house@1")
    assert version["dataset"].startswith(f"{tuning.dataset_of('house')}@")
    assert version["recipe"]["seed"] == 7
    dataset = stage.control.get(f"/datasets/{version['dataset']}")["version"]
    assert dataset["transformation"]["cause"] == job
    assert dataset["transformation"]["sources"][0]["source"] == file
    assert set(dataset["counts"]["split"]) == {"train", "validation"}
    turn = house.turn(stage, version["turn"])
    assert [step["name"] for step in turn.steps][:5] == ["data", "train", "register", "evaluate", "gate"]
    asked = stage.control.get("/audit", subject=job)["items"]
    assert [one["action"] for one in asked] == ["tuning.created"]


def test_a_file_that_holds_what_the_gates_ask_is_refused(stage: Stage) -> None:
    openai = client(stage)
    cheat = [{**said(row), "split": "train"} for row in (*own(stage, "test"), *own(stage, "train"))]
    done = ended(openai, openai.fine_tuning.jobs.create(model="house", training_file=sent(openai, cheat)).id)
    assert (done.status, done.fine_tuned_model) == ("failed", None)
    assert done.error is not None
    assert (done.error.code, done.error.param) == ("invalid_training_file", "training_file")
    assert "contamination" in done.error.message


def test_a_version_that_its_gates_refuse_is_no_result(stage: Stage) -> None:
    openai = client(stage)
    wrong = [said(row, answer='{"intent": "Nothing"}') for row in own(stage, "train")]
    job = openai.fine_tuning.jobs.create(model="house", training_file=sent(openai, wrong))
    done = ended(openai, job.id)
    assert (done.status, done.fine_tuned_model) == ("failed", None)
    assert done.error is not None
    assert done.error.code == "gate_refused"
    assert stage.control.get("/models/house")["live"] == "house@0"


@pytest.mark.slow
def test_preferences_are_learnt_by_dpo(stage: Stage) -> None:
    asking = client(stage)
    records = [
        {"input": {"messages": said(row)["messages"][:-1]}, "preferred_output": [said(row)["messages"][-1]],
         "non_preferred_output": [{"role": "assistant", "content": "no idea"}]}
        for row in own(stage, "train")
    ]  # fmt: skip
    wanted = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 4, "batch_size": 4}}}
    file = sent(asking, records)
    job = asking.fine_tuning.jobs.create(model="house", training_file=file, method=wanted)  # type: ignore[arg-type]
    done = ended(asking, job.id)
    assert done.status == "succeeded", done.error
    assert done.method is not None
    assert done.method.type == "dpo"
    recipe = stage.control.get(f"/versions/{done.fine_tuned_model}")["recipe"]
    assert (recipe["method"], recipe["beta"]) == ("dpo", 0.2)
    lay_aside(stage)


@pytest.mark.slow
def test_a_job_survives_the_death_of_control(stage: Stage) -> None:
    asking = client(stage, at=stage.gateway)
    file = sent(asking, [said(row) for row in own(stage, "train")])
    chosen = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 20, "batch_size": 1}}}
    job = asking.fine_tuning.jobs.create(model="house", training_file=file, method=chosen)  # type: ignore[arg-type]
    stage.until("a trial runs", lambda: running(stage), limit_s=30)
    os.kill(json.loads((stage.home.run / "control.json").read_text())["pid"], signal.SIGKILL)

    def back() -> str | None:
        try:
            return asking.fine_tuning.jobs.retrieve(job.id).status
        except openai.InternalServerError:  # 502 or 503, until it is
            return None

    stage.until("control is back", back, limit_s=60)
    done = ended(asking, job.id)
    assert done.status == "succeeded", done.error
    story = messages(asking, job.id)
    assert len(story) == len(set(story))  # nothing was said twice
    lay_aside(stage)


def test_cancelling_ends_all_that_a_job_holds(stage: Stage) -> None:
    asking = client(stage)
    file = sent(asking, [said(row) for row in own(stage, "train")])
    many = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50, "batch_size": 1}}}
    job = asking.fine_tuning.jobs.create(model="house", training_file=file, method=many)  # type: ignore[arg-type]
    second = asking.fine_tuning.jobs.create(model="house", training_file=file)
    stage.until("a trial runs", lambda: running(stage), limit_s=30)
    assert asking.fine_tuning.jobs.cancel(second.id).status == "cancelled"
    assert asking.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="Job has already completed"):
        asking.fine_tuning.jobs.cancel(job.id)
    stage.until("nothing runs", lambda: not running(stage), limit_s=20)

    def over() -> bool:
        return house.turn(stage, f"turn:house:{job.id}").state == "cancelled"

    stage.until("the turn ended", over, limit_s=20)
    assert {one.state for one in trials.of(stage.platform.db, f"search:house:{job.id}")} == {"cancelled"}
    assert asking.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    assert second.id not in "".join(one.id for one in turns.page(stage.platform.db, model="house"))


def running(stage: Stage) -> list[str]:
    jobs = stage.platform.jobs
    return [key for key in jobs.keys() if key.startswith("train:") and jobs.status(key).state == "running"]  # noqa: SIM118


def test_what_is_wrong_is_told_as_openai_tells_it(stage: Stage) -> None:
    asking = client(stage)
    with pytest.raises(openai.BadRequestError, match="Line 2 is not a dictionary"):
        asking.files.create(file=("x.jsonl", b'{"a": 1}\n[1]\n'), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError) as purpose:
        asking.files.create(file=("x.jsonl", b"{}"), purpose="assistants")
    assert (purpose.value.param, purpose.value.code) == ("purpose", "invalid_value")
    with pytest.raises(openai.NotFoundError, match="No such File object: file-none") as missing:
        asking.files.retrieve("file-none")
    assert missing.value.param == "id"
    file = sent(asking, [{"messages": []}])
    with pytest.raises(openai.BadRequestError) as model:
        asking.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=file)
    assert model.value.code == "model_not_available"
    with pytest.raises(openai.BadRequestError, match="invalid training_file") as nowhere:
        asking.fine_tuning.jobs.create(model="house", training_file="file-none")
    assert nowhere.value.param == "training_file"
    with pytest.raises(openai.BadRequestError) as unknown:
        asking.fine_tuning.jobs.create(model="house", training_file=file, extra_body={"epochs": 3})
    assert (unknown.value.code, unknown.value.param) == ("unknown_parameter", "epochs")
    with pytest.raises(openai.BadRequestError) as much:
        asking.fine_tuning.jobs.create(model="house", training_file=file, hyperparameters={"n_epochs": 0})
    assert much.value.param == "hyperparameters.n_epochs"
    with pytest.raises(openai.BadRequestError, match="reinforcement"):
        asking.fine_tuning.jobs.create(model="house", training_file=file, method={"type": "reinforcement"})
    with pytest.raises(openai.NotFoundError, match="Could not find fine tune: ftjob-none"):
        asking.fine_tuning.jobs.retrieve("ftjob-none")
    failed = ended(asking, asking.fine_tuning.jobs.create(model="house", training_file=file).id)
    assert failed.error is not None
    assert failed.error.code == "invalid_training_file"
    assert "Example 1" in failed.error.message
    assert asking.files.delete(file).deleted
    with pytest.raises(openai.NotFoundError):
        asking.files.content(file)


def test_an_adapter_that_mlflow_logged_is_judged_like_any_other(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", stage.key)
    tracking = pytest.importorskip("mlflow").MlflowClient(f"{stage.control.url}/mlflow")
    trained = Path(stage.control.get("/versions/house@1")["folder"]) / "adapter"
    run = tracking.create_run("0").info.run_id
    tracking.log_artifacts(run, str(trained), "adapter")
    made = tracking.create_model_version("house", f"runs:/{run}/adapter", run)
    again = tracking.create_model_version("house", f"runs:/{run}/adapter", run)
    assert (made.version, made.current_stage, made.run_id) == (again.version, "None", run)
    ref = f"house@{made.version}"
    stage.until("a turn was asked for", lambda: tracking.get_model_version("house", made.version).tags.get("ciranda.turn"),
                limit_s=20)  # fmt: skip
    turn = house.ended(stage, f"turn:house:{ref}", "released", "refused")
    assert turn.cause == "registered"
    assert [step["name"] for step in turn.steps][:5] == ["data", "train", "register", "evaluate", "gate"]
    verdicts = stage.control.get(f"/versions/{ref}")["verdicts"]
    assert verdicts[0]["outcome"] == "pass"
    lay_aside(stage)


def test_keys_without_the_right_and_other_tenants_find_nothing(stage: Stage) -> None:
    file = sent(client(stage), [{"messages": []}])
    chat = stage.client_key("app")
    for at in (stage.gateway, stage.control.url):
        with pytest.raises(openai.AuthenticationError) as nobody:
            client(stage, key="cir_nobody", at=at).files.list()
        assert nobody.value.code == "invalid_api_key"
        with pytest.raises(openai.PermissionDeniedError):
            client(stage, key=chat, at=at).files.list()
    made = {"name": "theirs", "role": "engineer", "models": ["*"], "tenant": "others"}
    theirs = client(stage, key=stage.control.post("/keys", made)["secret"], at=stage.control.url)
    assert not list(theirs.files.list())
    assert not list(theirs.fine_tuning.jobs.list())
    with pytest.raises(openai.NotFoundError):
        theirs.files.retrieve(file)
    made = {"name": "elsewhere", "role": "engineer", "models": ["other"]}
    elsewhere = client(stage, key=stage.control.post("/keys", made)["secret"], at=stage.control.url)
    with pytest.raises(openai.BadRequestError, match="house is not available"):
        elsewhere.fine_tuning.jobs.create(model="house", training_file=file)
    assert not list(elsewhere.fine_tuning.jobs.list())


def test_the_gateway_passes_these_paths_on_and_no_other(stage: Stage) -> None:
    carrying = {"authorization": f"Bearer {stage.key}"}
    for path in ("/v1/filesystem", "/v1/fine_tuning", "/api/v1/status"):
        assert httpx.get(f"{stage.gateway}{path}", headers=carrying).status_code == 404
    assert httpx.put(f"{stage.gateway}/v1/files", headers=carrying).status_code == 405
    assert httpx.get(f"{stage.gateway}/v1/files/../../api/v1/keys", headers=carrying).status_code == 404
    big = b'{"x": "' + b"a" * (3 << 20) + b'"}\n'
    asking = client(stage)
    file = asking.files.create(file=("big.jsonl", big), purpose="fine-tune")
    assert asking.files.content(file.id).content == big
    assert "upload.created" in {event["action"] for event in stage.control.get("/audit", subject=file.id)["items"]}


def test_a_file_comes_in_pieces_and_is_learnt_from_like_any_other(stage: Stage, tmp_path: Path) -> None:
    asking = client(stage)
    file = tmp_path / "said.jsonl"
    file.write_text("".join(json.dumps(said(row)) + "\n" for row in own(stage, "train")))
    done = asking.uploads.upload_file_chunked(
        file=file, mime_type="application/jsonl", purpose="fine-tune", part_size=1000,
        md5=hashlib.md5(file.read_bytes()).hexdigest(),
    )  # fmt: skip
    assert (done.status, done.filename, done.bytes) == ("completed", "said.jsonl", file.stat().st_size)
    assert done.file is not None
    assert asking.files.content(done.file.id).content == file.read_bytes()
    assert not list(stage.home.uploads.glob("part_*"))
    told = {event["action"] for event in stage.control.get("/audit", subject=done.id)["items"]}
    assert told == {"upload.announced", "upload.completed"}
    job = asking.fine_tuning.jobs.create(model="house", training_file=done.file.id)
    assert asking.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def announced(asking: OpenAI, size: int, **more: Any) -> str:
    fields = {"filename": "x.jsonl", "purpose": "fine-tune", "mime_type": "application/jsonl", **more}
    return asking.uploads.create(bytes=size, **fields).id


def test_pieces_are_what_was_announced_or_nothing(stage: Stage) -> None:
    asking, line = client(stage), b'{"a": 1}\n'
    upload = announced(asking, 2 * len(line))
    first, second = (asking.uploads.parts.create(upload, data=line).id for _ in range(2))
    with pytest.raises(openai.BadRequestError, match="18 bytes were announced"):
        asking.uploads.parts.create(upload, data=b"x")
    for order, md5 in (([first], ""), ([first, first], ""), ([first, "part_none"], ""), ([first, second], "0" * 32)):
        with pytest.raises(openai.BadRequestError):
            asking.uploads.complete(upload, part_ids=order, md5=md5)
    made = {"name": "pieces", "role": "engineer", "models": ["*"], "tenant": "others"}
    theirs = client(stage, key=stage.control.post("/keys", made)["secret"], at=stage.control.url)
    for refused in (lambda: theirs.uploads.cancel(upload), lambda: theirs.uploads.parts.create(upload, data=b"x")):
        with pytest.raises(openai.NotFoundError, match="No such Upload object"):
            refused()
    assert asking.uploads.cancel(upload).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        asking.uploads.complete(upload, part_ids=[first, second])
    assert not list(stage.home.uploads.glob("part_*"))
    for wrong in ({"bytes": 1 << 40}, {"purpose": "vision"}, {"mime_type": None}):
        with pytest.raises(openai.BadRequestError):
            announced(asking, **{"size": 10, **({"size": wrong["bytes"]} if "bytes" in wrong else wrong)})
    broken = announced(asking, 4)
    with pytest.raises(openai.BadRequestError, match="JSONL"):
        asking.uploads.complete(broken, part_ids=[asking.uploads.parts.create(broken, data=b"none").id])
    assert asking.uploads.cancel(broken).status == "cancelled"  # still open, so that it can be taken back


def test_who_died_while_it_was_completed_left_one_file_and_old_pieces_go(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, home, asking, line = stage.platform.db, stage.home, client(stage), b'{"a": 1}\n'
    upload = announced(asking, len(line))
    part = asking.uploads.parts.create(upload, data=line).id
    whole = {"md5": "", "tenant": "default", "actor": "test"}
    with monkeypatch.context() as dying:
        dying.setattr(pieces, "_dropped", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pieces.complete(db, home, upload, [part], **whole)  # type: ignore[arg-type]
    with db.writing() as conn:
        pieces._set(conn, upload, state=pieces.COMPLETING, claimed_at="2020-01-01T00:00:00.000Z")
    done, file = pieces.complete(db, home, upload, [part], **whole)  # type: ignore[arg-type]
    assert (done.state, file.id) == (pieces.COMPLETED, f"file-{upload.removeprefix('upload_')}")
    assert [one.id for one in asking.files.list()].count(file.id) == 1
    old = announced(asking, len(line))
    asking.uploads.parts.create(old, data=line)
    with db.writing() as conn:
        pieces._set(conn, old, created_at="2020-01-01T00:00:00.000Z")
    with pytest.raises(openai.BadRequestError, match="is expired"):
        asking.uploads.parts.create(old, data=line)
    pieces.tidy(db, home)
    assert not list(home.uploads.glob("part_*"))
