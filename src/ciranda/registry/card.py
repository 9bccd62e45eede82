"""The model card (in the manner of Hugging Face), written from the record alone: nobody types figures into it.

What the record does not hold is said to be unknown rather than left out, so that a reader of the card sees what was not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

UNKNOWN = "not recorded"
WHAT = {"": "the bare base, no adapter:", "lora": "a LoRA adapter on", "full": "whole weights, tuned from"}


def write(record: Mapping[str, Any]) -> str:
    """The card of one version, in Markdown with the YAML head that model hubs read."""
    parts = [
        _head(record),
        _title(record),
        _use(record),
        _origin(record),
        _figures(record),
        _recipe(record),
        _limits(record),
    ]
    return "\n\n".join(parts) + "\n"


def _head(record: Mapping[str, Any]) -> str:
    tags = ["ciranda", *([record["tuning"]] if record["tuning"] else [])]
    library = "transformers" if record["tuning"] == "full" else "peft"
    lines = ["---", f"base_model: {record['base']}", f"library_name: {library}", "pipeline_tag: text-generation"]
    lines += [f"datasets: [{record['dataset']}]"] if record["dataset"] else []
    return "\n".join([*lines, f"tags: [{', '.join(tags)}]", "---"])


def _title(record: Mapping[str, Any]) -> str:
    what = WHAT[record["tuning"]]
    return f"# {record['ref']}\n\nA model version: {what} `{record['base']}`. Digest `{record['digest']}`."


def _use(record: Mapping[str, Any]) -> str:
    how = f"Ask the gateway for `model: {record['model']}`; every answer says in `x-ciranda-version` which version gave it."
    return f"## Use\n\n{how}"


def _origin(record: Mapping[str, Any]) -> str:
    rows = {
        "base weights": record["base_digest"],
        "weights" if record["tuning"] == "full" else "adapter": record["adapter_digest"] or "none",
        "dataset version": " ".join(filter(None, (record["dataset"], record["dataset_digest"]))) or "none",
        "policies on its rows": _policies(record.get("policies") or {}),
        "trial": record["trial"] or UNKNOWN,
        "turn of the loop": record["turn"] or UNKNOWN,
        "registered": f"{record['created_at']} by {record['created_by']}",
    }
    return "## Where it comes from\n\n" + _table(("what", "value"), rows.items())


def _policies(bound: Mapping[str, Any]) -> str:
    return f"{', '.join(bound['names'])} ({bound['digest']})" if bound else "none touched what was learnt"


def _figures(record: Mapping[str, Any]) -> str:
    rows = [(name, _figure(value)) for name, value in _flat(record["evaluation"])]
    return "## Figures\n\n" + (_table(("metric", "value"), rows) if rows else f"{UNKNOWN.capitalize()} yet.")


def _recipe(record: Mapping[str, Any]) -> str:
    rows = [(name, str(value)) for name, value in sorted(record["recipe"].items())]
    rows += [(f"{name} (library)", str(value)) for name, value in sorted(record.get("environment", {}).items())]
    return "## How it was trained\n\n" + (
        _table(("setting", "value"), rows) if rows else "It was not: this is the base."
    )


def _limits(record: Mapping[str, Any]) -> str:
    slices = record["evaluation"].get("slices") or {}
    looked = f"Looked at by slice: {', '.join(sorted(slices))}." if slices else "No slices were looked at."
    return (
        f"## Limits\n\nFigures hold for the suites named above and for nothing else. {looked} "
        "Bias, safety beyond the gates, and languages without a slice were not examined."
    )


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested figures as `suite / metric` lines; a mapping with a `mean` is one figure."""
    for name, item in value.items():
        if isinstance(item, Mapping) and "mean" not in item:
            yield from _flat(item, f"{prefix}{name} / ")
        elif isinstance(item, Mapping | int | float | str):
            yield f"{prefix}{name}", item


def _figure(value: Any) -> str:
    if isinstance(value, Mapping):
        bounds = f" [{_figure(value['low'])}, {_figure(value['high'])}]" if "low" in value and "high" in value else ""
        return f"{_figure(value['mean'])}{bounds}" + (f", n = {value['n']}" if "n" in value else "")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: tuple[str, str], rows: Any) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join(lines + [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows])


def _cell(value: str) -> str:
    """A table cell: a bar or a line break from outside must not make another column."""
    return str(value).replace("|", "\\|").replace("\n", " ")
