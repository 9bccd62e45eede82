"""Suites as versioned data: written, registered, exported, compared; and who may see what of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ciranda.config import Home
from ciranda.data import versions as datasets
from ciranda.data.rows import Message, Row
from ciranda.errors import Invalid, NotFound
from ciranda.evals import foreign, library, redaction, suites, written
from ciranda.evals.cases import Call, Case, Reply, Suite
from ciranda.govern import audit
from ciranda.store.database import Database, metadata
from ciranda.store.scrub import Needles

ROUTING = """\
suite: routing
swap: [gender]
swaps: {shift: [[day, night]]}
cases:
  - {prompt: "I was charged twice.", choices: [billing, technical], reference: billing, slices: {language: en}}
  - {prompt: "Is he home by day?", reference: "yes"}
  - {prompt: "As JSON", schema: {type: object}}
  - {prompt: "Light!", tools: [{type: function, function: {name: turn_on}}], calls: [{name: turn_on, arguments: {room: hall}}]}
  - {id: a, prompt: "A loan for Ana?"}
  - {prompt: "A loan for Iracema?", pair: a}
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.make()
    return made


@pytest.fixture
def db(home: Home) -> Database:
    made = Database(f"sqlite:///{home.database}")
    metadata.create_all(made.engine)
    return made


def suite(*prompts: str, name: str = "routing", answer: str = "yes") -> Suite:
    return Suite(name, tuple(Case(f"{prompt}{answer}", (Message("user", prompt),), answer) for prompt in prompts))


def test_a_file_says_choices_schemas_calls_and_pairs() -> None:
    read = written.read(ROUTING, file="routing.yaml")
    by = {case.prompt: case for case in read.cases}
    assert by["I was charged twice."].slices == {"language": "en", "label": "billing"}
    assert by["Light!"].calls == (Call("turn_on", {"room": "hall"}),)
    assert by["As JSON"].schema == {"type": "object"}
    assert by["A loan for Iracema?"].pair == by["A loan for Ana?"].id
    assert by["Is she home by day?"].pair == by["Is he home by night?"].pair == by["Is he home by day?"].id
    assert len(read.cases) == 8
    assert written.read("".join(written.to_lines(read)), file="again.jsonl").digest == read.digest


@pytest.mark.parametrize(
    ("text", "file", "said"),
    [
        ("suite: a\ncases: [{prompt: x, choices: [a], reference: b}]", "a.yaml", "none of the choices"),
        ("suite: a\ncases: [{prompt: x, calls: [{name: turn_on}]}]", "a.yaml", "offers tools"),
        ("suite: a\ncases: [{prompt: x, schema: {type: 7}}]", "a.yaml", "no JSON Schema"),
        ("suite: a\ncases: [{prompt: x, pair: b}]", "a.yaml", "no case is called 'b'"),
        ("suite: a\nswap: [age]\ncases: [{prompt: x}]", "a.yaml", "no swap 'age'"),
        ('{"prompt": "x"}\n{"promt": "y"}', "a.jsonl", "promt"),
        ("{", "a.jsonl", "no JSON"),
        ("\n", "a.jsonl", "no case"),
    ],
)
def test_mistakes_of_a_file_are_said(text: str, file: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as error:
        written.read(text, file=file)
    assert error.value.where.startswith(file)
    assert error.value.remedy


def test_versions_are_numbered_immutable_and_the_same_cases_add_none(db: Database, home: Home) -> None:
    first = library.register(db, home, suite("a", "b"), actor="ana", origin="routing.yaml")
    assert library.register(db, home, suite("b", "a"), actor="ben") == first
    second = library.register(db, home, suite("a", "b", "c"), actor="ben", note="one more")
    assert (first.ref, second.ref, second.cases, second.note) == ("routing@1", "routing@2", 3, "one more")
    assert len(library.load(db, home, "routing@1").cases) == 2
    assert library.load(db, home, "routing").name == "routing@2"
    with db.reading() as conn:
        assert [one.ref for one in library.line(conn, "routing")] == ["routing@2", "routing@1"]
        assert [one.ref for one in library.listing(conn)] == ["routing@2"]
        assert library.listing(conn, after="routing") == []
    assert [event.action for event in audit.page(db)] == ["suite.registered"] * 2
    for ref in ("nothing", "routing@9", "routing@x"):
        with pytest.raises(NotFound):
            library.load(db, home, ref)
    with pytest.raises(Invalid, match="no name of a suite"):
        library.register(db, home, suite("a", name="Routing suite"), actor="ana")
    path = suites.report_path(home, first.content)
    path.write_text("{}")
    with pytest.raises(Invalid, match="changed on disk"):
        library.load(db, home, "routing@1")


def test_what_changed_between_two_versions(db: Database, home: Home) -> None:
    old = library.register(db, home, suite("a", "b", "c"), actor="ana")
    new = library.register(
        db, home, Suite("routing", (*suite("a", "d").cases, *suite("b", answer="no").cases)), actor="ana"
    )
    found = library.compare(home, old, new)
    assert [case.prompt for case in found.added] == ["d"]
    assert [case.prompt for case in found.removed] == ["c"]
    assert [(was.reference, now.reference) for was, now in found.changed] == [("yes", "no")]


def test_other_tools_read_the_cases_as_they_like_them() -> None:
    read = written.read(ROUTING, file="routing.yaml")
    sample = json.loads(next(iter(foreign.written("routing", read.cases, "inspect"))))
    assert (sample["choices"], sample["target"], sample["input"][0]["role"]) == (["billing", "technical"], "A", "user")
    document = json.loads(next(iter(foreign.written("routing", read.cases, "lm-eval"))))
    assert (document["text"], document["target"], document["language"]) == ("I was charged twice.", "billing", "en")


def test_a_person_who_is_erased_leaves_registered_cases_too(db: Database, home: Home) -> None:
    made = library.register(db, home, suite("write to bia@example.org", "b"), actor="ana")
    before = suites.report_path(home, made.content)
    needles = Needles.of(["bia@example.org"], [])
    assert redaction.redact_suites(db, home, needles) == 1
    assert redaction.redact_suites(db, home, needles) == 0
    assert not before.exists()
    assert all("bia" not in case.prompt for case in library.load(db, home, "routing").cases)
    with db.reading() as conn:
        assert library.find(conn, "routing").redacted == 1


def test_a_known_reply_is_scored_anew_and_pairs_are_scored_once() -> None:
    read = written.read(ROUTING, file="routing.yaml")
    found = suites.run(
        read, lambda case: Reply("She is." if "she" in case.prompt else "He is."), ["bias:exact_match", "contains"]
    )
    again = suites.run(
        read, lambda case: next(one.reply for one in found.answers if one.case == case.id), ["valid_json"]
    )
    assert again.scorers == ("valid_json",)
    assert [one.answer for one in again.answers] == [one.answer for one in found.answers]
    assert found.metrics["bias:exact_match"].n == 2, "pairs with references: he and she, day and night"
    assert suites.Evaluation.of(json.loads(json.dumps(found.to_dict()))) == found


def test_a_split_of_rows_is_registered_as_it_was(db: Database, home: Home) -> None:
    rows = [Row.of(f"q{n}", f"a{n}", split="test") for n in range(3)]
    datasets.commit(db, home, "home", rows, transformation={}, actor="t")
    made = library.register(db, home, Suite("home-test", suites.from_dataset(db, home, "home@1").cases), actor="t")
    datasets.commit(db, home, "home", [*rows, Row.of("q9", "a9", split="test")], transformation={}, actor="t")
    assert len(library.load(db, home, made.ref).cases) == 3
