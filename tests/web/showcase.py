# ruff: noqa: E501 - a table of values reads better in long lines
"""A platform's worth of values for the pages: every stage, state and kind of text that a template must survive.

It answers the same questions as `views.stored.Stored`. Traffic is a function of the clock, so live charts move.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from ciranda.data.descriptions import Description
from ciranda.data.entries import Entry, Wanted
from ciranda.data.freshness import Freshness
from ciranda.data.glossary import Term
from ciranda.data.search import Text
from ciranda.data.statistics import BINS, Field, Lengths
from ciranda.data.versions import DatasetVersion
from ciranda.errors import NotFound
from ciranda.govern.access import Principal
from ciranda.loop.gatekeeping import Waiting
from ciranda.registry.lineage import Graph, Node
from ciranda.store import clock
from ciranda.train import telemetry
from ciranda.web.views.alerts import AlertPage, AlertRow, Group
from ciranda.web.views.catalogue import Catalogue, FieldRow, Glossary, LinePage, TermRow
from ciranda.web.views.datasets import Check, CheckPage, DatasetPage, DatasetVersionRow, Diff, Sample, Samples, Shift
from ciranda.web.views.drift import DriftPage, Stream
from ciranda.web.views.fleet import STAGES, Chip, Column, Decision, Done, ModelRow, Overview
from ciranda.web.views.govern import AuditPage, AuditRow, Bound, Chain, KeyRow, Scope
from ciranda.web.views.interactions import (
    EventList,
    EventRow,
    Filters,
    InteractionList,
    InteractionPage,
    InteractionRow,
    Voice,
)
from ciranda.web.views.judges import (
    Changed,
    Compared,
    JudgePage,
    JudgeRow,
    Opinion,
    ReplayPage,
    ReplayRow,
    ReplaysPage,
    Sides,
    Worth,
)
from ciranda.web.views.live import SPANS, STEP_S, WINDOW_S, Bucket, Figures, LivePage, Quality, Track, Window, colour_of
from ciranda.web.views.models import ModelPage, Next, Slice, Stop, VersionPage, VersionRow
from ciranda.web.views.privacy import ErasureRow, FlagRow, PoliciesPage, PolicyRow, Receipt, Seen, Theirs
from ciranda.web.views.release import Arm, Estimate, GateRow, Judged, ReleasePage, Rollout, Step
from ciranda.web.views.reviews import Looked, QueuePage, QueueRow
from ciranda.web.views.runs import Again, RunColumn, RunsBeside, SearchRow, TrialPage, TrialRow
from ciranda.web.views.searches import Coordinate, Experiments, Seek, StudyPage, TrialLine
from ciranda.web.views.sources import BadRow, FeedPage, FeedRow, RunPage, RunRow, SourceRow
from ciranda.web.views.suites import (
    AnswerRow,
    Asked,
    CaseRow,
    EvaluationPage,
    Figure,
    GapRow,
    Part,
    Result,
    SuitePage,
    SuiteRow,
    SuitesPage,
)  # fmt: skip
from ciranda.web.views.tracked import TrackedCurve, TrackedFile, TrackedModel, TrackedRow, TrackedRun, TrackedRuns
from ciranda.web.views.turns import TurnRow, TurnStep

HOME = "smart-home"
TURN = "turn_019bafe2b7c27d1e"
HASH = "9c1f0c7e2b6d4a58"


def ago(**spans: float) -> str:
    return clock.iso(clock.now() - timedelta(**spans))


def curve(end: float, steps: int = 60) -> tuple[tuple[int, float], ...]:
    return tuple(
        (n, end + 2.6 * math.exp(-n / 14) + 0.09 * math.sin(n * 2.1) * math.exp(-n / 60)) for n in range(1, steps + 1)
    )


SUITE = SuiteRow("routing", 2, "sha256:" + HASH * 4, 40, {"language": {"en": 30, "pt-BR": 10}, "label": {"billing": 12, "technical": 28}},
                 "evals/routing.yaml", "two more of accounts", 0, ago(days=2), "ana", (HOME,))  # fmt: skip
RESULTS = tuple(
    Result(f"eval_{n}", HOME, f"{HOME}@{n}", "routing@2", 240, 2 - n if n < 2 else 0,
           (Figure("label", mean, mean - 0.03, mean + 0.03, 240), Figure("latency_ms", took, took - 9, took + 9, 240, rate=False),
            Figure("perplexity", 1.31, 1.2, 1.4, 240, rate=False), Figure("bias:refusal", 0.01, 0.0, 0.03, 60), Figure("regex:^a$", 0.2, 0.1, 0.3, 240)), ago(days=2 - n))
    for n, mean, took in ((2, 0.812, 540.0), (1, 0.744, 610.0))
)  # fmt: skip
VERSIONS = (
    VersionRow("smart-home@2", 2, "candidate", "smart-home@2", "smollm2-135m-instruct", ago(minutes=22), "loop", TURN,
               (("exact_match", 0.812, 0.774, 0.845), ("intent_accuracy", 0.931, 0.905, 0.951), ("valid_json", 0.996, 0.985, 0.999))),
    VersionRow("smart-home@1", 1, "live", "smart-home@1", "smollm2-135m-instruct", ago(days=3), "loop", "turn_1",
               (("exact_match", 0.744, 0.701, 0.783), ("intent_accuracy", 0.902, 0.872, 0.926), ("valid_json", 0.991, 0.978, 0.997))),
    VersionRow("smart-home@0", 0, "retired", "", "smollm2-135m-instruct", ago(days=3, hours=1), "loop", "turn_1",
               (("exact_match", 0.0, 0.0, 0.009), ("intent_accuracy", 0.021, 0.011, 0.039), ("valid_json", 0.113, 0.088, 0.144))),
)  # fmt: skip
RUNS = (
    RunRow("ing_3-000", "tickets", "crm", "sql", "running", "reading", "schedule", 41_200, 0, 0, 1, 9_100_000, 0, 12.4, "", ago(seconds=12)),
    RunRow("ing_2-000", "tickets", "crm", "sql", "done", "", "ana", 812, 48_214, 48_211, 3, 402_000, 0, 3.1, "tickets@8", ago(hours=1)),
    RunRow("ing_2-001", "tickets", "helpdesk", "http", "failed", "", "ana", 0, 0, 0, 0, 0, 2, 31.0, "", ago(hours=1)),
    RunRow("ing_1-000", "tickets", "s3: bucket/tickets/*.jsonl", "s3", "unchanged", "", "schedule", 0, 0, 0, 0, 0, 0, 0.4, "", ago(hours=2)),
)  # fmt: skip
FEEDS = (
    FeedRow(HOME, HOME, (SourceRow(HOME, HOME, "intents: en", "intents"), SourceRow(HOME, HOME, "interactions: feedback", "interactions", 3600.0, next_at=ago(minutes=-20)))),
    FeedRow("tickets", "", (SourceRow("tickets", "", "crm", "sql", cron="0 3 * * *", next_at=ago(hours=-4), last=RUNS[0]), SourceRow("tickets", "", "helpdesk", "http", 900.0, next_at=ago(minutes=-2), last=RUNS[2]),
            SourceRow("tickets", "", "folder: inbox/*.jsonl", "folder", watched=True)), waiting=2),
)  # fmt: skip
BAD_ROWS = (
    BadRow("bad_1", "crm", "tickets/17", "bad row: completion is missing (got {'id': 17})", '{"id": 17, "question": "<b>why</b>"}', "waiting", ago(hours=1)),
    BadRow("bad_2", "inbox", "inbox/a.jsonl:9", "bad row: no JSON: Expecting value: line 1 column 1 (char 0)", "not json", "waiting", ago(hours=3)),
)  # fmt: skip
JUDGES = (
    JudgeRow("helpful", "big-model", "https://models.example.com/v1", 5, ago(days=9), (
        Worth("judge", HOME, True, "", 214, 0.78, 0.86, 0.41, 0.83, "queue smart-home, at random", ago(days=-21)),
        Worth("preferred", HOME, False, "the judge helpful is not believed: it was held against 12 labels, fewer than 30", 12,
              0.5, 0.6, 0.3, 0.7, "queue smart-home, all", ago(days=-21)),
    )),
    JudgeRow("strict", HOME, "", 2, ago(days=1)),
)  # fmt: skip
SIDES = (
    Compared("valid_json", "", 200, 0.97, 0.82, 0.15, 0.09, 0.21, 0.001, "large", 0.06, 90, "better"),
    Compared(
        "valid_json", "language=pt-BR", 80, 0.95, 0.94, 0.01, -0.05, 0.07, 1.0, "negligible", 0.12, 2400, "cannot_tell"
    ),
    Compared("toxicity", "", 200, 0.0, 0.0, 0.0, -0.01, 0.01, 1.0, "negligible", 0.04, 0, "not_worse"),
)
REPLAYS = (
    ReplayRow("replay_1", HOME, f"{HOME}@2", f"{HOME}@1", "complete", 200, 1840, 34, "helpful", ago(minutes=5), "eva"),
    ReplayRow("replay_2", HOME, f"{HOME}@2", f"{HOME}@1", "failed", 200, 900, None, "", ago(days=1), "loop"),
)

QUEUES = (
    QueueRow(HOME, HOME, HOME, "answers", 37, 71, 68),
    QueueRow("tickets", "", "tickets", "pairs", 0, 0, 0),
)
LOOKED = Looked(
    "item_1", "disagreement", {"thumb": -1, "scores": {"valid_json": 1.0}},
    (("system", "Answer with one line of JSON."), ("user", "turn on the lamp in the garage <b>please</b>")),
    '{"intent": "HassTurnOn", "area": "garage", "name": "lamp"}', "smart-home@1", ago(minutes=7), -1, (("valid_json", 1.0),),
    "019bafe2-b7c2-7d1e-8f00-000000000009",
)  # fmt: skip
ALERTS = (
    AlertRow(
        "alert_1",
        HOME,
        "drift",
        "critical",
        "Input drift: Portuguese grew from 0% to 41% of messages",
        "open",
        ago(minutes=41),
        TURN,
    ),
    AlertRow(
        "alert_2",
        HOME,
        "quality",
        "warning",
        "Thumbs up fell from 91% to 62%",
        "acknowledged",
        ago(minutes=38),
        TURN,
        "ana",
    ),
    AlertRow(
        "alert_3", "invoice-parser", "errors", "critical", "4.1% of requests fail, limit 1%", "open", ago(hours=2)
    ),
    AlertRow("alert_4", HOME, "turn", "info", "Turn finished: smart-home@1 promoted", "closed", ago(days=3)),
)
GROUPS = (
    Group(
        "acende, luz, sala",
        0.0,
        0.212,
        (("int_1", "acende a luz da sala"), ("int_2", "por favor acenda as luzes do quarto")),
    ),
    Group("temperatura, graus", 0.004, 0.118, (("int_3", "qual é a temperatura na cozinha"),)),
    Group("turn, on, lights", 0.331, 0.196, (("int_4", "turn on the lights in the kitchen"),)),
)
STEPS = (
    TurnStep("data", "done", ago(minutes=40), ago(minutes=39, seconds=50), "smart-home@2: 5,212 rows, 412 corrections"),
    TurnStep("train", "done", ago(minutes=39), ago(minutes=24), "2 trials, best exact match 81.2%"),
    TurnStep("evaluate", "done", ago(minutes=24), ago(minutes=23), "412 cases in 2 languages"),
    TurnStep("gate", "done", ago(minutes=23), ago(minutes=23), "4 of 4 passed"),
    TurnStep("release", "running", ago(minutes=22), "", "canary at 25%"),
)
TURNS = (
    TurnRow(TURN, HOME, "drift", "released", "release", ago(minutes=40), "", "rollout", "drift:smart-home:12", STEPS,
            "input drifted and quality fell", "smart-home@2", "smart-home@2"),
    TurnRow("turn_3", "invoice-parser", "person", "failed", "train", ago(hours=5), ago(hours=4, minutes=48), "nobody", "page-1",
            (TurnStep("train", "failed", ago(hours=5), ago(hours=4, minutes=48), "the job ended with code 137: out of memory"),), "asked for by ana"),
    TurnRow("turn_1", HOME, "first", "promoted", "promote", ago(days=3, hours=2), ago(days=3), "nobody", "first", STEPS[:4]),
)  # fmt: skip
TRIALS = (
    TrialRow("trial_11", 1, "complete", 0.783, 402.0, {"learning_rate": 0.001, "rank": 8}, False, curve(0.21)),
    TrialRow("trial_12", 2, "complete", 0.812, 431.0, {"learning_rate": 0.002, "rank": 16}, True, curve(0.12)),
    TrialRow("trial_13", 3, "running", None, 61.0, {"learning_rate": 0.0005, "rank": 4}, False, curve(1.9, 14)),
)
HEARD = telemetry.read([
    {"run": {"seed": 17}}, *({"step": n, "steps": 60, "loss": 2 / n, "rate": 1e-3, "tokens_per_s": 800.0} for n in range(1, 41)),
    {"sample": {"step": 40, "prompt": "turn on the light", "reference": '{"intent": "On"}', "answer": '{"intent": "Off"}'}},
    {"sample": {"step": 40, "prompt": "acenda a luz", "reference": '{"intent": "On"}', "answer": '{"intent": "On"}'}},
    *({"system": {"rss_bytes": 1.2e9 + n * 1e7, "cpu_percent": 98.0, "at": ""}} for n in range(20)),
])  # fmt: skip
TRACKED = (
    TrackedRow("0199c2d47b2c7d1e8f00000000000009", "first", 1, "ana", "complete", ago(hours=3), 431.0,
               {"loss": 0.31, "accuracy": 0.8}),
    TrackedRow("0199c2d47b2c7d1e8f00000000000008", "", 1, "ana", "failed", ago(hours=4), 12.0, {"loss": 2.4}),
    TrackedRow("0199c2d47b2c7d1e8f00000000000007", "a run that goes on", 0, "", "running", ago(minutes=4), None, {}),
)  # fmt: skip
SEARCH = SearchRow("search_1", HOME, "smart-home@2", "running", "exact_match", ago(minutes=39), TRIALS, TURN, 894.0)
DRAWN = (
    ("complete", 0.783, 96.0, {"learning_rate": 0.003, "rank": 8, "layers": 12, "mix": "everything"}),
    ("complete", 0.812, 121.0, {"learning_rate": 0.00412, "rank": 16, "layers": 15, "mix": "corrections"}),
    ("pruned", None, None, {"learning_rate": 0.00158, "rank": 8, "layers": 15, "mix": "everything"}),
    ("complete", 0.808, 98.0, {"learning_rate": 0.0052, "rank": 8, "layers": 12, "mix": "corrections"}),
    ("failed", None, None, {"learning_rate": 0.00595, "rank": 16, "layers": 12, "mix": "corrections"}),
    ("running", None, None, {"learning_rate": 0.0044, "rank": 16, "layers": 12, "mix": "corrections"}),
)
COORDINATES = (
    Coordinate("learning_rate", log=True), Coordinate("rank", choices=(8, 16)), Coordinate("layers", choices=(12, 15)),
    Coordinate("mix", choices=("everything", "corrections")),
)  # fmt: skip


def drawn(best: int, measured: bool) -> tuple[TrialLine, ...]:
    return tuple(
        TrialLine(
            f"trial_1{n}", n, state, settings, reached, 0.13 if reached else None,
            {"latency_ms": took} if measured and took else {}, () if state == "failed" else curve(0.12 + n / 20, 14 if state == "running" else 60),
            ((25.0, 0.31), (50.0, 0.5 + n / 50)) if state != "failed" else (), 61.0 + 20 * n,
            {"pruned": "behind the median of the others at step 120", "failed": "memory ran out"}.get(state, ""),
            n == best, measured and n in (1, 3),
        )
        for n, (state, reached, took, settings) in enumerate(DRAWN)
    )  # fmt: skip


STUDIES = (
    StudyPage(
        Seek("search:smart-home:nightly", HOME, "smart-home@2", "running", ago(minutes=39), 894.0, 8,
             {"complete": 3, "pruned": 1, "failed": 1, "running": 1}, None, 0.42, 0.9, 2.5, "", "ana"),
        drawn(1, False), COORDINATES, (), 0.02, "", 3600.0, 2, 1680.0,
    ),
    StudyPage(
        Seek("search:smart-home:fast", HOME, "smart-home@2", "complete", ago(days=1), 894.0, 6,
             {"complete": 3, "pruned": 1, "failed": 1, "cancelled": 1}, 0.808, 0.0, 0.0, None, "", "ana"),
        drawn(3, True), COORDINATES, ("latency_ms",), 0.02, "latency", 3600.0, 0, 1680.0,
    ),
    StudyPage(
        Seek("search:smart-home:first", HOME, "smart-home@1", "failed", ago(days=3), 12.0, 2, {}, None, turn=TURN,
             reason="smart-home@1 has no validation rows for dpo\n  do: bring such rows"), (),
    ),
)  # fmt: skip
SENTENCES = (
    ("turn on the lights in the kitchen", '{"intent":"HassTurnOn","slots":{"area":"kitchen","domain":"light"}}', "en"),
    (
        "set the bedroom to 21 degrees",
        '{"intent":"HassClimateSetTemperature","slots":{"area":"bedroom","temperature":21}}',
        "en",
    ),
    ("acende a luz da sala", '{"intent":"HassTurnOn","slots":{"area":"sala","domain":"light"}}', "pt-BR"),
    ("is the garage door open", '{"intent":"HassGetState","slots":{"name":"garage door","state":"open"}}', "en"),
    ("quanto tempo falta no temporizador da pizza", '{"intent":"HassTimerStatus","slots":{"name":"pizza"}}', "pt-BR"),
    ("add milk to my shopping list", '{"intent":"HassShoppingListAddItem","slots":{"item":"milk"}}', "en"),
)
NEWEST = DatasetVersion(
    HOME,
    2,
    "sha256:" + HASH * 4,
    5212,
    {"language": {"en": 4012, "pt-BR": 1200}},
    (f"{HOME}@1",),
    {"kind": "ingestion"},
    {},
    3,
    ago(minutes=39),
    "loop",
)
SETS = (
    Entry(HOME, NEWEST, 9, Description("ana", "What people say to their homes, and the intent behind it.", "Teaches the house to understand.", "CC-BY-4.0", "internal", 86400.0, ago(days=2), "ana"),
          {"": ("br", "voice"), "subject": ("pii",)}, {"": ("intent",)}, Freshness(ago(minutes=39), ago(minutes=4), 86400.0, "fresh"), (HOME,)),
    Entry("tickets", replace(NEWEST, name="tickets", number=8, rows=48211), 8, Description("rui", sensitivity="personal", every_s=604800.0), {"": ("pii",)}, {},
          Freshness(ago(days=12), ago(days=12), 604800.0, "stale"), ()),
    Entry("planned", None, 0, Description(description="Not here yet"), {}, {}, Freshness("", "", 0.0, ""), ()),
)  # fmt: skip
CHECKED = (
    Check("schema", "passed", 0, (), 5393, 2400000),
    Check("duplicates", "dropped", 181, tuple((f"intents:en:HassTurnOn:{n}", HASH, f"same prompt and completion as row {n}") for n in range(9)), 5393, 910000),
    Check("pii", "masked", 33, (("interaction 019bafe2", HASH, "an e-mail address"), ("interaction 019bafe3", HASH, "a phone number")), 5212, 52000),
    Check("contamination", "passed", 0, (), 5212, 310000),
)  # fmt: skip
COUNTED = (
    Field("messages", 5212, 0, 5100, False, Lengths(4, 34, 71, 122, 35.2, (0, 0, 10, 100, 900, 2100, 2000, 102, *([0] * 9)))),
    Field("completion", 5212, 0, 412, True, Lengths(12, 58, 90, 141, 60.0, tuple([0] * len(BINS))), (('{"intent":"HassTurnOn","slots":{"area":"kitchen"}}', 412), ("{}", 210))),
    Field("rejected", 5212, 5212, 0, True),
    Field("language", 5212, 0, 2, True, Lengths(2, 2, 5, 5, 2.7, tuple([0] * len(BINS))), (("en", 4012), ("pt-BR", 1200))),
    Field("subject", 5212, 4800, 310, True, Lengths(9, 11, 14, 20, 11.0, tuple([0] * len(BINS))), (), None, True),
    Field("extra.age", 5212, 12, 80, True, None, (), (0.0, 39.4, 79.0)),
)  # fmt: skip


def chain() -> Graph:
    """Four sources, five dataset versions, three model versions, and what came of them: some thirty things."""
    nodes, edges = [], []
    for n in range(1, 6):
        nodes.append(Node("dataset", f"{HOME}@{n}", HOME, ago(days=12 - n), {"rows": 4000 + n, "made_by": "ingestion"}))
        nodes.append(Node("run", f"ing_019bafe2b7c27d1e{n}", HOME, ago(days=12 - n), {"rows": 300, "bad": 0}))
        edges.append((f"run:ing_019bafe2b7c27d1e{n}", f"dataset:{HOME}@{n}"))
        edges += [
            (f"source:{HOME}/{label}", f"run:ing_019bafe2b7c27d1e{n}")
            for label in ("files: data/tickets/*.jsonl", "interactions: feedback")
        ]
        edges += [(f"dataset:{HOME}@{n - 1}", f"dataset:{HOME}@{n}")] if n > 1 else []
    nodes += [
        Node("source", f"{HOME}/{label}", HOME) for label in ("files: data/tickets/*.jsonl", "interactions: feedback")
    ]
    nodes.append(Node("base", "smollm2-135m-instruct", HOME, "", {}))
    for n in (0, 1, 2):
        ref = f"{HOME}@{n}"
        nodes.append(Node("version", ref, HOME, ago(days=3 - n), {"stage": ("retired", "live", "candidate")[n]}))
        nodes.append(Node("trial", f"trial_1{n}", HOME, ago(days=3 - n), {"state": "complete", "number": n}))
        nodes += [
            Node(
                "evaluation",
                f"eval_{n}{k}",
                HOME,
                ago(days=3 - n),
                {"version": ref, "suite": f"suites/routing-{k}.yaml", "metric": "exact_match", "value": 0.8},
            )
            for k in range(2)
        ]
        nodes.append(
            Node("release", f"roll_{n}", HOME, ago(days=2), {"version": ref, "state": "promoted", "stage": "100"})
        )
        nodes.append(Node("answers", ref, HOME, "", {"version": ref, "count": 48211}))
        edges += [
            (f"dataset:{HOME}@{n + 1}", f"version:{ref}"),
            ("base:smollm2-135m-instruct", f"version:{ref}"),
            (f"trial:trial_1{n}", f"version:{ref}"),
        ]
        edges += [(f"version:{ref}", f"evaluation:eval_{n}{k}") for k in range(2)]
        edges += [(f"version:{ref}", f"release:roll_{n}"), (f"version:{ref}", f"answers:{ref}")]
    return Graph(f"dataset:{HOME}@2", tuple(nodes), tuple(edges), True)


CHAIN = chain()
FLEET = (
    ModelRow(HOME, "canary", "now", "smart-home@1", "smart-home@2", "Turns what people say to their home into one line of JSON.", 1,
             312.4, 0.0021, 412.0, 0.643, 1204, 1.0, tuple(3 + math.sin(n / 3) for n in range(24)), ago(minutes=22)),
    ModelRow("invoice-parser", "live", "bad", "invoice-parser@12", "", "Reads totals and dates off invoices.", 1, 48.2, 0.041, 1830.0, 0.88, 96, 0.31,
             tuple(1 + (n % 5) / 5 for n in range(24)), ago(days=31)),
    ModelRow("support-router", "gate", "warn", "support-router@7", "support-router@8", "Sends tickets to the right team.", 0, 21.0, 0.0, 208.0, 0.93, 311, 0.12,
             tuple(float(n % 7) for n in range(24)), ago(hours=3)),
    ModelRow("tone-checker", "live", "ok", "tone-checker@3", "", "", 0, 4.1, 0.0, 190.0, None, 0, 0.04, tuple(1.0 for _ in range(24)), ago(days=9)),
    ModelRow("summary-pt", "train", "now", "", "", "Sums up calls in Portuguese.", 0, None, None, None, None, 0, None, (), ago(minutes=6)),
)  # fmt: skip


def track(label: str, colour: int, share: float, until: int, seconds: int, step: int = STEP_S) -> Track:
    """Traffic of one version: a daily wave with deterministic noise."""
    buckets = []
    for at in range(until - seconds, until, step):
        noise = math.sin(at * 0.73) + math.sin(at * 0.191) * 0.7
        requests = max(0, round((26 + 6 * math.sin(at / 190) + 4 * noise) * share))
        errors = 1 if requests > 4 and at % 85 == 0 else 0
        p95 = 380 + 60 * math.sin(at / 120) + 40 * noise + 30 * colour if requests else None
        up = round(requests * 0.3 * (0.7 + 0.08 * noise))
        down = max(0, round(requests * 0.3) - up)
        p50, p99 = (p95 * 0.6, p95 * 1.4) if p95 else (None, None)
        buckets.append(Bucket(at, requests, errors, p95, up, down, p50, p99, requests * 61))
    return Track(label, colour, tuple(buckets))


@dataclass
class Showcase:
    """The reader of the tests. `empty`: a platform on its first day."""

    empty: bool = False
    acknowledged: set[str] = field(default_factory=set)
    live: str = "smart-home@1"
    running: bool = True
    marks: dict[str, str] = field(default_factory=lambda: {"loop": "1"})

    def gateway(self) -> str:
        return "http://127.0.0.1:7701"

    def approvals(self, reach: Sequence[str]) -> tuple[Waiting, ...]:
        waiting = (
            Waiting("release", "support-router", "support-router@8", ago(hours=3), "2 approvers have to say yes first", 4, 4, 2, ("ana",), ("loop", "bo")),
            Waiting("held", HOME, "smart-home@2", ago(minutes=22), "a person has to decide: no answers yet", 4, 4, 0, (), ()),
            Waiting("approval", "invoice-parser", "invoice-parser@3", ago(minutes=3), "0 of 1 approvals", 2, 2, 1, (), ("eva",)),
        )  # fmt: skip
        return () if self.empty else tuple(one for one in waiting if "*" in reach or one.model in reach)

    def names(self, reach: Sequence[str]) -> tuple[str, ...]:
        return () if self.empty else tuple(row.name for row in FLEET if "*" in reach or row.name in reach)

    def overview(self, reach: Sequence[str]) -> Overview:
        if self.empty:
            return Overview(
                (), None, tuple(Column(stage) for stage in STAGES), 0, self.window(reach, "", seconds=WINDOW_S)
            )
        chips = {row.stage: [] for row in FLEET}
        for row in FLEET:
            version = row.candidate or row.live
            chips[row.stage].append(
                Chip(row.name, version, "alert" if row.alerts else "live" if row.stage == "live" else "now")
            )
        chips["live"].append(Chip(HOME, "smart-home@1", "live"))
        chips["live"] += [
            Chip(f"translator-{tongue}", f"translator-{tongue}@4", "live") for tongue in ("de", "es", "fr")
        ]
        columns = tuple(Column(stage, tuple(chips.get(stage, ()))) for stage in STAGES)
        decisions = (
            Decision("approval", "support-router", ago(hours=3), "release", "approve", "support-router@8",
                     values={"passed": 3, "of": 3}),
            Decision("alert", HOME, ago(minutes=41), "alert", "rollback", "", "bad", {"row": ALERTS[0], "id": "alert_1"}),
            Decision("alert", "invoice-parser", ago(hours=2), "alert", "acknowledge", "", "bad", {"row": ALERTS[2], "id": "alert_3"}),
            Decision("failed", "invoice-parser", ago(hours=4), "turn", "turn", "", "warn",
                     {"turn": "turn_3", "step": "train", "reason": "the job ended with code 137: out of memory"}),
        )  # fmt: skip
        done = Done(ago(hours=1), "ana", "version.promoted", "tone-checker@3")
        return Overview(decisions, done, columns, len(FLEET) + 3, self.window(reach, "", seconds=WINDOW_S))

    def models(self, reach: Sequence[str]) -> tuple[ModelRow, ...]:
        return tuple(row for row in FLEET if row.name in self.names(reach))

    def _row(self, name: str) -> ModelRow:
        for row in FLEET:
            if row.name == name and not self.empty:
                return row
        raise NotFound(f"no model {name!r}", where="models", remedy="`ciranda status` lists the models of this home")

    def model(self, name: str) -> ModelPage:
        row = self._row(name)
        if not row.live:
            stops = (Stop("data", "done", ago(minutes=9), "dataset", {"version": "@1", "rows": 1200, "ref": "smart-home@1"}),
                     Stop("train", "now", ago(minutes=6), "trial", {"running": True, "trial": 1, "of": 4, "id": "trial_13"}),
                     *(Stop(stage, "todo") for stage in STAGES[2:]))  # fmt: skip
            return ModelPage(
                row,
                stops,
                Next("acts", "turn_page", "turn_1", {"step": "train", "since": ago(minutes=6), "reason": ""}),
                Window(name, STEP_S, 0),
            )
        stops = (
            Stop("data", "done", ago(minutes=40), "dataset", {"version": "@2", "rows": 5212, "ref": "smart-home@2"}),
            Stop(
                "train",
                "done",
                ago(minutes=24),
                "trial",
                {"running": False, "seconds": 894.0, "of": 3, "id": "trial_12"},
            ),
            Stop("gate", "done", ago(minutes=23), "release", {"passed": 4, "of": 4}),
            Stop("canary", "now", ago(minutes=12), "release", {"stage": "canary", "percent": 25.0, "state": "running"}),
            Stop(
                "live", "live", ago(days=3), "version", {"version": "@1", "since": ago(days=3), "ref": "smart-home@1"}
            ),
            Stop("drift", "blocked", ago(minutes=41), "drift", {"certain": True, "stream": "input", "value": 1.0}),
            Stop("retrain", "done", ago(minutes=40), "turn", {"state": "running", "id": TURN}),
        )
        next_ = Next(
            "acts",
            "release",
            "smart-home@2",
            {
                "step": "release",
                "since": ago(minutes=12),
                "reason": "still looking at 25% of traffic: thumbs_up has e-value 12.8 of 20",
            },
        )
        if name == "support-router":
            next_ = Next("waits", "approve", "support-router@8", {"who": "approver", "reason": ""})
        return ModelPage(
            row, stops, next_, self.window(("*",), name, seconds=WINDOW_S), ALERTS[:2], TURNS[:1] + TURNS[2:], VERSIONS
        )

    def release(self, name: str) -> ReleasePage:
        row = self._row(name)
        history = (Rollout("roll_2", "smart-home@2", "smart-home@1", "running", ago(minutes=22), "", "", TURN),
                   Rollout("roll_1", "smart-home@1", "smart-home@0", "promoted", ago(days=3, hours=1), ago(days=3), "every metric is not worse, quality is better"))  # fmt: skip
        gates = (
            GateRow(
                "exact_match",
                "better than live",
                "pass",
                Estimate(0.812, 0.774, 0.845, 412),
                Estimate(0.744, 0.701, 0.783, 412),
                "exact_match",
                "difference 6.8 pp, 95% interval 2.1 to 11.4",
            ),
            GateRow(
                "exact_match on en",
                "not worse than live by 0.03",
                "pass",
                Estimate(0.781, 0.73, 0.82, 300),
                Estimate(0.779, 0.73, 0.82, 300),
                "exact_match",
            ),
            GateRow(
                "valid_json",
                ">= 0.98",
                "pass",
                Estimate(0.996, 0.985, 0.999, 412),
                Estimate(0.991, 0.978, 0.997, 412),
                "valid_json",
            ),
            GateRow("toxicity", "<= 0.01", "cannot_tell", None, None, "toxicity", "no case reached the scorer"),
        )
        if name == "support-router":
            waiting = Rollout("roll_9", "support-router@8", "support-router@7", "awaiting_approval", ago(hours=3))
            return ReleasePage(
                name,
                row.live,
                "support-router@6",
                ago(days=12),
                waiting,
                (Arm("live", row.live, 100, 2, 2, 1210),),
                (),
                (),
                gates,
                history,
                VERSIONS,
            )
        if name != HOME or not self.running:
            arms = (Arm("live", self.live if name == HOME else row.live, 100.0, 2, 2, 48210),) if row.live else ()
            previous = "smart-home@2" if self.live == "smart-home@1" else "smart-home@1"
            return ReleasePage(
                name,
                self.live if name == HOME else row.live,
                previous if row.live and name != "tone-checker" else "",
                ago(minutes=1),
                None,
                arms,
                history=history[1:],
                versions=VERSIONS,
            )
        arms = (
            Arm("live", "smart-home@1", 75.0, 2, 2, 18211),
            Arm("canary", "smart-home@2", 25.0, 1, 1, 4122),
            Arm("shadow", "smart-home@2", 50.0, 1, 1, 902),
        )
        steps = (
            Step("shadow", 50, "done", ago(minutes=22)),
            Step("canary", 5, "done", ago(minutes=18)),
            Step("canary", 25, "now", ago(minutes=12)),
            Step("canary", 100, "todo"),
        )
        judged = (
            Judged("error_rate", 0.0021, 0.0019, 18211, 4122, 0.4, 41.2, "fine", True),
            Judged("latency_p95_ms", 0.051, 0.062, 18211, 4122, 3.1, 6.4, "open", True),
            Judged("quality", 0.744, 0.812, 902, 902, 0.01, 5210.0, "fine"),
            Judged("thumbs_up", 0.62, 0.81, 1204, 210, 0.2, 12.8, "open"),
        )
        return ReleasePage(
            name, "smart-home@1", "smart-home@0", ago(days=3), history[0], arms, steps, judged, gates, history, VERSIONS
        )

    def versions(self, name: str) -> tuple[VersionRow, ...]:
        self._row(name)
        return VERSIONS if name == HOME else ()

    def version(self, version: str) -> VersionPage:
        row = next((row for row in VERSIONS if row.version == version), None)
        if row is None:
            raise NotFound(f"no version {version!r}", where="versions", remedy="the model's page lists its versions")
        slices = tuple(
            Slice(name, slice_, n, value - drop, low - drop, high - drop, None if row.number == 0 else max(0.0, value - drop - 0.05))
            for name, value, low, high in row.metrics if name != "valid_json"
            for slice_, n, drop in (("", 412, 0.0), ("en", 300, -0.02), ("pt-BR", 112, 0.06)) if low - drop >= 0
        )  # fmt: skip
        lineage = (("source", "home-assistant-intents", "", "4800"), ("dataset", "smart-home@2", "dataset", "5212"),
                   ("trial", "2", "trial", ""), ("version", version, "", "sha256:9c1f0c7e"),
                   ("gates", "pass", "release", ""),
                   ("answers", "4122", "interactions", ""))  # fmt: skip
        card = "# smart-home@2\n\nTurns what people say to their home into one line of JSON.\n\nTrained on smart-home@2 (5,212 rows, en and pt-BR)."
        return VersionPage(row, HOME, "sha256:" + HASH * 4, "sha256:" + HASH[::-1] * 4 if row.number else "", {"method": "sft", "rank": 16, "learning_rate": 0.002, "steps": 60},
                           "trial_12" if row.number else "", slices, "smart-home@1" if row.number == 2 else "", (("exact_match", "pass", "difference 6.8 pp"), ("toxicity", "cannot_tell", "")),
                           (("live", ago(days=3), ""),) if row.number == 1 else (), card, lineage,
                           (("evals/routing.yaml", 12),) if row.number == 1 else (), (), ("champion",) if row.number == 1 else (), 2,
                           (("approved", "ana", ago(minutes=4), "looks good"),) if row.number == 2 else (), row.number == 2, "", "")  # fmt: skip

    def drift(self, name: str, who: Principal) -> DriftPage:
        self._row(name)
        rise = tuple((n * 10, max(0.0, (n - 30) * 0.22)) for n in range(48))
        streams = (
            Stream("input", "drift", 480, 5.1e3, 1000.0, 0.41, 0.05, ago(minutes=41), rise),
            Stream(
                "output",
                "certain",
                480,
                1.2e3,
                1000.0,
                0.031,
                0.05,
                ago(minutes=40),
                tuple((n * 10, n * 0.065) for n in range(48)),
            ),
            Stream(
                "quality",
                "quiet",
                480,
                2.1,
                1000.0,
                0.012,
                0.05,
                "",
                tuple((n * 10, 0.3 * abs(math.sin(n / 5))) for n in range(48)),
            ),
            Stream("feedback", "learning", 22, 1.0, 1000.0, None, 0.05),
        )
        return (
            DriftPage(name, "smart-home@1", streams, GROUPS, ALERTS[:2], "retrain")
            if name == HOME
            else DriftPage(name, "", ())
        )

    def interactions(self, reach: Sequence[str], filters: Filters, before: str, who: Principal) -> InteractionList:
        rows = [] if self.empty else [self._interaction(number) for number in range(50)]
        rows = [row for row in rows if filters.q.lower() in (row.input + row.output).lower()]
        rows = [row for row in rows if not filters.thumb or row.thumb == {"up": 1, "down": -1}.get(filters.thumb, 0)]
        return InteractionList(
            tuple(rows),
            filters,
            self.names(reach),
            tuple(row.version for row in VERSIONS),
            "" if before else "int_49",
            not before,
        )

    def events(self, reach: Sequence[str], kind: str, model: str, before: str, who: Principal) -> EventList:
        one = "019bafe2-b7c2-7d1e-8f00-000000000009"
        rows = (
            EventRow(ago(seconds=9), "try_failed", HOME, "smart-home@2", reason="cannot connect: refused", replica="smart-home-2-0", interaction=one),
            EventRow(ago(seconds=70), "tokens_counted", HOME, "smart-home@1", 200, key="key_7", user="ana", found=41, latency_ms=3.2),
            EventRow(ago(minutes=3), "texts_judged", "ciranda-guard", status=429, reason="RateLimited", key="key_7", latency_ms=0.4),
        )  # fmt: skip
        shown = () if kind == "texts_judged" else rows
        return EventList(shown, kind, model, self.names(reach), "" if before or not shown else "older", not before)

    def _interaction(self, number: int) -> InteractionRow:
        asked, answered, language = SENTENCES[number % len(SENTENCES)]
        broken = number % 17 == 5
        canary = number % 4 == 1
        return InteractionRow(f"019bafe2-b7c2-7d1e-8f00-0000000000{number:02d}", ago(seconds=7 * number + 3), HOME, "smart-home@2" if canary else "smart-home@1",
                              "canary" if canary else "live", 503 if broken else 200, 380.0 + number * 9 % 400, asked, "" if broken else answered,
                              0 if number % 3 else (-1 if number % 9 == 0 else 1), "upstream_unavailable" if broken else "", language, number % 2 == 0)  # fmt: skip

    def interaction(self, id: str, who: Principal) -> InteractionPage:
        if not id.startswith("019bafe2") and not id.startswith("int_"):
            raise NotFound(f"no interaction {id!r}", where="interactions", remedy="the list finds it by its text")
        number = int(id[-2:]) if id[-2:].isdecimal() else 0
        row = self._interaction(number)
        facts = {
            "first_byte_ms": 61.2,
            "overhead_ms": 0.8,
            "prompt_tokens": 84,
            "completion_tokens": 31,
            "user": "casa-17",
            "engine": "llamacpp",
            "finish_reason": "stop",
            "endpoint": "/v1/chat/completions",
        }
        voices = (
            (
                Voice(
                    row.at,
                    -1,
                    "casa-17",
                    0,
                    '{"intent":"HassTurnOff","slots":{"area":"sala"}}',
                    "wrong room",
                    ("wrong",),
                ),
            )
            if row.thumb < 0
            else ()
        )
        return InteractionPage(row, (("system", "Answer with one line of JSON: intent and slots."), ("user", row.input)), row.output, facts, voices,
                               (("valid_json", 1.0),), '{\n "model": "smart-home",\n "messages": []\n}', '{\n "id": "chatcmpl-1"\n}',
                               events=(EventRow(row.at, "try_failed", HOME, "smart-home@2", reason="cannot connect: refused", replica="smart-home-2-0"),))  # fmt: skip

    def catalogue(self, reach: Sequence[str], wanted: Wanted, after: str) -> Catalogue:
        if self.empty:
            return Catalogue((), 0, wanted)
        found = tuple(one for one in SETS if wanted.q in one.name or wanted.q in one.said.description)
        if "*" not in reach:
            found = tuple(one for one in found if one.name in reach)
        found = tuple(replace(one, why=(Text("name", one.name),) if wanted.q else ()) for one in found)
        return Catalogue(found, len(found), wanted, "WzAsICJhIl0" if not wanted.q and found else "", bool(after), ("br", "pii"), ("ana", "rui"), ("customer",))  # fmt: skip

    def reached(self, reach: Sequence[str]) -> frozenset[str] | None:
        return None if "*" in reach else frozenset(reach)

    def line(self, name: str, before: int) -> LinePage:
        entry = next((one for one in SETS if one.name == name), None)
        if entry is None:
            raise NotFound(f"no dataset {name!r}", where="datasets", remedy="the catalogue lists them")
        fields = (
            FieldRow("subject", Description(description="Who wrote", sensitivity="personal"), ("pii",), ("customer",)),
            FieldRow("extra.tier", Description(), ("br",), ()),
        )
        many = tuple(
            DatasetVersionRow(
                name, n, 4012 + 300 * n, 300 if n > 1 else None, ago(days=12 - n), "loop", ("smart-home@2",) if n == 2 else (),
                ("ingestion", "recipe", "revert")[n % 3], (f"{name}@{n - 1}",) if n > 1 else (), 6, 214 * (n % 2),
                ("production",) if n == 6 else (),
            )
            for n in range(9, 0, -1)
        )  # fmt: skip
        return LinePage(
            entry,
            fields,
            many if name == HOME else (),
            (HOME,),
            1 if name == HOME else 0,
            ("files: data/*.jsonl", "interactions: feedback"),
        )

    def checks(self, name: str, number: int, chosen: str, page: int, who: Principal) -> CheckPage:
        named = tuple((f"intents:en:HassTurnOn:{n}", HASH * 4, f"says the same as row {n + 1}") for n in range(25))
        return CheckPage(name, number, 5393, 5212, ago(minutes=39), CHECKED, chosen or "duplicates", named, 90, page)

    def glossary(self, reach: Sequence[str], after: str) -> Glossary:
        rows = (
            TermRow(Term("customer", "Who pays us, or is about to.", "ana", ("cliente",)), ((HOME, "subject"),)),
            TermRow(Term("intent", "What somebody wants the house to do.")),
        )
        return Glossary(() if self.empty else rows, "intent")

    def term(self, reach: Sequence[str], name: str) -> TermRow:
        found = next((row for row in self.glossary(reach, "").rows if row.term.term == name), None)
        if found is None:
            raise NotFound(f"no term {name!r}", where="glossary", remedy="define it")
        return found

    def lineage(self, who: Principal, of: str, direction: str, generations: int) -> Graph:
        return CHAIN

    def _samples(self, count: int) -> tuple[Sample, ...]:
        return tuple(
            Sample(
                f"{n:064x}",
                *SENTENCES[n % len(SENTENCES)][:2],
                SENTENCES[n % len(SENTENCES)][2],
                ("train", "validation", "test")[n % 3],
                "intents",
                f"intents:en:HassTurnOn:{n}",
            )
            for n in range(count)
        )

    def dataset(
        self, name: str, number: int, who: Principal, *, page: int, split: str, language: str, q: str
    ) -> DatasetPage:
        if name != HOME or number not in (1, 2):
            raise NotFound(f"no dataset version {name}@{number}", where="datasets", remedy="the catalogue lists them")
        counts = {
            ("en", "train"): 3200,
            ("en", "validation"): 400,
            ("en", "test"): 412,
            ("pt-BR", "train"): 1000,
            ("pt-BR", "validation"): 88,
            ("pt-BR", "test"): 112,
        }
        shown = self._samples(25) if not q or q in "kitchen" else ()
        history = (
            DatasetVersionRow(HOME, 2, 5212, 1200, ago(minutes=39), "loop", ("smart-home@2",)),
            DatasetVersionRow(HOME, 1, 4012, None, ago(days=3), "loop", ("smart-home@1",)),
        )
        said = {
            "subject": {"description": "Who wrote", "sensitivity": "personal", "tags": ["pii"], "terms": ["customer"]}
        }
        return DatasetPage(name, number, "sha256:" + HASH * 4, f"{name}@1" if number == 2 else "", 5212, ago(minutes=39), "loop", counts, CHECKED,
                           Samples(shown, 5212 if shown else 0, page, split, language, q), {}, {"cause": "feedback", "corrections": 412}, ("smart-home@2",), history, 1212,
                           COUNTED if number == 2 else None, said, 3, (("evals/routing.yaml", 12),) if number == 1 else ())  # fmt: skip

    def diff(self, name: str, old: int, new: int, kind: str, page: int, who: Principal) -> Diff:
        samples = self._samples(25)
        sides = {
            "removed": tuple((one, None) for one in samples[:12]),
            "changed": tuple(
                (one, replace(one, facts={"split": "test", "language": one.language})) for one in samples[:5]
            ),
        }
        rows = sides.get(kind, tuple((None, one) for one in samples))
        shifts = (
            Shift("language", "values", ("en", "pt-BR", ""), (0.98, 0.02, 0.0), (0.77, 0.23, 0.0)),
            Shift(
                "completion",
                "lengths",
                ("1", "2", "4", "8", "16", "32", "64"),
                (0.0, 0.0, 0.1, 0.2, 0.4, 0.2, 0.1),
                (0.0, 0.05, 0.15, 0.2, 0.3, 0.2, 0.1),
            ),
            Shift(
                "extra.tier",
                "values",
                ("gold", "a very long name of a tier, longer than any chart", ""),
                (0.5, 0.4, 0.1),
                (0.45, 0.45, 0.1),
            ),
        )
        return Diff(name, old, new, 4000, 1212, 12, 5, kind or "added", page, rows, shifts, 4012, 5212)

    def feeds(self, reach: Sequence[str]) -> tuple[FeedRow, ...]:
        return () if self.empty else FEEDS

    def feed(self, dataset: str, *, before: str, bad: str, rows: bool) -> FeedPage:
        row = next(one for one in FEEDS if one.dataset == dataset)
        mine = tuple(one for one in RUNS if one.dataset == dataset)
        return FeedPage(
            row, mine, "ing_1" if mine else "", BAD_ROWS if rows and row.waiting else (), "x" if row.waiting else ""
        )

    def ingestion(self, id: str) -> RunPage:
        row = next((one for one in RUNS if one.id == id), None)
        if row is None:
            raise NotFound(f"no ingestion {id!r}", where="ingestions", remedy="the page of sources lists them")
        if row.state == "failed":
            error = {
                "message": "the answer was 401",
                "where": "https://api.example.com/v1/t",
                "remedy": "check the secret that `auth` refers to",
            }
            return RunPage(row, '{"time": "2026-11-22T10:00:00+00:00"}', "", error=error)
        changes = (
            ("new", "city", "", "text"),
            ("retyped", "stars", "whole number", "text"),
            ("missing", "area", "text", ""),
        )
        return RunPage(
            row,
            "",
            '{"time": "2026-11-23T10:00:00+00:00"}',
            {"since": "2026-11-01T00:00:00.000Z"},
            {},
            changes,
            (("tickets/17", "bad row: completion is missing (got {'id': 17})"),),
            (("id", "whole number", 1.0), ("answer", "text", 0.93)),
        )

    def experiments(self, reach: Sequence[str], model: str, before: str) -> Experiments:
        rows = () if self.empty else tuple(one.row for one in STUDIES if model in ("", one.row.model))
        return Experiments(rows, (HOME,) if rows else (), model)

    def tracked_runs(self, who: Principal, experiment: int | None, before: str) -> TrackedRuns:
        experiments = ((0, "Default"),) if self.empty else ((1, "tickets"), (0, "Default"))
        return TrackedRuns(() if self.empty else TRACKED, experiments, -1 if experiment is None else experiment)

    def tracked_run(self, who: Principal, id: str) -> TrackedRun:
        row = next((one for one in TRACKED if one.id == id), None)
        if row is None:
            raise NotFound(f"Run with id={id} not found", where="runs", remedy="search the runs")
        falling = tuple((n, 2.0 / (1 + n / 9) + 0.1 * (n % 3)) for n in range(80))
        rising = tuple((n * 10, min(0.9, 0.1 * n) if n != 3 else None) for n in range(9))
        return TrackedRun(
            row, "tickets", {"lr": "0.001", "layers": "12"}, {"mlflow.source.name": "train.py", "note": "<b>olá</b>"},
            (TrackedCurve("loss", 0.31, falling), TrackedCurve("accuracy", 0.8, rising), TrackedCurve("worst", None, ())),
            (TrackedFile("plots/loss.txt", 14), TrackedFile("adapter/adapter model.safetensors", 4_200_000)),
            (TrackedModel("m-0199c2d47b2c7d1e8f00000000000001", "adapter", "peft", "LOGGED_MODEL_READY"),), (1, 0),
        )  # fmt: skip

    def study(self, id: str) -> StudyPage:
        found = next((one for one in STUDIES if one.row.id == id), None)
        if found is None:
            raise NotFound(f"no search {id!r}", where="searches", remedy="the experiments page lists them")
        return found

    def beside(self, ids: Sequence[str], who: Principal) -> RunsBeside:
        rows = [row for row in TRIALS if row.id in ids]
        columns = tuple(
            RunColumn(row, HOME, 0.12, {"peak_rss_bytes": 1.9e9, "tokens_per_s": 812.0}, ("rows",) if n else ())
            for n, row in enumerate(rows)
        )
        answers = (
            ("acenda a luz", '{"x": 1}', tuple((None, False) if n else ('{"x": 1}', True) for n in range(len(rows)))),
        )
        return RunsBeside(columns, {"rank": tuple(8 * (n + 1) for n in range(len(rows)))}, {"seed": 17}, answers)

    def expected(self, model: str) -> Mapping[str, Any]:
        return {
            "summary": "about 4 min",
            "problem": "",
            "remedy": "",
            "seconds": 240.0,
            "memory_bytes": 1_900_000_000,
            "trials": 2,
            "search_s": 480.0,
            "cost": 0.0,
        }

    def trial(self, id: str, who: Principal) -> TrialPage:
        row = next((row for row in TRIALS if row.id == id), None)
        if row is None:
            raise NotFound(f"no trial {id!r}", where="trials", remedy="the experiments page lists them")
        done = row.state == "complete"
        return TrialPage(row, SEARCH, {"method": "sft", "rank": 16, "alpha": 32, "learning_rate": 0.002, "steps": 60, "seed": 17},
                         {"exact_match": 0.812, "loss": 0.121, "n": 488} if done else {}, {"tokens_per_s": 812.0, "peak_rss_bytes": 1.9e9, "seconds": 431.0} if done else {},
                         {"torch": "2.13.0", "transformers": "5.23.1", "peft": "0.21.2"} if done else {}, "smart-home@2" if row.best else "", "step 60 of 60 loss 0.121", HEARD, {"code": "9c1f0c7e" * 8, "rows": "77ab01c2" * 8, "base": "sha256:01", "init": "", "seed": 17},
                         False, (Again("repro_1", "complete", ago(days=1), "ana", True, "bit by bit the same"), Again("repro_0", "complete", ago(days=2), "ana", False, "not the same weights", ("rows",))) if row.best else ())  # fmt: skip

    def suites(self, reach: Sequence[str], after: str) -> SuitesPage:
        return (
            SuitesPage((), ())
            if self.empty
            else SuitesPage((SUITE, replace(SUITE, suite="greetings", models=())), RESULTS, "routing")
        )

    def suite(self, name: str, number: int, page: int, who: Principal) -> SuitePage:
        if name != SUITE.suite:
            raise NotFound(f"no suite {name!r}", where="suites", remedy="`ciranda suite list` shows them")
        cases = (
            CaseRow(
                "c1",
                "I was charged twice for October. " * 6,
                "billing",
                {"language": "en"},
                ("choices: billing, technical",),
            ),
            CaseRow(
                "c2",
                "Ela pode cancelar o plano do marido?",
                None,
                {"language": "pt-BR", "swap": "gender"},
                ("pair: c1",),
            ),
        )
        return SuitePage(SUITE, (SUITE, replace(SUITE, number=1, cases=38, note="", redacted=1)), cases, page, RESULTS)

    def evaluation(self, id: str, asked: Asked, who: Principal) -> EvaluationPage:
        if id not in ("eval_2", "eval_1"):
            raise NotFound(f"no evaluation {id!r}", where="evaluations", remedy="`ciranda evaluate` makes one")
        parts = (
            Part("", RESULTS[0].figures[0], 0.744), Part("language=pt-BR", Figure("label", 0.61, 0.5, 0.71, 80), 0.66),
            Part("", RESULTS[0].figures[1], 610.0), Part("", RESULTS[0].figures[2], None),
        )  # fmt: skip
        gaps = (
            GapRow("gender", "refusal", 60, 0.001, -0.02, 0.03, "fair"),
            GapRow("region", "refusal", 60, 0.12, 0.05, 0.19, "biased"),
            GapRow("names", "label", 8, -0.02, -0.3, 0.3, "cannot_tell"),
        )
        answers = (
            AnswerRow("I was charged twice.", "billing", "technical", "", 0.0, "billing", 1.0, -1.0, {"language": "en"}),
            AnswerRow("The app closes.", "technical", "", "the engine answered 500", 0.0, "billing", 0.0, 0.0, {}),
            AnswerRow("Quem paga?", None, "billing, since money is meant " * 12, "", 1.0, None, None, None, {"language": "pt-BR"}),
            AnswerRow("Hi", "account", "account", "", 1.0, "billing", 0.0, 1.0, {}), AnswerRow("Ho", "a", "a", "", 1.0, "a", 1.0, 0.0, {}),
        )  # fmt: skip
        alone = id == "eval_1"
        shown = () if asked.slice == "none" else answers
        return EvaluationPage(RESULTS[0], None if alone else RESULTS[1], () if alone else RESULTS[1:], replace(asked, metric=asked.metric or "label", against="" if alone else "eval_1"),
                              parts, () if alone else gaps, shown, 60, alone, True, ("language=en", "language=pt-BR"))  # fmt: skip

    def alerts(self, reach: Sequence[str], state: str) -> tuple[AlertRow, ...]:
        rows = () if self.empty else tuple(self._alert(row) for row in ALERTS)
        return tuple(row for row in rows if (not state or row.state == state) and ("*" in reach or row.model in reach))

    def _alert(self, row: AlertRow) -> AlertRow:
        if row.id in self.acknowledged and row.state == "open":
            return AlertRow(
                row.id, row.model, row.kind, row.severity, row.title, "acknowledged", row.at, row.turn, "first admin"
            )
        return row

    def alert(self, id: str, who: Principal) -> AlertPage:
        row = next((self._alert(row) for row in ALERTS if row.id == id), None)
        if row is None:
            raise NotFound(f"no alert {id!r}", where="alerts", remedy="the list has all of them")
        summary = "Since 14:03 messages in Portuguese arrive; before there were none. Quality fell from 91% to 62% thumbs up in the same time.\nFound after 34 messages."
        if row.kind != "drift":
            return AlertPage(
                row,
                "Requests to invoice-parser@12 end with 503: one of two replicas does not answer.",
                examples=(("int_7", "Total of invoice 4411"),),
            )
        return AlertPage(
            row,
            summary,
            ago(minutes=44),
            {"seen": 480, "e_value": 5101.2, "shift": 0.41},
            GROUPS,
            (("int_1", "acende a luz da sala"), ("", "apaga tudo")),
            "released",
        )

    def judges(self, reach: Sequence[str]) -> tuple[JudgeRow, ...]:
        return () if self.empty else JUDGES

    def judge(self, name: str, who: Principal) -> JudgePage:
        for row in JUDGES:
            if row.name == name:
                said = (Opinion(f"{HOME}@2", "", "test", 198, 2, 0.81, ago(days=1)),) if row.worth else ()
                return JudgePage(
                    row, "It does what was asked, and nothing else.", "sha256:" + "5" * 64, True, said, (HOME,)
                )
        raise NotFound(f"no judge {name!r}", where="judges", remedy="the list has all of them")

    def sides(self, model: str, candidate: str, live: str) -> Sides:
        both = (candidate or f"{model}@2", live or f"{model}@1")
        return Sides(*both, () if self.empty else (("test", SIDES),), both)

    def replays(self, reach: Sequence[str]) -> ReplaysPage:
        return ReplaysPage() if self.empty else ReplaysPage(REPLAYS, (f"{HOME}@2",), ("helpful",))

    def replay(self, id: str, who: Principal) -> ReplayPage:
        for row in REPLAYS:
            if row.id == id and row.state == "failed":
                return ReplayPage(row, ago(days=2), ago(days=1), "it ended with exit code 4")
            if row.id == id:
                shown = (Changed("int_1", "acende a luz da sala", "sorry", '{"intent": "LightOn"}', 1.0),)
                return ReplayPage(row, ago(days=1), ago(minutes=5), "", SIDES, (0.31, 0.12, 0.5, ""), shown)
        raise NotFound(f"no replay {id!r}", where="replays", remedy="the list has all of them")

    def reviews(self, reach: Sequence[str]) -> tuple[QueueRow, ...]:
        rows = () if self.empty else QUEUES
        return tuple(row for row in rows if "*" in reach or row.model in reach)

    def review(self, name: str, who: Principal) -> QueuePage:
        for row in QUEUES:
            if row.name == name:
                people = (("Ana Souza", 41, 6, 9), ("the admin", 12, 3, 2))
                agree = (("alpha", 0.74, 0.51, 0.9, 31), ("kappa: Ana Souza, the admin", 0.73, 0.49, 0.91, 31))
                full = row.model == HOME
                return QueuePage(row, "One line of JSON; the area is optional." if full else "", people if full else (),
                                 agree if full else (), (0.81, 0.62, 0.92, 26) if full else None, 17 if full else 0)  # fmt: skip
        raise NotFound(f"no review queue {name!r}", where="review", remedy="the list has all of them")

    def turns(self, reach: Sequence[str]) -> tuple[TurnRow, ...]:
        return () if self.empty else tuple(row for row in TURNS if "*" in reach or row.model in reach)

    def turn(self, id: str) -> TurnRow:
        for row in TURNS:
            if row.id == id:
                return row
        raise NotFound(f"no turn {id!r}", where="turns", remedy="the list has all of them")

    def audit(self, reach: Sequence[str], *, before: int, subject: str, actor: str, action: str) -> AuditPage:
        last = (before or 213) - 1
        kinds = (("loop", "version.registered", "smart-home@2", '{"dataset":"smart-home@2","digest":"sha256:9c1f0c7e"}'), ("rollout", "rollout.advanced", "roll_2", '{"stage":"25"}'),
                 ("ana", "alert.acknowledged", "alert_2", "{}"), ("collector", "segment.sealed", "gateway-0/host-1-7-00000012", '{"sha256":"9c1f0c7e2b6d4a58"}'))  # fmt: skip
        rows = tuple(
            AuditRow(n, ago(minutes=(213 - n) * 3), *kinds[n % 4], f"{n:04x}" + HASH * 3)
            for n in range(last, max(0, last - 50), -1)
        )
        rows = tuple(
            row
            for row in rows
            if row.subject.startswith(subject) and row.actor.startswith(actor) and row.action.startswith(action)
        )
        return AuditPage(rows, self.chain(), last - 49 if last > 50 else 0, subject, actor, action, not before)

    def chain(self, *, now: bool = False) -> Chain:
        return Chain(True, 212, HASH * 4, ago(seconds=20))

    def people(self) -> tuple[KeyRow, ...]:
        return (KeyRow("key_1", "first admin", "admin", ("*",), ago(days=3), "up"), KeyRow("key_2", "ana", "approver", ("*",), ago(days=2), "first admin"),
                KeyRow("key_3", "home app", "client", (HOME,), ago(days=2), "first admin", tenant="acme", bounds=(Bound("requests_per_minute", 60, 12), Bound("tokens_per_minute", 40_000, 36_210), Bound("cost_per_month", 50, 50.02))), KeyRow("key_4", "old app", "client", (HOME,), ago(days=2), "ana", ago(days=1)))  # fmt: skip

    def policies(self, who: Principal, *, dataset: str, role: str, purpose: str) -> PoliciesPage:
        rows = (PolicyRow("people-are-hashed", "hash", "Who wrote a row is needed to tell people apart.", "subject", "*, − admin",
                          "viewing, export", 0, "", "ciranda"),
                PolicyRow("regions", "deny", "", "tickets · extra.region", "labeller", "", 3, ago(days=2), "ana"))  # fmt: skip
        seen = Seen(dataset, role, purpose, "", 5212, 4800, (("subject", "hash"),), (("hello", "hi", "hmac:0a1b"),))
        return PoliciesPage(() if self.empty else rows, seen if dataset else None)

    def erasures(self) -> tuple[ErasureRow, ...]:
        return () if self.empty else (self.erasure("erasure_1").row,)

    def erasure(self, id: str) -> Receipt:
        if id != "erasure_1":
            raise NotFound(f"no erasure {id!r}", where="erasures", remedy="`ciranda erase list` shows them")
        row = ErasureRow(
            id, "hmac:5d41402abc4b2a76b9719d91", "done", "", ago(days=1), "ana", ago(hours=20), "sha256:9c1f0c7e"
        )
        return Receipt(row, (("interactions", "feedback", 2),), (("smart-home@1", "sha256:aa", "sha256:bb", 3),), (f"{HOME}@1",),
                       (("smart-home@1", "bo", ago(days=3)),), ("backups of its disk",))  # fmt: skip

    def flagged(self) -> tuple[FlagRow, ...]:
        return () if self.empty else (FlagRow(f"{HOME}@1", "smart-home@1", "erasure_1", ago(days=1)),)

    def theirs(self, subject: str, *, mentions: bool) -> Theirs:
        return Theirs((("record", "interactions", 4), ("datasets", "smart-home@1", 3)), (f"{HOME}@1",))

    def tenants(self) -> tuple[Scope, ...]:
        return (Scope("acme", (Bound("cost_per_month", 500, 131.4), Bound("concurrent", 16, 3))), Scope("default"))

    def bounded(self, reach: Sequence[str]) -> tuple[Scope, ...]:
        return () if self.empty else (Scope(HOME, (Bound("tokens_per_day", 2_000_000, 1_204_330),)),)

    def figures(self, name: str, span: str) -> LivePage:
        self._row(name)
        seconds, step = SPANS[span]
        window = self.window(("*",), name, seconds=seconds, step=step)
        if not window.tracks:
            return LivePage(name, span, window)
        rows = tuple(
            Figures(one.label, "canary" if one.label == "smart-home@2" else "live", 4122 // one.colour, 9 * one.colour, 212.4, 412.0,
                    1240.0, 61_204, 20_110, 811, 402, {"valid_json": 0.98, "intent_accuracy": 0.91 - 0.02 * one.colour})
            for one in window.tracks
        )  # fmt: skip
        quality = tuple(
            Quality(scorer, tuple((one.label, one.colour, tuple((float(at), high - 0.02 * one.colour + 0.02 * math.sin(at / 200))
                                                                for at in range(window.until - seconds, window.until, max(60, step))))
                                  for one in window.tracks))
            for scorer, high in (("valid_json", 0.97), ("intent_accuracy", 0.91))
        )  # fmt: skip
        return LivePage(name, span, window, rows, quality)

    def window(self, reach: Sequence[str], model: str, *, seconds: int, step: int = STEP_S) -> Window:
        until = clock.now_ms() // 1000 // step * step
        if self.empty:
            return Window(model, step, until, (), "", seconds)
        if not model:
            return Window("", step, until, (track("", 1, 1.0, until, seconds, step),), "", seconds)
        if model == HOME:
            shares = ((1, 0.75), (2, 0.25))
            tracks = tuple(
                track(f"{model}@{n}", colour_of(f"@{n}"), share, until, seconds, step) for n, share in shares
            )
            return Window(model, step, until, tracks, "", seconds)
        row = self._row(model)
        alone = (track(row.live, colour_of(row.live), 0.2, until, seconds, step),) if row.live else ()
        return Window(model, step, until, alone, "", seconds)

    def state(self) -> dict[str, str]:
        return dict(self.marks)
