"""What a search trains on: the rows of a dataset version that its method can learn from, as the files that jobs read.

    sft        messages and the answer (of a pair the chosen one), never an answer with a thumb down
    dpo        pairs: a chosen and a rejected answer
    kto        answers with a thumb, either way
    pretrain   text; a conversation counts as its own transcript, unless its answer has a thumb down

For `dpo` and `kto` the answers that `sft` would learn from stand among them: nobody compared them, and they are rehearsed.

Each line carries messages, completion, rejected, thumb and language, as far as the policies leave them to training. Files are
written once at a search's beginning, whole, and are the same to its end. It refuses a dataset without rows of the method's kind,
and says which kinds it has, before anything heavy starts.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ciranda.data import reading
from ciranda.data import versions as datasets
from ciranda.data.rows import Row
from ciranda.errors import Refused
from ciranda.evals import suites
from ciranda.govern.policy import Decision
from ciranda.loop.platform import Platform
from ciranda.store import files
from ciranda.train.recipe import PREFERRING

TRAINING = reading.itself("training")
WANTED = {
    "sft": "answers that nobody voted down",
    "dpo": "pairs of a chosen and a rejected answer (`rejected`)",
    "kto": "answers with a thumb (`thumb`)",
    "pretrain": "text",
}


@dataclass(frozen=True)
class Staged:
    """The files that the trials of a search read, and the policies that their rows went through."""

    rows: Path
    validation: Path
    policies: dict[str, Any]


def fits(record: Mapping[str, Any], method: str) -> bool:
    """Whether a method can learn from a row, written as `line` writes it."""
    asked, thumb = bool(record["messages"]), int(record.get("thumb") or 0)
    if method == "dpo":
        return asked and bool(record.get("rejected"))
    if method == "kto":
        return asked and thumb != 0
    return thumb >= 0 and (asked or method == "pretrain")


def taken(record: Mapping[str, Any], method: str) -> bool:
    """Whether a row is staged for a method: to learn from, or as a right answer to rehearse."""
    return fits(record, method) or (method in PREFERRING and fits(record, "sft"))


def line(row: Row) -> dict[str, Any]:
    """A row as a job reads it; what is empty is left out."""
    told = {
        "messages": [message.to_dict() for message in row.messages], "completion": row.completion,
        "rejected": row.rejected, "thumb": row.thumb, "language": row.language,
    }  # fmt: skip
    return {name: value for name, value in told.items() if value or name in ("messages", "completion")}


def staged(platform: Platform, dataset: str, search: str, method: str, limit: int) -> Staged:
    """What a search trains on: written at its beginning, and the same to its end, whatever policies say by then.

    Args:
        limit: At most so many rows to judge trials by, evenly over languages; the same ones for every trial.

    Raises:
        Refused: The dataset has no row that the method could learn from, or none to judge by.
    """
    note = _place(platform, f"{search.replace(':', '-')}-{method}.json")
    if note.exists():
        held = json.loads(note.read_text())
        rows, validation = Path(held["rows"]), Path(held["validation"])
        if rows.exists() and validation.exists():
            return Staged(rows, validation, held["policies"])
    bound = reading.decision(platform.db, dataset, TRAINING).narrowed(reading.TRAINED)
    mark = _mark(platform, dataset, bound)
    found = Staged(
        _rows(platform, dataset, mark, method),
        _validation(platform, dataset, mark, method, limit),
        {"digest": bound.digest, "names": list(bound.names)} if bound else {},
    )
    told = {"rows": str(found.rows), "validation": str(found.validation), "policies": found.policies}
    files.write_atomic(note, json.dumps(told))
    return found


def _mark(platform: Platform, dataset: str, bound: Decision) -> str:
    """Names the rows as the policies leave them: other rows or other policies are another file."""
    whole = f"{datasets.get(platform.db, dataset).digest} {bound.digest}"
    return hashlib.sha256(whole.encode()).hexdigest()[:12]


def _rows(platform: Platform, dataset: str, mark: str, method: str) -> Path:
    """The rows to train on, as the file that training reads; written once, whole."""
    path = _place(platform, f"{dataset}-{mark}-{method}-train.jsonl")
    if not path.exists():
        wanted = partial(taken, method=method)
        reading.export(platform.db, platform.home, dataset, path, TRAINING, split="train", where=wanted)
    with path.open(encoding="utf-8") as file:
        if any(fits(json.loads(one), method) for one in file):
            return path
    path.unlink()
    raise _nothing(platform, dataset, "train", method)


def _validation(platform: Platform, dataset: str, mark: str, method: str, limit: int) -> Path:
    """The rows to judge trials by."""
    path = _place(platform, f"{dataset}-{mark}-{method}-validation-{limit}.jsonl")
    if not path.exists():
        rows = reading.read(platform.db, platform.home, dataset, TRAINING, split="validation")
        fitting = sorted((row for row in rows if fits(line(row), method)), key=lambda row: row.key)
        if not fitting:
            raise _nothing(platform, dataset, "validation", method)
        lines = [json.dumps(line(row), ensure_ascii=False) + "\n" for row in suites.evenly(fitting, limit)]
        files.write_atomic(path, "".join(lines))
    return path


def _nothing(platform: Platform, dataset: str, split: str, method: str) -> Refused:
    rows = reading.read(platform.db, platform.home, dataset, TRAINING, split=split)
    kinds = Counter(row.shape for row in rows)
    there = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "none at all"
    return Refused(
        f"{dataset} has no {split} rows for {method}, which learns from {WANTED[method]}; its {split} rows: {there}",
        where=f"{dataset}, split {split}",
        remedy="bring such rows, or set `train.method` to what the data is",
    )


def _place(platform: Platform, name: str) -> Path:
    folder = platform.home.jobs / "rows"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / name
