"""Trials as SVG: parallel coordinates, one strand for each, and a cloud of two objectives. Drawn on the server, as `charts` is.

An axis has its name above, its values beside it. The strand of the best is drawn last and in the accent; those that no other beats
are in the second colour, those that were ended early or failed are faint. A strand says who it is when it is pointed at, and the
table beside the chart says everything in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from ciranda.web import charts

WIDTH, HEIGHT = 960, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 64, 34, 18
TONES = ("faint", "", "front", "best")  # in the order in which they are drawn, the most important on top
LONGEST = 24
Show = Callable[[Any], str]


@dataclass(frozen=True)
class Axis:
    """One coordinate.

    Args:
        name: What stands above it.
        values: What the strands have there, in their order; None where a strand has nothing.
        show: How a value is written.
        log: Whether numbers stand by their logarithm.
        choices: For names and few values: all of them, from bottom to top.
    """

    name: str
    values: Sequence[Any]
    show: Show = str
    log: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Strand:
    """One trial: what it is called, and how it is drawn (`best`, `front`, `faint` or plain)."""

    name: str
    tone: str = ""


def parallel(axes: Sequence[Axis], strands: Sequence[Strand], name: str) -> Markup:
    """All trials over all coordinates; nothing where there are fewer than two axes or no strand."""
    if len(axes) < 2 or not strands:
        return Markup("")
    across = (WIDTH - LEFT - RIGHT) / (len(axes) - 1)
    xs = [LEFT + across * number for number in range(len(axes))]
    parts = [f'<path class="zero" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>' for x in xs]
    order = sorted(range(len(strands)), key=lambda number: TONES.index(strands[number].tone))
    parts += [_strand(axes, xs, number, strands[number]) for number in order]
    parts += [_axis(axis, x) for axis, x in zip(axes, xs, strict=True)]  # last, so that no strand strikes them through
    return _svg("".join(parts), name, WIDTH, HEIGHT)


def _axis(axis: Axis, x: float) -> str:
    """Its name, and what its places mean."""
    parts = [f'<text class="label" x="{x:.1f}" y="{TOP - 16}" text-anchor="middle">{escape(_cut(axis.name))}</text>']
    for value in _marks(axis):
        y = place(axis, value)
        shown = escape(_cut(axis.show(value)))
        parts.append(f'<text class="axis" x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{shown}</text>')
    return "".join(parts)


def _marks(axis: Axis) -> tuple[Any, ...]:
    """What is written beside an axis: every choice, or its two ends."""
    if axis.choices:
        return axis.choices
    known = [value for value in axis.values if value is not None]
    return tuple(dict.fromkeys((min(known), max(known)))) if known else ()


def place(axis: Axis, value: Any) -> float:
    """How high a value stands."""
    bottom, top = HEIGHT - BOTTOM, TOP
    if axis.choices:
        at = axis.choices.index(value)
        share = (at + 0.5) / len(axis.choices)
    else:
        known = [_scaled(axis, one) for one in axis.values if one is not None]
        low, high = min(known), max(known)
        share = (_scaled(axis, value) - low) / (high - low) if high > low else 0.5
    return bottom - share * (bottom - top)


def _scaled(axis: Axis, value: float) -> float:
    return math.log(max(value, 1e-12)) if axis.log else float(value)


def _strand(axes: Sequence[Axis], xs: Sequence[float], number: int, strand: Strand) -> str:
    points = [
        (x, None if axis.values[number] is None else place(axis, axis.values[number]))
        for axis, x in zip(axes, xs, strict=True)
    ]
    d = charts.path(points, lambda x, y: (x, y))
    ends = [(x, y) for x, y in points if y is not None]
    label = ""
    if strand.tone in ("best", "front") and ends:
        x, y = ends[-1]
        label = f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    if strand.tone == "best" and ends:
        label += f'<text class="label" x="{ends[-1][0] + 8:.1f}" y="{ends[-1][1] + 4:.1f}">{escape(strand.name)}</text>'
    told = "; ".join(
        f"{axis.name} {axis.show(axis.values[number])}" for axis in axes if axis.values[number] is not None
    )
    title = f"<title>{escape(strand.name)}: {escape(told)}</title>"
    return f'<g class="strand {strand.tone}">{title}<path d="{d}"/>{label}</g>'


def cloud(
    points: Sequence[tuple[str, float, float, str]], *, name: str, x: tuple[str, Show], y: tuple[str, Show],
    width: int = 560, height: int = 220,
) -> Markup:  # fmt: skip
    """Two objectives against each other. A point: its name, x, y, and its tone."""
    if not points:
        return Markup("")
    left, right, top, bottom = 52, width - 16, 22, height - 34
    xs, ys = charts.ticks(*_range([one[1] for one in points])), charts.ticks(*_range([one[2] for one in points]))

    def at(one: float, two: float) -> tuple[float, float]:
        across, up = (one - xs[0]) / ((xs[-1] - xs[0]) or 1), (two - ys[0]) / ((ys[-1] - ys[0]) or 1)
        return left + across * (right - left), bottom - up * (bottom - top)

    parts = [f'<text class="label" x="{left}" y="12">{escape(y[0])}</text>']
    parts.append(f'<text class="label" x="{right}" y="{height - 4}" text-anchor="end">{escape(x[0])}</text>')
    for mark in ys:
        level = at(xs[0], mark)[1]
        parts.append(f'<path class="grid" d="M{left} {level:.1f}H{right}"/>')
        parts.append(
            f'<text class="axis" x="{left - 6}" y="{level + 4:.1f}" text-anchor="end">{escape(y[1](mark))}</text>'
        )
    for mark in xs:
        parts.append(
            f'<text class="axis" x="{at(mark, ys[0])[0]:.1f}" y="{bottom + 14}" text-anchor="middle">{escape(x[1](mark))}</text>'
        )
    for who, one, two, tone in sorted(points, key=lambda point: TONES.index(point[3])):
        px, py = at(one, two)
        title = f"<title>{escape(who)}: {escape(x[0])} {escape(x[1](one))}, {escape(y[0])} {escape(y[1](two))}</title>"
        dot = f'<circle class="dot" cx="{px:.1f}" cy="{py:.1f}" r="{5 if tone == "best" else 4}"/>'
        parts.append(f'<g class="strand {tone}">{title}{dot}</g>')
    return _svg("".join(parts), name, width, height)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - abs(low) * 0.1 - 0.01, high + abs(high) * 0.1 + 0.01)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _svg(content: str, name: str, width: int, height: int) -> Markup:
    return Markup(  # noqa: S704 - every text in it was escaped where it was put in
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name)}">{content}</svg>'
    )
