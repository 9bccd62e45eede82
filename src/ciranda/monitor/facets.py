"""What happened to data as OpenLineage events (spec 2-0-2): pure values, made from rows of ours.

    ingestion   job ingest.<dataset>           inputs: the source           outputs: the dataset
    commit      job commit.<dataset>           inputs: parents, sources     outputs: the dataset version
    training    job train.<model>              inputs: the dataset version  outputs: none, until it is registered
    register    job register.<model>           inputs: the dataset version  outputs: the model version

Each is a START and an end (COMPLETE or FAIL) with the same run id, which follows from our own id: sent twice, it is one run.
Events name data and say how much there is; they hold no rows, no values and no text of people.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ciranda.data.descriptions import Description
from ciranda.data.versions import DatasetVersion

Event = dict[str, Any]
PRODUCER = "https://pypi.org/project/ciranda"
SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = "https://openlineage.io/spec/facets"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, PRODUCER)
SCHEMAS = {
    "version": "1-0-1/DatasetVersionDatasetFacet", "schema": "1-2-0/SchemaDatasetFacet",
    "documentation": "1-1-0/DocumentationDatasetFacet", "ownership": "1-0-1/OwnershipDatasetFacet",
    "tags": "1-0-0/TagsDatasetFacet", "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet", "parent": "1-2-0/ParentRunFacet", "jobType": "2-0-4/JobTypeJobFacet",
}  # fmt: skip


def run_of(kind: str, name: str) -> str:
    """The run id of one of our own ids."""
    return str(uuid.uuid5(NAMESPACE, f"{kind}:{name}"))


def facet(kind: str, **values: Any) -> dict[str, Any]:
    """One facet with where its schema is."""
    path = SCHEMAS[kind]
    return {"_producer": PRODUCER, "_schemaURL": f"{FACETS}/{path}.json#/$defs/{path.partition('/')[2]}", **values}


def pair(
    kind: str,
    name: str,
    job: str,
    *,
    namespace: str,
    started_at: str,
    ended_at: str,
    inputs: Sequence[Mapping[str, Any]] = (),
    outputs: Sequence[Mapping[str, Any]] = (),
    error: str = "",
    parent: tuple[str, str] | None = None,
) -> list[Event]:
    """The start and the end of a run.

    Args:
        error: Why it failed; empty when it did not.
        parent: Run id and job of what it was a part of.
    """
    facets: dict[str, Any] = {}
    if parent:
        facets["parent"] = facet("parent", run={"runId": parent[0]}, job={"namespace": namespace, "name": parent[1]})
    told = {"jobType": facet("jobType", processingType="BATCH", integration="CIRANDA", jobType=kind.upper())}
    shared = {
        "producer": PRODUCER, "schemaURL": SPEC, "job": {"namespace": namespace, "name": job, "facets": told},
        "inputs": list(inputs),
    }  # fmt: skip
    run = run_of(kind, name)
    failed = {"errorMessage": facet("errorMessage", message=error, programmingLanguage="python")} if error else {}
    ended = {"runId": run, "facets": {**facets, **failed}}
    return [
        {**shared, "eventType": "START", "eventTime": started_at, "run": {"runId": run, "facets": facets}, "outputs": []},
        {
            **shared, "eventType": "FAIL" if error else "COMPLETE", "eventTime": ended_at, "run": ended,
            "outputs": list(outputs),
        },
    ]  # fmt: skip


def source(namespace: str, label: str) -> dict[str, Any]:
    """A source as an input."""
    return {"namespace": namespace, "name": f"sources/{label}", "facets": {}}


def dataset(namespace: str, ref: str) -> dict[str, Any]:
    """A dataset (or one version of it, `tickets@2`) by name."""
    name, _, number = ref.partition("@")
    facets = {"version": facet("version", datasetVersion=number)} if number else {}
    return {"namespace": namespace, "name": f"datasets/{name}", "facets": facets}


def version(
    namespace: str, made: DatasetVersion, said: Description, tags: Mapping[str, Sequence[str]], fields: Sequence[str]
) -> dict[str, Any]:
    """A dataset version as an output: what is said of it, its fields and how many rows it has."""
    told = dataset(namespace, made.ref)
    marks = [
        {"key": tag, "value": "true", "source": "CIRANDA", **({"field": field} if field else {})}
        for field, given in sorted(tags.items())
        for tag in given
    ]
    facets = {
        **told["facets"],
        "schema": facet("schema", fields=[{"name": name, "type": _type(name)} for name in fields]),
        **({"documentation": facet("documentation", description=said.description)} if said.description else {}),
        **({"ownership": facet("ownership", owners=[{"name": said.owner, "type": "OWNER"}])} if said.owner else {}),
        **({"tags": facet("tags", tags=marks)} if marks else {}),
    }
    return {
        **told,
        "facets": facets,
        "outputFacets": {"outputStatistics": facet("outputStatistics", rowCount=made.rows)},
    }


def model(namespace: str, ref: str, digest: str) -> dict[str, Any]:
    """A model version as an output."""
    name = ref.partition("@")[0]
    facets = {"version": facet("version", datasetVersion=f"{ref} {digest}".strip())}
    return {"namespace": namespace, "name": f"models/{name}", "facets": facets}


def _type(name: str) -> str:
    return {"messages": "list", "tags": "list", "thumb": "int"}.get(name, "string")
