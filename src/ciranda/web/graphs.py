"""A graph of causes as SVG: boxes in columns, causes to the left, drawn on the server, every box a link that the keyboard reaches.

Columns come from the longest way to a box; a box that nothing precedes moves next to what it leads to, so that lines stay short. In
a column boxes stand where their neighbours are (sweeps of barycentres). A line that passes a column takes a place of its own there,
so that it never runs behind a box. Text and colours come from the style sheet by class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH, HEIGHT = 204, 50
ACROSS, DOWN = 52, 14
MARGIN = 8
LINE = 29  # characters that fit
BEND = "~"
SWEEPS = 3


@dataclass(frozen=True)
class Box:
    """One node as it is drawn. `above` is the small line over the name; `href` is empty where there is no page."""

    id: str
    above: str
    name: str
    href: str = ""
    kind: str = ""
    chosen: bool = False


def draw(boxes: Sequence[Box], edges: Sequence[tuple[str, str]], name: str) -> Markup:
    """The whole graph; `name` says what it shows."""
    columns, ways = laid([box.id for box in boxes], edges)
    places, height = _places(columns)
    if not boxes:
        return Markup("")
    width = MARGIN * 2 + len(columns) * (WIDTH + ACROSS) - ACROSS
    lines = "".join(_line([places[one] for one in way]) for way in ways)
    by_id = {box.id: box for box in boxes}
    drawn = "".join(_box(by_id[one], *places[one]) for column in columns for one in column if one in by_id)
    return Markup(  # noqa: S704 - every text in it was escaped where it was put in
        f'<svg class="causes" width="{width}" height="{height:.0f}" viewBox="0 0 {width} {height:.0f}" role="group" '
        f'aria-label="{escape(name)}"><g aria-hidden="true">{lines}</g>{drawn}</svg>'
    )


def laid(ids: Sequence[str], edges: Sequence[tuple[str, str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Columns of ids from top to bottom, and the way of each edge through them, a bend in each column that it passes.

    An edge always goes to a later column. Bends are ids that begin with BEND.
    """
    ranks = _ranks(ids, edges)
    columns: list[list[str]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for one in ids:
        columns[ranks[one]].append(one)
    ways = []
    for number, (cause, effect) in enumerate(edges):
        bends = [f"{BEND}{number}.{rank}" for rank in range(ranks[cause] + 1, ranks[effect])]
        for rank, bend in enumerate(bends, ranks[cause] + 1):
            columns[rank].append(bend)
        ways.append([cause, *bends, effect])
    steps = [step for way in ways for step in pairwise(way)]
    before, after = _neighbours([one for column in columns for one in column], steps)
    for _ in range(SWEEPS):
        _sweep(columns, before)
        _sweep(columns[::-1], after)
    return columns, ways


def _neighbours(
    ids: Sequence[str], edges: Sequence[tuple[str, str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = {one: [] for one in ids}
    after: dict[str, list[str]] = {one: [] for one in ids}
    for cause, effect in edges:
        before[effect].append(cause)
        after[cause].append(effect)
    return before, after


def _ranks(ids: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The column of each: one more than its latest cause; a first cause stands just before its earliest effect."""
    before, after = _neighbours(ids, edges)
    open_, ranks = {one: len(before[one]) for one in ids}, dict.fromkeys(ids, 0)
    ready = [one for one in ids if not open_[one]]
    for one in ready:  # grows while it is walked
        for effect in after[one]:
            ranks[effect] = max(ranks[effect], ranks[one] + 1)
            open_[effect] -= 1
            if not open_[effect]:
                ready.append(effect)
    for one in ids:
        if not before[one] and after[one]:
            ranks[one] = min(ranks[effect] for effect in after[one]) - 1
    return ranks


def _sweep(columns: Sequence[list[str]], neighbours: Mapping[str, Sequence[str]]) -> None:
    """Sort each column by where its neighbours stand."""
    places: dict[str, float] = {}
    for column in columns:
        wanted = {}
        for place, one in enumerate(column):
            known = [places[other] for other in neighbours[one] if other in places]
            wanted[one] = sum(known) / len(known) if known else float(place)
        column.sort(key=lambda one: wanted[one])
        middle = len(column) / 2
        places.update({one: place - middle for place, one in enumerate(column)})


def _places(columns: Sequence[Sequence[str]]) -> tuple[dict[str, tuple[float, float]], float]:
    """The upper left corner of each box and bend, and the height of all; columns are centred on each other."""
    heights = [sum(_tall(one) for one in column) for column in columns]
    tallest = max(heights, default=0.0)
    places = {}
    for rank, column in enumerate(columns):
        y = MARGIN + (tallest - heights[rank]) / 2
        for one in column:
            places[one] = (float(MARGIN + rank * (WIDTH + ACROSS)), y)
            y += _tall(one)
    return places, 2 * MARGIN + tallest - DOWN


def _tall(one: str) -> float:
    return DOWN if one.startswith(BEND) else HEIGHT + DOWN


def _line(way: Sequence[tuple[float, float]]) -> str:
    """A line from the right side of the cause over each bend to the left side of the effect."""
    x, y = way[0][0] + WIDTH, way[0][1] + HEIGHT / 2
    parts = [f"M{x:.0f} {y:.0f}"]
    for to_x, to_y in (*((x, y + DOWN / 2) for x, y in way[1:-1]), (way[-1][0], way[-1][1] + HEIGHT / 2)):
        parts.append(f"C{x + ACROSS / 2:.0f} {y:.0f} {to_x - ACROSS / 2:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}")
        x, y = to_x + WIDTH, to_y
        parts.append(f"H{x:.0f}")
    end_x, end_y = way[-1][0], way[-1][1] + HEIGHT / 2
    return (
        f'<path class="cause" d="{"".join(parts[:-1])}"/>'
        f'<path class="tip-of" d="M{end_x - 6:.0f} {end_y - 4:.0f}L{end_x:.0f} {end_y:.0f}L{end_x - 6:.0f} {end_y + 4:.0f}"/>'
    )


def _box(box: Box, x: float, y: float) -> str:
    inside = (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<rect class="edge" x="{x:.0f}" y="{y + 8:.0f}" width="3" height="{HEIGHT - 16}" rx="1.5"/>'
        f'<text class="above" x="{x + 12:.0f}" y="{y + 19:.0f}">{escape(_short(box.above, LINE + 4))}</text>'
        f'<text class="name" x="{x + 12:.0f}" y="{y + 37:.0f}">{escape(_short(box.name, LINE))}</text>'
        f"<title>{escape(box.above)}: {escape(box.name)}</title>"
    )
    names = f"box {escape(box.kind)}{' chosen' if box.chosen else ''}"
    current = ' aria-current="true"' if box.chosen else ""
    if not box.href:
        return f'<g class="{names}"{current}>{inside}</g>'
    label = f"{box.above}: {box.name}"
    return f'<a class="{names}" href="{escape(box.href)}" aria-label="{escape(label)}"{current}>{inside}</a>'


def _short(text: str, most: int) -> str:
    """The middle goes first: names differ at their ends."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
