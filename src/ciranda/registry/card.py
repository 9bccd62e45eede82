"""The model card (in the manner of Hugging Face), written from the record alone: nobody types figures into it.

The head is the metadata that model hubs read, `model-index` included. What the record does not hold is said to be unknown rather
than left out, so that a reader of the card sees what was not looked at. Time is measured; energy is not, and the card says what an
estimate would rest on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

UNKNOWN = "not recorded"
WHAT = {"": "the bare base, no adapter:", "lora": "a LoRA adapter on", "full": "whole weights, tuned from"}
WATTS_A_CORE = 10.0  # of a server's processor under load, what it takes beside the processor left out
COUNTERFACTUAL = (
    "changed",
    "bias",
)  # parts of the names of scorers that compare a case with its counterfactual partner


def write(record: Mapping[str, Any]) -> str:
    """The card of one version, in Markdown with the YAML head that model hubs read.

    Args:
        record: The version as `to_dict` gives it, with what `about.facts` adds.
    """
    parts = (
        _head, _title, _use, _data, _figures, _slices, _bias, _gates, _recipe, _energy, _limits, _origin,
    )  # fmt: skip
    return "\n\n".join(part(record) for part in parts) + "\n"


def _head(record: Mapping[str, Any]) -> str:
    base = str(record["base"])
    head: dict[str, Any] = {
        "base_model": base.removeprefix("hf:").partition("@")[0],
        "library_name": "transformers" if record["tuning"] == "full" else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["ciranda", *([record["tuning"]] if record["tuning"] else [])],
    }
    counts = dict(record.get("data") or {}).get("counts") or {}
    languages = [name for name in counts.get("language", {}) if name]
    for name, value in (
        ("license", str(record.get("base_licence") or "").lower()),
        ("language", sorted(languages)),
        ("datasets", [record["dataset"]] if record["dataset"] else []),
        ("metrics", sorted({name for one in _suites(record) for name in one["metrics"]})),
        ("model-index", _index(record)),
    ):
        if value:
            head[name] = value
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip()}\n---"


def _index(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": one["suite"], "type": one.get("suite_digest") or one["suite"]},
            "metrics": [
                {
                    "type": name,
                    "value": figure["mean"],
                    "name": name,
                    "args": {key: figure[key] for key in ("low", "high", "n")},
                }
                for name, figure in one["metrics"].items()
                if math.isfinite(figure["mean"])
            ],
        }
        for one in _suites(record)
    ]
    return [{"name": record["ref"], "results": results}] if results else []


def _title(record: Mapping[str, Any]) -> str:
    what = WHAT[record["tuning"]]
    brought = record.get("origin") or {}
    came = f" Brought in as `{brought['ref']}`, signed by `{brought['signer']}`." if brought else ""
    return f"# {record['ref']}\n\nA model version: {what} `{record['base']}`. Digest `{record['digest']}`.{came}"


def _use(record: Mapping[str, Any]) -> str:
    purpose = f"{record.get('purpose') or 'Its purpose was not recorded.'}\n\n"
    how = f"Ask the gateway for `model: {record['model']}`; every answer says in `x-ciranda-version` which version gave it."
    return f"## Use\n\n{purpose}{how} For anything else it was not examined."


def _data(record: Mapping[str, Any]) -> str:
    if not record["dataset"] and not record["dataset_digest"]:
        return "## Data\n\nNone of ours: this is the base as it came."
    data = dict(record.get("data") or {})
    counts = data.get("counts") or {}
    rows: dict[str, Any] = {
        "dataset version": " ".join(filter(None, (record["dataset"], record["dataset_digest"]))),
        "rows": data.get("rows", UNKNOWN),
        **{f"by {name}": _shares(counts[name]) for name in ("split", "language", "source") if counts.get(name)},
        **{name: data.get(name) or UNKNOWN for name in ("owner", "licence", "sensitivity", "purpose")},
        "policies on its rows": _policies(record.get("policies") or {}),
    }
    said = f"{data['description']}\n\n" if data.get("description") else ""
    return f"## Data\n\n{said}" + _table(("what", "value"), rows.items())


def _shares(counts: Mapping[str, Any]) -> str:
    ordered = sorted(counts.items(), key=lambda one: -int(one[1]))
    return ", ".join(f"{name or 'none'} {count}" for name, count in ordered[:12]) + (" …" if len(ordered) > 12 else "")


def _policies(bound: Mapping[str, Any]) -> str:
    return f"{', '.join(bound['names'])} ({bound['digest']})" if bound else "none touched what was learnt"


def _figures(record: Mapping[str, Any]) -> str:
    found = [
        (f"{one['suite']} / {name}", _figure(figure))
        for one in _suites(record)
        for name, figure in one["metrics"].items()
    ] or [(name, _figure(value)) for name, value in _flat(record["evaluation"])]
    told = "Means over held-out cases, with 95 % intervals.\n\n" if found else f"{UNKNOWN.capitalize()} yet."
    brought = (record.get("origin") or {}).get("evaluation") or {}
    there = [(name, _figure(value)) for name, value in _flat(brought)]
    foreign = "\n\nMeasured where it came from, not here:\n\n" + _table(("metric", "value"), there) if there else ""
    return f"## Evaluation\n\n{told}" + (_table(("metric", "value"), found) if found else "") + foreign


def _slices(record: Mapping[str, Any]) -> str:
    rows = [
        (f"{one['suite']} / {metric} / {part}", _figure(figure))
        for one in _suites(record)
        for part, metrics in sorted((one.get("slices") or {}).items())
        for metric, figure in metrics.items()
    ]
    return "## By slice\n\n" + (_table(("metric", "value"), rows) if rows else "No slices were looked at.")


def _bias(record: Mapping[str, Any]) -> str:
    """What counterfactual pairs say, and where slices of one kind differ beyond their intervals."""
    pairs = [
        (f"{one['suite']} / {name}", _figure(figure))
        for one in _suites(record)
        for name, figure in one["metrics"].items()
        if any(part in name for part in COUNTERFACTUAL)
    ]
    gaps = [(name, told) for one in _suites(record) for name, told in _gaps(one)]
    said = "Counterfactual pairs (names, gender, region turned round) were " + ("asked:" if pairs else "not asked.")
    told = "\n\n" + _table(("metric", "value"), pairs) if pairs else ""
    apart = "\n\nThe widest gap between slices of one kind:\n\n" + _table(("metric", "gap"), gaps) if gaps else ""
    return f"## Bias\n\n{said}{told}{apart}"


def _gaps(suite: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kinds: dict[tuple[str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for part, metrics in (suite.get("slices") or {}).items():
        kind, _, value = part.partition("=")
        for metric, figure in metrics.items():
            kinds.setdefault((metric, kind), []).append((value, figure))
    for (metric, kind), found in sorted(kinds.items()):
        if len(found) > 1:
            low, high = min(found, key=lambda one: one[1]["mean"]), max(found, key=lambda one: one[1]["mean"])
            apart = "intervals apart" if low[1]["high"] < high[1]["low"] else "intervals overlap"
            gap = high[1]["mean"] - low[1]["mean"]
            yield f"{suite['suite']} / {metric} by {kind}", f"{gap:.4g}: {low[0]} to {high[0]} ({apart})"


def _gates(record: Mapping[str, Any]) -> str:
    gate = record.get("gate") or {}
    if not gate:
        return "## Gates\n\nNever judged."
    rows = [
        (
            f"{one['metric']} {one['rule']}" + (f" ({_shares_of(one['slice'])})" if one.get("slice") else ""),
            one["outcome"],
        )
        for one in gate["gates"]
    ]
    against = f" against {gate['champion']}" if gate.get("champion") else ""
    told = f"{gate['outcome'].capitalize()} ({gate['kind']}{against}, {gate['at']}); {gate['approvals']}."
    return f"## Gates\n\n{told}" + ("\n\n" + _table(("gate", "said"), rows) if rows else "")


def _shares_of(part: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in part.items())


def _recipe(record: Mapping[str, Any]) -> str:
    training = record.get("training") or {}
    libraries = {**training.get("environment", {}), **(record.get("environment") or {})}
    rows = [(name, str(value)) for name, value in sorted(record["recipe"].items())]
    rows += [(f"{name} (library)", str(value)) for name, value in sorted(libraries.items())]
    return "## How it was trained\n\n" + (
        _table(("setting", "value"), rows) if rows else "It was not: this is the base."
    )


def _energy(record: Mapping[str, Any]) -> str:
    training = record.get("training") or {}
    seconds = training.get("seconds")
    if not seconds:
        return f"## Time and energy\n\n{UNKNOWN.capitalize()}."
    rows: dict[str, Any] = {
        "training, wall clock": f"{seconds:.0f} s",
        "its whole search": f"{training.get('search_seconds') or seconds:.0f} s in {training.get('trials', 1)} trials",
    }
    told = "Energy was not measured."
    if used := training.get("cpu_seconds"):
        rows["processor time"] = f"{used:.0f} core seconds"
        kwh = used * WATTS_A_CORE / 3_600_000
        told += f" At {WATTS_A_CORE:g} W for a busy core, an assumption, the training took {kwh:.2g} kWh."
    told += " Emissions depend on the grid, which is not known."
    return "## Time and energy\n\n" + _table(("what", "value"), rows.items()) + f"\n\n{told}"


def _limits(record: Mapping[str, Any]) -> str:
    asked = {part.partition("=")[0] for one in _suites(record) for part in one.get("slices") or {}}
    slices = asked or set(
        (record["evaluation"].get("slices") or {}) if isinstance(record["evaluation"], Mapping) else ()
    )
    looked = f"Looked at by slice: {', '.join(sorted(slices))}." if slices else "No slices were looked at."
    few = [one["suite"] for one in _suites(record) if one["n"] < 100]
    thin = f" Fewer than 100 cases were asked of {', '.join(few)}." if few else ""
    return (
        f"## Limits\n\nFigures hold for the suites named above and for nothing else. {looked}{thin} "
        "Safety beyond the gates, and languages without a slice, were not examined. What the base learnt before, and from whom, "
        "is its maker's to say."
    )


def _origin(record: Mapping[str, Any]) -> str:
    rows = {
        "base weights": record["base_digest"],
        "weights" if record["tuning"] == "full" else "adapter": record["adapter_digest"] or "none",
        "went on from": record["recipe"].get("started_from") or "the base",
        "trial": record["trial"] or UNKNOWN,
        "turn of the loop": record["turn"] or UNKNOWN,
        "registered": f"{record['created_at']} by {record['created_by']}",
    }
    return (
        "## Where it comes from\n\n" + _table(("what", "value"), rows.items())
        + "\n\nEach file's SHA-256 is in `manifest.json`, whose Ed25519 signature is `manifest.sig`."
    )  # fmt: skip


def _suites(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(record.get("evaluations") or ())


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


def _table(head: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join(lines + [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows])


def _cell(value: Any) -> str:
    """A table cell: a bar or a line break from outside must not make another column, nor a tag be one."""
    plain = " ".join(str(value).split())
    return plain.replace("|", "\\|").replace("<", "&lt;")
