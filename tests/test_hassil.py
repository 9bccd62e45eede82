"""Sentences of the home: every answer follows from its sentence, and no template is in two splits."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest

from ciranda.data.rows import SPLITS
from ciranda.engines import hassil
from ciranda.errors import Invalid


def test_a_sentence_comes_with_the_one_answer_that_follows_from_it() -> None:
    row = hassil.sample("en", 1, 17)[0]
    assert [message.role for message in row.messages] == ["system", "user"]
    assert row.completion == json.dumps(
        json.loads(row.completion), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert set(json.loads(row.completion)) == {"intent", "slots"}
    assert (row.language, row.source) == ("en", "intents")
    assert row.group.startswith("en:")
    assert row.origin == f"intents:{row.group}"


@pytest.mark.parametrize("language", ["en", "pt-BR", "es", "de", "ru"])
def test_the_grammars_own_recogniser_reads_the_same_intent_and_slots(language: str) -> None:
    for row in hassil.sample(language, 60, 3):
        assert json.loads(row.completion) in hassil.recognise(row.prompt, language), row.prompt


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert hassil.sample("pt-BR", 50, 1) == hassil.sample("pt-BR", 50, 1)
    assert {row.key for row in hassil.sample("pt-BR", 50, 1)} != {row.key for row in hassil.sample("pt-BR", 50, 2)}


def test_prompts_are_distinct_and_balanced_over_the_intents() -> None:
    rows = hassil.sample("en", 700, 5)
    assert len({row.prompt for row in rows}) == 700
    counts = Counter(json.loads(row.completion)["intent"] for row in rows)
    assert set(counts) == set(hassil.INTENTS)
    assert max(counts.values()) <= 2 * min(counts.values())


def test_a_template_is_in_one_split_and_every_intent_with_three_is_in_each() -> None:
    by_split = {split: {row.group for row in hassil.sample("en", 300, 1, split=split)} for split in SPLITS}
    assert not by_split["train"] & by_split["test"]
    assert not by_split["train"] & by_split["validation"]
    known, splits = hassil.load("en"), defaultdict(set)
    for intent, templates in known.templates.items():
        for template in templates:
            splits[intent].add(hassil.split_of("en", template.id))
        assert len(templates) < 3 or splits[intent] == set(SPLITS)


def test_values_stay_as_said_in_their_language() -> None:
    said = [(row.prompt, json.loads(row.completion)["slots"]) for row in hassil.sample("pt-BR", 300, 9)]
    rooms = {slots["area"]: prompt for prompt, slots in said if "area" in slots}
    assert "cozinha" in rooms
    assert all(room in prompt for room, prompt in rooms.items())


def test_a_device_named_without_a_word_of_what_to_do_is_no_sentence() -> None:
    said = [(row.prompt, json.loads(row.completion)["slots"]) for row in hassil.sample("en", 1500, 2)]
    assert not [prompt for prompt, slots in said if prompt.removeprefix("the ") in slots.values()]


def test_intents_can_be_chosen() -> None:
    rows = hassil.sample("en", 40, 1, intents=["GetCurrentTime", "TurnOn"])
    assert {json.loads(row.completion)["intent"] for row in rows} == {"GetCurrentTime", "TurnOn"}


def test_a_language_without_a_vocabulary_gets_proper_names() -> None:
    rows = hassil.sample("ko", 100, 1)
    assert any("Atlas" in row.prompt or "Lumina" in row.prompt for row in rows)


def test_unknown_language_or_intent_and_too_many_sentences_are_refused_with_what_to_do() -> None:
    with pytest.raises(Invalid, match="no language 'xx'") as error:
        hassil.sample("xx", 1, 1)
    assert "pt-BR" in error.value.remedy
    with pytest.raises(Invalid, match="no intent 'Fly'") as error:
        hassil.sample("en", 1, 1, intents=["Fly"])
    assert "TurnOn" in error.value.remedy
    with pytest.raises(Invalid, match="distinct sentences of the 5000") as error:
        hassil.sample("en", 5000, 1, intents=["GetCurrentTime"])
    assert "lower `count`" in error.value.remedy
