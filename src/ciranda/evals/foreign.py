"""Registered cases as the files that other evaluators read, so that one suite serves them all.

jsonl      our own lines; `ciranda suite add` takes them again
inspect    inspect-ai's `json_dataset`: input (chat), target, choices, id, metadata
lm-eval    a document for each line: messages, text, target, choices, for a task with `dataset_path: json`
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ciranda.evals.cases import Case, Suite
from ciranda.evals.written import to_lines

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def written(name: str, cases: Iterable[Case], form: str) -> Iterator[str]:
    """The lines of a suite in one of the forms above."""
    if form == "jsonl":
        return to_lines(Suite(name, tuple(cases)))
    shape = FORMS[form]
    return (json.dumps(shape(case), ensure_ascii=False) + "\n" for case in cases)


def _inspect(case: Case) -> Mapping[str, Any]:
    chat = [said.to_dict() for said in case.messages]
    sample: dict[str, Any] = {"id": case.id, "input": chat, "target": case.reference or ""}
    if case.choices and len(case.choices) <= len(LETTERS):
        sample["choices"] = list(case.choices)
        sample["target"] = LETTERS[case.choices.index(case.reference)] if case.reference in case.choices else ""
    return {**sample, "metadata": {**case.slices, **({"pair": case.pair} if case.pair else {})}}


def _lm_eval(case: Case) -> Mapping[str, Any]:
    system = "\n".join(said.content for said in case.messages if said.role == "system")
    return {
        "id": case.id, "text": case.prompt, "system": system, "target": case.reference or "", "choices": list(case.choices),
        **case.slices,
    }  # fmt: skip


FORMS: Mapping[str, Callable[[Case], Mapping[str, Any]]] = {"inspect": _inspect, "lm-eval": _lm_eval}
