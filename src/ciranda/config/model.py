"""What a user writes: one file per model. Everything has a default except the model's name.

`read` turns the text into a frozen `ModelSpec` or says what is wrong by file, line and key. Only what this version does can be
written: a value for later (say `serve.target: kubernetes`) is refused here, not ignored.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ciranda.config import lines
from ciranda.config.bounds import Bounds
from ciranda.config.checks import DEFAULT, Checks
from ciranda.config.resources import Reserved
from ciranda.config.search import Search
from ciranda.config.shape import NAME, Duration, Part
from ciranda.config.source import Source

FAKE = "fake"  # the engine that needs no model, and the base that has no weights: the one goes with the other
Percent = Annotated[float, Field(ge=0, le=100)]


class Data(Part):
    """Sources, and the checks that a dataset version must pass."""

    dataset: str | None = Field(None, pattern=NAME, description="The dataset's name; without it, the model's.")
    sources: tuple[Source, ...] = Field((), description="Where rows come from.")
    checks: Checks = Field(DEFAULT, description="What each check does with a row that fails it.")
    max_characters: int = Field(2000, ge=1, description="Bound of the length check, prompt and completion together.")


class Train(Part):
    """How a version is made."""

    method: Literal["sft", "dpo", "kto", "pretrain"] = Field(
        "sft", description="Learn the answers, the chosen one of two, what got thumbs, or plain text."
    )
    executor: Literal["local", "ray", "kubernetes"] = Field(
        "local", description="Where trials run: processes of this machine, or the cluster that the settings name."
    )
    resources: Reserved = Reserved()
    recipe: dict[str, bool | int | float | str | tuple[str, ...]] = Field(
        default={}, description="Values that the search must not change, such as `tuning: full`."
    )
    search: Search = Search()

    @model_validator(mode="after")
    def _one_method(self) -> Train:
        if self.recipe.get("method", self.method) != self.method:
            raise ValueError(f"recipe.method is {self.recipe['method']!r}, method is {self.method!r}; keep `method`")
        return self


class Gate(Part):
    """A rule on an evaluation; every gate must pass before a version may be released."""

    metric: str = Field(description="A scorer's name: exact_match, intent_accuracy, valid_json, …")
    rule: str = Field(description="`better than live`, `not worse than live by 0.05`, `>= 0.7`, `<= 0.01`.")
    suite: str = Field(
        "test",
        description="`test` for the dataset's own test split, a registered suite (`routing@2`), or a YAML file.",
    )
    slice: dict[str, str] = Field(default={}, description="Only the cases with these values, such as {language: en}.")
    least: int = Field(30, ge=5, description="Fewer common cases than this: cannot tell.")
    optional: bool = Field(False, description="Passes when the suite has no case of the slice (yet).")


class Elsewhere(Part):
    """An OpenAI-compatible server of somebody else."""

    url: str = Field(pattern=r"^https?://[^\s?#]+$", description="Its address, with or without /v1.")
    name: str = Field(min_length=1, max_length=200, description="The model's name there.")
    key_env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Variable of control with its key."
    )
    key_file: str | None = Field(None, min_length=1, description="File on control's machine that holds it.")

    @model_validator(mode="after")
    def _one(self) -> Elsewhere:
        if self.key_env and self.key_file:
            raise ValueError("the key is in a variable (key_env) or in a file (key_file), not in both")
        return self

    @property
    def key(self) -> str:
        """Reference to its key; empty when it needs none."""
        return f"env:{self.key_env}" if self.key_env else f"file:{self.key_file}" if self.key_file else ""


class Evaluate(Part):
    """How much is asked before a version is judged."""

    cases: int = Field(
        200, ge=1, le=1_000_000, description="At most so many cases of a suite, chosen by their digests."
    )
    max_tokens: int = Field(128, ge=1, le=32768, description="Bound of one answer.")
    scorers: tuple[str, ...] = Field(
        (), max_length=50, description="Scorers to ask beside those of the gates, such as similarity or latency_ms."
    )
    embedding: Literal["words", "base"] | Elsewhere = Field(
        "words",
        description="What similarity and relevance compare by: `words` needs no model, `base` is the model's base, or a server.",
    )


class Approvals(Part):
    """Who has to say yes before a version goes live: `auto` is nobody, `human` is one approver, or as the keys below say."""

    people: int = Field(0, ge=0, le=20, description="So many approvers, each by a key of their own name; 0 is nobody.")
    not_author: bool = Field(True, description="Whoever asked for the version does not count.")


def _approvals(value: object) -> object:
    if isinstance(value, str):
        known = {"auto": {"people": 0}, "human": {"people": 1, "not_author": False}}
        if value not in known:
            raise ValueError("write auto, human or {people: 2}")
        return known[value]
    return value


class Release(Part):
    """How a version gets to traffic."""

    shadow: Percent = Field(
        50.0, description="Percent of requests copied to the candidate before any user sees it; 0 skips."
    )
    steps: tuple[Percent, ...] = Field(
        (5.0, 25.0, 100.0), description="Percent of traffic at each step; the last is 100."
    )
    judge_on: tuple[Literal["error_rate", "latency_p95_ms", "quality", "thumbs_up"], ...] = Field(
        ("error_rate", "latency_p95_ms", "quality", "thumbs_up"), description="What must not get worse."
    )
    margins: dict[
        Literal["error_rate", "latency_p95_ms", "quality", "thumbs_up"], Annotated[float, Field(gt=0, le=1)]
    ] = Field(default={}, description="How much worse counts as not worse; defaults fit ordinary traffic.")
    quality: str = Field("valid_json", description="The scorer that `quality` means on live answers.")
    approve: Annotated[Approvals, BeforeValidator(_approvals)] = Approvals()
    patience: Duration = Field(
        86400.0, description="A rollout without a decision is held for a person after this long."
    )

    @model_validator(mode="after")
    def _ascending(self) -> Release:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[-1] != 100:
            raise ValueError("steps are ascending percents that end with 100, such as [5, 25, 100]")
        return self


class Price(Part):
    """Money per million tokens, in the currency of your budgets."""

    prompt: float = Field(0.0, ge=0, le=1_000_000, description="Per million tokens of prompts.")
    completion: float = Field(0.0, ge=0, le=1_000_000, description="Per million tokens of answers.")


class Cache(Part):
    """Exact answers kept by each gateway worker: the same question to the same version, asked for a deterministic answer."""

    age: Duration = Field(3600.0, gt=0, description="How long an answer is good.")
    megabytes: int = Field(64, ge=1, le=4096, description="Bound of what one worker keeps for the model.")


class Fallback(Part):
    """Who answers when the model's own versions cannot: exactly one of `version`, `model`, `url`."""

    version: Literal["previous"] | None = Field(None, description="`previous`: the version that was live before.")
    model: str | None = Field(None, pattern=NAME, description="Another model of this installation.")
    url: str | None = Field(
        None, pattern=r"^https?://\S+$", description="An OpenAI-compatible provider, with or without /v1."
    )
    name: str = Field("", max_length=200, description="The model's name there (`url`); without it, this model's.")
    key_env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Variable of the gateway that holds the provider's key."
    )
    key_file: str | None = Field(None, min_length=1, description="File on the gateway's machine that holds it.")
    price: Price | None = Field(None, description="The provider's price; without it, nothing is counted.")

    @model_validator(mode="after")
    def _one(self) -> Fallback:
        given = [name for name in ("version", "model", "url") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a fallback has exactly one of version, model, url; this one has {given or 'none'}")
        remote = [name for name in ("key_env", "key_file", "price") if getattr(self, name) is not None]
        if self.url is None and (remote or self.name):
            raise ValueError("name, key_env, key_file and price belong to a fallback with `url`")
        if self.key_env and self.key_file:
            raise ValueError("the key is in a variable (key_env) or in a file (key_file), not in both")
        return self

    @property
    def key(self) -> str | None:
        """Where the gateway finds the provider's key."""
        if self.key_env:
            return f"env:{self.key_env}"
        return f"file:{self.key_file}" if self.key_file else None


class Serve(Part):
    """What serves the model."""

    engine: Literal["llamacpp", "fake"] = Field(
        "llamacpp",
        description="The software that serves. `fake` is a dry run of the whole loop in seconds, with no model: what trains and "
        "answers then is a parrot, and `base` is not read.",
    )
    replicas: int = Field(1, ge=1, le=64, description="Processes per live version.")
    target: Literal["local"] = Field("local", description="Where replicas run: this machine, under `ciranda up`.")
    slots: int = Field(4, ge=1, le=64, description="Requests that one replica answers at the same time.")
    context: int = Field(4096, ge=128, le=131072, description="Context of one replica in tokens, shared by its slots.")
    threads: int = Field(0, ge=0, le=256, description="Threads of one replica; 0 is one less than the cores.")
    max_in_flight: int = Field(
        64, ge=1, description="Requests of the model in progress; beyond it the gateway says 429."
    )
    timeout: Duration = Field(120.0, description="Bound for one whole answer, all tries together.")
    try_timeout: Duration = Field(
        0.0,
        description="Bound of one try until its first byte, then the next replica or fallback; 0 is 2m and no other try.",
    )
    tries: int = Field(3, ge=1, le=10, description="Tries of one request, none after the first byte of an answer.")
    fallback: tuple[Fallback, ...] = Field((), max_length=8, description="Who answers when no version can, in order.")
    limits: Bounds = Field(Bounds(), description="Bounds of the model's use, over all keys.")
    price: Price | None = Field(
        None, description="What tokens cost; kept with each interaction, and counted by budgets."
    )
    cache: Cache | None = Field(None, description="Keep exact answers; without it, none.")


class Guard(Part):
    """What is done to texts on their way in and out."""

    input: tuple[Literal["pii: mask"], ...] = Field(
        (), description="Applied to the messages before the engine sees them."
    )
    output: tuple[Literal["pii: mask"], ...] = Field((), description="Applied to the answer before the user sees it.")


class Turns(Part):
    """Bound of automatic turns."""

    turns_per_week: int = Field(7, ge=0, description="Automatic turns allowed in any seven days.")


class Sampled(Part):
    """A judge of a sample of the live answers, and what it may cost."""

    judge: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="A registered judge, which is believed for this model."
    )
    share: float = Field(0.05, gt=0, le=1, description="The share of the answers that it is asked about.")
    per_hour: int = Field(60, ge=1, le=10_000, description="At most so many questions in any hour.")
    per_day: int = Field(500, ge=1, le=100_000, description="At most so many questions in any day.")


class Watch(Part):
    """What is watched, and what a change leads to."""

    drift: tuple[Literal["input", "output", "quality", "feedback"], ...] = Field(
        ("input", "output", "quality", "feedback"), description="The streams that are tested."
    )
    on_drift: Literal["retrain", "alert"] = Field(
        "retrain", description="`alert` only tells; `retrain` also starts a turn."
    )
    on_erasure: Literal["retrain", "alert"] = Field(
        "alert",
        description="When a person it learnt from is erased: `alert` flags its versions, `retrain` also starts a turn.",
    )
    cooldown: Duration = Field(86400.0, description="Least time between two automatic turns of the model.")
    budget: Turns = Turns()
    corrections: int = Field(100, ge=1, description="New corrected answers that a retraining waits for.")
    alpha: float = Field(0.01, gt=0, lt=1, description="Bound on a false alarm in one epoch of messages.")
    scorers: tuple[str, ...] = Field(
        (),
        max_length=50,
        description="Scorers of every live answer, beside `release: quality`: refusal, toxicity, pii_leak, latency_ms, …",
    )
    judges: tuple[Sampled, ...] = Field((), max_length=5, description="Judges of a sample of the live answers.")


class Retention(Part):
    """How long what was recorded is kept."""

    interactions: Duration | None = Field(
        None,
        description="Requests, answers, feedback and scores; 0 for ever; without it, the setting `retention_days`.",
    )
    versions: Duration | None = Field(
        None,
        description="Weights of versions that answer nobody any more: kept so long, then removed; without it, until somebody does.",
    )


def _sendable(value: str) -> str:
    if not re.match(r"^(webhook:https?://|email:[^@\s]+@)\S+$", value) and value != "log":
        raise ValueError("an alert goes to log, webhook:https://… or email:name@host")
    return value


class ModelSpec(Part):
    """One model, whole."""

    model: str = Field(pattern=NAME, description="The name that clients send as `model`.")
    purpose: str = Field("", description="One sentence for cards, reports and auditors.")
    base: str = Field("smollm2-135m-instruct", min_length=1, description="The packaged base, a folder, or hf:org/name.")
    data: Data = Data()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    gates: tuple[Gate, ...] = Field((), description="Rules that a version must pass.")
    release: Release = Release()
    serve: Serve = Serve()
    guard: Guard = Guard()
    watch: Watch = Watch()
    retention: Retention = Retention()
    alerts: tuple[Annotated[str, AfterValidator(_sendable)], ...] = Field(("log",), description="Where alerts go.")

    @model_validator(mode="after")
    def _weightless(self) -> ModelSpec:
        if self.serve.engine == FAKE:
            object.__setattr__(self, "base", FAKE)
        elif self.base == FAKE:
            raise ValueError("base `fake` has no weights to serve; write `serve: {engine: fake}` for a dry run")
        return self

    @property
    def dataset(self) -> str:
        return self.data.dataset or self.model

    def engine_for(self, base: str) -> str:
        """What serves a version on this base: what a parrot learned no model can say, nor the other way round."""
        if base == FAKE:
            return FAKE
        return self.serve.engine if self.serve.engine != FAKE else "llamacpp"


def read(text: str, *, file: str) -> ModelSpec:
    """One model file. Raises Invalid with file, line, key and remedy."""
    return lines.read(text, ModelSpec, file=file)


class DatasetSpec(Data):
    """A dataset that is fed without a model: `datasets/<name>.yaml`."""

    dataset: str = Field(pattern=NAME, description="The dataset's name.")
    alerts: tuple[Annotated[str, AfterValidator(_sendable)], ...] = Field(("log",), description="Where alerts go.")

    @property
    def data(self) -> Data:
        """Its sources and checks, where a model's file has them."""
        return self


def read_dataset(text: str, *, file: str) -> DatasetSpec:
    """One dataset file. Raises Invalid with file, line, key and remedy."""
    return lines.read(text, DatasetSpec, file=file)
