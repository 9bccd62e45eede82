"""A suite as somebody wrote it: YAML, or JSON lines with the same keys. Mistakes are named by file, line and key.

    suite: routing
    swap: [names, gender, region]      a partner for each case, with these words turned round (`evals.swaps`)
    swaps: {shift: [[day, night]]}     the same with words of your own
    cases:
      - {prompt: …, system: …, reference: …, slices: {language: en}}
      - {messages: [{role: user, content: …}], choices: [billing, technical], reference: billing}
      - {prompt: …, schema: {type: object, …}}
      - {prompt: …, tools: [{type: function, function: {…}}], calls: [{name: turn_on, arguments: {room: hall}}]}
      - {id: a, prompt: …}
      - {prompt: …, pair: a}             the counterfactual partner of the case called `a`

A case's name in the file (`id`) serves pairs alone: its id is made of what it asks and expects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ciranda.config import lines
from ciranda.data.rows import Message, Row
from ciranda.errors import Invalid, NotFound
from ciranda.evals import fields, swaps
from ciranda.evals.cases import Call, Case, Suite

MOST = 100_000  # cases of one suite


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=200)
    arguments: dict[str, Any] = {}


class _Case(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    id: str = Field("", max_length=200)
    prompt: str | None = None
    system: str | None = None
    messages: list[_Said] | None = None
    reference: str | None = None
    slices: dict[str, str] = {}
    choices: list[str] = Field([], max_length=1000)
    shape: dict[str, Any] | None = Field(None, alias="schema")
    tools: list[dict[str, Any]] = Field([], max_length=200)
    calls: list[_Call] = Field([], max_length=200)
    pair: str = ""
    labels: dict[str, str] = {}

    @model_validator(mode="after")
    def _one(self) -> _Case:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("a case has either prompt or messages")
        if self.choices and self.reference is not None and self.reference not in self.choices:
            raise ValueError(f"the reference {self.reference!r} is none of the choices")
        if self.calls and not self.tools:
            raise ValueError("a case that expects calls offers tools")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    suite: str = Field(min_length=1, max_length=200)
    swap: list[str] = []
    swaps: dict[str, list[list[str]]] = {}
    cases: list[_Case] = Field(min_length=1, max_length=MOST)


def from_yaml(path: Path) -> Suite:
    """A suite from its file, YAML or `.jsonl`. Raises NotFound, or Invalid with file, line and key."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise NotFound(
            f"no suite {path.name}", where=str(path), remedy="correct `gates: suite:` or write the file"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read the suite: {error}", where=str(path), remedy="save it as UTF-8 text") from error
    return read(text, file=str(path))


def read(text: str, *, file: str, name: str = "") -> Suite:
    """A suite from the text of its file; `name` in place of its own. Raises Invalid with file, line and key."""
    written = _records(text, file, name) if file.endswith(".jsonl") else lines.read(text, _File, file=file)
    cases: dict[str, Case] = {}
    named: dict[str, str] = {}
    for one in written.cases:
        case = _case(one, file)
        if case.id in cases:
            raise Invalid(f"a case stands there twice: {case.prompt!r}", where=file, remedy="keep one of them")
        cases[case.id] = case
        if one.id and named.setdefault(one.id, case.id) != case.id:
            raise Invalid(f"two cases are called {one.id!r}", where=file, remedy="give each a name of its own")
    whole = [_paired(case, named, file) for case in cases.values()]
    made = swaps.partners(whole, swaps.lists(written.swap, written.swaps, file))
    return Suite(name or written.suite, (*whole, *made))


def to_lines(suite: Suite) -> Iterator[str]:
    """A suite as JSON lines that `read` takes again, one case a line."""
    for case in suite.cases:
        told = case.to_dict()
        yield json.dumps({"id": told.pop("id"), **told}, ensure_ascii=False) + "\n"


def _records(text: str, file: str, name: str) -> _File:
    cases = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            cases += [_Case.model_validate(json.loads(line))] if line.strip() else []
        except (ValueError, RecursionError) as error:
            raise Invalid(
                _first(error), where=f"{file}:{number}", remedy="write one case as a JSON object a line"
            ) from None
    if not cases:
        raise Invalid("the file holds no case", where=file, remedy="write one case as a JSON object a line")
    return _File(suite=name or Path(file).stem, cases=cases)


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"no JSON: {error}"
    told = error.errors()[0]
    place = ".".join(str(part) for part in told["loc"])
    return f"{place}: {told['msg'].removeprefix('Value error, ')}".removeprefix(": ")


def _case(one: _Case, file: str) -> Case:
    if one.messages is not None:
        messages = tuple(Message(said.role, said.content) for said in one.messages)
    else:
        messages = Row.of(one.prompt or "", "", system=one.system or "").messages
    if one.shape is not None:
        fields.demand(one.shape, file)
    slices = {"label": one.reference, **one.slices} if one.choices and one.reference else dict(one.slices)
    calls = tuple(Call(call.name, call.arguments) for call in one.calls)
    case = Case(
        "", messages, one.reference, slices, tuple(one.choices), one.shape, tuple(one.tools), calls, one.pair, dict(one.labels)
    )  # fmt: skip
    return replace(case, id=swaps.key(messages, one.reference, case))


def _paired(case: Case, named: Mapping[str, str], file: str) -> Case:
    if not case.pair:
        return case
    if case.pair not in named:
        raise Invalid(f"no case is called {case.pair!r}", where=file, remedy="give the partner this `id`")
    return replace(case, pair=named[case.pair], slices={"swap": "pair", **case.slices})
