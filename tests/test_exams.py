"""Exams on a real engine process: every case asked once, known answers kept, and what goes wrong is said and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ciranda.data.rows import Message
from ciranda.errors import Failed, Unavailable
from ciranda.evals import exams
from ciranda.evals.cases import Case
from ciranda.evals.suites import Evaluation, Suite
from ciranda.jobs import process
from ciranda.jobs.local import JobSpec, Local
from gatewayrig import wait_for

ANSWERS = {"one": '{"intent": "One"}', "two": '{"intent": "Two"}', "three": "no JSON"}
METRICS = ("exact_match", "valid_json")


def suite(*prompts: str, name: str = "test") -> Suite:
    cases = [
        Case(f"case {text}", (Message("user", text),), ANSWERS.get(text, "{}"), {"language": "en"}) for text in prompts
    ]
    return Suite(name, tuple(cases))


def exam(folder: Path, *suites: Suite, known: tuple[str, ...] = (), flags: tuple[str, ...] = ()) -> exams.Spec:
    """An exam of the fake engine that knows ANSWERS, with its spec in a job's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answers.json").write_text(json.dumps(ANSWERS))
    (folder / "engine.key").write_text("s3cret")
    engine = (sys.executable, "-m", "ciranda.engines.fake", "--ready-file", "{ready}", *flags,
              "--answers", str(folder / "answers.json"), "--key-file", str(folder / "engine.key"))  # fmt: skip
    made = exams.Spec(engine, "house@1", str(folder / "engine.key"), suites, METRICS, known)
    (folder / "spec.json").write_text(json.dumps(made.to_dict()))
    return made


def sat(folder: Path, *suites: Suite, known: tuple[str, ...] = ()) -> list[Evaluation]:
    exam(folder, *suites, known=known)
    exams.sit(folder)
    return exams.results(folder)


def test_every_case_is_asked_through_the_real_door_and_scored(tmp_path: Path) -> None:
    first, second = sat(tmp_path, suite("one", "two", "three"), suite("two", name="again"))
    assert [answer.answer for answer in first.answers] == list(ANSWERS.values())
    assert (first.metrics["exact_match"].mean, first.metrics["valid_json"].mean) == (1.0, pytest.approx(2 / 3))
    assert (first.suite, second.suite, second.n) == ("test", "again", 1)
    assert first.suite_digest == suite("three", "two", "one").digest
    told = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [(line["done"], line["all"]) for line in told if line["suite"] == "test"][-1] == (3, 3)


def test_a_spec_survives_its_file(tmp_path: Path) -> None:
    made = exam(tmp_path, suite("one", "two"), known=("report.json",))
    assert exams.Spec.of(json.loads((tmp_path / "spec.json").read_text())) == made


def test_what_this_version_has_answered_before_is_not_asked_again(tmp_path: Path) -> None:
    (before,) = sat(tmp_path / "before", suite("one", "two"))
    marked = tuple(replace(answer, answer=f"said before: {answer.prompt}") for answer in before.answers)
    report = tmp_path / "report.json"
    report.write_text(json.dumps(replace(before, answers=marked).to_dict()))
    (after,) = sat(tmp_path / "after", suite("one", "two", "three"), known=(str(report),))
    assert [answer.answer for answer in after.answers] == ["said before: one", "said before: two", "no JSON"]


@pytest.mark.parametrize("change", ["reference", "error"])
def test_an_earlier_answer_of_no_use_is_asked_again(tmp_path: Path, change: str) -> None:
    (before,) = sat(tmp_path / "before", suite("one"))
    spoilt = {"reference": "another", "error": "it timed out"}[change]
    (answer,) = before.answers
    report = tmp_path / "report.json"
    odd = replace(answer, **{"answer": "said before", change: spoilt})
    report.write_text(json.dumps(replace(before, answers=(odd,)).to_dict()))
    (after,) = sat(tmp_path / "after", suite("one"), known=(str(report),))
    assert [one.answer for one in after.answers] == [ANSWERS["one"]]


def test_a_question_that_the_engine_refuses_counts_as_the_worst_answer(tmp_path: Path) -> None:
    (found,) = sat(tmp_path, suite("one", "fake:500"))
    assert found.errors == 1
    assert found.metrics["exact_match"].mean == 0.5


@pytest.mark.parametrize(("word", "said"), [("fake:exit", "stopped answering"), ("fake:503", "is busy: 503")])
def test_an_engine_that_is_away_stops_the_exam_and_nothing_is_kept(tmp_path: Path, word: str, said: str) -> None:
    exam(tmp_path, suite("one", "two"), suite(word, name="deadly"))
    with pytest.raises(Unavailable, match=said) as gone:
        exams.sit(tmp_path)
    assert gone.value.retry
    with pytest.raises(FileNotFoundError):
        exams.results(tmp_path)


def test_an_engine_that_does_not_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    exam(tmp_path, suite("one"), flags=("--adapter", str(tmp_path / "nowhere.gguf")))
    with pytest.raises(Failed, match="ended with code 2") as failed:
        exams.sit(tmp_path)
    assert "no lessons of the fake trainer" in failed.value.message
    assert str(tmp_path / "engine.log") in failed.value.where


def test_an_exam_killed_in_the_middle_leaves_no_engine_behind_and_is_done_again(tmp_path: Path) -> None:
    jobs, folder = Local(tmp_path), tmp_path / "evaluate:house@1:x"
    prompts = [f"question {number}" for number in range(30)]
    exam(folder, suite(*prompts), flags=("--delay-ms", "150"))
    command = JobSpec((sys.executable, "-m", "ciranda.evals.exams", str(folder)), folder)
    jobs.submit(folder.name, command)
    wait_for(lambda: (folder / "progress.jsonl").exists(), seconds=30, what="the first answers")
    os.killpg(json.loads((folder / "job.json").read_text())["process"]["pid"], signal.SIGKILL)
    wait_for(lambda: jobs.status(folder.name).state == "lost", what="the job is found dead")
    wait_for(lambda: process.marked(f"CIRANDA_JOB={folder}") == [], what="its engine is gone too")
    jobs.submit(folder.name, command)
    wait_for(lambda: jobs.status(folder.name).state == "succeeded", seconds=60, what="the second attempt's end")
    (found,) = exams.results(folder)
    assert (found.n, found.errors) == (30, 0)
    assert process.marked(f"CIRANDA_JOB={folder}") == []
