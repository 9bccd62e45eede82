"""Numbers and dates, as people write them; the browser is held to the same vectors in `test_browser`."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from ciranda.store import clock
from ciranda.web.formats import Formats

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())


def test_settings_of_a_recipe():
    values = (0.00422, 16.0, 1e-05, True, ["q_proj", "v_proj"], "lora", "", None, 0)
    told = [Formats("pt-BR").setting(value) for value in values]
    assert told == ["0,00422", "16", "0,0000100", "true", "q_proj, v_proj", "lora", "–", "–", "0"]


@pytest.mark.parametrize("vector", VECTORS["number"], ids=str)
def test_numbers(vector):
    tag, value, digits, shown = vector
    assert Formats(tag).number(value, digits) == shown


@pytest.mark.parametrize("name", ["compact", "percent", "ms"])
def test_short_forms(name):
    for tag, value, shown in VECTORS[name]:
        assert getattr(Formats(tag), name)(value) == shown


def test_the_clock_is_the_readers():
    for tag, zone, iso, shown in VECTORS["clock"]:
        assert Formats(tag, zone).clock(iso, seconds=True) == shown


def test_dates_and_moments_say_as_little_as_is_clear():
    english, brazil = Formats("en", "America/Sao_Paulo"), Formats("pt-BR", "America/Sao_Paulo")
    assert english.date("2026-11-23T17:03:22.000Z") == "23 Nov 2026"
    assert brazil.date("2026-11-23T02:03:22.000Z") == "22 nov 2026"
    assert english.full("2026-11-23T17:03:22.000Z") == "23 Nov 2026 14:03:22 UTC-03:00"
    assert Formats().full("2026-11-23T17:03:22.000Z") == "23 Nov 2026 17:03:22 UTC"
    now = clock.iso()
    assert english.when(now) == english.clock(now)
    assert english.when(clock.iso(clock.now() - timedelta(days=800))).startswith(tuple("123456789"))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.8, "0.8 s"),
        (12, "12 s"),
        (61, "1 min"),
        (2280, "38 min"),
        (7500, "2 h 05 min"),
        (31 * 86400, "31 d"),
        (None, "–"),
    ],
)
def test_durations(seconds, shown):
    assert Formats().duration(seconds) == shown


def test_an_unknown_zone_is_utc_and_not_an_error():
    assert Formats("en", "Mars/Olympus").clock("2026-11-23T17:03:22.000Z") == "17:03"
    assert Formats("en", "../../etc/passwd").clock("2026-11-23T17:03:22.000Z") == "17:03"
