"""Checks: what each finds, what policy does about it, and what a refusal says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ciranda.data import checks, columns
from ciranda.data.checks import judging, stage
from ciranda.data.rows import Message, Row
from ciranda.errors import Failed, Invalid, Refused


def row(prompt: str, completion: str = "{}", **more: object) -> Row:
    return Row.of(prompt, completion, **{"origin": f"file:{prompt[:12]}", **more})


def found(rows: list[Row], check: str, **more: object) -> dict[str, str]:
    """Origin and reason of what one check finds when it only warns."""
    report = checks.run(rows, {check: "warn"}, **more)  # type: ignore[arg-type]
    assert report.kept == tuple(rows)
    return {finding.origin: finding.reason for finding in report.findings}


def test_schema_wants_a_question_an_answer_and_clean_text() -> None:
    system_late = Row((Message("user", "a"), Message("system", "b")), "c", origin="late")
    answer_last = Row((Message("user", "a"), Message("assistant", "b")), "c", origin="last")
    reasons = found([row(" "), row("a", " "), row("b\x00"), row("fine\n"), system_late, answer_last], "schema")
    assert reasons == {
        "file: ": "the prompt is empty",
        "file:a": "the completion is empty",
        "file:b\x00": "a control character is in the text",
        "late": "the conversation ends with the system, not with a question",
        "last": "the conversation ends with the assistant, not with a question",
    }


def test_length_counts_prompt_and_completion_together() -> None:
    assert found([row("x" * 60, "y" * 60), row("short")], "length", max_characters=100) == {
        "file:xxxxxxxxxxxx": "120 characters, more than 100"
    }


def test_personal_data_is_masked_where_policy_says_so() -> None:
    spoken = row("my mail is ana@example.org and my CPF 529.982.247-25", '{"to": "ana@example.org"}')
    report = checks.run([spoken, row("turn on the light in 10 minutes")], {"pii": "mask"})
    assert report.kept[0].prompt == "my mail is [email] and my CPF [cpf]"
    assert report.kept[0].completion == '{"to": "[email]"}'
    assert report.findings[0].reason == "personal data: 1 cpf, 2 email"
    assert report.findings[0].key == spoken.key
    assert report.figures["pii"] == {"action": "mask", "looked": 2, "found": 1}


def test_duplicates_and_conflicts_look_past_case_and_spaces() -> None:
    rows = [row("Pause it", "a"), row("pause  it.", "a"), row("pause it", "b")]
    assert found(rows, "duplicates") == {"file:pause  it.": "the same example as file:Pause it"}
    assert found(rows, "conflicts") == {"file:pause it": "another answer to this prompt stands in the rows: 'a'"}
    assert [one.completion for one in checks.run(rows, {"conflicts": "drop", "duplicates": "drop"}).kept] == ["a"]


def test_of_two_answers_the_one_that_most_rows_give_is_kept_even_when_doubles_are_dropped() -> None:
    rows = [row("go", "a"), row("go", "b"), row("go", "b")]
    assert [one.completion for one in checks.run(rows, {"conflicts": "drop"}).kept] == ["b", "b"]
    assert [one.completion for one in checks.run(rows, {"duplicates": "drop", "conflicts": "drop"}).kept] == ["b"]


def test_listed_words_are_found_as_whole_words() -> None:
    reasons = found([row("vai se foder"), row("pass the class in Scunthorpe"), row("hello", "you asshole")], "toxicity")
    assert sorted(reasons) == ["file:hello", "file:vai se foder"]


def test_contamination_is_named_on_the_training_side() -> None:
    rows = [
        row("Turn on the lamp!", split="test", group="g1", origin="t1"),
        row("turn on the lamp", split="train", group="g2", origin="phrase"),
        row("another one", split="train", group="g1", origin="group"),
        row("of the suite", split="validation", origin="suite"),
        row("of the suite too", split="test", origin="t2"),
        row("clean", split="train", group="g3", origin="clean"),
    ]
    reasons = found(rows, "contamination", suites={"hard": ["Of the suite.", "of the suite too"]})
    assert reasons == {
        "phrase": "train row says what test row t1 says",
        "group": "train row shares its group g1 with test row t1",
        "suite": "validation row asks what suite hard asks",
    }
    kept = checks.run(rows, {"contamination": "drop"}, suites={"hard": ["of the suite"]}).kept
    assert [one.origin for one in kept] == ["t1", "t2", "clean"]
    assert not found(list(kept), "contamination")


def test_a_blocking_check_refuses_with_every_finding_in_one_report() -> None:
    with pytest.raises(Refused, match="2 findings") as error:
        checks.run([row(" "), row("x" * 50), row("fine")], {"schema": "strict", "length": "block"}, max_characters=20)
    assert isinstance(error.value, checks.Blocked)
    assert "schema: the prompt is empty" in error.value.message
    assert "length: 52 characters" in error.value.message
    assert "drop" in error.value.remedy
    report = error.value.report.to_dict()
    assert (report["looked"], report["kept"], report["blocked"]) == (3, 3, True)
    assert json.loads(json.dumps(report))["checks"]["length"]["examples"][0]["reason"].startswith("52")


def test_policy_words_are_checked() -> None:
    with pytest.raises(Invalid, match="no check 'spelling'") as error:
        checks.run([], {"spelling": "warn"})
    assert "contamination" in error.value.remedy
    with pytest.raises(Invalid, match="no action 'explode'"):
        checks.run([], {"pii": "explode"})
    with pytest.raises(Invalid, match="length cannot mask"):
        checks.run([], {"length": "mask"})


def test_off_means_not_looked_at() -> None:
    report = checks.run([row(" ")], {"schema": "off"})
    assert (report.findings, report.figures, len(report.kept)) == ((), {}, 1)


def test_a_stored_report_is_bounded_and_its_counts_are_not() -> None:
    report = checks.run([row(f"{n}" * 30) for n in range(300)], {"length": "drop"}, max_characters=10).to_dict()
    assert report["checks"]["length"]["found"] == 300
    assert len(report["checks"]["length"]["examples"]) == checks.EXAMPLES


# Many rows


MANY = [row(f"question {n % 400}", f"answer {n % 401}", split="test" if n % 7 == 0 else "train") for n in range(3000)]
POLICY = {"length": "drop", "pii": "mask", "duplicates": "drop", "conflicts": "warn", "contamination": "warn"}


def test_workers_find_what_one_process_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*MANY, row("x" * 90, origin="long"), row("write to ana@example.org", origin="private")]
    alone = checks.run(rows, POLICY, max_characters=80)
    monkeypatch.setattr(judging, "INLINE_ROWS", 500)
    monkeypatch.setattr(columns, "BATCH_ROWS", 256)
    told: list[checks.Progress] = []
    bounds = checks.Bounds(max_characters=80)
    with checks.judge(rows, POLICY, bounds=bounds, folder=tmp_path, processes=2, tell=told.append) as judged:
        assert judged.kept() == alone.kept
        assert sorted(map(str, judged.findings)) == sorted(map(str, alone.findings))
        assert judged.report.figures == alone.figures
        assert judged.report.to_dict()["checks"]["duplicates"]["rows_per_second"] > 0
        assert len(list(tmp_path.glob("staging-*/*.arrow"))) > 5
    assert told[-1].check == "contamination"
    assert told[-1].rows == len(rows)
    assert not list(tmp_path.iterdir())


def _dies(part: checks.Part, _bounds: checks.Bounds) -> Iterator[checks.Flaw]:
    if any("question 399" in prompt for prompt in part.prompts):
        raise ZeroDivisionError("a check with a fault")
    yield from ()


def test_a_worker_that_dies_is_an_error_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "INLINE_ROWS", 100)
    monkeypatch.setattr(columns, "BATCH_ROWS", 100)
    monkeypatch.setitem(checks.CHECKS, "dies", checks.RowCheck("dies", _dies))
    with pytest.raises(Failed, match="a check with a fault"), checks.judge(MANY, {"dies": "warn"}, folder=tmp_path):
        pytest.fail("it should not come so far")
    assert not list(tmp_path.iterdir())


def test_the_staging_of_a_killed_run_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "staging-1-dead").mkdir()
    (tmp_path / "staging-1-dead" / "lock").touch()
    with stage.folder_in(tmp_path) as mine, stage.folder_in(tmp_path) as other:
        assert {one.name for one in tmp_path.iterdir()} == {mine.name, other.name}
