"""Writes the pages of docs/ that are made from the code: `make docs`. A test fails when one of them is out of date.

What the code knows is not typed again: commands from their help, settings and model keys from their shapes, routes from the API's
table, errors from their tree. Only what a table is for stands here, since a table has no sentence of its own.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

import ciranda
from ciranda import cli
from ciranda.cli import manual
from ciranda.gateway import app
from ciranda.gateway import metrics as counted
from ciranda.interactions import schema, upgrade
from ciranda.interactions.otlp import conventions as otlp
from ciranda.monitor import scrape
from ciranda.store.database import metadata
from ciranda.web import api

HERE = Path(__file__).parent
WIDTH = 100
NOTE = "<!-- Made from the code by `make docs`; change the code. -->\n"
SETTINGS = """# Settings

From the environment, else from `config.toml` in the home, else the default. `ciranda help settings` prints them.
"""
MODEL_FILE = """# A model's file

One YAML file per model; only `model` is required. Durations are written `90s`, `20m`, `24h`, `7d`. `ciranda init` writes two
examples, `ciranda plan` shows what applying a file would do, and a mistake is named by file, line and key.
"""
ERRORS = """# Errors

Every error says what was wrong, where, and what to do. The class decides the HTTP status and the exit code; trying again may
help where the table says so. On the wire: `{"error": {type, code, message, where, remedy, retry}, "request_id"}`.
"""
REST = """# The REST API

Under `/api/v1` of control, with `Authorization: Bearer <key>`. Bodies and answers are JSON; a body is at most 1 MB. Lists answer
with `items` and `next`, which goes into `cursor` for the page after. A key sees the models it is for, and needs the right that the
table names. `Idempotency-Key` makes starting a turn twice the same as once.
"""
STORES = """# Tables

The control database (SQLite, or PostgreSQL) holds state; the store of interactions (ClickHouse, embedded or a server) holds what
was asked and answered. Each table has one writer.
"""
FIELDS = """# The fields of the record

What the tables of interactions hold, from `interactions/schema.py` and `interactions/rollups.py`, which the tables are made from.
What holds for them, and how to keep them on a server: [the record of interactions](record.md).
"""
CONVENTIONS = f"""# Which attribute is which field

Version {otlp.VERSION} of the table by which [reported spans](opentelemetry.md) become interactions. For each field the first
attribute in this order that a span has counts. `.*` ends a prefix, `event:` is an event of the span, `resource:` an attribute of
its resource.
"""
METRICS = """# Figures for Prometheus

`/metrics` of control (`http://127.0.0.1:7700/metrics`) shows the figures of one home in one scrape: those of each gateway
worker with the label `worker`, those of each engine as it names them (llama.cpp: `llamacpp:…`, vLLM: `vllm:…`) with `model`,
`version` and `replica`, and its own. From this machine it needs no key; from another, or through a proxy, one of the role
viewer for all models. Each gateway worker shows its own at its `/metrics` too, in the same way: for gateways on machines of
their own, one worker each.

`deploy/prometheus/` holds a configuration and rules to begin with, `deploy/grafana/ciranda.json` a dashboard (import it and
choose the data source); a test holds that every metric they name exists. Labels are names of models, versions, arms and
processes, never anything that a client chose. Nothing is summed over workers, since a worker that starts again begins at
zero: write `sum without (worker) (rate(…))`. Durations are in seconds, from histograms. The names follow Prometheus; of
OpenTelemetry's GenAI convention, `ciranda_gateway_request_duration_seconds` is `gen_ai.server.request.duration`,
`ciranda_gateway_time_to_first_byte_seconds` is `gen_ai.server.time_to_first_token` for streams, and
`ciranda_gateway_tokens_total` counts what `gen_ai.client.token.usage` does, with its values `input` and `output` for the
label `type`.
"""
COMMANDS = """# The command line

A client of the REST API: every command works on this machine and, with `--url` and a key, anywhere else. `--json` answers as
JSON; errors are JSON on stderr then. Colours and boxes appear on a terminal only, and not with `NO_COLOR`. Exit codes are those
of [the errors](errors.md); 0 is success, 130 is Ctrl-C.
"""
TABLES = {
    "alembic_version": "The revision of the schema.",
    "alert_deliveries": "Each alert on its way to each target, until it was sent.",
    "alerts": "Messages that somebody must see, open until their cause is gone.",
    "approvals": "What people said of a version at its gate: yes or no, to which verdict.",
    "audit_events": "The audit log: an append-only hash chain over every change that matters.",
    "contaminations": "What a dataset version shares with a registered suite, looked at again when either changes.",
    "data_descriptions": "What people say of a dataset or of one of its fields: owner, purpose, licence, sensitivity.",
    "data_exports": "Files of rows or interactions that left the house: what, who took it, under which policies.",
    "data_tags": "Tags on datasets and on their fields.",
    "data_terms": "Terms of the glossary on datasets and on their fields.",
    "dataset_aliases": "Names of dataset versions: tags, which stay, and aliases, which move.",
    "dataset_parents": "Which versions a dataset version was made from.",
    "dataset_redactions": "Dataset versions that an erasure wrote anew, with the digests before and after.",
    "dataset_statistics": "What the fields of a dataset version hold: rows, empties, distinct values, lengths, frequent values.",
    "dataset_versions": "Immutable versions of datasets, by the digest of their rows.",
    "datasets": "Named lines of dataset versions.",
    "deployments": "What should run: one row per version that is wanted, with its generation.",
    "drift_references": "What live traffic is compared with, frozen at each promotion.",
    "drift_states": "How far each watched stream has been read, and the evidence so far.",
    "ended_sessions": "Browser sessions that were signed out before they expired.",
    "erasures": "People who are or were forgotten, as keyed hashes: the step, the counts, the receipt.",
    "evaluations": "One scored run of a suite by a version.",
    "suite_versions": "Registered suites: immutable, numbered, their cases by digest.",
    "exports": "How far interactions have been exported as spans, and lineage as OpenLineage events.",
    "glossary_terms": "What words of the business mean, and who answers for that.",
    "feeds": "The applied file of each dataset that is fed without a model.",
    "ingestion_requests": "Ingestions that somebody asked for and does not wait for.",
    "ingestions": "Runs that brought rows from a source, with the cursor to go on from.",
    "keys": "Keys by the SHA-256 of their secret, with role and models.",
    "limit_shares": "Each machine's share of each limit in use, where gateways run on several.",
    "models": "The applied file of each model, with its generation.",
    "policies": "Who may see which rows and fields for what: every revision of every policy.",
    "quality_states": "How far live answers have been scored.",
    "quarantine": "Bad rows, kept aside with the reason until somebody mended or dropped them.",
    "registered_models": "Names that MLflow's clients registered or said something of.",
    "registered_versions": "Versions that MLflow's clients registered, and the candidates of ours that they became.",
    "reproductions": "Versions that were trained again from their records, and how near they came.",
    "replicas": "What runs: one row per serving process.",
    "review_items": "What waits in a review queue, and why it was chosen.",
    "review_labels": "What one annotator said of one item; taken back ones stay, marked.",
    "review_leases": "Whose an item is, and until when.",
    "review_queues": "Review queues: whose answers, which dataset, what labels become.",
    "retraining_flags": "Model versions that learnt from a person who was erased since.",
    "rollouts": "Versions on their way to traffic, with the evidence that moves them.",
    "searches": "Looks for the best recipe.",
    "segments": "Sealed segments of the spool, by digest, as they enter the audit chain.",
    "signals": "Changes that call for a turn, until the loop took them.",
    "source_files": "Which files of watched folders and buckets were read, and as what.",
    "tenants": "Tenants that have limits, with them.",
    "tracked_experiments": "Experiments of MLflow's clients, numbered for each tenant.",
    "tracked_metrics": "Every point of every metric that an MLflow client logged.",
    "tracked_models": "Models that MLflow's clients logged: a folder of artefacts with parameters and tags.",
    "tracked_uses": "Which runs of MLflow's clients made or used which logged model.",
    "tracked_runs": "Runs of MLflow's clients, with parameters, tags and the newest value of each metric.",
    "trials": "One training run of a search, with its loss curve.",
    "tuning_events": "What happened in each fine-tuning job, as it was seen.",
    "tunings": "Fine-tuning jobs that came through OpenAI's API: which files, how, and the turn that does them.",
    "turns": "Runs of the loop: cause, step, who acts next.",
    "partial_uploads": "Files that clients announced to send in pieces, and what became of them.",
    "upload_parts": "The pieces of those that are not whole yet.",
    "uploads": "Files that clients of the fine-tuning door sent, and those that jobs left; deleted ones without content.",
    "judge_samples": "How many live answers each judge was asked about, and when.",
    "judges": "Models that judge answers: engine, criteria, scale; the newest of a name counts.",
    "judgements": "What judges said of evaluations, case by case, so that no question is asked twice.",
    "replays": "Real traffic asked of another version before users see it, with what came of it.",
    "judge_calibrations": "What judges and people said of the same answers, and how long that holds.",
    "verdicts": "What the gates said of a version, with their evidence.",
    "version_aliases": "Names that stand for model versions, and may be moved.",
    "version_stages": "Every change of a version's stage, so that what was live when is a question.",
    "versions": "Immutable model versions with what they are made of.",
}


def settings() -> str:
    """docs/settings.md"""
    return _page(SETTINGS, _table(*manual.settings(), code=3))


def model_file() -> str:
    """docs/model-file.md"""
    return _page(MODEL_FILE, _table(*manual.model(), code=3))


def errors() -> str:
    """docs/errors.md"""
    return _page(ERRORS, _table(*manual.errors(), code=1))


def rest() -> str:
    """docs/rest.md"""
    rows = ((f"{one.method} {_path(one)}", one.right, one.summary) for one in api.ROUTES)
    fields = "\n".join(_fields(shape) for shape in dict.fromkeys(one.asks for one in api.ROUTES))
    return _page(REST, _table(("route", "right", "what"), rows, code=1) + "\n## What may be sent\n\n" + fields)


def _path(route: api.Rest) -> str:
    return route.path.replace(":int", "").replace(":path", "")


def _fields(shape: Any) -> str:
    routes = ", ".join(f"`{one.method} {_path(one)}`" for one in api.ROUTES if one.asks is shape)
    if not shape.model_fields:
        return f"Nothing: {routes}.\n"
    described = shape.model_json_schema()["properties"]
    rows = (
        (name, manual.default(field), described[name].get("description", field.description or ""))
        for name, field in shape.model_fields.items()
    )
    return f"{routes}\n\n{_table(('field', 'default', 'meaning'), rows, code=2)}"


def tables() -> str:
    """docs/tables.md"""
    owners, columns = owned(), ("table", "writer", "what a row is")
    control = _table(columns, ((name, owners[name], TABLES[name]) for name in sorted(owners)), code=2)
    records = _table(columns, ((one.name, "interactions.sink", one.meaning) for one in upgrade.TABLES), code=2)
    more = "Field by field: [the record of interactions](interactions.md).\n"
    return _page(STORES, f"## Control\n\n{control}\n## Interactions\n\n{records}\n{more}")


def interactions() -> str:
    """docs/interactions.md"""
    return _page(FIELDS, "\n".join(map(_record, upgrade.TABLES)))


def _record(table: schema.Table) -> str:
    rows = ((one.name, one.type, one.unit, one.meaning) for one in table.columns)
    indexes = ", ".join(f"`{one.expression}` ({one.type})" for one in table.indexes)
    kept = (
        f"In the order `{table.order}`, one part per `{table.partition}`" if table.partition != "tuple()" else "Small"
    )
    found = f"; passed over by {indexes}" if indexes else ""
    fields = _table(("field", "type", "unit", "meaning"), rows, code=2)
    return f"## {table.name}\n\n{table.meaning} {kept}{found}.\n\n{fields}"


def owned() -> dict[str, str]:
    """Each table of the control database and the module that declares it."""
    for name in modules():
        importlib.import_module(name)
    sources = {name: Path(sys.modules[name].__file__ or "").read_text() for name in modules()}
    return {
        table: name.removeprefix("ciranda.")
        for table in metadata.tables
        for name, text in sources.items()
        if re.search(rf'sa\.Table\(\s*"{table}"', text)
    }


def modules() -> Iterator[str]:
    """Our modules, but for those that need what only an extra brings, and those that do something when imported."""
    left_out = ("ciranda.engines.", "ciranda.cli", "ciranda.store.migrations")
    for found in pkgutil.walk_packages(ciranda.__path__, "ciranda."):
        if not found.name.startswith(left_out) and "__main__" not in found.name:
            yield found.name


def conventions() -> str:
    """docs/conventions.md"""
    return _page(CONVENTIONS, _table(("field", "attribute", "convention", "its versions"), otlp.documented(), code=2))


def metrics() -> str:
    """docs/metrics.md"""
    columns = ("metric", "type", "meaning")
    heads = re.findall(r"# HELP (\S+) (.+)\n# TYPE \S+ (\w+)", counted.Metrics().text(()))
    gateway = [(name, kind, told) for name, told, kind in heads]
    gauges = re.findall(r'yield "(\w+)", "([^"]+)"', inspect.getsource(app.Gateway))
    gateway += [(f"ciranda_gateway_{name}", counted.kind_of(name), told) for name, told in gauges]
    control = re.findall(r'told\.add\(\s*"(\w+)",\s*"(\w+)",\s*"([^"]+)"', inspect.getsource(scrape))
    control = list(dict.fromkeys(control))
    return _page(
        METRICS, f"## Gateway\n\n{_table(columns, gateway, code=1)}\n## Control\n\n{_table(columns, control, code=1)}"
    )


def commands() -> str:
    """docs/cli.md"""
    return _page(COMMANDS, "\n".join(_command(path, command) for path, command in leaves(cli.cli)))


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        if found := command.get_command(context, name):
            yield from leaves(found, (*path, name))


def _command(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(
        command, info_name=f"ciranda {' '.join(path)}", terminal_width=WIDTH, max_content_width=WIDTH
    )
    return f"## ciranda {' '.join(path)}\n\n```\n{command.get_help(context)}\n```\n"


def _table(columns: Iterable[str], rows: Iterable[Iterable[Any]], *, code: int) -> str:
    """A Markdown table whose first `code` columns are code."""
    names = list(columns)
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in row]
        shown = [f"`{cell}`" if place < code and cell else cell for place, cell in enumerate(cells)]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _page(head: str, body: str) -> str:
    return f"{NOTE}{head}\n{body}"


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": commands,
    "conventions.md": conventions,
    "errors.md": errors,
    "interactions.md": interactions,
    "metrics.md": metrics,
    "model-file.md": model_file,
    "rest.md": rest,
    "settings.md": settings,
    "tables.md": tables,
}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
