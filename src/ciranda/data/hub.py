"""Folders of data as Hugging Face keeps them, and sets of its hub: which files, which split each is of.

    state.json, *.arrow          one split, as `datasets.save_to_disk` writes it
    dataset_dict.json, train/…   several
    README.md, data/*.parquet    a repository: `configs` of its card name the files of each split, else their names do
    hf:org/name, hf:org/name@rev a repository of the hub, fetched first (`pip install "ciranda[hub]"`; not over air gaps)

Files are read with pyarrow; `datasets` is not needed. It refuses loading scripts, and files outside of the folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from ciranda.data import files
from ciranda.data.shapes import split_named
from ciranda.errors import Invalid, NotFound, Unavailable

NAME = re.compile(r"^hf:(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?:@(?P<revision>[\w.-]{1,100}))?(?:/(?P<folder>[\w./-]+))?$")
PASSED_OVER = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")
LONGEST = 4 << 20


@dataclass(frozen=True)
class Found:
    """What a folder holds: its files with the split of each (empty: by hash), and what its card says."""

    kind: str
    files: tuple[tuple[Path, str], ...]
    card: Mapping[str, Any] = field(default_factory=dict)


def is_saved(folder: Path) -> bool:
    """Whether `datasets.save_to_disk` wrote this folder."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def look(folder: Path, subset: str = "", split: str = "") -> Found:
    """The data files of a folder.

    Args:
        subset: The configuration of its card, or the set below it, that is wanted.
        split: Only this split, by its name there.

    Raises:
        NotFound: No data file, or no such subset.
    """
    found = _saved(folder, split) if is_saved(folder) else _repository(folder, subset, split)
    if not found.files:
        asked = f" for the split {split!r}" if split else ""
        raise NotFound(f"no data file{asked}", where=str(folder), remedy=f"it reads {', '.join(files.READERS)}")
    return found


def _saved(folder: Path, split: str) -> Found:
    if (folder / "dataset_dict.json").is_file():
        names = [str(one) for one in _json(folder / "dataset_dict.json").get("splits", ())]
        parts = [(folder / name, name) for name in names if split in ("", name)]
    else:
        parts = [(folder, split)]
    found = [(part / str(one.get("filename")), split_named(name))
             for part, name in parts for one in _json(part / "state.json").get("_data_files", ())]  # fmt: skip
    return Found("a folder that datasets.save_to_disk wrote", tuple(found))


def _repository(folder: Path, subset: str, split: str) -> Found:
    card = _card(folder / "README.md")
    configs = card.get("configs") if isinstance(card.get("configs"), list) else []
    named = {str(one.get("config_name", "default")): one for one in configs or [] if isinstance(one, dict)}
    kind = "a folder with a dataset card" if card else "a folder of data files"
    if not named:
        return Found(kind, tuple(_by_name(folder / subset if subset else folder, split)), card)
    chosen = subset or ("default" if "default" in named else next(iter(named)) if len(named) == 1 else "")
    if chosen not in named:
        raise NotFound(f"no configuration {chosen!r}" if chosen else f"{len(named)} configurations", where=str(folder),
                       remedy=f"name one: --set NAME; there are {', '.join(named)}")  # fmt: skip
    return Found(f"{kind}, configuration {chosen}", tuple(_by_card(folder, named[chosen], split)), card)


def _by_card(folder: Path, config: Mapping[str, Any], split: str) -> Iterator[tuple[Path, str]]:
    given = config.get("data_files") or "**"
    entries = given if isinstance(given, list) else [given]
    known = list(_data(folder))
    for entry in entries:
        name = str(entry.get("split", "train")) if isinstance(entry, dict) else ""
        patterns = entry.get("path", "**") if isinstance(entry, dict) else entry
        if split and name and split != name:
            continue
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            wanted = str(pattern).removeprefix("./").replace("**/", "*")
            for path in known:
                if fnmatch(path.relative_to(folder).as_posix(), wanted):
                    yield path, split_named(name) if name else _split_in(path, folder)


def _by_name(folder: Path, split: str) -> Iterator[tuple[Path, str]]:
    for path in _data(folder):
        name = _split_in(path, folder)
        if not split or split in path.relative_to(folder).as_posix():
            yield path, name


def _split_in(path: Path, folder: Path) -> str:
    """The split that a file's name, or a folder of its path, says."""
    for part in reversed(path.relative_to(folder).parts):
        for word in re.split(r"[^A-Za-z]+", part):
            if found := split_named(word):
                return found
    return ""


def _data(folder: Path) -> Iterator[Path]:
    """Data files below a folder, by name; hidden ones and descriptions are passed over."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.name not in PASSED_OVER and files.readable(path):
            yield path


def _card(path: Path) -> Mapping[str, Any]:
    """The head of a card, or nothing."""
    if not path.is_file() or path.stat().st_size > LONGEST:
        return {}
    head = re.match(r"---\s*\n(.*?)\n---", path.read_text(encoding="utf-8", errors="replace"), re.S)
    try:
        found = yaml.safe_load(head[1]) if head else {}
    except yaml.YAMLError as error:
        raise Invalid(
            f"the card's head is no YAML: {error}", where=str(path), remedy="mend it, or move it away"
        ) from None
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Invalid(f"no readable {path.name}: {error}", where=str(path), remedy="save the set again") from None
    if not isinstance(found, dict):
        raise Invalid(f"{path.name} is no object", where=str(path), remedy="save the set again")
    return found


def fetch(name: str, into: Path) -> Path:
    """The folder of a set of the hub, fetched into `into` as far as it is not there; each commit of it has a folder of its own, so
    that no file of an older one is taken for one of the newer. A token is read as the hub's own tools do.

    Raises:
        Unavailable: The extra is not installed, or the hub cannot be reached.
    """
    match = NAME.match(name)
    if not match or ".." in name:
        raise Invalid(
            f"{name!r} is no name of the hub", where="path", remedy="write it as hf:org/name, or hf:org/name@revision"
        )
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub import errors as told
    except ImportError:
        raise Unavailable(
            "the hub's client is not installed", where=name, remedy='pip install "ciranda[hub]", or download the set'
        ) from None
    unreached: type[Exception] = vars(told)["HTTPError"]  # httpx's or httpx2's, by the client's version
    patterns = ["README.md", *(f"*{suffix}" for suffix in files.READERS)]
    try:
        commit = HfApi().dataset_info(match["name"], revision=match["revision"] or "main").sha
        folder = into / match["name"].replace("/", "--") / str(commit)
        found = snapshot_download(
            match["name"], repo_type="dataset", revision=commit, allow_patterns=patterns, local_dir=folder
        )
    except (unreached, told.HFValidationError, told.LocalEntryNotFoundError, OSError) as error:
        raise Unavailable(
            f"the hub did not give {match['name']}: {error}", where=name,
            remedy="check the name, the network and the token, or download the set and name its folder",
        ) from None  # fmt: skip
    return Path(found) / (match["folder"] or "")
