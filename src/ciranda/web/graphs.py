"""A graph of causes as SVG: boxes in columns, causes to the left, drawn on the server, every box a link that the keyboard reaches.

Columns come from the longest way to a box; a box that nothing precedes moves next to what it leads to, so that lines stay short. In
a column boxes stand where their neighbours are (two sweeps of barycentres). Text and colours come from the style sheet by class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 204, 50
ACROSS, DOWN = 52, 14
MARGIN = 8
LINE = 29  # characters that fit


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
    columns = arranged([box.id for box in boxes], edges)
    places = _places(columns)
    if not places:
        return Markup("")
    width = MARGIN * 2 + len(columns) * (WIDTH + ACROSS) - ACROSS
    height = MARGIN * 2 + max(map(len, columns)) * (HEIGHT + DOWN) - DOWN
    lines = "".join(_edge(places[cause], places[effect]) for cause, effect in edges)
    by_id = {box.id: box for box in boxes}
    drawn = "".join(_box(by_id[one], *places[one]) for column in columns for one in column)
    return Markup(  # noqa: S704 - every text in it was escaped where it was put in
        f'<svg class="causes" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="{escape(name)}"><g aria-hidden="true">{lines}</g>{drawn}</svg>'
    )


def arranged(ids: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The ids in columns, each in the order from top to bottom. An edge always goes to a later column."""
    ranks = _ranks(ids, edges)
    columns: list[list[str]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for one in ids:
        columns[ranks[one]].append(one)
    before, after = _neighbours(ids, edges)
    for _ in range(2):
        _sweep(columns, before)
        _sweep(columns[::-1], after)
    return columns


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


def _places(columns: Sequence[Sequence[str]]) -> dict[str, tuple[float, float]]:
    """The upper left corner of each box; columns are centred on each other."""
    tallest = max(map(len, columns), default=0)
    return {
        one: (
            MARGIN + rank * (WIDTH + ACROSS),
            MARGIN + (place + (tallest - len(column)) / 2) * (HEIGHT + DOWN),
        )
        for rank, column in enumerate(columns)
        for place, one in enumerate(column)
    }


def _edge(cause: tuple[float, float], effect: tuple[float, float]) -> str:
    x, y = cause[0] + WIDTH, cause[1] + HEIGHT / 2
    to_x, to_y = effect[0], effect[1] + HEIGHT / 2
    bend = min(ACROSS, (to_x - x)) / 2
    return (
        f'<path class="cause" d="M{x:.0f} {y:.0f}C{x + bend:.0f} {y:.0f} {to_x - bend:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"/>'
        f'<path class="tip-of" d="M{to_x - 6:.0f} {to_y - 4:.0f}L{to_x:.0f} {to_y:.0f}L{to_x - 6:.0f} {to_y + 4:.0f}"/>'
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
