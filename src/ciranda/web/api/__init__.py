"""The REST API of control: every page's twin, and what the command line speaks. All of it is the table below.

    door      who asks, what they ask, the answer or the error
    asked     the fields of each query and body
    rows      rows of the control database, page by page
    fleet     models, versions, releases, drift, turns
    catalogue datasets, what is said of them, the glossary
    executors where training can run
    suites    suites, and evaluations with their answers
    traffic   interactions            runs    trials              searches    what looks for recipes
    chores    imports and preparations of data, as jobs
    sources   where data comes from, its runs, bad rows
    reviews   queues, items, labels
    judges    who judges answers, what they are worth      replays   real traffic asked of a candidate
    limits    what keys, tenants and models may use
    governance policies, exports, persons that are forgotten
    trust     alerts, audit, keys     verbs   what is done
    versions  names, history, approvals

Deny by default: a route names the right it needs, and a test walks every route with every role. Lists answer with `items` and
`next`; errors with `error` and `request_id`. `docs/rest.md` is written from this table.
"""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ciranda.loop.platform import Platform
from ciranda.web.api import (
    asked,
    catalogue,
    chores,
    executors,
    fleet,
    governance,
    judges,
    limits,
    lines,
    replays,
    reviews,
    runs,
    searches,
    sources,
    suites,
    traffic,
    trust,
    verbs,
    versions,
)
from ciranda.web.api.door import PREFIX, Rest, alive, mounted
from ciranda.web.api.metrics import Metrics

ROUTES: tuple[Rest, ...] = (
    Rest("GET", "/status", "view", fleet.status, asked.Nothing, "Everything at one glance: models, processes, alerts."),
    Rest("GET", "/models", "view", fleet.listing, asked.Page, "Models, with what each is doing."),
    Rest(
        "GET", "/models/{model}", "view", fleet.one, asked.Nothing, "One model: its file, versions, turn, deployments."
    ),
    Rest("GET", "/models/{model}/versions", "view", fleet.lines, asked.Page, "Its versions, newest first."),
    Rest("GET", "/models/{model}/release", "view", fleet.release, asked.Nothing, "Its rollout, and those before."),
    Rest("GET", "/models/{model}/drift", "view", fleet.drift, asked.Nothing, "Its watched streams."),
    Rest("GET", "/versions/{model}@{number:int}", "view", fleet.version, asked.Nothing, "One model version, whole."),
    Rest(
        "GET", "/versions/{model}@{number:int}/card", "view", versions.card, asked.Nothing, "Its model card, Markdown."
    ),
    Rest("GET", "/versions/{model}@{number:int}/bom", "view", versions.bom, asked.Nothing, "Its CycloneDX ML-BOM."),
    Rest("GET", "/versions/{model}@{number:int}/verify", "view", versions.verify, asked.Nothing, "Its files, checked."),
    Rest("GET", "/versions/{model}@{number:int}/archive", "train", versions.taken, asked.Nothing, "It, as one file."),
    Rest("POST", "/versions/{model}@{number:int}/remove", "settings", versions.remove, asked.Reason, "Remove weights."),
    Rest("GET", "/signer", "view", versions.signer, asked.Nothing, "Who signs here, with the public key."),
    Rest(
        "POST",
        "/models/{model}/versions",
        "train",
        versions.brought,
        versions.Brought,
        "Bring a version in.",
        201,
        reader=versions.arrive,
    ),
    Rest("GET", "/models/{model}/versions/{name}", "view", versions.which, asked.Nothing, "The version of that name."),
    Rest("GET", "/models/{model}/aliases", "view", versions.named, asked.Nothing, "Names of its versions."),
    Rest("POST", "/models/{model}/name", "train", versions.name, versions.Alias, "Let a name stand for a version."),
    Rest("POST", "/models/{model}/unname", "train", versions.unname, versions.Unnamed, "Take a name away."),
    Rest("GET", "/models/{model}/history", "view", versions.history, asked.Page, "Every change of a version's stage."),
    Rest("GET", "/models/{model}/live", "view", versions.live_of, versions.At, "Which version was live at a moment."),
    Rest("GET", "/live", "view", versions.live_at, versions.At, "What was live at a moment, by model."),
    Rest("GET", "/approvals", "view", versions.waiting, asked.Page, "What waits for people, the oldest first."),
    Rest("GET", "/datasets", "view", catalogue.listing, asked.Datasets, "The catalogue, searched and narrowed."),
    Rest("GET", "/datasets/{dataset}/versions", "view", lines.listing, lines.Line, "Its versions, by time too."),
    Rest("GET", "/datasets/{dataset}/diff", "view", lines.diff, lines.Between, "What changed between two versions."),
    Rest(
        "GET",
        "/datasets/{dataset}@{number:int}/findings",
        "view",
        lines.findings,
        lines.Found,
        "What its checks found.",
    ),
    Rest("GET", "/datasets/{dataset}@{number:int}", "view", catalogue.version, asked.Nothing, "One dataset version."),
    Rest(
        "GET",
        "/datasets/{dataset}@{number:int}/croissant",
        "view",
        catalogue.card,
        asked.Nothing,
        "Its card: Croissant 1.1.",
    ),
    Rest("GET", "/datasets/{dataset}", "view", catalogue.one, asked.Nothing, "One dataset, and what is said of it."),
    Rest(
        "GET",
        "/datasets/{dataset}@{number:int}/preview",
        "settings",
        governance.preview,
        asked.Previewed,
        "What another would see.",
    ),
    Rest(
        "GET", "/datasets/{dataset}@{number:int}/export", "data", governance.taken, asked.Taken, "Its rows, as a file."
    ),
    Rest("GET", "/contaminations", "view", catalogue.contaminated, asked.Page, "Training rows that a suite asks."),
    Rest("GET", "/exports", "audit", governance.register, asked.Page, "Files of rows that left the house."),
    Rest("GET", "/erasures", "audit", governance.erased, asked.OfPerson, "Erasures of people, with their receipts."),
    Rest(
        "GET",
        "/erasures/{erasure}",
        "audit",
        governance.receipt,
        asked.Nothing,
        "One erasure: its step, or its receipt.",
    ),
    Rest(
        "POST",
        "/erasures",
        "settings",
        governance.erase,
        asked.Person,
        "Have a person forgotten, or say what is theirs.",
        202,
    ),
    Rest(
        "GET", "/flags", "view", governance.flagged, asked.Nothing, "Versions that learnt from somebody erased since."
    ),
    Rest(
        "POST",
        "/versions/{model}@{number:int}/keep",
        "approve",
        governance.keep_flagged,
        asked.Reason,
        "Why it stays.",
    ),
    Rest("GET", "/policies", "view", governance.listing, asked.Nothing, "The policies in force."),
    Rest("GET", "/policies/{policy}", "view", governance.one, asked.Nothing, "Every revision of one policy."),
    Rest("POST", "/policies", "settings", governance.put, asked.PolicyText, "Put a policy in force."),
    Rest("POST", "/policies/{policy}/remove", "settings", governance.remove, asked.Nothing, "Take it out of force."),
    Rest("GET", "/glossary", "view", catalogue.glossary_, asked.Page, "What words of the business mean."),
    Rest("GET", "/glossary/{term}", "view", catalogue.term, asked.Nothing, "One term, and the data it stands on."),
    Rest("GET", "/lineage", "view", catalogue.lineage, asked.Lineage, "What led to a thing, and what came of it."),
    Rest("GET", "/searches", "view", searches.listing, asked.OfModel, "Searches for recipes, newest first."),
    Rest("GET", "/searches/{search}", "view", searches.one, asked.Nothing, "One search, whole, with its trials."),
    Rest("GET", "/runs", "view", runs.listing, asked.OfModel, "Searches with their trials, newest first."),
    Rest("GET", "/runs/compare", "view", runs.compare, runs.Compared, "Runs beside each other."),
    Rest("GET", "/runs/{run:path}/logs", "view", runs.log, runs.Log, "A piece of a run's log."),
    Rest("POST", "/runs/{run:path}/cancel", "train", runs.cancel, asked.Nothing, "End a run, and free what it holds."),
    Rest("GET", "/runs/{run:path}", "view", runs.one, asked.Nothing, "One run, whole: curve, samples, what it took."),
    Rest("GET", "/suites", "view", suites.listing, asked.Page, "Registered suites, each in its newest version."),
    Rest("GET", "/suites/{suite}", "view", suites.one, asked.Nothing, "One suite: its versions, newest first."),
    Rest("GET", "/suites/{suite}@{number:int}/cases", "view", suites.cases, asked.Page, "The cases of a version."),
    Rest(
        "GET", "/suites/{suite}@{number:int}/diff", "view", suites.diff, suites.Versus, "What changed to another one."
    ),
    Rest(
        "GET", "/suites/{suite}@{number:int}/export", "view", suites.exported, suites.Exported, "A version as a file."
    ),
    Rest("POST", "/suites", "evaluate", suites.register, suites.Registering, "Register a suite's next version.", 201),
    Rest("GET", "/evaluations", "view", suites.evaluations, suites.Evaluations, "Evaluations, newest first."),
    Rest(
        "GET", "/evaluations/{evaluation}/answers", "view", suites.answers, suites.Answers, "Answers, the worst first."
    ),
    Rest("GET", "/evaluations/{evaluation}", "view", fleet.evaluation, asked.Nothing, "One evaluation."),
    Rest("GET", "/turns", "view", fleet.turns, asked.OfModel, "Turns of the loop, newest first."),
    Rest("GET", "/turns/{turn:path}", "view", fleet.turn, asked.Nothing, "One turn with its steps."),
    Rest("GET", "/interactions", "view", traffic.listing, asked.Interactions, "What was asked and answered."),
    Rest(
        "GET", "/interactions/arrivals", "view", traffic.arrivals, asked.Arrivals, "What came since a cursor, in order."
    ),
    Rest("GET", "/interactions/export", "data", traffic.exported, asked.Export, "All that fit, as a file."),
    Rest("GET", "/interactions/events", "view", traffic.events, asked.Events, "What happened beside answers."),
    Rest("GET", "/interactions/{interaction}", "view", traffic.one, asked.Nothing, "One, with feedback and scores."),
    Rest("GET", "/alerts", "view", trust.fired, asked.Alerts, "Alerts, newest first."),
    Rest("GET", "/audit", "audit", trust.log, asked.Audit, "The audit log, newest first."),
    Rest("GET", "/audit/export", "audit", trust.extract, asked.Extract, "The audit log as a file, signed."),
    Rest("GET", "/audit/verify", "audit", trust.verify, asked.Verify, "Whether the audit chain holds."),
    Rest(
        "GET", "/keys", "keys", trust.keys, asked.Page, "Keys without their secrets, with what is used of their limits."
    ),
    Rest(
        "GET", "/tenants", "keys", limits.tenants_, asked.Page, "Tenants, with their limits and what is used of them."
    ),
    Rest(
        "GET", "/models/{model}/limits", "view", limits.of_model, asked.Nothing, "Its limits, and what is used of them."
    ),
    Rest("POST", "/plan", "plan", verbs.plan, asked.Files, "What applying these model files would do."),
    Rest("POST", "/apply", "apply", verbs.apply, asked.Files, "Apply these model files: all steps, or none."),
    Rest(
        "POST",
        "/manifests",
        "plan",
        executors.manifests,
        asked.Files,
        "The Jobs that training on Kubernetes would make.",
    ),
    Rest(
        "GET",
        "/executors",
        "train",
        executors.listing,
        asked.Nothing,
        "Where training can run, and whether it is there.",
    ),
    Rest("GET", "/sources", "view", sources.listing, asked.OfDataset, "Sources, each with its last run and its next."),
    Rest("GET", "/sources/runs", "view", sources.runs_, asked.OfDataset, "Runs of sources, newest first."),
    Rest("GET", "/sources/runs/{ingestion}", "view", sources.run, asked.Nothing, "One run of one source, whole."),
    Rest("GET", "/quarantine", "data", sources.bad_rows, asked.BadRows, "Bad rows that were kept, newest first."),
    Rest("POST", "/models/{model}/ingest", "data", sources.ingest, asked.Ingestion, "Bring in what its sources have."),
    Rest(
        "POST", "/datasets/{dataset}/ingest", "data", sources.ingest_dataset, asked.Ingestion, "The same, by dataset."
    ),
    Rest(
        "POST", "/sources", "apply", sources.add, asked.Files, "Apply files of datasets that are fed without a model."
    ),
    Rest("POST", "/datasets/{dataset}/sources/remove", "apply", sources.remove, asked.Nothing, "Stop feeding it so."),
    Rest("POST", "/datasets/{dataset}/quarantine/retry", "data", sources.retry, asked.Named, "Read bad rows again."),
    Rest("POST", "/datasets/{dataset}/quarantine/drop", "data", sources.drop, asked.Named, "Give bad rows up."),
    Rest("POST", "/interactions/gather", "data", traffic.gathered, asked.Gather, "Make them a dataset version.", 201),
    Rest("POST", "/datasets/{dataset}/name", "data", lines.name, lines.Naming, "Name a version: a tag or an alias."),
    Rest("POST", "/datasets/{dataset}/unname", "data", lines.unname, lines.Unnaming, "Take a name away."),
    Rest("POST", "/datasets/{dataset}/branch", "data", lines.branch, lines.Branching, "Begin another one there.", 201),
    Rest("POST", "/datasets/{dataset}/revert", "data", lines.revert, lines.Reverting, "Go back to older rows."),
    Rest("POST", "/datasets/collect", "settings", lines.collected, lines.Collecting, "Collect what nobody needs."),
    Rest("POST", "/datasets/{dataset}/describe", "data", catalogue.describe, asked.Described, "Say what it is."),
    Rest("POST", "/glossary", "data", catalogue.define, asked.Term, "Define a term, or say it anew.", 201),
    Rest("POST", "/glossary/{term}/remove", "data", catalogue.remove, asked.Nothing, "Take a term out again."),
    Rest("GET", "/data/jobs", "data", chores.listing, asked.Page, "Imports, preparations and rebuilds, newest first."),
    Rest("GET", "/data/jobs/{job}", "data", chores.one, asked.Nothing, "One of them: progress, result or error."),
    Rest("POST", "/datasets/{dataset}/import", "data", chores.bring, asked.Import, "Import a file or a folder.", 202),
    Rest(
        "POST", "/datasets/{dataset}/distil", "data", chores.learn, chores.Distil, "Have a teacher answer prompts.", 202
    ),
    Rest("POST", "/data/prepare", "data", chores.cook, asked.Recipe, "Run a recipe.", 202),
    Rest(
        "POST",
        "/datasets/{dataset}@{number:int}/rebuild",
        "data",
        chores.again,
        asked.Nothing,
        "Make a version again from its recipe, and compare.",
        202,
    ),
    Rest(
        "GET",
        "/judges",
        "view",
        judges.listing,
        asked.Page,
        "Models that judge answers, and whether they are believed.",
    ),
    Rest("GET", "/judges/{judge}", "view", judges.one, asked.Nothing, "One judge: criteria, calibrations, judgements."),
    Rest("POST", "/judges", "apply", judges.create, judges.JudgeSpec, "Register a judge, or another of that name."),
    Rest(
        "POST", "/judges/{judge}/calibrate", "evaluate", judges.calibrate, judges.Calibrate, "Hold it against people."
    ),
    Rest("GET", "/judges/jobs/{job}", "evaluate", judges.job, asked.Nothing, "How a job of a judge stands."),
    Rest(
        "GET",
        "/versions/{model}@{number:int}/against/{other:int}",
        "view",
        judges.against,
        judges.Against,
        "Two versions side by side: effects, intervals, slices, what could have been found.",
    ),
    Rest("GET", "/replays", "view", replays.listing, asked.OfModel, "Replays of real traffic, newest first."),
    Rest("GET", "/replays/{replay}", "view", replays.one, asked.Nothing, "One replay, with answers that changed."),
    Rest(
        "POST", "/replays", "evaluate", replays.begin, replays.Replayed, "Ask a version what users asked the live one."
    ),
    Rest("GET", "/review", "view", reviews.listing, asked.Page, "Review queues, with what waits in each."),
    Rest("GET", "/review/{queue}", "view", reviews.one, asked.Nothing, "One queue: counts, annotators, agreement."),
    Rest("GET", "/review/{queue}/labels", "data", reviews.labels, asked.Page, "What was said, in the order of time."),
    Rest("POST", "/review", "data", reviews.create, asked.ReviewQueue, "Make a queue, or change its settings."),
    Rest(
        "POST", "/review/{queue}/fill", "data", reviews.fill, asked.ReviewFill, "Choose what is most worth labelling."
    ),
    Rest(
        "POST", "/review/{queue}/next", "label", reviews.following, asked.Nothing, "The next item, theirs for a while."
    ),
    Rest(
        "POST", "/review/{queue}/answer", "label", reviews.say, asked.ReviewAnswer, "Right, wrong, corrected, skipped."
    ),
    Rest("POST", "/review/{queue}/undo", "label", reviews.undo, asked.Nothing, "Take the last label back."),
    Rest(
        "POST", "/review/{queue}/commit", "data", reviews.commit, asked.Nothing, "Make a dataset version of the labels."
    ),
    Rest("GET", "/reproductions", "view", runs.reproduced, asked.OfModel, "Versions that were trained again."),
    Rest("GET", "/reproductions/{reproduction}", "view", runs.reproduction, asked.Nothing, "How near one came."),
    Rest("POST", "/reproductions/{reproduction}/cancel", "train", runs.reproduction_cancel, asked.Nothing, "End one."),
    Rest(
        "POST",
        "/versions/{model}@{number:int}/reproduce",
        "train",
        runs.reproduce,
        asked.Nothing,
        "Train it again.",
        202,
    ),
    Rest("GET", "/models/{model}/estimate", "view", verbs.estimate, asked.Nothing, "What a turn of it would take."),
    Rest("POST", "/models/{model}/turns", "train", verbs.turn, asked.Turn, "Start one run of the loop.", 202),
    Rest("POST", "/models/{model}/searches", "train", searches.start, searches.Start, "Look for a recipe.", 202),
    Rest(
        "POST", "/models/{model}/searches/{search}/stop", "train", searches.stop, asked.Nothing, "End what runs of it."
    ),
    Rest(
        "POST", "/models/{model}/searches/{search}/resume", "train", searches.resume, searches.Bounds, "Go on with it."
    ),
    Rest(
        "POST",
        "/models/{model}/searches/{search}/workers",
        "train",
        searches.workers,
        searches.Workers,
        "Trials at the same time.",
    ),
    Rest(
        "POST",
        "/models/{model}/searches/{search}/release",
        "train",
        searches.release,
        asked.Nothing,
        "Take its best through the gates: a turn.",
        202,
    ),
    Rest("POST", "/models/{model}/evaluate", "evaluate", verbs.evaluate, suites.Examined, "Evaluate a version.", 202),
    Rest("POST", "/models/{model}/promote", "promote", verbs.promote, asked.Version, "Make a version live now."),
    Rest("POST", "/models/{model}/rollback", "rollback", verbs.rollback, asked.Back, "Back to the version before."),
    Rest(
        "POST", "/models/{model}/release", "promote", verbs.release, asked.Version, "Begin to release a version.", 202
    ),
    Rest("POST", "/models/{model}/approve", "approve", verbs.approve, asked.Said, "Say yes to what waits for it."),
    Rest("POST", "/models/{model}/decline", "approve", verbs.decline, asked.Said, "Say no to it."),
    Rest(
        "POST", "/models/{model}/override", "settings", verbs.override, asked.Override, "Past its gates: an emergency."
    ),
    Rest("POST", "/alerts/{alert}/acknowledge", "alert", trust.acknowledge, asked.Nothing, "Say that you saw it."),
    Rest("POST", "/keys", "keys", trust.create_key, asked.Key, "Issue a key; its secret is shown once.", 201),
    Rest("POST", "/keys/{key}/limits", "keys", limits.of_key, asked.Limits, "What a key may use, whole."),
    Rest("POST", "/tenants/{tenant}/limits", "keys", limits.of_tenant, asked.Limits, "What a tenant may use, whole."),
    Rest("POST", "/keys/{key}/revoke", "keys", trust.revoke_key, asked.Nothing, "Close a key for good."),
)


def routes(platform: Platform) -> list[Route]:
    """The API of one home, ready to be mounted, `/healthz` for whoever keeps this process alive, `/metrics` for Prometheus."""
    figures = Route("/metrics", partial(_figures, Metrics(platform)), methods=["GET"])
    return [Route("/healthz", alive, methods=["GET"]), figures, *mounted(platform, ROUTES)]


async def _figures(metrics: Metrics, request: Request) -> Response:
    return await metrics(request)


__all__ = ["PREFIX", "ROUTES", "Rest", "routes"]
