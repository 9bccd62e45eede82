"""Static files, tokens and charts: sizes, contrast, colours that can be told apart, drawings that are whole."""

from __future__ import annotations

import gzip
import itertools
import re
from xml.etree import ElementTree

import pytest
from jinja2 import StrictUndefined

from ciranda.web import assets, charts, render
from ciranda.web.assets import Assets
from ciranda.web.views import live
from ciranda.web.views.live import Bucket, Track

PAIR = re.compile(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")
TOKENS = {name: (light, dark) for name, light, dark in PAIR.findall((assets.OWN / "css" / "tokens.css").read_text())}
TEXTS = [
    *itertools.product(["text", "text-2", "text-3", "accent"], ["bg", "surface", "surface-2"]),
    ("text-2", "surface-3"), ("text", "surface-3"), ("text", "accent-soft"), ("on-accent", "accent"), ("on-accent", "bad"),
    ("ok", "ok-soft"), ("warn", "warn-soft"), ("bad", "bad-soft"), ("accent", "accent-soft"), ("text-3", "accent-soft"),
    ("text", "ok-soft"), ("text", "warn-soft"), ("text", "bad-soft"), ("warn", "surface"), ("bad", "surface"), ("ok", "surface"),
    ("text", "insert"), ("text", "delete"), ("text-3", "insert"),
]  # fmt: skip
SHAPES = [
    ("border-strong", "surface"),
    ("border-strong", "bg"),
    ("focus", "bg"),
    *((f"series-{n}", "surface") for n in range(1, 7)),
]


def linear(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one, other):
    light = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (linear(one), linear(other))]
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_of_every_pair_that_is_used(theme):
    low = [(a, b) for a, b in TEXTS if contrast(TOKENS[a][theme], TOKENS[b][theme]) < 4.5]
    assert not low
    assert not [(a, b) for a, b in SHAPES if contrast(TOKENS[a][theme], TOKENS[b][theme]) < 2.99]


def oklab(red, green, blue):
    rows = (
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    )
    long, middle, short = (max(0.0, a * red + b * green + c * blue) ** (1 / 3) for a, b, c in rows)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


MACHADO = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("kind", MACHADO)
def test_series_can_be_told_apart_whatever_the_eyes(kind, theme):
    seen = []
    for number in range(1, 7):
        colour = linear(TOKENS[f"series-{number}"][theme])
        seen.append(
            oklab(*(min(1.0, max(0.0, sum(a * b for a, b in zip(row, colour, strict=True)))) for row in MACHADO[kind]))
        )
    least = min(
        sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5
        for one, other in itertools.combinations(seen, 2)
    )
    assert least >= 0.12


def test_budgets_of_what_the_browser_loads():
    made = Assets()
    size = {
        name: len(made.files[hashed].compressed or made.files[hashed].content) for name, hashed in made.names.items()
    }
    scripts = sum(size[name] for name in ("htmx.js", "uplot.js", "app.js", "worker.js"))
    assert scripts <= 60_000
    assert size["app.css"] <= 12_000
    assert sum(size.values()) <= 120_000


def test_styles_name_only_what_is_there():
    made = Assets()
    css = made.files[made.names["app.css"]].content.decode()
    addresses = re.findall(r"url\(([^)]+)\)", css)
    assert addresses == [made.names["inter.woff2"]]
    used = set(re.findall(r"var\(--([\w-]+)", css))
    defined = set(re.findall(r"--([\w-]+):", css))
    assert not used - defined
    assert not [line for line in css.splitlines() if "@import" in line]


def test_scripts_use_no_way_around_the_policy():
    for path in (assets.OWN / "js").glob("*.js"):
        text = path.read_text()
        for sink in (
            ".innerHTML",
            ".outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            'setAttribute("style',
        ):
            assert sink not in text, f"{path.name}: {sink}"


def test_third_party_files_are_listed_with_their_licences():
    names = {part["name"]: part for part in Assets().third_party}
    assert set(names) == {"htmx.org", "uplot", "@fontsource-variable/inter"}
    for part in names.values():
        assert part["licence"]
        assert all(len(digest) == 64 for digest in part["files"].values())


def test_every_template_compiles_strictly():
    for tag in ("en", "pt-BR"):
        environment = render.environment(tag)
        assert environment.undefined is StrictUndefined
        assert environment.autoescape is True
        for name in environment.list_templates():
            environment.get_template(name)


def test_json_in_a_page_cannot_end_its_element():
    assert "</script" not in render.json_script('{"x": "</script><b>&"}')
    assert "\\u003c/script\\u003e" in render.json_script('{"x": "</script>"}')


def whole(svg):
    return ElementTree.fromstring(str(svg).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))


@pytest.mark.parametrize(
    "points",
    [[(0, 1.0), (1, 2.0)], [(n, 1.0) for n in range(50)], [(0, None), (1, 3.0), (2, None), (3, 4.0)], [(5, 0.0)]],
    ids=range(4),
)
def test_lines_are_whole_for_any_points(points):
    svg = charts.lines(
        [charts.Line("a<b", points, 1), charts.Line("c", points, 2)],
        name='it is "so"',
        y_format=str,
        x_format=str,
        limit=(2.5, "limit"),
    )
    tree = whole(svg)
    assert tree.get("aria-label") == 'it is "so"'
    assert "nan" not in str(svg)


def test_a_chart_without_values_is_nothing():
    assert charts.lines([charts.Line("", [(0, None)])], name="", y_format=str, x_format=str) == ""


def test_other_drawings_are_whole():
    for svg in (
        charts.spark([1, 2, 3], "rising"), charts.spark([]), charts.spark([0, 0]), charts.meter(2.0, name="m"),
        charts.shares([(75, 1), (25, 2)], "s"), charts.intervals([("a", 0.5, 0.4, 1.2, 1)], name="i", value_format=str),
    ):  # fmt: skip
        whole(svg)
    assert charts.strength(1, 100) == 0
    assert charts.strength(10, 100) == pytest.approx(0.5)
    assert charts.strength(1e9, 100) == 1


def test_ticks_are_round_and_cover():
    for low, high in ((0, 1), (0.12, 2.7), (0, 48_211), (3, 3)):
        marks = charts.ticks(low, high)
        assert marks[0] <= low
        assert marks[-1] >= high
        assert len(marks) <= 7


# --- live numbers -----------------------------------------------------------------------------------------------------


def test_metrics_mean_the_same_for_a_bucket_a_minute_and_all_versions():
    one = Track("m@1", 1, tuple(Bucket(5 * n, 10, 1, 100.0, 3, 1, 50.0, 150.0, 600) for n in range(24)))
    two = Track("m@2", 2, tuple(Bucket(5 * n, 30, 0, 200.0, 0, 0) for n in range(24)))
    assert live.metric("requests", one.buckets[0], 5) == 2
    assert live.recent("requests", one, 5) == 2
    assert live.recent("errors", one, 5) == pytest.approx(0.1)
    assert live.recent("quality", two, 5) is None
    both = live.total([one, two])
    assert live.recent("requests", both, 5) == 8
    assert live.recent("errors", both, 5) == pytest.approx(0.025)
    assert live.recent("latency", both, 5) == pytest.approx(175)
    assert live.metric("latency", Bucket(0), 5) is None
    assert (live.recent("p50", both, 5), live.recent("p99", both, 5)) == (50.0, 150.0)
    assert live.recent("tokens", both, 5) == 120
    assert live.recent("thumbs", both, 5) == pytest.approx(0.75)
    assert live.points("requests", one, 5)[0] == (0.0, 2.0)


def test_a_series_keeps_its_colour_by_version():
    assert [live.colour_of(f"m@{n}") for n in (1, 2, 7)] == [1, 2, 1]
    assert live.colour_of("m@0") == 6
    assert live.colour_of("") == 6


def test_a_compressed_file_is_the_file():
    for asset in Assets().files.values():
        if asset.compressed is not None:
            assert gzip.decompress(asset.compressed) == asset.content
