"""What people see: Rich tables and progress on a terminal, plain aligned lines everywhere else. Rich honours NO_COLOR by itself.

A table is the same call for both, so that a pipe never loses a column that the terminal shows. Rich is imported at first use.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import click

from ciranda.store import clock

BLOCKS = "▁▂▃▄▅▆▇█"
COLOURS = {
    "live": "green", "promoted": "green", "ready": "green", "pass": "green", "done": "green", "ok": "green", "succeeded": "green",
    "running": "cyan", "canary": "cyan", "shadow": "cyan", "queued": "cyan", "approved": "cyan", "starting": "cyan",
    "awaiting_approval": "yellow", "held": "yellow", "waiting": "yellow", "warning": "yellow", "cannot tell": "yellow",
    "acknowledged": "yellow",
    "failed": "red", "refused": "red", "rolled_back": "red", "fail": "red", "critical": "red", "open": "red", "failing": "red",
}  # fmt: skip


@dataclass(frozen=True)
class Screen:
    """Where a command draws.

    Args:
        plain: No colours and no boxes, whatever it draws on.
        beside: Draw on stderr, since stdout is kept for JSON.
    """

    plain: bool = False
    beside: bool = False

    @property
    def rich(self) -> bool:
        """Whether a person is looking."""
        return not self.plain and (sys.stderr if self.beside else sys.stdout).isatty()

    @cached_property
    def console(self) -> Any:
        from rich.console import Console

        return Console(highlight=False, stderr=self.beside)

    def line(self, text: str, style: str = "") -> None:
        """One line of text."""
        if self.rich:
            from rich.text import Text

            self.console.print(Text(safe(text), style=style))
        else:
            click.echo(safe(text), err=self.beside)

    def facts(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Names and values, one under the other."""
        shown = [(name, text(value)) for name, value in pairs if value not in (None, "")]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            if self.rich:
                from rich.text import Text

                self.console.print(Text.assemble((f"{name:<{width}}  ", "dim"), (safe(value), COLOURS.get(value, ""))))
            else:
                click.echo(f"{name:<{width}}  {safe(value)}", err=self.beside)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", empty: str = "") -> None:
        """Rows under headings, or the sentence `empty` when there are none."""
        shown = [[safe(text(value)) for value in row] for row in rows]
        if not shown:
            self.line(empty or "nothing")
        elif self.rich:
            self.console.print(self.drawn(columns, shown, title=title))
        else:
            click.echo("\n".join(aligned(columns, shown)), err=self.beside)

    def drawn(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> Any:
        """The table as Rich draws it."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
        for name in columns:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(value, style=COLOURS.get(value, "")) for value in row))
        return table

    def waiting(self, label: str) -> AbstractContextManager[Any]:
        """A sign that something is under way."""
        return self.console.status(safe(label)) if self.rich else nullcontext()


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Plain lines with columns of equal width."""
    lines = [list(columns), *rows]
    widths = [max(wide(line[place]) for line in lines) for place in range(len(columns))]
    return [
        "  ".join(cell + " " * (width - wide(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def wide(text: str) -> int:
    """Cells that a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


def safe(text: str) -> str:
    """A text of strangers for a terminal: no escape sequences, no line breaks."""
    return "".join(one if one.isprintable() else " " for one in text)


def text(value: Any) -> str:
    """One value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(text(one) for one in value)
    return str(value)


def spark(values: Sequence[float]) -> str:
    """A row of numbers as blocks, from zero to the largest."""
    top = max(values, default=0.0)
    return "".join(BLOCKS[min(7, int(value / top * 7.999))] if top > 0 else BLOCKS[0] for value in values)


def ago(moment: str | None) -> str:
    """How long since a time that we stored."""
    if not moment:
        return "-"
    return lasting((clock.now() - clock.parse(moment)).total_seconds())


def lasting(seconds: float) -> str:
    """A duration in its two largest units."""
    whole = timedelta(seconds=max(0, round(seconds)))
    hours, rest = divmod(whole.seconds, 3600)
    minutes, left = divmod(rest, 60)
    if whole.days:
        return f"{whole.days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {left}s" if minutes else f"{left}s"
