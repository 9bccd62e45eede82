"""MLflow's tracking door: a script with the real client and `MLFLOW_TRACKING_URI=http://…:7700/mlflow` logs and registers here.

    door          errors and shapes       experiments, runs   what is logged, and the search over it
    artifacts     files of runs           models, versions    registered models, and the lines of ours (`names`)
    logged        what `log_model` makes

Authentication is `MLFLOW_TRACKING_TOKEN`, a key of this installation; what is logged belongs to its tenant. docs/mlflow.md lists
what is done; all the rest answers `ENDPOINT_NOT_FOUND` or `NOT_IMPLEMENTED`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import Route

from ciranda.loop.platform import Platform
from ciranda.web.api.door import Call, Rest, mounted
from ciranda.web.mlflow import artifacts, experiments, logged, models, runs, versions
from ciranda.web.mlflow.door import DIALECT, Lenient, Nothing, Undone

Loader = Callable[[Call[Any]], Any]


class Anything(Lenient):
    """A request that is not read."""


def _get(path: str, loader: Loader, asks: type[BaseModel], summary: str) -> Rest:
    return Rest("GET", f"/mlflow/{path}", "view", loader, asks, summary)


def _search(path: str, loader: Loader, asks: type[BaseModel], summary: str) -> Rest:
    """A question that the client posts."""
    return Rest("POST", f"/mlflow/{path}", "view", loader, asks, summary)


def _do(path: str, loader: Loader, asks: type[BaseModel], summary: str, method: str = "POST") -> Rest:
    return Rest(method, f"/mlflow/{path}", "train", loader, asks, summary)


def undone(call: Call[Anything]) -> Response:
    """What this door does not do, said so that the client shows it."""
    raise Undone(
        "this call of an older client is not done here", where="MLflow's tracking door",
        remedy="log models with MLflow 3, or files with log_artifacts; docs/mlflow.md",
    )  # fmt: skip


LOGGED = "logged-models/{model}"
FILES = "/mlflow-artifacts/artifacts"
ROUTES: tuple[Rest, ...] = (
    _do("experiments/create", experiments.create, experiments.Create, "A new experiment."),
    _search("experiments/search", experiments.search, experiments.Search, "Experiments that fit a filter."),
    _get("experiments/search", experiments.search, experiments.Search, "The same, asked by address."),
    _get("experiments/get", experiments.one, experiments.Which, "One, by its number."),
    _get("experiments/get-by-name", experiments.by_name, experiments.Named, "One, by its name."),
    _do("experiments/update", experiments.update, experiments.Update, "Another name."),
    _do("experiments/delete", experiments.delete, experiments.Which, "Out of sight."),
    _do("experiments/restore", experiments.restore, experiments.Which, "Back again."),
    _do("experiments/set-experiment-tag", experiments.set_tag, experiments.Tag, "Say something of it."),
    _do("experiments/delete-experiment-tag", experiments.delete_tag, experiments.Tag, "Say it no more."),
    _do("runs/create", runs.create, runs.Create, "Begin a run."),
    _get("runs/get", runs.one, runs.Which, "One run, whole."),
    _do("runs/update", runs.update, runs.Update, "Its status, end or name."),
    _do("runs/delete", runs.delete, runs.Which, "Out of sight."),
    _do("runs/restore", runs.restore, runs.Which, "Back again."),
    _do("runs/log-metric", runs.log_metric, runs.OneMetric, "A value of a metric."),
    _do("runs/log-parameter", runs.log_param, runs.Param, "A parameter, once."),
    _do("runs/log-batch", runs.log_batch, runs.Batch, "Metrics, parameters and tags together."),
    _do("runs/set-tag", runs.set_tag, runs.Tag, "Say something of it."),
    _do("runs/delete-tag", runs.delete_tag, runs.Tag, "Say it no more."),
    _search("runs/search", runs.search, runs.Search, "Runs that fit a filter."),
    _get("metrics/get-history", runs.history, runs.History, "Every point of a metric."),
    _get("artifacts/list", artifacts.of_run, artifacts.OfRun, "What a run's folder holds."),
    Rest("GET", FILES, "view", artifacts.listing, artifacts.Listed, "The same, by the proxy's address."),
    Rest("GET", FILES + "/{path:path}", "view", artifacts.get, Nothing, "The bytes of an artefact."),
    Rest(
        "PUT",
        FILES + "/{path:path}",
        "train",
        artifacts.put,
        artifacts.Arrived,
        "Log an artefact.",
        reader=artifacts.receive,
    ),
    Rest("DELETE", FILES + "/{path:path}", "train", artifacts.delete, Nothing, "Take one away."),
    _do("registered-models/create", models.create, models.Create, "A new name."),
    _get("registered-models/get", models.one, models.Which, "One name, with its newest versions."),
    _get("registered-models/search", models.search, models.Search, "Names that fit a filter."),
    _do("registered-models/update", models.update, models.Update, "Another description.", "PATCH"),
    _do("registered-models/rename", models.rename, models.Rename, "Another name; none of ours."),
    _do("registered-models/delete", models.delete, models.Which, "Take a name away; none of ours.", "DELETE"),
    _search("registered-models/get-latest-versions", models.latest, models.Latest, "The newest of each stage."),
    _get("registered-models/get-latest-versions", models.latest, models.Latest, "The same, asked by address."),
    _do("registered-models/set-tag", models.set_tag, models.Tag, "Say something of it."),
    _do("registered-models/delete-tag", models.delete_tag, models.Tag, "Say it no more.", "DELETE"),
    _do("registered-models/alias", models.set_alias, models.Placed, "Give a version a name."),
    _do("registered-models/alias", models.delete_alias, models.Alias, "Take it away.", "DELETE"),
    _get("registered-models/alias", models.by_alias, models.Alias, "The version of a name."),
    _do("model-versions/create", versions.add, versions.New, "Register artefacts as a version."),
    _get("model-versions/get", versions.version, versions.One, "One version."),
    _get("model-versions/get-download-uri", versions.download, versions.One, "Where its artefacts are."),
    _get("model-versions/search", versions.search, models.Search, "Versions that fit a filter."),
    _do("model-versions/update", versions.tell, versions.Told, "Another description.", "PATCH"),
    _do("model-versions/set-tag", versions.tag_version, versions.Tagged, "Say something of it."),
    _do("model-versions/delete-tag", versions.untag_version, versions.Tagged, "Say it no more.", "DELETE"),
    _do("model-versions/transition-stage", versions.stage, versions.Stage, "Ours: ask to promote."),
    _do("model-versions/delete", versions.remove, versions.One, "Take one away; none of ours.", "DELETE"),
    _do("logged-models", logged.create, logged.Create, "Begin a logged model."),
    _search("logged-models/search", logged.search, logged.Search, "Logged models that fit a filter."),
    _get(LOGGED, logged.one, logged.Which, "One logged model."),
    _do(LOGGED, logged.finalize, logged.Finalize, "Whether its files came.", "PATCH"),
    _do(LOGGED, logged.delete, Anything, "Out of sight.", "DELETE"),
    _do(LOGGED + "/params", logged.log_params, logged.Params, "Parameters of it, once."),
    _do(LOGGED + "/tags", logged.set_tags, logged.Tags, "Say something of it.", "PATCH"),
    _do(LOGGED + "/tags/{key:path}", logged.delete_tag, Anything, "Say it no more.", "DELETE"),
    _do("runs/log-inputs", logged.inputs, logged.Uses, "Which logged models a run worked with."),
    _do("runs/outputs", logged.outputs, logged.Uses, "Which logged models a run made."),
    _do("runs/log-model", undone, Anything, "Refused by name: MLflow 2's way."),
)


def routes(platform: Platform) -> list[Route]:
    """The door of one home, ready to be mounted."""
    return mounted(platform, ROUTES, DIALECT)


__all__ = ["DIALECT", "ROUTES", "routes"]
