"""Languages: which one a request gets, and that none is half translated."""

from __future__ import annotations

import re

import pytest

from ciranda.loop import turns
from ciranda.registry.history import STAGES
from ciranda.web import i18n
from ciranda.web.formats import Formats
from ciranda.web.views import fleet
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


def test_an_unknown_name_is_shown_as_it_is():
    words = Words(i18n.messages("en"), Formats())
    assert words.state("half_done") == "half done"
    assert words.metric("json_field:area") == "json field:area"
