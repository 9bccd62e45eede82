"""Static charts as SVG: loss curves, intervals, shares, small lines. Drawn on the server, so they print and need no script.

Text and colours come from the style sheet by class, never by an inline style (the content policy forbids those). Each chart
is an image with its numbers in its name; pages put a table beside it. One unit per axis, the limit drawn with its value,
labels at the ends of lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float | None]
Format = Callable[[float], str]


@dataclass(frozen=True)
class Line:
    """One series. `colour` is 1 to 6."""

    label: str
    points: Sequence[Point]
    colour: int = 1


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers that cover a range."""
    if not math.isfinite(high - low) or high <= low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough), power * 10)
    first = math.floor(low / step)
    last = math.ceil(high / step)
    return [round(index * step, 10) for index in range(first, last + 1)]


def smooth(points: Sequence[Point], share: float = 0.06) -> list[Point]:
    """A centred mean over a share of the points: the line on top of the raw one."""
    half = max(1, int(len(points) * share / 2))
    result: list[Point] = []
    for index, (x, _) in enumerate(points):
        near = [y for _, y in points[max(0, index - half) : index + half + 1] if y is not None]
        result.append((x, sum(near) / len(near) if near else None))
    return result


def path(points: Sequence[tuple[float, float | None]], place: Callable[[float, float], tuple[float, float]]) -> str:
    """The `d` of a line; a missing value is a gap."""
    pieces, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        px, py = place(x, y)
        pieces.append(f"{pen}{px:.1f} {py:.1f}")
        pen = "L"
    return "".join(pieces)


def lines(
    series: Sequence[Line],
    *,
    name: str,
    y_format: Format,
    x_format: Format,
    limit: tuple[float, str] | None = None,
    zero: bool = False,
    smoothed: bool = True,
    width: int = 720,
    height: int = 220,
) -> Markup:
    """A line chart of one unit.

    Args:
        name: What it shows, with its numbers, for who cannot see it.
        limit: A value to draw across, with its label.
        zero: Whether the axis must begin at zero.
        smoothed: Whether raw values are drawn faint, with a smoothed line on top.
    """
    points = [point for line in series for point in line.points if point[1] is not None]
    if not points:
        return Markup("")
    values = [y for _, y in points if y is not None] + ([limit[0]] if limit else []) + ([0.0] if zero else [])
    marks = ticks(min(values), max(values) if max(values) > min(values) else min(values) + 1)
    low, high = marks[0], marks[-1]
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    named = any(line.label for line in series)
    left, right, top, bottom = 48, width - (96 if named else 14), 12, height - 22

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / ((last - first) or 1)
        return left + across * (right - left), bottom - (y - low) / ((high - low) or 1) * (bottom - top)

    parts: list[str] = []
    for mark in marks:
        y = place(first, mark)[1]
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        parts.append(
            f'<text class="axis" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(y_format(mark))}</text>'
        )
    for x, anchor in ((first, "start"), ((first + last) / 2, "middle"), (last, "end")):
        px = place(x, low)[0]
        parts.append(
            f'<text class="axis" x="{px:.1f}" y="{height - 4}" text-anchor="{anchor}">{escape(x_format(x))}</text>'
        )
    if limit:
        y = place(first, limit[0])[1]
        parts.append(f'<path class="limit" d="M{left} {y:.1f}H{right}"/>')
        parts.append(
            f'<text class="limit-label" x="{right}" y="{y - 4:.1f}" text-anchor="end">{escape(limit[1])}</text>'
        )
    taken: list[float] = []
    for line in series:
        drawn = smoothed and len(line.points) > 12
        parts += _line(line, place, smoothed=drawn, right=right, taken=taken, middle=(top + bottom) / 2)
    return _svg("".join(parts), name, width, height)


def _line(
    line: Line,
    place: Callable[[float, float], tuple[float, float]],
    *,
    smoothed: bool,
    right: float,
    taken: list[float],
    middle: float,
) -> list[str]:
    shown = smooth(line.points) if smoothed else line.points
    parts = [f'<path class="raw c{line.colour}" d="{path(line.points, place)}"/>'] if smoothed else []
    parts.append(f'<path class="line c{line.colour}" d="{path(shown, place)}"/>')
    ends = [point for point in shown if point[1] is not None]
    if ends and line.label:
        x, y = place(ends[-1][0], ends[-1][1] or 0.0)
        aside = 13 if y < middle else -13  # towards the middle, so that no label leaves the chart
        while any(abs(y - other) < 13 for other in taken):
            y += aside
        taken.append(y)
        parts.append(
            f'<circle class="dot c{line.colour}" cx="{x:.1f}" cy="{place(*_solid(ends[-1]))[1]:.1f}" r="2.5"/>'
        )
        parts.append(f'<text class="label" x="{right + 8}" y="{y + 4:.1f}">{escape(line.label)}</text>')
    return parts


def _solid(point: Point) -> tuple[float, float]:
    return point[0], point[1] if point[1] is not None else 0.0


def spark(values: Sequence[float], name: str = "") -> Markup:
    """A small line without axes."""
    if len(values) < 2 or not max(values):
        return Markup('<svg class="spark" viewBox="0 0 88 20" aria-hidden="true"><path d="M0 18H88"/></svg>')
    top = max(values)
    d = path(
        [(float(index), value) for index, value in enumerate(values)],
        lambda x, y: (x / (len(values) - 1) * 88, 18 - y / top * 16),
    )
    seen = f'role="img" aria-label="{escape(name)}"' if name else 'aria-hidden="true"'
    return Markup(f'<svg class="spark" viewBox="0 0 88 20" preserveAspectRatio="none" {seen}><path d="{d}"/></svg>')  # noqa: S704


def intervals(
    rows: Sequence[tuple[str, float, float, float, int]],
    *,
    name: str,
    value_format: Format,
    limit: float | None = None,
    label_width: int = 150,
    width: int = 560,
) -> Markup:
    """Estimates with their intervals, one under the other, on one axis from 0 to 1. A row: label, value, low, high, colour."""
    height, left, right = 26 * len(rows) + 24, label_width, width - 56

    def x(value: float) -> float:
        return left + min(1.0, max(0.0, value)) * (right - left)

    parts = []
    for mark in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path class="grid" d="M{x(mark):.1f} 4V{height - 20}"/>')
        parts.append(
            f'<text class="axis" x="{x(mark):.1f}" y="{height - 4}" text-anchor="middle">{escape(value_format(mark))}</text>'
        )
    if limit is not None:
        parts.append(f'<path class="limit" d="M{x(limit):.1f} 4V{height - 20}"/>')
    for index, (label, value, low, high, colour) in enumerate(rows):
        y = 26 * index + 17
        parts.append(f'<text class="label" x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<path class="whisker c{colour}" d="M{x(low):.1f} {y}H{x(high):.1f}"/>')
        parts.append(f'<circle class="dot c{colour}" cx="{x(value):.1f}" cy="{y}" r="4"/>')
        parts.append(f'<text class="axis" x="{right + 10}" y="{y + 4}">{escape(value_format(value))}</text>')
    return _svg("".join(parts), name, width, height)


def shares(parts: Sequence[tuple[float, int]], name: str) -> Markup:
    """A whole cut into parts: percent and colour of each, left to right."""
    drawn, at = [], 0.0
    for percent, colour in parts:
        gap = 0.25 if at + percent < 99.9 else 0.0
        drawn.append(
            f'<rect class="bar c{colour}" x="{at:.2f}" y="0" width="{max(0.0, percent - gap):.2f}" height="10"/>'
        )
        at += percent
    return Markup(  # noqa: S704 - numbers of ours, and a name that is escaped
        f'<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{escape(name)}">'
        f"{''.join(drawn)}</svg>"
    )


def beside(
    rows: Sequence[tuple[str, float, float]],
    *,
    name: str,
    value_format: Format,
    label_width: int = 130,
    width: int = 460,
) -> Markup:
    """Two shares of each thing, one bar under the other: before in grey, after in colour. A row: label, before, after."""
    top = max((max(before, after) for _, before, after in rows), default=0.0) or 1.0
    left, right, parts = label_width, width - 96, []
    for index, (label, before, after) in enumerate(rows):
        y = 28 * index + 4
        shown = label if len(label) <= label_width // 7 else f"{label[: label_width // 7 - 1]}…"
        parts.append(f'<text class="label" x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(shown)}</text>')
        for value, tone, down in ((before, "was", 0), (after, "now", 10)):
            long = max(0.0, value) / top * (right - left)
            parts.append(
                f'<rect class="beam {tone}" x="{left}" y="{y + down}" width="{long:.1f}" height="8" rx="1.5"/>'
            )
        told = f"{value_format(before)} → {value_format(after)}"
        parts.append(f'<text class="axis" x="{right + 8}" y="{y + 13}">{escape(told)}</text>')
    return _svg("".join(parts), name, width, 28 * len(rows) + 4)


def meter(value: float, *, name: str, tone: int | str = 1, marks: Sequence[float] = ()) -> Markup:
    """How much of a limit is used, from 0 to 1. `tone` is a series colour or a status."""
    filled = 100 * min(1.0, max(0.0, value))
    lines_ = "".join(f'<path class="limit" d="M{100 * mark:.1f} 0V8"/>' for mark in marks)
    return Markup(  # noqa: S704 - numbers of ours, and a name that is escaped
        f'<svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{escape(name)}">'
        f'<rect class="track" width="100" height="8" rx="2"/><rect class="bar c{tone}" width="{filled:.1f}" height="8" rx="2"/>'
        f"{lines_}</svg>"
    )


def strength(e_value: float, limit: float) -> float:
    """An e-value as a share of the way to its limit, on a log scale: 1 is no evidence, at the limit it decides."""
    return max(0.0, min(1.0, math.log(max(e_value, 1.0)) / math.log(limit))) if limit > 1 else 0.0


def _svg(content: str, name: str, width: int, height: int) -> Markup:
    return Markup(  # noqa: S704 - every text in it was escaped where it was put in
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name)}">{content}</svg>'
    )
