"""Sets described in LLaMA-Factory's `dataset_info.json`: which file, which format, which column holds what.

    "support": {"file_name": "support.json", "formatting": "sharegpt", "ranking": true,
                "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
                "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}}

Both formats are read: alpaca (instruction, input, output, history, system) and sharegpt or openai (turns with tags), each as
supervised answers, as preference (`ranking`), as labelled answers (`kto_tag`), alpaca also as plain text (`prompt` alone). Defaults
are those of LLaMA-Factory's `data/README.md`. It refuses what it would have to leave out: images, sound, loading scripts; and names
of another hub.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ciranda.data.dialogue import Tags
from ciranda.data.shapes import Layout
from ciranda.errors import Invalid, NotFound

FILE = "dataset_info.json"
LONGEST = 16 << 20
KNOWN = (
    "file_name",
    "hf_hub_url",
    "formatting",
    "ranking",
    "subset",
    "split",
    "folder",
    "num_samples",
    "columns",
    "tags",
)
ELSEWHERE = ("ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
COLUMNS = {"prompt": "prompt", "query": "query", "response": "completion", "history": "history", "messages": "messages",
           "system": "system", "tools": "tools", "chosen": "chosen", "rejected": "rejected", "kto_tag": "label"}  # fmt: skip
MEDIA = ("images", "videos", "audios")
ALPACA = {"prompt": "instruction", "query": "input", "completion": "output"}
TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
        "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system"}  # fmt: skip
OPENAI = {**TAGS, "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
          "observation_tag": "tool"}  # fmt: skip


@dataclass(frozen=True)
class Described:
    """One set of a description: where its rows are (a path beside it, or `hf:…`), and what its columns hold."""

    name: str
    where: str
    layout: Layout
    subset: str = ""
    split: str = ""
    most: int = 0


def is_description(path: Path) -> bool:
    """Whether a file describes sets as LLaMA-Factory does; Hugging Face writes another file of this name."""
    try:
        found = _read(path)
    except Invalid:
        return False
    return bool(found) and all(isinstance(one, dict) and {*KNOWN, *ELSEWHERE} & one.keys() for one in found.values())


def described(path: Path, name: str = "") -> Described:
    """The set of that name; without one, the only set whose file is there.

    Raises:
        NotFound: No such set; names those that there are.
        Invalid: A description that cannot be followed; says which key.
    """
    sets = _read(path)
    here = [one for one, entry in sets.items() if _is_here(entry, path.parent)]
    chosen = name or (here[0] if len(here) == 1 else "")
    if chosen not in sets:
        listed = ", ".join(sets if chosen else here or sets) or "none"
        raise NotFound(f"no set {chosen!r}" if chosen else f"{len(here)} sets with a file here", where=str(path),
                       remedy=f"name one: --set NAME; there are {listed}")  # fmt: skip
    return _described(chosen, sets[chosen], f"{path.name}: {chosen}")


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError(f"over {LONGEST} bytes")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Invalid(f"no readable description: {error}", where=str(path), remedy="mend the file") from None
    if not isinstance(found, dict):
        raise Invalid(
            "a description is an object of sets", where=str(path), remedy="see LLaMA-Factory's data/README.md"
        )
    return found


def _is_here(entry: Any, folder: Path) -> bool:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return isinstance(name, str) and (folder / name).exists()


def _described(name: str, entry: Any, where: str) -> Described:
    if not isinstance(entry, dict):
        raise Invalid("a set is an object", where=where, remedy="see LLaMA-Factory's data/README.md")
    file, hub = entry.get("file_name"), entry.get("hf_hub_url")
    if wrong := sorted(set(entry) - {*KNOWN, *ELSEWHERE}):
        raise Invalid(f"unknown key {wrong[0]!r}", where=where, remedy=f"known are {', '.join((*KNOWN, *ELSEWHERE))}")
    if not (isinstance(hub, str) or isinstance(file, str)):
        raise Invalid("neither file_name nor hf_hub_url", where=where,
                      remedy="download the set, and name its file: scripts and other hubs are not read")  # fmt: skip
    layout = _layout(entry, where)
    most = entry.get("num_samples") or 0
    place = f"hf:{hub}" if isinstance(hub, str) else str(file)
    folder = str(entry.get("folder") or "")
    return Described(name, f"{place}/{folder}" if folder else place, layout, str(entry.get("subset") or ""),
                     str(entry.get("split") or ""), int(most) if isinstance(most, int) else 0)  # fmt: skip


def _layout(entry: Mapping[str, Any], where: str) -> Layout:
    formatting, given = entry.get("formatting", "alpaca"), entry.get("columns") or {}
    if formatting not in ("alpaca", "sharegpt", "openai"):
        raise Invalid(f"formatting is {formatting!r}", where=where, remedy="it is alpaca, sharegpt or openai")
    if media := [one for one in MEDIA if one in given]:
        raise Invalid(
            f"the set has {media[0]}, and rows are text", where=f"{where}: columns", remedy="take a set of text"
        )
    if wrong := sorted(set(given) - set(COLUMNS)):
        raise Invalid(
            f"unknown column {wrong[0]!r}", where=f"{where}: columns", remedy=f"known are {', '.join(COLUMNS)}"
        )
    columns = {COLUMNS[role]: str(name) for role, name in given.items()}
    ranking, label = bool(entry.get("ranking")), "label" in columns
    if formatting != "alpaca":
        base = {"messages": "conversations" if formatting == "sharegpt" else "messages"}
        shape = "preference" if ranking else "labelled" if label else "chat"
        return Layout(shape, _ranked({**base, **columns}, ranking), _tags(entry, formatting, where))
    if set(columns) == {"prompt"}:
        return Layout("text", {"text": columns["prompt"]})
    shape = "preference" if ranking else "labelled" if label else "prompt"
    return Layout(shape, _ranked({**ALPACA, **columns}, ranking))


def _ranked(columns: dict[str, str], ranking: bool) -> dict[str, str]:
    """A preference has its two answers in place of one."""
    if not ranking:
        return columns
    rest = {role: name for role, name in columns.items() if role != "completion"}
    return {**rest, "chosen": columns.get("chosen", "chosen"), "rejected": columns.get("rejected", "rejected")}


def _tags(entry: Mapping[str, Any], formatting: str, where: str) -> Tags:
    given = entry.get("tags") or {}
    if not isinstance(given, Mapping) or (wrong := sorted(set(given) - set(TAGS))):
        raise Invalid(f"unknown tag {wrong[0]!r}" if isinstance(given, Mapping) else "tags is no object",
                      where=f"{where}: tags", remedy=f"known are {', '.join(TAGS)}")  # fmt: skip
    tags = {**(OPENAI if formatting == "openai" else TAGS), **{name: str(value) for name, value in given.items()}}
    names = {tags["system_tag"]: "system", tags["user_tag"]: "user", tags["assistant_tag"]: "assistant",
             tags["observation_tag"]: "tool", tags["function_tag"]: "assistant"}  # fmt: skip
    return Tags(tags["role_tag"], tags["content_tag"], names)
