"""What the leader looks after, again and again: turns that wait, rollouts under way, routing, quality, drift, alerts, schedules."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

from ciranda.config.model import ModelSpec
from ciranda.data import pieces, reading, sources, statistics, uploads
from ciranda.data.hearing import Hearing
from ciranda.deploy import rollout, routing, stages
from ciranda.errors import CirandaError, Conflict
from ciranda.evals import embedding, scorers
from ciranda.evals.scorers import GIVEN, Scorer
from ciranda.govern import audit, erasures
from ciranda.interactions.client import status_of
from ciranda.interactions.table import Interaction
from ciranda.jobs.durable import Body, Durable
from ciranda.loop import chores, exam, opinions, papers, registering, replaying, sampling, steps, tuning, turns
from ciranda.loop.beat import Beat, Task
from ciranda.loop.intake import Intake
from ciranda.loop.overlaps import Overlaps
from ciranda.loop.platform import Platform
from ciranda.loop.reproduce import Reproducing
from ciranda.loop.runs import Cancelled
from ciranda.loop.searching import Searching
from ciranda.monitor import alerts, delivery, drift, export, openlineage, quality, signals, staleness
from ciranda.monitor.signals import Signal
from ciranda.registry import flags, models, removal, versions
from ciranda.store import clock

ASKED = 2000  # newest questions of a rollout that say what a version will be asked

log = logging.getLogger("ciranda.loop")


class Control:
    """The leader's tasks and workflows, from `start` to `close`."""

    def __init__(self, platform: Platform, workflows: Mapping[str, Body]) -> None:
        self.platform = platform
        url = platform.db.url if not platform.db.is_sqlite else f"sqlite:///{platform.home.path / 'workflows.db'}"
        self.durable = Durable(url, workflows)
        self.watch = drift.Watch(platform.db, platform.interactions)
        self._openlineage = openlineage.Lineage(platform.db, platform.settings)
        self._export = export.Export(platform.db, platform.interactions, platform.settings, hear=self._hear)
        self.intake = Intake(platform)
        self._seen: dict[str, tuple[str, str]] = {}
        self.overlaps = Overlaps(platform)
        self.cancelled = Cancelled(platform)
        self.searching = Searching(platform)
        self.reproducing = Reproducing(platform)
        self.beat = Beat(
            [
                Task("routing", 1.0, self._routing),
                Task("rollouts", 0.5, self._rollouts),
                Task("turns", 0.3, self._turns),
                Task("tunings", 0.5, self._tunings),
                Task("uploads", 60.0, self._uploads),
                Task("searches", 0.4, self.searching.tick),
                Task("bases", 1.0, self._bases),
                Task("exams", 2.0, self._exams),
                Task("judges", 2.0, self._judges),
                Task("chores", 2.0, self._chores),
                Task("cancelled", 2.0, self.cancelled.look),
                Task("reproductions", 0.5, self.reproducing.look),
                Task("quality", 0.5, self._quality),
                Task("drift", 1.0, self._drift),
                Task("collector", 10.0, self._collector),
                Task("intake", 1.0, self.intake.tick),
                Task("alerts", 1.0, self._alerts),
                Task("figures", 1.0, self._figures),
                Task("staleness", 20.0, self._staleness),
                Task("weights", 60.0, self._weights),
                Task("contamination", 5.0, self.overlaps.look),
                *([Task("openlineage", 2.0, self._lineage)] if platform.settings.openlineage else []),
                Task("erasures", 0.5, self._erasures),
                *([Task("export", 1.0, self._traces)] if platform.settings.otlp_endpoint else []),
            ],
            platform.home.run / "loop.json",
        )

    def start(self) -> Control:
        """Resume what was under way, then look after everything."""
        self.durable.launch()
        self.beat.start()
        return self

    def close(self) -> None:
        """Stop looking; what is under way resumes at the next start."""
        self.beat.stop()
        self.intake.close()
        self.durable.close()

    # --- releases -----------------------------------------------------------------------------------------------------

    def _hear(self, found: Sequence[Interaction]) -> list[Interaction]:
        """What policies leave of interactions that go out of the house as spans."""
        return Hearing(self.platform.db, self.platform.home, reading.itself("export")).these(found)

    def _routing(self) -> None:
        routing.refresh(self.platform.db, self.platform.home)

    def _exams(self) -> None:
        exam.record_exams(self.platform)

    def _weights(self) -> None:
        """Weights of versions whose retention is over go."""
        removal.sweep(self.platform.db, self.platform.home)

    def _judges(self) -> None:
        opinions.keep(self.platform)
        replaying.keep(self.platform)
        sampling.look(self.platform, self._specs())

    def _chores(self) -> None:
        chores.keep(self.platform)

    def _bases(self) -> None:
        steps.found(self.platform)

    def _rollouts(self) -> None:
        moved = rollout.tick(self.platform.db, self.platform.interactions)
        if moved:
            routing.refresh(self.platform.db, self.platform.home)

    # --- turns --------------------------------------------------------------------------------------------------------

    def _turns(self) -> None:
        """Close turns whose rollout ended, let waiting ones go, start queued ones."""
        with self.platform.db.reading() as conn:
            due = turns.in_state(conn, "waiting", "queued", "running", "released", "awaiting_approval")
        for turn in due:
            if turn.state == "waiting":
                self._wait(turn)
            elif turn.state in ("queued", "running"):
                self._begin(turn)
            else:
                self._follow(turn)

    def _tunings(self) -> None:
        tuning.tick(self.platform)
        registering.tick(self.platform)

    def _uploads(self) -> None:
        db, home = self.platform.db, self.platform.home
        pieces.tidy(db, home)
        with db.reading() as conn:
            held = pieces.held(conn)
        uploads.tidy(db, home, besides=held)

    def _begin(self, turn: turns.Turn) -> None:
        """Start the turn's workflow; one that runs or resumed already is left alone."""
        if turn.state == "queued":
            with self.platform.db.writing() as conn:
                turns.change(conn, turn.id, state="running", started_at=clock.iso(), next_actor="Ciranda")
        if self.durable.state(turn.id) == "absent":
            self.durable.start("turn_v1", turn.id, {"turn": turn.id})
        elif failure := self.durable.failure(turn.id):
            self._give_up(turn.id, failure)

    def _give_up(self, identifier: str, failure: str) -> None:
        """A turn whose workflow broke in a way that nobody foresaw ends too, and says so, rather than block its model."""
        with self.platform.db.writing() as conn:
            if turns.get(conn, identifier).state == "running":
                log.error("%s broke: %s", identifier, failure)
                turns.end(conn, identifier, "failed", summary=failure, next_actor="an engineer")

    def _follow(self, turn: turns.Turn) -> None:
        """A released turn ends as its rollout does."""
        with self.platform.db.writing() as conn:
            release = stages.get(conn, turn.rollout or "")
            if release.state in stages.OPEN:
                waits = release.state != "running"
                actor = "an approver" if waits else "the evidence of the rollout"
                summary = f"{release.candidate}: {release.stage}, {release.reason}"
                if (turn.next_actor, turn.steps[-1]["summary"]) != (actor, summary):
                    turns.note(conn, turn.id, "release", "running", summary=summary, next_actor=actor)
                return
            turns.note(conn, turn.id, "release", "done", summary=f"{release.candidate}: {release.reason}")
            turns.end(conn, turn.id, release.state)

    def _wait(self, turn: turns.Turn) -> None:
        """A turn that waits for corrections starts when there are enough."""
        with self.platform.db.reading() as conn:
            spec = models.get(conn, turn.model).spec
        have = self._corrections(spec)
        if have >= spec.watch.corrections:
            with self.platform.db.writing() as conn:
                turns.change(conn, turn.id, state="queued", next_actor="Ciranda")
            return
        told = f"users: {have} of {spec.watch.corrections} corrected answers are there"
        if told != turn.next_actor:
            with self.platform.db.writing() as conn:
                turns.change(conn, turn.id, next_actor=told)

    def _corrections(self, spec: ModelSpec) -> int:
        """Corrected answers that no dataset version has yet; counted up to what is needed."""
        cursor = sources.cursor_of(self.platform.db, spec.dataset, "interactions: feedback")
        found = self.platform.interactions.corrections(spec.model, cursor or None, limit=spec.watch.corrections)
        return len(found)

    # --- watching -----------------------------------------------------------------------------------------------------

    def _news(self, task: str) -> bool:
        """Whether something arrived since this task's last two looks; a quiet fleet of twenty then costs one question."""
        now = self.platform.interactions.cursor()
        before = self._seen.get(task, ("", ""))
        self._seen[task] = (before[1], now)
        return before != (now, now)

    def _quality(self) -> None:
        if not self._news("quality"):
            return
        specs = self._specs()
        for spec in specs:
            self._scored(spec, [one for one in live_scorers(spec) if one.needs not in GIVEN])
        for spec in specs:
            given = papers.embedder(self.platform, spec) or embedding.words
            able = [one.given(given) for one in live_scorers(spec) if one.needs == "embedding"]
            try:
                self._scored(spec, able, queue="embedding")
            except CirandaError as error:
                log.warning("%s: answers wait to be compared: %s", spec.model, error)

    def _scored(self, spec: ModelSpec, scorers: Sequence[Scorer], *, queue: str = "") -> None:
        quality.score(self.platform.db, self.platform.interactions, spec.model, scorers, queue=queue)

    def _drift(self) -> None:
        news = self._news("drift")
        for spec in self._specs():
            self._freeze(spec)
            if news:
                self.watch.tick(
                    spec.model, quality=partial(quality.quality_of, scorers=_quality(spec)), targets=spec.alerts,
                    retrain=spec.watch.on_drift == "retrain",
                )  # fmt: skip
            for signal in self.watch.pending(model=spec.model):
                self._heed(spec, signal)

    def _freeze(self, spec: ModelSpec) -> None:
        """A version that went live is compared with what it learned from, from now on."""
        with self.platform.db.reading() as conn:
            live = versions.live(conn, spec.model)
        watched = self.watch.status(spec.model)
        if live is None or (watched and watched[0]["version"] == live.ref):
            return
        prompts = drift.expected(self._learnt(live.dataset) if live.dataset else [], self._asked_in_rollout(live.ref))
        self.watch.freeze(spec.model, live.ref, prompts, channels=spec.watch.drift, alpha=spec.watch.alpha)

    def _learnt(self, dataset: str) -> list[str]:
        """The prompts of a dataset version, as far as the policies leave them for monitoring."""
        home, reader = self.platform.home, reading.itself("monitoring", actor="monitor")
        found = reading.batches(self.platform.db, home, dataset, reader, columns=("prompt",))
        return [str(prompt) for batch in found for prompt in batch.column("prompt").to_pylist()]

    def _asked_in_rollout(self, ref: str) -> list[str]:
        """What users asked while the evidence for a version was gathered, the newest first."""
        model = ref.rpartition("@")[0]
        with self.platform.db.reading() as conn:
            found = next(
                (one for one in stages.of(conn, model) if one.candidate == ref and one.state == "promoted"), None
            )
        if found is None:
            return []
        began = clock.parse(found.started_at)
        asked = self.platform.interactions.page(model=model, since=began, limit=ASKED)
        return [one.input_text for one in asked if one.arm != "shadow" and one.input_text]

    def _heed(self, spec: ModelSpec, signal: Signal) -> None:
        """Drift that users feel asks for a turn, unless policy or a turn under way stands against it."""
        with self.platform.db.writing() as conn:
            turn, why = "", turns.barred(conn, spec)
            if not why:
                try:
                    turn = turns.ask(
                        conn, spec.model, cause="drift", event=signal.event_id, reason=signal.reason, actor="monitor",
                        automatic=True, state="waiting", next_actor="users, whose corrections it learns from",
                    )  # fmt: skip
                except Conflict as error:
                    why = error.message
            signals.take(conn, signal.event_id, turn=turn)
            if why:
                audit.record(conn, actor="loop", action="turn.barred", subject=spec.model,
                             detail={"event": signal.event_id, "reason": why})  # fmt: skip

    def _specs(self) -> list[ModelSpec]:
        with self.platform.db.reading() as conn:
            return [model.spec for model in models.every(conn)]

    def _figures(self) -> None:
        """What the fields of new dataset versions hold, one version at a look."""
        if (ref := statistics.missing(self.platform.db)) is not None:
            statistics.tell(self.platform.db, self.platform.home, ref)

    def _staleness(self) -> None:
        staleness.tell(self.platform.db)

    def _collector(self) -> None:
        """A collector that cannot store what gateways spool (a full disk, a store that is away) is everybody's matter."""
        blocked = status_of(self.platform.home)["blocked"]
        if not blocked:
            return
        with self.platform.db.writing() as conn:
            alerts.raise_(
                conn, f"collector:{clock.iso()[:10]}", model="", kind="storage", severity="critical", actor="loop",
                body={"reason": blocked}, title=f"interactions wait in the spool: {blocked}",
            )  # fmt: skip

    def _traces(self) -> None:
        self._export.tick()

    def _lineage(self) -> None:
        self._openlineage.tick()

    def _erasures(self) -> None:
        """Begin what was asked for, say what broke, and end the flags of versions that newer ones have replaced."""
        with self.platform.db.reading() as conn:
            due, flagged = erasures.at(conn, *erasures.OPEN), {one["model"] for one in flags.of(conn)}
        for one in due:
            if self.durable.state(one.id) == "absent":
                self.durable.start("erase_v1", one.id, {"erasure": one.id})
            elif failure := self.durable.failure(one.id):
                self._stuck(one.id, failure)
        for model in flagged:
            with self.platform.db.writing() as conn:
                flags.settle(conn, model)

    def _stuck(self, identifier: str, failure: str) -> None:
        """An erasure that broke is everybody's matter: somebody's words are still there."""
        with self.platform.db.writing() as conn:
            alerts.raise_(
                conn, f"erasure:{identifier}:failed", model="", kind="erasure", severity="critical", actor="loop",
                title=f"{identifier} could not go on", body={"reason": failure},
            )  # fmt: skip

    def _alerts(self) -> None:
        delivery.deliver(self.platform.db, self.platform.settings)


def _quality(spec: ModelSpec) -> tuple[Scorer, ...]:
    """What the quality of live answers is watched by."""
    return scorers.scorers([spec.release.quality])


def live_scorers(spec: ModelSpec) -> tuple[Scorer, ...]:
    """What live answers are scored by."""
    return scorers.scorers([spec.release.quality, *spec.watch.scorers])
