"""What may be asked: the fields of each query string and each body, with their bounds. Anything else is refused by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ciranda.config.shape import NAME, seconds
from ciranda.govern.policy import Purpose
from ciranda.store import clock

MAX_FILES = 200
VERSION = r"^[a-z0-9][a-z0-9-]{0,62}@\d{1,9}$"


def _moment(value: str) -> str:
    """A time as text, or as how long ago: `15m`, `24h`, `7d`."""
    if value and value[-1] in "smhd" and value[:-1].replace(".", "", 1).isdecimal():
        return clock.iso(clock.now() - timedelta(seconds=seconds(value)))
    return clock.iso(clock.parse(value))


def _thumb(value: object) -> object:
    return {"up": 1, "down": -1}.get(str(value), value)


Moment = Annotated[str, AfterValidator(_moment)]
NAMED = r"^[a-z0-9][a-z0-9-]{0,62}@[a-z0-9][a-z0-9._-]{0,62}$"
Reference = Annotated[
    str,
    Field(pattern=NAMED, description="A version, such as smart-home@2, or smart-home@champion by one of its names."),
]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Asked):
    """A request without fields."""


class Page(Asked):
    """One page of a list."""

    limit: int = Field(50, ge=1, le=200, description="How many items.")
    cursor: str = Field("", max_length=500, description="`next` of the page before.")


class OfModel(Page):
    """One page, of one model or of all that the key reaches."""

    model: str = Field("", max_length=63, description="Only this model.")


class OfDataset(Page):
    """One page, of one dataset or of all that the key reaches."""

    dataset: str = Field("", max_length=63, description="Only this dataset.")


class BadRows(OfDataset):
    """Which bad rows."""

    state: Literal["", "waiting", "retry", "mended", "dropped"] = Field("", description="Only rows in this state.")


class Named(Asked):
    """Which bad rows: those that are named, or all that wait."""

    rows: tuple[Annotated[str, Field(max_length=40)], ...] = Field(
        (), max_length=1000, description="Their ids; without any, all of the dataset that wait."
    )


class Ingestion(Asked):
    """What to bring in, and from when on."""

    sources: tuple[Annotated[str, Field(max_length=500)], ...] = Field(
        (), max_length=200, description="Only these sources, by name or label; rows of others are taken over."
    )
    since: str = Field(
        "", max_length=100, description="Read again from here: a time, a value of the cursor, or `beginning`."
    )
    until: str = Field("", max_length=100, description="And up to here.")
    wait: bool = Field(True, description="Answer when it is done; else it is done soon.")


class Alerts(OfModel):
    """Which alerts."""

    state: Literal["", "open", "acknowledged", "closed"] = Field("", description="Only alerts in this state.")


class Chosen(Asked):
    """Which interactions."""

    model: str = Field("", max_length=63, description="Only this model.")
    version: str = Field("", max_length=80, description="Only answers of this version, such as smart-home@2.")
    arm: Literal["", "live", "canary", "shadow", "fallback"] = Field("", description="Only this arm of a rollout.")
    status: str = Field(
        "", pattern=r"^(|[245]|\d{3}|ok|error)$", description="`ok`, `error`, a class (4) or a status (429)."
    )
    rollout: str = Field("", max_length=120, description="Only this rollout.")
    user: str = Field("", max_length=256, description="Only this end user.")
    conversation: str = Field("", max_length=256, description="Only this conversation.")
    thumb: Annotated[Literal[1, -1] | None, BeforeValidator(_thumb)] = Field(
        None, description="`up` or `down`: the newest vote."
    )
    search: str = Field(
        "", max_length=500, description='All of these words in question or answer; "in quotes" as written.'
    )
    since: Moment | None = Field(None, description="From this time, or this long ago (`15m`, `24h`, `7d`).")
    until: Moment | None = Field(None, description="Until this time, or this long ago.")


class Interactions(Chosen, Page):
    """Which interactions, newest first."""


class Events(OfModel):
    """Which events of the gateway, newest first."""

    kind: Literal["", "try_failed", "tokens_counted", "texts_judged"] = Field("", description="Only of this kind.")
    since: Moment | None = Field(None, description="From this time, or this long ago (`15m`, `24h`, `7d`).")
    until: Moment | None = Field(None, description="Until this time, or this long ago.")


class Arrivals(Chosen, Page):
    """Which interactions, in the order in which they arrived; without a cursor, those that arrive from now on."""


class Export(Chosen):
    """Which interactions, as a file."""

    format: Literal["jsonl", "parquet"] = Field("jsonl", description="JSON lines, or Parquet.")


class Gather(Chosen):
    """Which interactions become the next version of a dataset."""

    dataset: str = Field(pattern=NAME, description="The dataset that gets the version.")


class Import(Asked):
    """What to import, and how."""

    path: str = Field(
        min_length=1, max_length=4000, description="A file or folder below the data root, or hf:org/name."
    )
    format: Literal["auto", "chat", "prompt", "preference", "labelled", "text", "alpaca", "sharegpt"] = Field(
        "auto", description="How a record is read; `auto` finds out, record by record."
    )
    map: dict[str, Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default={}, max_length=20, description="Column by role: prompt, query, completion, messages, system, history, …"
    )
    set: str = Field("", max_length=200, description="Which set of a dataset_info.json, which configuration of a card.")
    bad_rows: Literal["block", "drop"] = Field(
        "block", description="Whether one row that cannot be read refuses them all."
    )
    mode: Literal["add", "replace"] = Field("add", description="Beside the newest version's rows, or in their place.")
    dry: bool = Field(False, description="Only the report; nothing is written.")


class Recipe(Asked):
    """A recipe to run."""

    file: str = Field("recipe.yaml", min_length=1, max_length=300, description="What its file is called, for messages.")
    text: str = Field(min_length=1, max_length=200_000, description="The recipe, YAML.")
    dry: bool = Field(False, description="Only count rows at each step; nothing is written.")


class ReviewQueue(Asked):
    """A review queue."""

    name: str = Field(pattern=NAME, description="Its name.")
    model: str = Field(
        "", pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$", description="Whose answers are reviewed; without it, rows alone."
    )
    dataset: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$",
        description="Where labels go, and whose rows are reviewed; else the model's.",
    )
    makes: Literal["answers", "labelled", "pairs"] = Field("answers", description="What labels become.")
    instructions: str = Field("", max_length=5000, description="What annotators should know.")
    twice: float = Field(0.1, ge=0, le=1, description="Share of items that two annotators are asked.")
    random: float = Field(0.2, ge=0, le=1, description="Share of items that are chosen at random.")
    lease: Annotated[float, BeforeValidator(seconds), Field(ge=10, le=86400)] = Field(
        600.0, description="How long an item is one annotator's alone (`10m`)."
    )


class ReviewFill(Asked):
    """What goes into a queue."""

    count: int = Field(50, ge=1, le=2000, description="How many items.")
    of: Literal["interactions", "rows"] = Field(
        "interactions", description="The model's answers, or the dataset's rows."
    )
    days: float = Field(7.0, gt=0, le=3650, description="How far back interactions are looked at.")
    ref: str = Field("", pattern=rf"({VERSION})|^$", description="Which version's rows; else the newest's.")


class ReviewAnswer(Asked):
    """What somebody says of an item."""

    item: str = Field(min_length=1, max_length=40, description="The item that was asked for.")
    verdict: Literal["right", "wrong", "correct", "skip"] = Field(description="What the answer is.")
    correction: str = Field("", max_length=20_000, description="With `correct`: what it should have been.")
    note: str = Field("", max_length=2000, description="Kept with the label.")


class Audit(Page):
    """Which events of the audit log; texts match from the beginning."""

    subject: str = Field("", max_length=300, description="What it was done to.")
    action: str = Field("", max_length=100, description="What was done, such as `version.` or `key.created`.")
    actor: str = Field("", max_length=200, description="Who did it.")


class Datasets(Page):
    """Which datasets, the best first; by name without words to look for."""

    q: str = Field("", max_length=300, description="Words in names, owners, descriptions, tags, terms and fields.")
    tag: str = Field("", max_length=63, description="Only with this tag, on the dataset or on a field.")
    term: str = Field("", max_length=80, description="Only with this glossary term, on the dataset or on a field.")
    owner: str = Field("", max_length=200, description="Only of this owner.")
    sensitivity: Literal["", "public", "internal", "confidential", "personal"] = Field(
        "", description="Only with this sensitivity, of the dataset or of a field."
    )
    licence: str = Field("", max_length=200, description="Only under this licence.")
    state: Literal["", "fresh", "stale"] = Field("", description="Only what is as new as expected, or is not.")


class Described(Asked):
    """What to say of a dataset, or of one of its fields; what is left out stays as it was."""

    field: str = Field("", max_length=120, description="A field of its rows; without it, the dataset itself.")
    owner: str | None = Field(None, max_length=200, description="Who answers for it.")
    description: str | None = Field(None, max_length=4000, description="What is in it.")
    purpose: str | None = Field(None, max_length=2000, description="What it was gathered for.")
    licence: str | None = Field(None, max_length=200, description="An SPDX expression, such as CC-BY-4.0.")
    sensitivity: Literal["", "public", "internal", "confidential", "personal"] | None = Field(
        None, description="How careful to be with it: public, internal, confidential or personal."
    )
    every: Annotated[float, BeforeValidator(seconds)] | None = Field(
        None, description="How old its newest rows may become, such as 24h or 7d; 0 is any age."
    )
    tags: tuple[Annotated[str, Field(max_length=100)], ...] | None = Field(
        None, max_length=50, description="All of its tags, in place of those it had."
    )
    terms: tuple[Annotated[str, Field(max_length=100)], ...] | None = Field(
        None, max_length=50, description="All of its glossary terms, in place of those it had."
    )


class Term(Asked):
    """A word of the glossary."""

    term: str = Field(max_length=100, description="The word.")
    definition: str = Field(max_length=4000, description="What it means.")
    owner: str = Field("", max_length=200, description="Who answers for the meaning.")
    synonyms: tuple[Annotated[str, Field(max_length=100)], ...] = Field(
        (), max_length=30, description="What else it is called."
    )


class Lineage(Asked):
    """Through what the causal chain is asked for."""

    of: str = Field(
        min_length=1,
        max_length=700,
        description="A thing, such as smart-home@2, dataset:tickets@2, row:tickets@2/<key>, source:tickets/files: x.jsonl.",
    )
    direction: Literal["both", "back", "forward"] = Field("both", description="To causes, to effects, or both.")
    generations: int = Field(5, ge=0, le=50, description="How many dataset versions before and after are followed.")


class PolicyText(Asked):
    """A policy to put in force."""

    policy: dict[str, Any] = Field(description="The policy, as docs/governance.md shows it.")


class Previewed(Asked):
    """Who would read, what for."""

    role: str = Field(max_length=20, description="Such as labeller; `platform` is the loop itself.")
    purpose: Purpose = Field(
        "viewing", description="What for: training, evaluation, labelling, viewing, export, monitoring."
    )
    key: str = Field("", max_length=100, description="A key's id or name, for policies that name keys.")
    tenant: str = Field("", max_length=100, description="A tenant, for policies that name tenants.")
    samples: int = Field(5, ge=0, le=50, description="How many rows to show.")


class Taken(Asked):
    """Which rows of a dataset version, and how."""

    format: Literal["jsonl", "parquet"] = Field("jsonl", description="JSON lines, or Parquet.")
    split: str = Field("", max_length=20, description="Only this split.")
    language: str = Field("", max_length=40, description="Only this language.")


class Person(Asked):
    """Whom to forget."""

    subject: str = Field(max_length=256, description="The user as stored: an id, an e-mail address, a name.")
    mentions: bool = Field(False, description="Also rows and interactions of others whose text names them.")
    dry_run: bool = Field(False, description="Only say what is theirs.")


class OfPerson(Page):
    """Whose erasures."""

    subject: str = Field("", max_length=256, description="Only those of this person.")


class Reason(Asked):
    """Why."""

    reason: str = Field(min_length=1, max_length=2000, description="Kept with the decision.")


class Verify(Asked):
    """What the audit chain must still hold."""

    head: str = Field(
        "", pattern=r"^([0-9a-f]{64})?$", description="A hash noted earlier that must still be in the chain."
    )


class Extract(Asked):
    """Which part of the audit log."""

    since: int = Field(0, ge=0, description="The number of the last event that is known already.")


class Files(Asked):
    """Model files by name."""

    files: Annotated[dict[str, str], Field(min_length=1, max_length=MAX_FILES, description="YAML text by file name.")]


class Turn(Asked):
    """Why a turn is started."""

    cause: str = Field("person", pattern=r"^[a-z_]{1,40}$", description="Kept with the turn.")
    event: str = Field("", max_length=120, description="Its identity: the same event again is the same turn.")


class Version(Asked):
    """Which version."""

    version: Reference


class Back(Asked):
    """Where a rollback goes."""

    to: Reference | None = Field(None, description="A version; without it, the one that was live before.")


class Said(Asked):
    """What a person says of what waits for one."""

    note: str = Field("", max_length=2000, description="Kept with the decision.")
    version: Reference | None = Field(None, description="A version; without it, the one whose release waits.")


class Override(Asked):
    """Which version passes its gates all the same, and why."""

    version: Reference
    note: str = Field(min_length=1, max_length=2000, description="Why; in the audit log and in an alert.")


class Public(Asked):
    """What bounds a public key, which stands in web pages."""

    origins: tuple[Annotated[str, Field(min_length=1, max_length=300)], ...] = Field(
        (), max_length=50, description="Pages that may use it, such as https://app.example.com; `*` is any."
    )
    per_minute: int = Field(30, description="Feedback requests a minute from one client address, per gateway worker.")
    total_per_minute: int = Field(600, description="The same, from all addresses together.")
    corrections: bool = Field(True, description="Whether it may say what the answer should have been.")


class Key(Asked):
    """A key to issue."""

    name: str = Field(min_length=1, max_length=100, description="Whose key it is.")
    role: str = Field(
        "client", max_length=20, description="feedback, client, viewer, labeller, engineer, approver or admin."
    )
    models: tuple[Annotated[str, Field(min_length=1, max_length=63)], ...] = Field(
        ("*",), min_length=1, max_length=100, description="The models it reaches; `*` is all."
    )
    public: Public | None = Field(
        None,
        description="For the role feedback, a public key: `origins`, `per_minute`, `total_per_minute`, `corrections`.",
    )
    tenant: str = Field("default", max_length=100, description="Who pays: all keys of a tenant share its limits.")
    limits: dict[str, int | float] = Field(default={}, description="Bounds of its use, such as requests_per_minute.")


class Limits(Asked):
    """Bounds in place of those that are."""

    limits: dict[str, int | float] = Field(description="Such as requests_per_minute; what is left out does not bind.")
