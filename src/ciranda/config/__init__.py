"""Settings and paths: the one file that reads the environment.

Settings come from `CIRANDA_<NAME>` in the environment, else from `config.toml` in the home, else from the default here.
Each is one line of `Settings`, with the sentence that `ciranda help settings` and the docs show. A new one needs a user
with an opinion about it. What a model wants is not a setting: it is its YAML file (`config.model`).
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ciranda.config import faults
from ciranda.errors import Invalid

PREFIX = "CIRANDA_"
REFERENCED = r"^((env|file):.+)?$"  # a secret is named, never written


class Settings(BaseModel):
    """What one installation decides. Secrets are given by reference, as the name of a file or a variable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[str, Field(description="Address that the pages, the REST API and the gateway bind to.")] = (
        "127.0.0.1"
    )
    control_port: Annotated[
        int, Field(ge=0, le=65535, description="Port of pages and REST API; 0 takes a free one.")
    ] = 7700
    gateway_port: Annotated[int, Field(ge=0, le=65535, description="Port of the gateway; 0 takes a free one.")] = 7701
    gateway_workers: Annotated[int, Field(ge=1, le=64, description="Gateway processes, each on its own listener.")] = 1
    compiled: Annotated[
        Literal["auto", "yes", "no"],
        Field(
            description="Whether gateway workers run compiled: auto (where what was compiled is of these sources), yes (else they "
            "do not start) or no."
        ),
    ] = "auto"
    proxies: Annotated[
        str,
        Field(
            description="Reverse proxies, addresses or networks with commas; their X-Forwarded-For names the client."
        ),
    ] = "127.0.0.1, ::1"
    database_url: Annotated[str, Field(description="Control database; empty means SQLite in the home.")] = ""
    clickhouse_url: Annotated[str, Field(description="ClickHouse for interactions; empty means the embedded one.")] = ""
    clickhouse_cluster: Annotated[
        str,
        Field(
            pattern=r"^[\w.-]{0,100}$",
            description="Cluster whose replicas keep the interactions; empty for one server.",
        ),
    ] = ""
    retention_days: Annotated[
        int,
        Field(ge=0, le=36500, description="Days that interactions are kept, unless a model says otherwise; 0: always."),
    ] = 0
    cache: Annotated[str, Field(description="Folder for prepared base models, shared by all homes.")] = (
        "~/.cache/ciranda"
    )
    datasets_url: Annotated[
        str,
        Field(
            pattern=r"^(s3://[\w.-]+(/[\w./-]*)?)?$",
            description="Where dataset versions lie, s3://bucket/prefix; empty means the home.",
        ),
    ] = ""
    s3_endpoint: Annotated[
        str, Field(description="Address of the S3 server for datasets, https://host:port; empty means AWS.")
    ] = ""
    s3_region: Annotated[str, Field(description="Region of that bucket.")] = "us-east-1"
    s3_credentials: Annotated[
        str,
        Field(
            pattern=r"^((env|file):.+)?$",
            description="Where `key id:secret` for that bucket stands, env:NAME or file:/path; empty: no signature.",
        ),
    ] = ""
    jobs_url: Annotated[
        str,
        Field(
            pattern=r"^(s3://[\w.-]+(/[\w./-]*)?|file:/[\w./-]+)?$",
            description="Where this machine and those that train for it meet: s3://bucket/prefix (with s3_endpoint, s3_region, "
            "s3_credentials) or file:/folder that all mount. For the executors ray and kubernetes.",
        ),
    ] = ""
    jobs_credentials: Annotated[
        str,
        Field(
            pattern=REFERENCED,
            description="Where `key id:secret` for that bucket stands on the machine that runs a job, env:NAME or file:/path.",
        ),
    ] = ""
    ray_url: Annotated[
        str, Field(description="Head of the Ray cluster that trains for executor `ray`, http://host:8265; empty: none.")
    ] = ""
    ray_token: Annotated[
        str,
        Field(
            pattern=REFERENCED, description="Where its token stands, env:NAME or file:/path; empty: it asks for none."
        ),
    ] = ""
    kubernetes: Annotated[
        str,
        Field(
            description="Cluster of executor `kubernetes`: a kubeconfig's path (path#context), in-cluster, or https://server:6443."
        ),
    ] = ""
    kubernetes_token: Annotated[
        str,
        Field(pattern=REFERENCED, description="With https://…: where the bearer token stands, env:NAME or file:/path."),
    ] = ""
    kubernetes_ca: Annotated[
        str, Field(description="With https://…: PEM file of the authority that signed the server.")
    ] = ""
    kubernetes_namespace: Annotated[
        str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="Namespace that jobs are made in.")
    ] = "default"
    kubernetes_image: Annotated[
        str, Field(description="Image that jobs run in, with ciranda[train] of the same version as control.")
    ] = ""
    kubernetes_queue: Annotated[
        str, Field(description="Kueue's local queue for jobs, which then begin when there is room; empty: at once.")
    ] = ""
    kubernetes_secret: Annotated[
        str,
        Field(description="Secret of the namespace whose keys become variables of a job, such as jobs_credentials."),
    ] = ""
    kubernetes_claim: Annotated[str, Field(description="Volume claim that holds jobs_url, when that is a folder.")] = ""
    kubernetes_account: Annotated[
        str, Field(description="Service account of the pods; empty: the namespace's default. They get no token of it.")
    ] = ""
    data_root: Annotated[
        str,
        Field(description="Folder that file sources and suites must lie in; empty means the one that holds the home."),
    ] = ""
    key: Annotated[str, Field(description="Key that the command line sends; empty means the one `up` saved.")] = ""
    url: Annotated[str, Field(description="Address of control for the command line; empty means the local one.")] = ""
    allow_private_addresses: Annotated[
        bool, Field(description="Let webhooks and sources call loopback and private addresses.")
    ] = False
    allow_hosts: Annotated[
        str,
        Field(description="Private hosts that sources may call all the same, with commas: db.internal, 10.0.0.5:5432."),
    ] = ""
    connectors: Annotated[
        str, Field(description="Modules whose dlt sources may be used, with commas; they run in control. Empty: none.")
    ] = ""
    smtp_url: Annotated[str, Field(description="Mail server for alerts, smtp://user@host:587 or smtps://….")] = ""
    smtp_password_file: Annotated[str, Field(description="File that holds the mail server's password.")] = ""
    otlp_endpoint: Annotated[
        str,
        Field(
            description="OTLP/HTTP address that interactions are exported to as spans, http://host:4318; empty: none."
        ),
    ] = ""
    otlp_headers_file: Annotated[
        str, Field(description="File with headers for that address, one `name: value` a line, such as its key.")
    ] = ""
    otlp_content: Annotated[
        bool, Field(description="Export what people wrote, what was answered, and who asked; without it figures only.")
    ] = False
    openlineage: Annotated[
        str,
        Field(
            description="Where lineage goes as OpenLineage events: http(s)://host:5000, or file:/path; empty: nowhere."
        ),
    ] = ""
    openlineage_key_file: Annotated[str, Field(description="File with the key that is sent there as a bearer.")] = ""
    openlineage_namespace: Annotated[
        str, Field(min_length=1, max_length=100, description="The namespace of jobs and data in those events.")
    ] = "ciranda"
    session_hours: Annotated[int, Field(ge=1, le=720, description="Hours until a browser must sign in again.")] = 12


@dataclass(frozen=True)
class Home:
    """Everything that one installation keeps on this machine, in one folder."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "ciranda.db"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    @property
    def interactions(self) -> Path:
        return self.path / "interactions"

    @property
    def datasets(self) -> Path:
        return self.path / "datasets"

    @property
    def checks(self) -> Path:
        """Modules of the owner's own with functions that check rows."""
        return self.path / "checks"

    @property
    def artefacts(self) -> Path:
        return self.path / "artefacts"

    @property
    def bases(self) -> Path:
        return self.path / "bases"

    @property
    def jobs(self) -> Path:
        return self.path / "jobs"

    @property
    def uploads(self) -> Path:
        """Files that clients of the fine-tuning door sent, as they sent them."""
        return self.path / "uploads"

    @property
    def tracked(self) -> Path:
        """Artefacts of runs that MLflow clients log."""
        return self.path / "tracked"

    @property
    def functions(self) -> Path:
        """Python functions that recipes of data may name; nobody but the machine's owner writes there."""
        return self.path / "functions"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def routing(self) -> Path:
        return self.run / "routing.json"

    @property
    def engine_key(self) -> Path:
        return self.run / "engine.key"

    @property
    def admin_key(self) -> Path:
        """The first key's secret, readable by the owner alone, for the command line on this machine."""
        return self.path / "admin.key"

    def make(self) -> None:
        """Create the folders, closed to other users. Safe to call again."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.spool, self.datasets, self.artefacts, self.bases, self.jobs, self.run, self.logs):
            folder.mkdir(mode=0o700, exist_ok=True)


def environment() -> dict[str, str]:
    """A copy of the process environment, for children; elsewhere nothing reads it."""
    return dict(os.environ)


def secret(reference: str) -> str | None:
    """The secret that `env:NAME` or `file:/path` refers to; None when it is not there (yet), or is no one word."""
    kind, _, name = reference.partition(":")
    try:
        found = os.environ.get(name, "") if kind == "env" else Path(name).expanduser().read_text()
    except (OSError, UnicodeDecodeError):
        return None
    found = found.strip()
    return found if found.isascii() and found.isprintable() and " " not in found and found else None


def home(given: str | Path | None = None) -> Home:
    """The home: the argument, else `CIRANDA_HOME`, else `.ciranda` in the current folder."""
    path = given or os.environ.get(f"{PREFIX}HOME") or ".ciranda"
    return Home(Path(path).expanduser().absolute())


def settings(at: Home) -> Settings:
    """Read the settings of one home.

    Raises:
        Invalid: `config.toml` is no TOML, or a name or value is unknown; names the place and the remedy.
    """
    file = at.path / "config.toml"
    values: dict[str, Any] = _toml(file) if file.exists() else {}
    names = Settings.model_fields
    values |= {name: os.environ[PREFIX + name.upper()] for name in names if PREFIX + name.upper() in os.environ}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        variable = PREFIX + faults.name_of(error).upper()
        origin = f"{variable} in the environment" if variable in os.environ else str(file)
        raise faults.invalid(error, what="setting", where=origin, known=sorted(names), of="settings") from None


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise Invalid(
            f"no valid TOML: {error}", where=str(file), remedy="correct the line, or delete the file"
        ) from None


def database_url(at: Home, chosen: Settings) -> str:
    """The control database's URL: the setting, or SQLite in the home."""
    return chosen.database_url or f"sqlite:///{at.database}"
