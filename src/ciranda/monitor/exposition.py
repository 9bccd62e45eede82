"""Prometheus' text format: read, given more labels, and put together, so that many processes are one scrape.

A family keeps its help and type once and its samples together, as the format wants. Labels are added, not replaced: one that a
process uses already becomes `exported_<name>`, as Prometheus itself would have it. A line that is no sample is left out, so a
process that talks nonsense costs its own figures and nobody else's. Nothing is summed: a counter that starts again with its process
must stay a series of its own, or rates would lie; `sum without (worker)` is the reader's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_LINES = 20_000
_SAMPLE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*=\"(?:[^\"\\\n]|\\.)*\",?)*)\})?"
    r" (NaN|[+-]?Inf|[+-]?[0-9.eE+-]+)(?: -?[0-9]+)?"
)
_TOLD = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)")
_SUFFIX = re.compile(r"_(?:bucket|sum|count|total|created)$")

Labels = Mapping[str, str]


@dataclass
class Family:
    """All samples of one metric."""

    name: str
    help: str = ""
    type: str = "untyped"
    samples: list[str] = field(default_factory=list)

    def lines(self) -> Iterable[str]:
        """Its part of a scrape."""
        if self.help:
            yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.type}"
        yield from self.samples


class Exposition:
    """One scrape that is put together."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def add(self, name: str, type: str, help: str, samples: Iterable[tuple[Labels, float]]) -> None:
        """A metric of our own; without samples there is none."""
        for labels, value in samples:
            family = self._families.setdefault(name, Family(name, help, type))
            family.samples.append(f"{name}{braces(labels)} {value:.12g}")

    def take(self, text: str, labels: Labels) -> int:
        """Everything that a process shows, with these labels more; how many samples that were."""
        taken, current = 0, ""
        for line in text.splitlines()[:MOST_LINES]:
            if told := _TOLD.fullmatch(line):
                current = told[2]
                self._tell(current, told[1], told[3])
            elif found := _SAMPLE.fullmatch(line.rstrip()):
                self._family(found[1], current).samples.append(_labelled(found, labels))
                taken += 1
        return taken

    def text(self) -> str:
        """The scrape."""
        return "\n".join(line for one in self._families.values() if one.samples for line in one.lines()) + "\n"

    def _tell(self, name: str, what: str, told: str) -> None:
        family = self._families.setdefault(name, Family(name))
        if what == "HELP":
            family.help = family.help or told
        elif family.type == "untyped" and told in ("counter", "gauge", "histogram", "summary"):
            family.type = told

    def _family(self, sample: str, current: str) -> Family:
        """The family of a sample: the one it stands under, when that is its own."""
        known = self._families.get(current)
        mine = known is not None and (sample == current or _SUFFIX.sub("", sample) == current)
        if known is not None and mine and (sample == current or known.type in ("histogram", "summary")):
            return known
        return self._families.setdefault(sample, Family(sample))


def braces(labels: Labels) -> str:
    """Labels as they stand behind a name."""
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _labelled(found: re.Match[str], labels: Labels) -> str:
    own = found[2] or ""
    for name in labels:
        own = re.sub(rf'(^|,){name}="', rf'\1exported_{name}="', own)
    more = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    inner = ",".join(part for part in (more, own.rstrip(",")) if part)
    return f"{found[1]}{{{inner}}} {found[3]}" if inner else f"{found[1]} {found[3]}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
