"""The bill of materials of a version: CycloneDX 1.6, with the model card of its machine-learning profile.

Written from the record, bit by bit the same each time: the serial number follows from the version's digest. In it are the version
with its files and their SHA-256, the base it stands on, the dataset version it learned from, and the libraries that trained it, and
who depends on what. Plain JSON, so no library is needed here; a test holds it against the standard's own strict validator.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from ciranda import __version__

SPEC = "1.6"
SPACE = uuid.UUID("6a1de9b4-33a5-5d7d-9c2f-8f6c1f0c7a11")  # of our serial numbers
APPROACH = {"sft": "supervised", "dpo": "supervised", "kto": "supervised", "pretrain": "self-supervised"}
LIBRARIES = frozenset(
    {"torch", "transformers", "peft", "trl", "safetensors", "accelerate", "datasets", "numpy", "ciranda"}
)

Part = dict[str, Any]


def write(record: Mapping[str, Any], files: Mapping[str, str]) -> Part:
    """The bill of materials of one version.

    Args:
        record: The version as `to_dict` gives it, with what `about.facts` adds.
        files: SHA-256 in hex (with or without `sha256:`) of each file of its folder, by path.
    """
    libraries = list(_libraries(record))
    base, data = _base(record), _dataset(record)
    parts = [base, *([data] if data else []), *libraries]
    refs = [part["bom-ref"] for part in parts]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(SPACE, record['digest'])}",
        "version": 1,
        "metadata": {
            "timestamp": record["created_at"],
            "tools": {"components": [{"type": "application", "name": "ciranda", "version": __version__}]},
            "component": _model(record, files, data),
        },
        "components": parts,
        "dependencies": [{"ref": _ref(record), "dependsOn": refs}, *({"ref": one} for one in refs)],
    }


def _ref(record: Mapping[str, Any]) -> str:
    return f"version:{record['ref']}"


def _model(record: Mapping[str, Any], files: Mapping[str, str], data: Part | None) -> Part:
    named = ("digest", "adapter_digest", "base_digest", "dataset_digest", "trial", "turn", "tuning", "created_by")
    found: Part = {
        "type": "machine-learning-model",
        "bom-ref": _ref(record),
        "name": record["model"],
        "version": str(record["number"]),
        "modelCard": _card(record, data),
        "components": [
            {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]}
            for name, digest in sorted(files.items())
        ],
        "properties": [{"name": f"ciranda:{name}", "value": str(record[name])} for name in named if record[name]],
    }
    return {**found, "description": record["purpose"]} if record.get("purpose") else found


def _card(record: Mapping[str, Any], data: Part | None) -> Part:
    recipe = record["recipe"]
    parameters: Part = {"task": "text-generation", "inputs": [{"format": "text"}], "outputs": [{"format": "text"}]}
    if record["tuning"]:
        parameters["approach"] = {"type": APPROACH.get(str(recipe.get("method", "sft")), "supervised")}
    if data:
        parameters["datasets"] = [{"ref": data["bom-ref"]}]
    metrics = list(_metrics(record))
    return {
        "modelParameters": parameters,
        **({"quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else {}),
        "considerations": _considerations(record),
    }


def _metrics(record: Mapping[str, Any]) -> Iterator[Part]:
    for suite in record.get("evaluations") or ():
        parts = [("", suite["metrics"]), *sorted((suite.get("slices") or {}).items())]
        for part, metrics in parts:
            for name, figure in metrics.items():
                if not math.isfinite(figure["mean"]):
                    continue
                bounds = {"lowerBound": f"{figure['low']:.6g}", "upperBound": f"{figure['high']:.6g}"}
                where = f"{suite['suite']}: {part}" if part else suite["suite"]
                yield {"type": name, "value": f"{figure['mean']:.6g}", "slice": where, "confidenceInterval": bounds}


def _considerations(record: Mapping[str, Any]) -> Part:
    limits = [
        "Figures hold for the suites named and for nothing else.",
        "Languages and groups without a slice were not examined.",
    ]
    gate = record.get("gate") or {}
    said = f"{gate['outcome']} ({gate['kind']}); {gate['approvals']}" if gate else "never judged"
    return {
        **({"useCases": [record["purpose"]]} if record.get("purpose") else {}),
        "technicalLimitations": limits,
        "ethicalConsiderations": [{"name": "release gates", "mitigationStrategy": said}],
    }


def _base(record: Mapping[str, Any]) -> Part:
    found: Part = {"type": "machine-learning-model", "bom-ref": f"base:{record['base']}", "name": record["base"]}
    if record.get("base_licence"):
        found["licenses"] = [{"expression": record["base_licence"]}]
    return {**found, "properties": [{"name": "ciranda:digest", "value": record["base_digest"]}]}


def _dataset(record: Mapping[str, Any]) -> Part | None:
    if not record["dataset"] and not record["dataset_digest"]:
        return None
    name, _, number = str(record["dataset"]).rpartition("@")
    data = record.get("data") or {}
    ref = f"dataset:{record['dataset'] or record['dataset_digest']}"
    found: Part = {"type": "data", "bom-ref": ref, "name": name or "training data"}
    if number:
        found["version"] = number
    content: Part = {"type": "dataset", "name": name or "training data"}
    if data.get("sensitivity"):
        content["sensitiveData"] = [data["sensitivity"]]
    if data.get("description"):
        content["description"] = data["description"]
    if data.get("licence"):
        found["licenses"] = [{"license": {"name": data["licence"]}}]
    return {**found, "data": [content], "properties": [{"name": "ciranda:digest", "value": record["dataset_digest"]}]}


def _libraries(record: Mapping[str, Any]) -> Iterator[Part]:
    training = record.get("training") or {}
    found = {**training.get("environment", {}), **(record.get("environment") or {})}
    for name, version in sorted(found.items()):
        if name in LIBRARIES:
            plain = str(version).partition("+")[0]
            yield {
                "type": "library", "bom-ref": f"library:{name}", "name": name, "version": str(version),
                "purl": f"pkg:pypi/{name}@{plain}",
            }  # fmt: skip
