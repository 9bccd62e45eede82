"""Languages: which one a request gets, and that none is half translated."""

from __future__ import annotations

import re

import pytest

from ciranda.jobs import remote
from ciranda.loop import turns
from ciranda.registry.history import STAGES
from ciranda.train import endings
from ciranda.web import i18n
from ciranda.web.formats import Formats
from ciranda.web.views import fleet
from ciranda.web.views.runs import Again
from ciranda.web.words import Words
from web import catalogue

HOLES = re.compile(r"%\(\w+\)[sd]")


@pytest.mark.parametrize(
    ("chosen", "accepted", "tag"),
    [
        ("", "", "en"), ("", "pt-BR,pt;q=0.9,en;q=0.8", "pt-BR"), ("", "pt-PT", "pt-BR"), ("", "de, en;q=0.5, pt;q=0.1", "en"),
        ("en", "pt-BR", "en"), ("xx", "fr", "en"), ("", "en;q=0.1,pt;q=0.9", "pt-BR"), ("", "pt;q=oops, en", "en"),
    ],
)  # fmt: skip
def test_choice_beats_the_browser_and_the_browser_beats_the_default(chosen, accepted, tag):
    assert i18n.negotiate(chosen, accepted) == tag


@pytest.mark.parametrize("path", catalogue.catalogues(), ids=lambda path: path.parent.parent.name)
def test_every_message_is_translated_and_none_is_left_over(path):
    fresh, text = catalogue.updated(path), path.read_text()
    empty = [message.id for message in fresh if message.id and not all(message.string or ("",))]
    assert not empty, "translate these, after `PYTHONPATH=src:tests python -m web.catalogue`"
    listed = {message.id if isinstance(message.id, str) else message.id[0] for message in fresh if message.id}
    known = catalogue.read_po(path.open("rb"))
    held = {message.id if isinstance(message.id, str) else message.id[0] for message in known if message.id}
    assert held == listed, "run `PYTHONPATH=src:tests python -m web.catalogue`"
    assert "fuzzy" not in text


@pytest.mark.parametrize("path", catalogue.catalogues(), ids=lambda path: path.parent.parent.name)
def test_translations_keep_every_hole(path):
    for message in catalogue.updated(path):
        originals = [message.id] if isinstance(message.id, str) else list(message.id)
        given = [message.string] if isinstance(message.string, str) else list(message.string)
        for one, other in zip(originals, given, strict=True):
            assert set(HOLES.findall(one)) >= set(HOLES.findall(other)), one
            assert set(HOLES.findall(originals[-1])) == set(HOLES.findall(given[-1])), one


def test_catalogues_are_compiled():
    assert i18n.messages("pt-BR").gettext("Overview") == "Visão geral", "run `python hatch_build.py`"


def test_what_the_platform_stores_has_a_word():
    words = Words(i18n.messages("pt-BR"), Formats("pt-BR"))
    for stage in fleet.STAGES:
        assert words.stage(stage) != stage
    for state in (*turns.OPEN, *turns.BUSY, *turns.ENDED, *STAGES):
        assert words.state(state) != state.replace("_", " ")
    assert [words.stage(stage) for stage in fleet.STAGES] == [
        "Dados", "Treino", "Aprovação", "Canário", "No ar", "Deriva", "Retreino",
    ]  # fmt: skip


def test_why_something_ended_is_said_in_the_readers_language():
    words = Words(i18n.messages("pt-BR"), Formats("pt-BR"))
    parts = {"step": 120, "actor": "ana", "code": 9, "number": 3, "reason": "memory ran out"}
    for kind in endings.SENTENCES:
        said = endings.say(kind, **parts)
        assert endings.read(said)[0] == kind
        assert words.ended(said) != said or kind == "of"
    assert words.ended("behind the median of the others at step 120") == "atrás da mediana das outras no passo 120"
    assert words.ended("trial 3: cancelled by ana") == "tentativa 3: cancelada por ana"
    assert (
        words.ended("the loss is no number; do: lower learning_rate")
        == "the loss is no number; do: lower learning_rate"
    )
    assert endings.read(remote.CANCELLED)[0] == "ended", "as executors say it"


def test_what_is_counted_agrees_with_its_number():
    words = Words(i18n.messages("pt-BR"), Formats("pt-BR"))
    assert [words.counted("complete", n) for n in (1, 3)] == ["1 completa", "3 completas"]
    assert [words.counted("pruned", n) for n in (1, 2)] == ["1 interrompida cedo", "2 interrompidas cedo"]
    assert Words(i18n.messages("en"), Formats()).counted("failed", 2) == "2 failed"


def test_how_near_a_run_came_is_said_in_the_readers_language():
    words = Words(i18n.messages("pt-BR"), Formats("pt-BR"))
    scores = (("exact_match", 0.812, 0.8),)
    one = Again(
        "r", "complete", "2026-11-23T10:00:00Z", "ana", summary="not the same weights", apart=0.0021, scores=scores
    )
    told = (
        "os pesos não são os mesmos; à distância de 0,0021 do seu comprimento; acerto exato 0,8120 antes, 0,8000 agora"
    )
    assert words.nearness(one) == told
    assert words.otherwise(("rows", "torch: 2.12 then, 2.13 now")) == "linhas, torch: 2.12 antes, 2.13 agora"


def test_an_unknown_name_is_shown_as_it_is():
    words = Words(i18n.messages("en"), Formats())
    assert words.state("half_done") == "half done"
    assert words.metric("json_field:area") == "json field:area"
