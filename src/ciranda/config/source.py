"""Where rows come from, as a user writes it: one of eight kinds of source, with its fields, its schedule and its policies.

Secrets are references (`env:NAME`, `file:/path`), never values. What a kind does not know is refused here: a cursor belongs to a
source that is read from it on, `bad_rows` and `schema` to all. `data.sources` reads what stands here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from ciranda.config import cron
from ciranda.config.shape import NAME, Duration, Part, Secret

KINDS = ("files", "folder", "http", "sql", "s3", "dlt", "interactions", "intents")
Path = Annotated[str, Field(min_length=1, max_length=300)]


def _schedule(value: str) -> str:
    if not cron.valid(value):
        raise ValueError("a cron line in UTC has five fields, such as `0 3 * * *`")
    return value


def _score(value: str) -> str:
    if not re.fullmatch(r"\s*\w{1,60}\s*(<|<=|>|>=)\s*-?\d+(\.\d+)?\s*", value):
        raise ValueError("a scorer and a bound, such as `valid_json < 1`")
    return value


class Map(Part):
    """Which field of a record is what; a path such as `user.id`, or `=en` for a constant. Without it, records are rows already."""

    prompt: Path | None = Field(None, description="What was asked.")
    completion: Path | None = Field(None, description="What should be answered; of a plain text, the text.")
    system: Path | None = Field(None, description="The system prompt.")
    messages: Path | None = Field(None, description="The whole conversation, in place of `prompt`.")
    rejected: Path | None = Field(None, description="The answer that was not chosen (preference pairs).")
    language: Path | None = Field(None, description="Its language.")
    group: Path | None = Field(None, description="What must not be cut by a split: a template, a document, a customer.")
    split: Path | None = Field(None, description="train, validation or test; without it, by the group's hash.")
    subject: Path | None = Field(None, description="The person that the row is about, for erasure.")
    thumb: Path | None = Field(None, description="1, -1 or 0.")
    tags: Path | None = Field(None, description="Tags for policies: a list, or words with commas.")
    extra: tuple[Path, ...] | Literal["rest", "none"] = Field(
        "rest", description="Fields to keep beside: a list of them, the `rest`, or `none`."
    )


class Auth(Part):
    """How an HTTP source says who we are: exactly one of `bearer`, `header`, `basic`, `param`, and its secret."""

    bearer: Secret | None = Field(None, description="Reference to a token, sent as `Authorization: Bearer`.")
    header: str | None = Field(None, pattern=r"^[A-Za-z0-9-]{1,100}$", description="Header that carries `secret`.")
    param: str | None = Field(
        None, pattern=r"^[\w.\[\]-]{1,100}$", description="Query parameter that carries `secret`."
    )
    basic: str | None = Field(None, max_length=200, description="User name; `secret` is the password.")
    secret: Secret | None = Field(None, description="Reference to the secret: env:NAME or file:/path.")

    @model_validator(mode="after")
    def _one(self) -> Auth:
        given = [name for name in ("bearer", "header", "param", "basic") if getattr(self, name) is not None]
        if len(given) != 1 or (given[0] == "bearer") == (self.secret is not None):
            raise ValueError("exactly one of bearer: env:NAME, or header, param, basic with `secret: env:NAME`")
        return self


class Paging(Part):
    """How the next page of an HTTP source is found."""

    kind: Literal["none", "link", "header", "page", "offset", "cursor"] = Field(
        "none", description="A link in the body, a Link header, a page's number, an offset, a cursor; or one page."
    )
    at: Path | None = Field(None, description="Where the link or the cursor stands in the body (`link`, `cursor`).")
    param: str = Field("", max_length=100, description="Parameter; without it page, offset or cursor.")
    start: int = Field(1, ge=0, description="Number of the first page (`page`).")
    size: int | None = Field(None, ge=1, le=100_000, description="Items asked for per page; `offset` needs it.")
    size_param: str = Field("limit", max_length=100, description="Parameter that carries `size`.")

    @model_validator(mode="after")
    def _whole(self) -> Paging:
        if self.kind in ("link", "cursor") and not self.at:
            raise ValueError(f"paging by {self.kind} needs `at`, the place in the body, such as `at: meta.next`")
        if self.kind == "offset" and not self.size:
            raise ValueError("paging by offset needs `size`")
        return self

    @property
    def name(self) -> str:
        return self.param or self.kind


class Http(Part):
    """Records of an HTTP(S) API that answers with JSON."""

    url: str = Field(pattern=r"^https?://[^\s@]+$", max_length=2000, description="Address of the first page.")
    items: str = Field("", max_length=300, description="Where the list stands in the body, such as `data.items`.")
    params: dict[str, str | int | float] = Field(default={}, description="Query parameters of every page.")
    headers: dict[str, str] = Field(default={}, description="Headers of every request; no secrets, see `auth`.")
    auth: Auth | None = Field(None, description="Who we are.")
    paging: Paging = Paging()
    since: str = Field("", max_length=100, description="Parameter that takes the cursor: only newer records come.")
    until: str = Field("", max_length=100, description="Parameter that takes the end of a back-fill.")
    timeout: Duration = Field(30.0, gt=0, description="Bound of one request.")


class Sql(Part):
    """Rows of an SQL database: one of `table`, `query`."""

    url: Secret = Field(description="Reference to the SQLAlchemy URL: env:NAME or file:/path.")
    table: str | None = Field(None, pattern=r'^[^\s";\'`]{1,200}$', description="A table or view, also `schema.table`.")
    query: str | None = Field(None, min_length=6, max_length=20_000, description="One SELECT.")

    @model_validator(mode="after")
    def _one(self) -> Sql:
        if (self.table is None) == (self.query is None):
            raise ValueError("an SQL source has exactly one of table, query")
        return self


class Bucket(Part):
    """Objects of an S3 bucket: JSONL, JSON, CSV or Parquet; new and changed ones are read."""

    url: str = Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,62}(/\S*)?$", description="s3://bucket/prefix/*.jsonl")
    endpoint: str = Field("", pattern=r"^(https?://[^\s@]+)?$", description="Address of the server; empty is AWS.")
    region: str = Field("us-east-1", max_length=60, description="The bucket's region.")
    key: Secret | None = Field(None, description="Reference to the access key; without it, no signature.")
    secret: Secret | None = Field(None, description="Reference to the secret key.")

    @model_validator(mode="after")
    def _both(self) -> Bucket:
        if (self.key is None) != (self.secret is None):
            raise ValueError("key and secret go together")
        return self


class Connector(Part):
    """A source or resource of `dlt`, the library with hundreds of them; its module must be in the setting `connectors`."""

    source: str = Field(pattern=r"^[\w.]+:\w+$", description="module:function")
    resource: str = Field("", max_length=100, description="Which of its resources; may be left out when it has one.")
    args: dict[str, Any] = Field(default={}, description="Arguments of the function.")
    secrets: dict[str, Secret] = Field(default={}, description="Arguments that are secrets, by reference.")


class Chosen(Part):
    """Which of our own interactions; `any: true` joins `thumb` and `score` by or."""

    model: str | None = Field(None, pattern=NAME, description="Whose; without it, the model of the file.")
    version: str | None = Field(None, max_length=80, description="Only answers of this version.")
    arm: Literal["live", "canary", "shadow", "fallback"] | None = Field(None, description="Only this arm of a rollout.")
    status: int | None = Field(None, ge=2, le=599, description="A status or a class of them (2, 4, 5).")
    user: str | None = Field(None, max_length=256, description="Only this end user.")
    conversation: str | None = Field(None, max_length=256, description="Only this conversation.")
    search: str | None = Field(None, max_length=500, description='All of these words; "in quotes" as written.')
    thumb: Literal["up", "down"] | None = Field(None, description="Only with this newest vote.")
    score: Annotated[str, AfterValidator(_score)] | None = Field(None, description="A bound, such as `valid_json < 1`.")
    any: bool = Field(False, description="Whether one of thumb and score is enough.")
    corrected: bool = Field(True, description="Only with a correction, which is then the completion.")
    last: Duration = Field(604_800.0, gt=0, description="How far back it looks each time.")


class Source(Part):
    """Where rows come from: exactly one of files, folder, http, sql, s3, dlt, interactions, intents."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    name: str = Field("", pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$", description="Its name in lists, lineage and cursor.")
    files: str | None = Field(None, description="Glob of JSONL, JSON, CSV or Parquet files, relative to the YAML file.")
    folder: str | None = Field(None, description="The same, watched: new and changed files come in within seconds.")
    http: Http | None = None
    sql: Sql | None = None
    s3: Bucket | None = None
    dlt: Connector | None = None
    interactions: Literal["feedback", "thumbs", "pairs"] | Chosen | None = Field(
        None,
        description="What users said of our own traffic: `feedback` (what should have come), `thumbs` (answers with their "
        "votes, for `method: kto`), `pairs` (the better answer and the worse, for `dpo`); or which interactions.",
    )
    intents: str | None = Field(None, description="Language of the smart-home sentences in `home-assistant-intents`.")
    count: int = Field(1500, ge=1, le=1_000_000, description="How many sentences to sample (`intents`).")
    seed: int = Field(17, ge=0, description="Seed of the sample (`intents`).")
    map: Map | None = None
    id: Path | None = Field(None, description="Field that names a record: one that comes again replaces the old row.")
    cursor: Path | None = Field(None, description="Field that grows; the next run goes on after its greatest value.")
    lag: Duration = Field(
        0.0, description="How far before the cursor to look again, for late rows: a time or a number."
    )
    every: Duration | None = Field(None, description="Ingest again this often; without it, when asked or in a turn.")
    cron: Annotated[str, AfterValidator(_schedule)] | None = Field(None, description="The same by a cron line in UTC.")
    quiet: Duration = Field(2.0, description="A file of `folder` is read once it has not changed for so long.")
    bad_rows: Literal["quarantine", "block", "drop"] = Field(
        "quarantine", description="Bad rows are kept aside, stop the ingestion, or are only counted."
    )
    shape: Literal["evolve", "freeze"] = Field(
        "evolve", alias="schema", description="New, missing or retyped fields: told, or refused as well."
    )

    @field_validator("interactions", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        return "feedback" if isinstance(value, str) and value.startswith("feedback") else value

    @model_validator(mode="after")
    def _one(self) -> Source:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a source has exactly one of {', '.join(KINDS)}; this one has {given or 'none'}")
        if self.every is not None and self.cron is not None:
            raise ValueError("a source has `every` or `cron`, not both")
        if self.cursor and given[0] not in ("http", "sql"):
            raise ValueError(f"`cursor` belongs to http and sql; {given[0]} keeps its place by itself")
        if self.map and given[0] in ("interactions", "intents"):
            raise ValueError(f"`map` has nothing to do for {given[0]}")
        return self

    @property
    def spoken(self) -> bool:
        """Whether it listens to what users say, from a cursor on."""
        return isinstance(self.interactions, str)

    @property
    def kind(self) -> str:
        """Which of KINDS it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)
