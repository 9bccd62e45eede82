"""What users said of real answers makes the next version better: a model answers, people vote and correct, DPO and KTO learn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests import smallmodel

from ciranda.data import feedback
from ciranda.data.feedback import Voice
from ciranda.data.rows import Row
from ciranda.engines import hassil
from ciranda.evals.compare import sign_test
from ciranda.loop import staging
from ciranda.train.recipe import Recipe, Spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]
TAUGHT = 60  # steps of the first version: it has the form of the answers, and is often wrong
ASKED, HELD_OUT, EXAM = 120, 60, 150


@dataclass(frozen=True)
class World:
    """A first version, what it learnt from, what users said of its answers (those to learn from, and those that nobody learns
    from), and an exam on templates never seen."""

    adapter: Path
    known: tuple[Row, ...]
    heard: tuple[Voice, ...]
    held: tuple[Voice, ...]
    exam: tuple[Row, ...]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("first")
    known = hassil.sample("en", 400, 1, split="train")
    first = spec(folder, [staging.line(row) for row in known], [staging.line(row) for row in known[:8]], steps=TAUGHT)
    smallmodel.trained(folder, first)
    asked = [*hassil.sample("en", ASKED, 2, split="train"), *hassil.sample("en", HELD_OUT, 3, split="test")]
    with smallmodel.serving(folder, "--adapter", str(first.output / "adapter.gguf"), "--slots", "1") as served:
        answers = [said(served, row) for row in asked]
    voices = [spoken(row, answer) for row, answer in zip(asked, answers, strict=True)]
    heard, held = voices[:ASKED], voices[ASKED:]
    exam = hassil.sample("en", EXAM, 4, split="test")
    return World(first.output / "adapter", tuple(known), tuple(sum(heard, ())), tuple(sum(held, ())), tuple(exam))


def said(served: smallmodel.Served, row: Row) -> str:
    answer = served.chat([message.to_dict() for message in row.messages], max_tokens=96)
    return str(answer["choices"][0]["message"]["content"])


def spoken(row: Row, answer: str) -> tuple[Voice, ...]:
    """What a user says: a thumb up when it is right; else a thumb down, and what it should have been."""
    right = Voice(row.messages, row.completion, row.key, "ana", 1, 1)
    if answer.strip() == row.completion:
        return (right,)
    return (right, Voice(row.messages, answer or "?", row.key, "ana", -1, 1))


def spec(folder: Path, rows: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]], **recipe: Any) -> Spec:
    return Spec(
        base=smallmodel.base().folder,
        rows=smallmodel.write_rows(folder / "rows.jsonl", rows),
        validation=smallmodel.write_rows(folder / "validation.jsonl", validation),
        output=folder / "output",
        recipe=Recipe(**recipe),
        threads=1,
    )


@pytest.mark.parametrize(("method", "learn"), [("dpo", feedback.pairs_of), ("kto", feedback.labelled_of)])
def test_what_users_said_makes_right_answers_likelier_than_wrong_ones(
    world: World, tmp_path: Path, method: str, learn: Any
) -> None:
    rows, validation = ([staging.line(row) for row in learn(voices)[0]] for voices in (world.heard, world.held))
    rows += [line for row in world.known if staging.taken(line := staging.line(row), method)]
    one = replace(spec(tmp_path, rows, validation, method=method), init_adapter=world.adapter)
    result = smallmodel.trained(tmp_path, one)
    judged, before = result["validation"], right(tmp_path / "before", world, world.adapter)
    after = right(tmp_path / "after", world, tmp_path / "output/adapter")
    won, lost = (sum(a > b for a, b in zip(*pair, strict=True)) for pair in ((after, before), (before, after)))
    print(json.dumps({"method": method, "rows": result["rows"], "rehearsed": result["rows_rehearsed"], "validation": judged,
                      "right": [sum(before), sum(after), len(after)], "won": won, "lost": lost, "p": sign_test(won, lost),
                      "seconds": result["seconds"], "cpu_s": result["cpu_seconds"]}))  # fmt: skip
    assert judged["n"] >= 15
    assert judged["exact_match"] >= 0.7, "of answers that nobody learnt from, the better ones gained"
    assert judged["likelier"] >= judged["before"] + 0.05
    assert won >= lost or sign_test(won, lost) > 0.05, "and what it could is not unlearnt, of templates never seen"


def right(folder: Path, world: World, adapter: Path) -> list[bool]:
    """Which questions of the exam a version answers right, greedily."""
    from ciranda.engines import peft, peft_shape

    folder.mkdir()
    lines = [staging.line(row) for row in world.exam]
    one = replace(spec(folder, lines, lines), init_adapter=adapter)
    model = peft_shape.shaped(one)
    tokenizer = peft.transformers.AutoTokenizer.from_pretrained(one.base / "hf")
    read, _ = peft.read_rows(one.rows, tokenizer, 512)
    return [bool(peft.evaluate(model, [row])["exact_match"]) for row in read]
