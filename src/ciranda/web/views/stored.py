"""The reader of a running platform: each answer is put together by `ciranda.web.load` from the tables of their owners."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ciranda.data.entries import Wanted
from ciranda.deploy.stages import rollouts
from ciranda.govern.access import Principal
from ciranda.govern.audit import audit_events
from ciranda.loop import gatekeeping
from ciranda.loop.gatekeeping import Waiting
from ciranda.loop.platform import Platform
from ciranda.loop.turns import OPEN
from ciranda.loop.turns import turns as turns_table
from ciranda.monitor.drift import drift_states
from ciranda.registry import models as registry
from ciranda.registry.lineage import Graph, Node
from ciranda.train.trials import trials
from ciranda.web.load import (
    alerts,
    catalogue,
    datasets,
    fleet,
    interactions,
    judges,
    limits,
    lineage,
    models,
    privacy,
    release,
    reviews,
    runs,
    searches,
    sources,
    suites,
    tracked,
    trust,
    turns,
    versions,
)
from ciranda.web.load.traffic import Rates, Traffic
from ciranda.web.load.trust import Verified
from ciranda.web.views.alerts import AlertPage, AlertRow
from ciranda.web.views.catalogue import Catalogue, Glossary, LinePage, TermRow
from ciranda.web.views.datasets import CheckPage, DatasetPage, Diff, Samples
from ciranda.web.views.drift import DriftPage
from ciranda.web.views.fleet import Decision, ModelRow, Overview
from ciranda.web.views.govern import AuditPage, Chain, KeyRow, Scope
from ciranda.web.views.interactions import EventList, Filters, InteractionList, InteractionPage
from ciranda.web.views.judges import JudgePage, JudgeRow, ReplayPage, ReplaysPage, Sides
from ciranda.web.views.live import STEP_S, WINDOW_S, LivePage, Window
from ciranda.web.views.models import ModelPage, VersionPage, VersionRow
from ciranda.web.views.privacy import ErasureRow, FlagRow, PoliciesPage, Receipt, Theirs
from ciranda.web.views.release import ReleasePage
from ciranda.web.views.reviews import QueuePage, QueueRow
from ciranda.web.views.runs import RunsBeside, TrialPage
from ciranda.web.views.searches import Experiments, StudyPage
from ciranda.web.views.sources import FeedPage, FeedRow, RunPage
from ciranda.web.views.suites import Asked, EvaluationPage, SuitePage, SuitesPage
from ciranda.web.views.tracked import TrackedRun, TrackedRuns
from ciranda.web.views.turns import TurnRow

ON_A_PAGE = 5


class Stored:
    """What pages show of one platform.

    Args:
        platform: The opened home.
    """

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.traffic = Traffic(platform.interactions)
        self.verified = Verified(platform)

    def gateway(self) -> str:
        for file in sorted(self.platform.home.run.glob("gateway-*.json")):
            try:
                return str(json.loads(file.read_text())["url"])
            except (OSError, ValueError, KeyError):
                continue
        settings = self.platform.settings
        return f"http://{settings.host}:{settings.gateway_port}"

    def names(self, reach: Sequence[str]) -> tuple[str, ...]:
        with self.platform.db.reading() as conn:
            return tuple(model.name for model in registry.every(conn) if "*" in reach or model.name in reach)

    def overview(self, reach: Sequence[str]) -> Overview:
        found = fleet.standings(self.platform, reach)
        chain = self.verified.chain()
        broken = (
            () if chain.ok else (Decision("chain", "", chain.at, "audit", "", "", "bad", {"problem": chain.problem}),)
        )
        return Overview(
            (*broken, *fleet.decisions(self.platform, found)),
            fleet.last_decision(self.platform, reach),
            fleet.columns(found),
            len(found),
            self.window(reach, "", seconds=WINDOW_S),
        )

    def models(self, reach: Sequence[str]) -> tuple[ModelRow, ...]:
        used = {name: models.used_of_limit(self.platform, name)[0] for name in self.names(reach)}
        return fleet.rows(
            self.platform, self.traffic, reach, {name: one for name, one in used.items() if one is not None}
        )

    def model(self, name: str) -> ModelPage:
        one = fleet.standing(self.platform, name)
        with self.platform.db.reading() as conn:
            lines = versions.rows(conn, name)
        return ModelPage(
            fleet.row_of(one, self.traffic.rates([name]).get(name, Rates()), None),
            models.stops(self.platform, one),
            models.next_of(one),
            self.window(("*",), name, seconds=WINDOW_S),
            alerts.listing(self.platform, ("*",), "", model=name, limit=ON_A_PAGE),
            turns.listing(self.platform, ("*",), model=name, limit=ON_A_PAGE),
            lines,
        )

    def release(self, name: str) -> ReleasePage:
        return release.page(self.platform, self.traffic, name)

    def approvals(self, reach: Sequence[str]) -> tuple[Waiting, ...]:
        return tuple(gatekeeping.waiting(self.platform, lambda model: "*" in reach or model in reach))

    def versions(self, name: str) -> tuple[VersionRow, ...]:
        with self.platform.db.reading() as conn:
            registry.get(conn, name)
            return versions.rows(conn, name)

    def version(self, version: str) -> VersionPage:
        return versions.page(self.platform, version)

    def drift(self, name: str, who: Principal) -> DriftPage:
        return alerts.watched(self.platform, name, who)

    def interactions(self, reach: Sequence[str], filters: Filters, before: str, who: Principal) -> InteractionList:
        return interactions.listing(self.platform, reach, filters, before, self.names(reach), who)

    def interaction(self, id: str, who: Principal) -> InteractionPage:
        return interactions.single(self.platform, id, who)

    def events(self, reach: Sequence[str], kind: str, model: str, before: str, who: Principal) -> EventList:
        return interactions.events(self.platform, reach, kind, model, before, self.names(reach), who)

    def catalogue(self, reach: Sequence[str], wanted: Wanted, after: str) -> Catalogue:
        return catalogue.listing(self.platform, self.reached(reach), wanted, after)

    def reached(self, reach: Sequence[str]) -> frozenset[str] | None:
        return catalogue.reached(self.platform, reach)

    def line(self, name: str, before: int) -> LinePage:
        return catalogue.line(self.platform, name, before)

    def dataset(
        self, name: str, number: int, who: Principal, *, page: int, split: str, language: str, q: str
    ) -> DatasetPage:
        return datasets.single(self.platform, name, number, Samples((), 0, page, split, language, q), who)

    def checks(self, name: str, number: int, chosen: str, page: int, who: Principal) -> CheckPage:
        return datasets.checks(self.platform, name, number, chosen, page, who)

    def diff(self, name: str, old: int, new: int, kind: str, page: int, who: Principal) -> Diff:
        return datasets.changes(self.platform, name, old, new, kind, page, who)

    def glossary(self, reach: Sequence[str], after: str) -> Glossary:
        return catalogue.words(self.platform, self.reached(reach), after)

    def term(self, reach: Sequence[str], name: str) -> TermRow:
        return catalogue.word(self.platform, self.reached(reach), name)

    def lineage(self, who: Principal, of: str, direction: str, generations: int) -> Graph:
        held = self.reached(who.models)

        def sees(node: Node) -> bool:
            return held is None or node.of in held or node.of in who.models

        return lineage.chain(self.platform, of, sees, who, direction=direction, generations=generations)

    def feeds(self, reach: Sequence[str]) -> tuple[FeedRow, ...]:
        return sources.feeds(self.platform, reach)

    def feed(self, dataset: str, *, before: str, bad: str, rows: bool) -> FeedPage:
        return sources.feed(self.platform, dataset, before=before, bad=bad, rows=rows)

    def ingestion(self, id: str) -> RunPage:
        return sources.ingestion(self.platform, id)

    def judges(self, reach: Sequence[str]) -> tuple[JudgeRow, ...]:
        return judges.listing(self.platform, reach)

    def judge(self, name: str, who: Principal) -> JudgePage:
        return judges.single(self.platform, name, who)

    def sides(self, model: str, candidate: str, live: str) -> Sides:
        return judges.sides(self.platform, model, candidate, live)

    def replays(self, reach: Sequence[str]) -> ReplaysPage:
        return judges.replayed(self.platform, reach)

    def replay(self, id: str, who: Principal) -> ReplayPage:
        return judges.replay(self.platform, id, who)

    def reviews(self, reach: Sequence[str]) -> tuple[QueueRow, ...]:
        return reviews.listing(self.platform, reach)

    def review(self, name: str, who: Principal) -> QueuePage:
        return reviews.single(self.platform, name, who)

    def experiments(self, reach: Sequence[str], model: str, before: str) -> Experiments:
        return searches.listing(self.platform, reach, model=model, before=before)

    def study(self, id: str) -> StudyPage:
        return searches.study(self.platform, id)

    def tracked_runs(self, who: Principal, experiment: int | None, before: str) -> TrackedRuns:
        return tracked.listing(self.platform, who.tenant, experiment=experiment, before=before)

    def tracked_run(self, who: Principal, id: str) -> TrackedRun:
        return tracked.run(self.platform, who.tenant, id)

    def trial(self, id: str, who: Principal) -> TrialPage:
        return runs.single(self.platform, id, who)

    def beside(self, ids: Sequence[str], who: Principal) -> RunsBeside:
        return runs.beside(self.platform, ids, who)

    def expected(self, model: str) -> Mapping[str, Any]:
        return runs.expected(self.platform, model)

    def suites(self, reach: Sequence[str], after: str) -> SuitesPage:
        return suites.listing(self.platform, reach, after)

    def suite(self, name: str, number: int, page: int, who: Principal) -> SuitePage:
        return suites.single(self.platform, name, number, page, who)

    def evaluation(self, id: str, asked: Asked, who: Principal) -> EvaluationPage:
        return suites.evaluation(self.platform, id, asked, who)

    def alerts(self, reach: Sequence[str], state: str) -> tuple[AlertRow, ...]:
        return alerts.listing(self.platform, reach, state)

    def alert(self, id: str, who: Principal) -> AlertPage:
        return alerts.one(self.platform, id, who)

    def turns(self, reach: Sequence[str]) -> tuple[TurnRow, ...]:
        return turns.listing(self.platform, reach)

    def turn(self, id: str) -> TurnRow:
        return turns.one(self.platform, id)

    def audit(self, reach: Sequence[str], *, before: int, subject: str, actor: str, action: str) -> AuditPage:
        chain = self.verified.chain()
        return trust.log(self.platform, chain, reach, before=before, subject=subject, actor=actor, action=action)

    def chain(self, *, now: bool = False) -> Chain:
        return self.verified.chain(now=now)

    def policies(self, who: Principal, *, dataset: str, role: str, purpose: str) -> PoliciesPage:
        return privacy.page(self.platform, who, dataset=dataset, role=role, purpose=purpose)

    def erasures(self) -> tuple[ErasureRow, ...]:
        return privacy.people(self.platform)

    def erasure(self, id: str) -> Receipt:
        return privacy.receipt(self.platform, id)

    def flagged(self) -> tuple[FlagRow, ...]:
        return privacy.flagged(self.platform)

    def theirs(self, subject: str, *, mentions: bool) -> Theirs:
        return privacy.theirs(self.platform, subject, mentions=mentions)

    def people(self) -> tuple[KeyRow, ...]:
        return trust.keys(self.platform)

    def tenants(self) -> tuple[Scope, ...]:
        return limits.tenants(self.platform)

    def bounded(self, reach: Sequence[str]) -> tuple[Scope, ...]:
        return limits.models(self.platform, self.names(reach))

    def window(self, reach: Sequence[str], model: str, *, seconds: int, step: int = STEP_S) -> Window:
        names = (model,) if model else self.names(reach)
        return self.traffic.window(names, seconds=seconds, split=bool(model), step=step)

    def figures(self, name: str, span: str) -> LivePage:
        with self.platform.db.reading() as conn:
            registry.get(conn, name)
        return self.traffic.live(name, span)

    def state(self) -> dict[str, str]:
        """Marks from a few narrow questions: the end of the audit log, the steps of open turns, how far rollouts, streams and
        trials have come."""
        curve = sa.func.length(sa.cast(trials.c.loss_curve, sa.Text))
        with self.platform.db.reading() as conn:
            head = conn.execute(sa.select(sa.func.max(audit_events.c.number))).scalar()
            open_turns = sa.select(turns_table.c.id, turns_table.c.state, turns_table.c.steps).where(
                turns_table.c.state.in_(OPEN)
            )
            steps = str([tuple(row) for row in conn.execute(open_turns)])
            looks = conn.execute(sa.select(sa.func.sum(rollouts.c.revision))).scalar()
            seen = conn.execute(sa.select(sa.func.sum(drift_states.c.sequence))).scalar()
            trained = conn.execute(
                sa.select(sa.func.sum(curve)).where(trials.c.state.in_(("waiting", "running")))
            ).scalar()
            told = sources.mark(conn)
        mark = hashlib.sha256(f"{head} {steps}".encode()).hexdigest()[:16]
        marks = {"loop": mark, "release": str(looks), "drift": str(seen), "runs": str(trained)}
        return {**marks, "intake": f"{head} {told}"}
