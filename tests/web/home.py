# ruff: noqa: E501 - a table of values reads better in long lines
"""A home in the middle of a release, with real tables, a dataset, and a collector that recorded some traffic."""

from __future__ import annotations

from dataclasses import replace

from starlette.testclient import TestClient

from ciranda import loop
from ciranda.config import Settings
from ciranda.data import versions as datasets
from ciranda.data.rows import Row
from ciranda.deploy import apply, rollout, routing, stages
from ciranda.deploy.evidence import Evidence, Tally
from ciranda.evals import library, suites, written
from ciranda.evals.suites import Answer, Evaluation, evaluations
from ciranda.govern import access
from ciranda.loop import turns
from ciranda.monitor import alerts
from ciranda.monitor.drift import drift_states
from ciranda.registry import verdicts, versions
from ciranda.registry.gates import GateResult, Verdict
from ciranda.store import clock, ids
from ciranda.train.trials import searches, trials
from ciranda.web import session
from ciranda.web.app import create
from recorded import Recorded, opinion, record, until
from registry_world import MODEL, World
from web.test_pages import token_of

SEARCH = f"search:{MODEL}:first"
TURN = f"turn:{MODEL}:first"
CURVE = [[step, 2.0 / step] for step in range(1, 41)]


class Home:
    """A home in the middle of a release, with a collector that recorded some traffic."""

    def __init__(self, path) -> None:
        self.world = World(path, purpose="Turns what people say into one line of JSON.", serve={"engine": "fake"})
        self.recorded = Recorded(self.world.home.path)
        self.db = self.world.db
        self.platform = loop.Platform(self.world.home, Settings(), self.db)
        with self.db.writing() as conn:
            rollout.promote(conn, f"{MODEL}@0", actor="loop", reason="the bare base")
            self.key = access.create(conn, "ana", role="admin", actor="test")[1]
            self.narrow = access.create(conn, "eve", role="admin", models=["other"], actor="test")[1]
        self.data()
        self.training()
        self.version = self.gated()
        self.registered()
        self.release()
        self.drift()
        self.recorded.start()
        self.traffic()

    def data(self) -> None:
        rows = [
            Row.of(f"say {n} <b>", '{"intent":"X"}', language=("en", "pt")[n % 2], split=("train", "test")[n % 5 == 0],
                   source="intents", origin=f"intents:{n}")
            for n in range(60)
        ]  # fmt: skip
        report = {"looked": 61, "kept": 60, "blocked": False, "checks": {"schema": {"action": "block", "looked": 61, "found": 0, "examples": []},
                  "duplicates": {"action": "drop", "looked": 61, "found": 1, "examples": [{"origin": "intents:3", "key": "k", "reason": "same as row 2"}]}}}  # fmt: skip
        datasets.commit(
            self.db, self.world.home, MODEL, rows, transformation={"kind": "ingestion"}, actor="loop", report=report
        )
        datasets.commit(
            self.db,
            self.world.home,
            MODEL,
            [*rows[1:], Row.of("new one", "{}", language="en")],
            transformation={},
            actor="loop",
        )

    def training(self) -> None:
        now = clock.iso()
        with self.db.writing() as conn:
            conn.execute(searches.insert().values(
                id=SEARCH, model=MODEL, dataset=f"{MODEL}@1", turn=TURN, state="complete", objective="validation exact match",
                plan={}, best=1, reason="", started_at=now, ended_at=now))  # fmt: skip
            for number, state in enumerate(("complete", "complete", "failed")):
                conn.execute(trials.insert().values(
                    id=f"{SEARCH}.{number}", search=SEARCH, number=number, state=state, recipe={"rank": 8 * (number + 1), "seed": 17},
                    objective=0.8, loss=0.1, loss_curve=CURVE, seconds=60.0, job=f"train:{MODEL}:{number}", folder="", reason="",
                    figures={"validation": {"exact_match": 0.8, "n": 40}, "tokens_per_s": 800.0, "environment": {"torch": "2.13"}},
                    started_at=now, ended_at=now))  # fmt: skip

    def gated(self):
        draft = replace(self.world.draft(1), turn=TURN, trial=f"{SEARCH}.1")
        version = versions.register(self.db, self.world.home, draft, actor="loop")
        gates = tuple(
            GateResult("exact_match", rule, "test", where, outcome, "0.8 against 0.0")
            for rule, where, outcome in (("better than live", {}, "pass"), (">= 0.7", {"language": "en"}, "pass"))
        )
        estimate = {"mean": 0.8, "low": 0.7, "high": 0.88, "n": 60}
        with self.db.writing() as conn:
            verdicts.record(conn, version.ref, Verdict("pass", gates), champion=f"{MODEL}@0", actor="loop")
            for ref, mean in ((version.ref, 0.8), (f"{MODEL}@0", 0.1)):
                conn.execute(evaluations.insert().values(
                    id=ids.new("eval"), model=MODEL, version=ref, suite="test", suite_digest="sha256:x", n=60, errors=0, scorers=["exact_match"],
                    metrics={"exact_match": {**estimate, "mean": mean}}, created_at=clock.iso(), report=self.report(mean),
                    slices={"language=en": {"exact_match": {**estimate, "n": 30}}, "source=intents": {"exact_match": estimate}}))  # fmt: skip
        return version

    def report(self, mean: float) -> str:
        """Ten answers that are right as often as that, for the pages of evaluations."""
        answers = [
            Answer(f"c{n}", f"light {n}", "on", "on" if n < mean * 10 else "off", {"exact_match": float(n < mean * 10)},
                   {"language": "en"}, 0.2)
            for n in range(10)
        ]  # fmt: skip
        return suites.save(self.world.home, Evaluation("test", "sha256:x", tuple(answers), ("exact_match",)))

    def registered(self) -> None:
        """A suite in two versions, with a pair."""
        for prompt in ("Will he come?", "Will he come by night?"):
            text = f"suite: manners\nswap: [gender]\ncases: [{{prompt: '{prompt}', reference: yes, slices: {{tone: polite}}}}]"
            library.register(
                self.db, self.world.home, written.read(text.replace("yes", '"yes"'), file="manners.yaml"), actor="ana"
            )

    def release(self) -> None:
        with self.db.writing() as conn:
            turns.ask(conn, MODEL, cause="person", event="first", reason="asked by ana", actor="ana")
            turns.note(
                conn,
                TURN,
                "gate",
                "done",
                summary="2 of 2",
                dataset=f"{MODEL}@1",
                version=self.version.ref,
            )
            begun = rollout.start(conn, self.version.ref, turn=TURN, actor="loop")
            turns.change(conn, TURN, state="released", rollout=begun.id, next_actor="the evidence of the rollout")
            for deployment in apply.deployments(conn):
                conn.execute(apply.replicas_table.insert().values(
                    id=ids.new("rep"), deployment=deployment.id, generation=deployment.generation, url="http://127.0.0.1:9", pid=1,
                    state="ready", reason="", restarts=0, ready_at=clock.iso(), changed_at=clock.iso()))  # fmt: skip
            evidence = Evidence(
                pairs={"quality": Tally(candidates=30, candidate_sum=27.0, champions=30, champion_sum=3.0)}
            )
            conn.execute(stages.rollouts.update().where(stages.rollouts.c.id == begun.id).values(
                step=0, stage="shadow", evidence=evidence.to_dict(), e_values={"quality:worse": 0.1, "quality:fine": 25.0, "error_rate:worse": 130.0}))  # fmt: skip
        self.rollout = begun.id
        routing.refresh(self.db, self.world.home)

    def drift(self) -> None:
        moved = [{"label": "pt", "before": 0.0, "after": 0.9, "examples": [["", "acende a luz"]]}]
        body = {"channel": "input", "version": f"{MODEL}@0", "summary": "pt 0 % -> 90 %", "since": clock.iso(), "messages": 16,
                "e_value": 737.0, "languages": moved, "groups": []}  # fmt: skip
        with self.db.writing() as conn:
            self.alert = alerts.raise_(
                conn, "drift:1", model=MODEL, kind="drift", severity="warning", title="the input has changed", body=body
            ).id
            alerts.raise_(conn, "ingestion:1", model=MODEL, kind="ingestion", severity="warning", title="the source is away",
                          body={"error": {"message": "no such folder", "remedy": "make it"}})  # fmt: skip
            summary = {"name": "input", "state": "drift", "seen": 16, "e_value": 737.0, "e_limit": 400, "shift": 0.9, "shift_limit": 0.05,
                       "since": clock.iso(), "history": [[8, -2.0], [16, 2.9]], "latest": body}  # fmt: skip
            conn.execute(drift_states.insert().values(
                model=MODEL, channel="input", version=f"{MODEL}@0", generation=1, sequence=2, state=b"", summary=summary, cursor="[]",
                updated_at=clock.iso()))  # fmt: skip

    def traffic(self) -> None:
        writer = self.recorded.writer()
        meta = {"model": MODEL, "version": f"{MODEL}@0", "rollout": self.rollout}
        started = clock.now_ms() - 60_000
        self.asked = [
            record(writer, f"question {n} <script>", "an answer", **{**meta, "ts_ms": started + 200 * n})
            for n in range(60)
        ]
        record(writer, "it broke", "", **{**meta, "ts_ms": started, "status": 503, "error": "upstream_unavailable"})
        opinion(writer, self.asked[0], thumb=-1, comment="wrong", correction="{}", reasons=["wrong"])
        opinion(writer, self.asked[1], thumb=1)
        writer.seal()
        until(
            lambda: (
                self.recorded.interactions.count(model=MODEL) == 61 and self.recorded.interactions.count(thumb=-1) == 1
            )
        )

    def client(self, key: str) -> TestClient:
        client = TestClient(create(self.platform), follow_redirects=False)
        client.post("/sign-in", data={"key": key, "token": token_of(client.get("/sign-in").text)})
        assert session.COOKIE in client.cookies
        return client

    def close(self) -> None:
        self.platform.interactions.close()
        self.recorded.close()
        self.db.close()
