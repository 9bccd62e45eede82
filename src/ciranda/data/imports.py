"""Importing a set once: any file or folder that other tools leave, as rows, with a report that says of each what became of it.

    found = look(path, root)                 what lies there, file by file, and how it is read
    for one in rows(found, report): …        Row, or Invalid in place of a refused row; `report` counts meanwhile

The path is a file, a folder with data files (with or without a dataset card), a folder that `datasets.save_to_disk` wrote, a
`dataset_info.json` of LLaMA-Factory (or its folder), or `hf:org/name`. Every record is read in the layout that was asked for, else
in the one that its own columns show, so that one file may hold several shapes. Nothing is written here: whoever commits the rows
does so whole or not at all. It refuses files outside of `root`, since a description may name any path.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ciranda.data import factory, files, hub, shapes
from ciranda.data.dialogue import Unreadable
from ciranda.data.rows import Row
from ciranda.data.shapes import Layout
from ciranda.errors import CirandaError, Invalid, NotFound

KEPT = 1000  # refused rows that a report names; all are counted
SHOWN = 3  # rows of each layout that a report shows
CUT = 200


@dataclass(frozen=True)
class Part:
    """One file: how rows name it, the split that its place says, and the layout when it is given."""

    path: Path
    name: str
    split: str = ""
    layout: Layout | None = None


@dataclass(frozen=True)
class Look:
    """What lies at a path.

    Args:
        saw: In words, for the report.
        most: At most so many rows; 0 is all.
        card: What a dataset card says of itself.
    """

    saw: str
    parts: tuple[Part, ...]
    most: int = 0
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """What became of the records so far.

    `layouts` counts rows by what was seen, `kept` and `left` the further columns that went into `extra` or nowhere.
    """

    saw: str = ""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    layouts: Counter[str] = field(default_factory=Counter)
    shown: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    bad: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "saw": self.saw, "rows": self.rows, "refused": self.bad, "layouts": dict(self.layouts), "files": self.files,
            "shown": self.shown, "refusals": self.refused, "extra": dict(self.kept), "left_out": dict(self.left),
        }  # fmt: skip


def look(
    path: str,
    root: Path,
    *,
    subset: str = "",
    format_: str = "auto",
    columns: Mapping[str, str] | None = None,
    cache: Path,
) -> Look:
    """What lies at a path, and how it will be read.

    Args:
        path: A file or folder (relative to `root`, or absolute below it), or `hf:org/name`.
        subset: Which set of a description, or which configuration of a card.
        format_: One of `shapes.FORMATS`.
        columns: Column by role, where the names are not the usual ones.
        cache: Where sets of the hub are fetched to.

    Raises:
        NotFound: Nothing there. Invalid: It leads out of `root`, or cannot be read as asked. Unavailable: The hub is away.
    """
    layout = shapes.named(format_, columns or {})
    if path.startswith("hf:"):
        fetched = hub.fetch(path, cache)
        return _folder(fetched, fetched.resolve(), subset, layout, label=path)
    place = confined(root / path, root)
    if not place.exists():
        raise NotFound(f"nothing lies at {path!r}", where=str(root), remedy="correct the path, or put the files there")
    if place.is_file() and not (place.name == factory.FILE and factory.is_description(place)):
        return Look(f"a file ({place.suffix or 'no ending'})", (Part(place, files.shown(place, root), layout=layout),))
    return _folder(place, root, subset, layout, label="", cache=cache)


def _folder(
    place: Path, root: Path, subset: str, layout: Layout | None, *, label: str, cache: Path | None = None
) -> Look:
    description = place if place.is_file() else place / factory.FILE
    if description.is_file() and not hub.is_saved(place) and factory.is_description(description):
        return _described(factory.described(description, subset), description.parent, root, layout, cache)
    return _found(hub.look(place, subset), root, layout, label, place)


def _described(one: factory.Described, folder: Path, root: Path, layout: Layout | None, cache: Path | None) -> Look:
    """A set of LLaMA-Factory's: its file, its folder, or its repository of the hub."""
    saw, told = f"the set {one.name} of a {factory.FILE}", layout or one.layout
    if one.where.startswith("hf:") and cache is not None:
        fetched = hub.fetch(one.where, cache)
        found = _found(hub.look(fetched, one.subset, one.split), fetched.resolve(), told, one.where, fetched)
        return Look(f"{saw}: {found.saw}", found.parts, one.most, found.card)
    place = confined(folder / one.where, root)
    if place.is_dir():
        found = _found(hub.look(place, one.subset, one.split), root, told, "", place)
        return Look(f"{saw}: {found.saw}", found.parts, one.most, found.card)
    if not place.is_file():
        raise NotFound(
            f"the file {one.where!r} of the set {one.name} is missing", where=str(folder), remedy="put it there"
        )
    return Look(saw, (Part(place, files.shown(place, root), layout=told),), one.most)


def _found(found: hub.Found, root: Path, layout: Layout | None, label: str, folder: Path) -> Look:
    parts = []
    for path, split in found.files:
        place = path if label else confined(path, root)
        name = f"{label}/{path.relative_to(folder).as_posix()}" if label else files.shown(place, root)
        parts.append(Part(place, name, split, layout))
    return Look(found.kind, tuple(parts), card=found.card)


def confined(path: Path, root: Path) -> Path:
    """The path with links followed. Raises Invalid when it leads out of `root`."""
    place = Path(os.path.realpath(path))
    if not place.is_relative_to(root.resolve()):
        raise Invalid(
            f"{path} lies outside of {root}", where="path",
            remedy=f"move the files below {root}, or set `data_root` in the home's config.toml",
        )  # fmt: skip
    return place


def rows(found: Look, report: Report) -> Iterator[Row | Invalid]:
    """Every record of every part as a row, or as the reason why it is none; `report` is kept meanwhile."""
    report.saw = found.saw
    for part in found.parts:
        told = report.files.setdefault(part.name, {"rows": 0, "refused": 0, "split": part.split or "by hash"})
        for origin, record in files.records(part.path, part.name):
            if found.most and report.rows >= found.most:
                return
            one = _row(record, origin, part, report)
            if isinstance(one, Row):
                told["rows"] += 1
                report.rows += 1
            else:
                told["refused"] += 1
                report.bad += 1
                if len(report.refused) < KEPT:
                    report.refused.append({"where": one.where, "reason": one.message.removeprefix("bad row: ")})
            yield one


def _row(record: object, origin: str, part: Part, report: Report) -> Row | Invalid:
    if isinstance(record, Invalid):
        return record
    try:
        layout = part.layout or _detected(record, origin)
        row = shapes.parse(record, origin=origin, source=part.name, layout=layout, split=part.split)
        if not row.completion.strip():
            raise Invalid("bad row: the answer is empty", where=origin, remedy="answer it, or take it out")
    except Invalid as error:
        return error
    saw = layout.saw
    report.layouts[saw] += 1
    if isinstance(record, Mapping):
        for name in shapes.beside(record, layout):
            (report.kept if name in row.extra else report.left)[name] += 1
    if len(report.shown.setdefault(saw, [])) < SHOWN:
        report.shown[saw].append(_sample(row))
    return row


def _detected(record: object, origin: str) -> Layout:
    if not isinstance(record, Mapping):
        raise Invalid(
            f"bad row: a row is an object, not a {type(record).__name__}", where=origin, remedy="correct the row"
        )
    try:
        return shapes.detect(record)
    except Unreadable as error:
        raise Invalid(
            f"bad row: {error}", where=origin, remedy="name the columns: `--map prompt=… --map completion=…`"
        ) from None


def _sample(row: Row) -> dict[str, Any]:
    texts = {"prompt": row.prompt, "completion": row.completion, "rejected": row.rejected}
    cut = {name: text if len(text) <= CUT else text[:CUT] + "…" for name, text in texts.items() if text}
    return {"where": row.origin, "shape": row.shape, "split": row.split, "turns": len(row.messages), **cut}


def refusal(report: Report) -> CirandaError:
    """The error for an import that may not leave rows out."""
    named = "\n  ".join(f"{one['where']}: {one['reason']}" for one in report.refused[:20])
    more = f"\n  … and {report.bad - 20} more" if report.bad > 20 else ""
    return Invalid(
        f"{report.bad} of {report.rows + report.bad} rows cannot be read\n  {named}{more}",
        where=report.refused[0]["where"],
        remedy="correct them, name the columns (`--map`), or go on without them: `--bad-rows drop`; nothing was written",
    )
