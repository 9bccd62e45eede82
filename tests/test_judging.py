"""Judges at work on real answers: calibrated by people's labels, asked by gates, and beside replayed traffic."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ciranda.config.model import ModelSpec
from ciranda.errors import Conflict, NotFound, Refused
from ciranda.evals import asking, calibration, judge, judgements, replays, suites
from ciranda.evals.judge import Judge
from ciranda.govern import access
from ciranda.jobs.local import Local
from ciranda.loop import calibrating, comparing, exam, judging, opinions, overlaps, replaying, sampling
from ciranda.loop.demands import demand
from ciranda.monitor.quality import quality_states
from ciranda.registry import models
from ciranda.store import clock
from court import ASKED, ENGINEER, Court, answer, lenient, serving
from recorded import until
from registry_world import MODEL
from test_cli import Desk

CRITERIA = "It names the intent."


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    made = Court(tmp_path_factory.mktemp("court"))
    made.labelled(made.traffic())
    yield made
    made.close()


def registered(court: Court, url: str, name: str = "kind", **more: object) -> Judge:
    with court.world.db.writing() as conn:
        return judge.register(conn, Judge(name, "grader", CRITERIA, url=url, **more), actor="test")  # type: ignore[arg-type]


def finished(court: Court, key: str) -> dict[str, object]:
    """The job's state once it ended, with what came of it kept."""

    def look() -> dict[str, object] | None:
        opinions.keep(court.platform)
        told = opinions.told(court.platform, key)
        return told if told["recorded"] or told["state"] == "failed" else None

    return until(look, seconds=60)


def calibrated(court: Court, name: str = "kind", **more: object) -> dict[str, object]:
    key = calibrating.calibrate(court.platform, name, ENGINEER, queue="lamps", everything=True, **more)  # type: ignore[arg-type]
    return finished(court, key)


def test_a_judge_is_held_against_what_people_said_of_the_same_answers(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADER_KEY", "sk-1")
    with serving(lenient) as (url, seen):
        registered(court, url, key="env:GRADER_KEY")
        told = calibrated(court)
        assert told["recorded"]
        assert len(seen) == 60
        assert {(one["path"], one["key"], one["model"]) for one in seen} == {
            ("/v1/chat/completions", "Bearer sk-1", "grader")
        }
    with court.world.db.reading() as conn:
        found = calibration.newest(conn, "kind", "judge", MODEL)
    assert found is not None
    assert (found.n, found.served, found.silent) == (60, ("grader-1",), 0)
    assert found.figures()["people"] == pytest.approx(2 / 3)
    assert 0.2 < found.rise.slope < 0.6  # from 3 to 5 of 5, with one in ten the other way round
    assert {pair.version for pair in found.pairs} == {court.live.ref}
    (worth,) = calibrating.worth(court.platform, judge_of(court, "kind"))
    assert (worth["believed"], worth["model"], worth["labels"]) == (True, MODEL, 60)


def judge_of(court: Court, name: str) -> Judge:
    with court.world.db.reading() as conn:
        return judge.get(conn, name)


def test_only_items_that_came_at_random_count_unless_all_are_asked_for(court: Court) -> None:
    registered(court, "http://127.0.0.1:9", "idle")
    with pytest.raises(Refused, match="0 labelled answers in lamps"):
        calibrating.calibrate(court.platform, "idle", ENGINEER, queue="lamps")


def test_a_private_address_is_refused_unless_it_is_let_through(court: Court) -> None:
    registered(court, "http://127.0.0.1:9", "inside")
    shut = replace(court.platform, settings=type(court.platform.settings)())
    key = calibrating.calibrate(shut, "inside", ENGINEER, queue="lamps", everything=True)
    told = finished(court, key)
    assert "private address" in str(told["error"])


def test_what_was_answered_before_a_kill_is_not_asked_again_and_a_busy_judge_is_asked_again(tmp_path: Path) -> None:
    replies = iter(["429", "500", "SCORE: 4", "SCORE: 2"])
    with serving(lambda _: next(replies)) as (url, seen):
        asks = tuple(judge.Ask(str(n), ({"role": "user", "content": str(n)},)) for n in range(3))
        spec = asking.Spec("grader", url, "", True, 16, asks, {})
        (tmp_path / "answers.jsonl").write_text('{"id": "0", "text": "SCORE: 5", "served": "g"}\n{"id": "1", "te')
        asking.PAUSE_S, before = 0.001, asking.PAUSE_S
        asking.CONCURRENCY, many = 1, asking.CONCURRENCY
        try:
            asking.ask(tmp_path, spec.to_dict(), lambda _: None)  # type: ignore[arg-type]
        finally:
            asking.PAUSE_S, asking.CONCURRENCY = before, many
        assert {one.id: one.text for one in asking.read(tmp_path).values()} == {
            "0": "SCORE: 5",
            "1": "SCORE: 4",
            "2": "SCORE: 2",
        }
        assert [one["messages"][0]["content"] for one in seen] == ["1", "1", "1", "2"]


# --- as a gate --------------------------------------------------------------------------------------------------------

GATES = [{"metric": "judge:kind", "rule": "better than live"}, {"metric": "preferred:kind", "rule": "better than live"}]


def examined(court: Court) -> tuple[ModelSpec, dict[str, dict[str, str]]]:
    """Both versions asked the same cases, without a job for each."""
    suite, found = court.suite(), {}
    for version in (court.live, court.candidate):
        evaluation = suites.run(suite, court.ask(version), ("valid_json",))
        report = suites.save(court.world.home, evaluation)
        with court.world.db.writing() as conn:
            name = suites.record(conn, evaluation, model=MODEL, version=version.ref, report=report, actor="test",
                                 id=f"eval_{version.number}")  # fmt: skip
        found[version.ref] = {"test": name}
    court.world.apply(serve={"engine": "fake"}, evaluate={"cases": 50, "max_tokens": 64}, gates=GATES)
    with court.world.db.reading() as conn:
        return models.get(conn, MODEL).spec, found


def verdict(court: Court, spec: ModelSpec, found: dict[str, dict[str, str]]) -> dict[str, str]:
    told = exam.judge(court.platform, spec, court.candidate, court.live, found, turn="")
    return {"outcome": told["outcome"], "reason": told["reason"]}


def test_gates_ask_believed_judges_once_and_refuse_the_others(court: Court) -> None:
    spec, found = examined(court)
    with serving(lenient) as (url, seen):
        registered(court, url, "kind")
        assert judging.consult(court.platform, spec, court.candidate, court.live, found, {}) == []  # another one since
        refused = verdict(court, spec, found)
        assert refused["outcome"] == "cannot tell"
        assert "ciranda judges calibrate kind" in refused["reason"]
        calibrated(court)
        asked = len(seen)
        keys = judging.consult(court.platform, spec, court.candidate, court.live, found, {})
        judging.wait(court.platform, keys, tell=lambda _: None)
        assert len(seen) > asked
        after = len(seen)
        assert judging.consult(court.platform, spec, court.candidate, court.live, found, {}) == []
        assert len(seen) == after
    standings, joined = judging.standings(
        court.platform, spec, court.candidate, court.live, found, loaded(court, found)
    )
    assert not standings["judge:kind"].refusal
    assert "judge:kind" in joined[court.candidate.ref]["test"].answers[0].scores
    told = verdict(court, spec, found)
    assert "judge:kind better than live" not in told["reason"], told
    assert "preferred:kind" in told["reason"]  # too few corrections to know what its preferences are worth
    with court.world.db.reading() as conn:
        said = judgements.of(conn, "kind")
    assert {(one.kind, one.version) for one in said} == {("judge", court.live.ref), ("judge", court.candidate.ref)}


def loaded(court: Court, found: dict[str, dict[str, str]]) -> dict[str, dict[str, suites.Evaluation]]:
    with court.world.db.reading() as conn:
        return {
            ref: {name: suites.load(court.world.home, suites.get(conn, one)["report"]) for name, one in of.items()}
            for ref, of in found.items()
        }


# --- replayed traffic -------------------------------------------------------------------------------------------------


def replayed(court: Court, **more: object) -> replays.Replay:
    made = replaying.begin(court.platform, court.candidate.ref, actor="eva", **more)  # type: ignore[arg-type]

    def look() -> replays.Replay | None:
        opinions.keep(court.platform)
        replaying.keep(court.platform)
        with court.world.db.reading() as conn:
            now = replays.get(conn, made.id)
        return now if now.state in ("complete", "failed") else None

    return until(look, seconds=90)


def test_yesterdays_traffic_is_asked_of_a_candidate_and_held_against_what_users_got(court: Court) -> None:
    with serving(lenient) as (url, _):
        registered(court, url, "kind")
        told = replayed(court, by="kind")
    assert (told.state, told.seen, told.cases, told.champion) == ("complete", 60, 50, court.live.ref), told.reason
    valid = next(one for one in told.figures["metrics"] if one["metric"] == "valid_json")
    assert valid["verdict"] == "better"
    assert (valid["mean_a"], valid["slices"]["language=en"]["n"]) == (1.0, 50)
    assert told.figures["changed"] == round(50 * (1 - valid["mean_b"]))
    shown = replaying.examples(court.platform, told)
    assert len(shown) == min(20, told.figures["changed"])
    assert shown[0]["before"].startswith("sorry")
    assert json.loads(shown[0]["after"])["intent"] == "LampOn"
    preferred = told.figures["preferred"]
    assert preferred["people"] is None
    assert "not believed" in preferred["standing"]["refusal"]
    assert preferred["raw"]["difference"] == pytest.approx(1 - valid["mean_b"])
    with court.world.db.reading() as conn:
        assert suites.get(conn, told.evaluation)["version"] == court.candidate.ref
    assert court.platform.interactions.count(model=MODEL) == 61, "nothing of it is recorded as traffic"
    side = comparing.compared(court.platform, court.candidate.ref, court.live.ref)
    assert any(one["suite"] == "replay" for one in side["suites"])


def test_a_replay_to_the_live_version_or_of_no_traffic_is_refused(court: Court) -> None:
    with pytest.raises(Conflict, match="nobody to be held against"):
        replaying.begin(court.platform, court.live.ref, actor="eva")
    with pytest.raises(Refused, match="answered nothing"):
        replaying.begin(court.platform, court.candidate.ref, actor="eva", since=clock.parse("2020-01-01T00:00:00Z"),
                        until=clock.parse("2020-01-02T00:00:00Z"))  # fmt: skip


def test_a_replay_that_died_goes_on_and_one_that_cannot_says_why(court: Court) -> None:
    made = replaying.begin(court.platform, court.candidate.ref, actor="eva", count=10, identifier="replay-twice")
    assert replaying.begin(court.platform, court.candidate.ref, actor="eva", identifier="replay-twice") == made
    jobs: Local = court.platform.jobs
    jobs.cancel(made.job, grace_s=0.1)

    def ended() -> bool:
        replaying.keep(court.platform)
        with court.world.db.reading() as conn:
            return replays.get(conn, made.id).state in ("failed", "complete")

    until(ended, seconds=60)


def test_replayed_traffic_is_no_registered_suite_that_data_is_compared_with(court: Court) -> None:
    gate = {"suite": "replay", "metric": "valid_json", "rule": ">= 0.5"}
    court.world.apply(serve={"engine": "fake"}, evaluate={"cases": 50, "max_tokens": 64}, gates=[gate])
    with court.world.db.reading() as conn:
        spec = models.get(conn, MODEL).spec
    demand(court.platform, spec)
    assert overlaps.registered(court.platform) == []


# --- on live traffic --------------------------------------------------------------------------------------------------


def judged(court: Court, name: str) -> dict[str, float]:
    """The scores that a judge gave to answers of the record."""
    found = court.platform.interactions.page(model=MODEL, limit=200)
    scores = (court.platform.interactions.get(one.id) for one in found)
    return {one.id: said.value for one in scores if one for said in one.scores if said.scorer == f"judge:{name}"}


def watching(court: Court, **how: object) -> ModelSpec:
    sampled = {"judge": "sampler", "share": 0.5, "per_hour": 20, **how}
    court.world.apply(serve={"engine": "fake"}, watch={"judges": [sampled]})
    with court.world.db.reading() as conn:
        return models.get(conn, MODEL).spec


def test_a_believed_judge_scores_a_sample_of_live_answers_within_its_bounds(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lenient) as (url, seen):
        registered(court, url, "sampler")
        spec = watching(court)
        sampling.look(court.platform, [spec])
        assert not seen, "a judge that nobody held against people costs nothing"
        calibrated(court, "sampler")
        asked = len(seen)
        with monkeypatch.context() as dying:
            dying.setattr(sampling, "_move", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                sampling.look(court.platform, [spec])
        sampling.look(court.platform, [spec])  # finds the job that was begun
        sampling.look(court.platform, [spec])  # one at a time
        until(lambda: (opinions.keep(court.platform), judged(court, "sampler"))[1], seconds=60)
        scores = judged(court, "sampler")
        assert len(scores) == len(seen) - asked == 20
        assert set(scores.values()) <= {0.5, 1.0}
        with court.world.db.writing() as conn:  # the same traffic again, an hour's bound later
            conn.execute(quality_states.delete())
        sampling.look(court.platform, [spec])
        assert len(seen) - asked == 20
    with court.world.db.reading() as conn:
        assert sampling.told(conn, "sampler") == [{"model": MODEL, "hour": 20, "day": 20}]
    known = [court.platform.interactions.get(one) for one in scores]
    assert {one.version for one in known if one} == {court.live.ref}
    for folder in court.world.home.jobs.glob("judge:live:*"):
        assert "please turn on lamp" not in "".join(path.read_text() for path in folder.glob("*.json*"))
    with pytest.raises(NotFound, match="no judge 'nobody'"):
        demand(court.platform, watching(court, judge="nobody"))


# --- by its doors -----------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(court: Court, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The command line pointed at control of this home."""
    for name in [name for name in os.environ if name.startswith("CIRANDA_")]:
        monkeypatch.delenv(name)
    made = Desk.__new__(Desk)
    made.world, made.home, made.capsys, made.platform = court.world, court.world.home, capsys, court.platform
    with court.world.db.writing() as conn:
        made.home.admin_key.write_text(access.create(conn, "admin", role="admin", actor="test")[1])
    made.serve()
    yield made
    made.stop()


@pytest.fixture
def leader(court: Court) -> Iterator[None]:
    """Somebody who looks after jobs, as control's leader does."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            opinions.keep(court.platform)
            replaying.keep(court.platform)

    thread = threading.Thread(target=look)
    thread.start()
    yield
    over.set()
    thread.join()


def test_judges_and_replays_from_the_command_line(court: Court, desk: Desk, leader: None, tmp_path: Path) -> None:
    (tmp_path / "kind.md").write_text(CRITERIA)
    with serving(lenient) as (url, _):
        made = desk.run(
            "judges", "create", "fair", "--model", "grader", "--at", url, "--criteria", f"@{tmp_path}/kind.md"
        )
        assert made.out.startswith("fair: sha256:")
        assert desk.run("judges", "create", "Un Fair", "--model", "g", "--criteria", "x").code != 0
        assert "never held against people" in desk.run("judges", "show", "fair").out
        assert "fewer than 30" in desk.run("judges", "calibrate", "fair", "--queue", "lamps").err
        assert "believed" in desk.run("judges", "calibrate", "fair", "--queue", "lamps", "--all").out
        assert f"{MODEL} (judge)" in desk.run("judges").out
        cases = [{"prompt": text, "labels": {"answer": answer(n), "verdict": "wrong" if n % 3 == 0 else "right"}}
                 for n, text in enumerate(ASKED)]  # fmt: skip
        (tmp_path / "labelled.json").write_text(json.dumps({"suite": "labelled", "cases": cases}))
        assert desk.run("suite", "add", str(tmp_path / "labelled.json")).code == 0
        again = desk.run("judges", "calibrate", "fair", "--suite", "labelled", "--model", MODEL, "--json").json
        assert [(one["labels"], one["believed"]) for one in again["worth"]] == [(60, True)]
        told = desk.run("replay", court.candidate.ref, "--count", "20", "--judge", "fair", "--json").json
    assert (told["state"], told["cases"], len(told["examples"])) == ("complete", 20, told["figures"]["changed"])
    assert "answers that change" in (shown := desk.run("replay", told["id"]).out)
    assert "net preference" in shown
    assert told["id"] in desk.run("replay").out
    assert "nobody to be held against" in desk.run("replay", court.live.ref).err
    side = desk.run("compare", court.candidate.ref, court.live.ref)
    assert "valid_json" in side.out
    assert "cannot tell" in side.out  # twenty cases are too few
    assert desk.run("compare", court.candidate.ref, "other@1").code != 0
