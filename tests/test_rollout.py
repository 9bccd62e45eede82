"""Rollouts, with a small world of users in front of a simulated gateway that routes by the real snapshot.

Every moment below is given to `tick`, so a day of traffic takes no time.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciranda.deploy import answers, apply, rollout, routing, stages
from ciranda.deploy.rollout import READY_TIMEOUT_S
from ciranda.deploy.stages import Rollout
from ciranda.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from ciranda.govern import access, audit
from ciranda.interactions.query import Pair
from ciranda.interactions.table import Feedback, Interaction
from ciranda.registry import verdicts, versions
from ciranda.store import clock
from registry_world import MODEL, PASSED, World

TEXTS = """id tenant key user conversation model version digest arm shadow_of rollout deployment replica engine endpoint
error finish_reason request_id language guard request response input_text output_text"""
NUMBERS = "cached stream first_byte_ms overhead_ms prompt_tokens completion_tokens cost retry_count"


def interaction(sequence: int, **values: Any) -> Interaction:
    """A recorded answer that went well, except for what is said."""
    blank: dict[str, Any] = {**dict.fromkeys(TEXTS.split(), ""), **dict.fromkeys(NUMBERS.split(), 0)}
    known = {"ts_ms": 0, "status": 200, "latency_ms": 100.0, "sequence": sequence, "id": f"i{sequence}", "model": MODEL}
    return Interaction(**{**blank, **known, **values})


class Traffic:
    """Users, a gateway that routes by the snapshot, and the records as a rollout reads them."""

    def __init__(self, world: World, start: datetime) -> None:
        self.world, self.now, self.dice = world, start, random.Random(11)
        self.rows: list[Interaction] = []
        self.votes: list[Feedback] = []
        self.both: list[Pair] = []
        self.away = False
        self.behaviour: dict[str, dict[str, float]] = {}

    # what `answers.Reader` asks for

    def cursor(self) -> str:
        self._reach()
        return str(len(self.rows))

    def since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Interaction]:
        self._reach()
        return self.rows[int(cursor or 0) :][:limit]

    def feedback_since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Feedback]:
        self._reach()
        return [vote for vote in self.votes if vote.sequence > int(cursor or 0)][:limit]

    def pairs(self, rollout: str, cursor: str | None = None, *, limit: int = 500) -> list[Pair]:
        self._reach()
        return [pair for pair in self.both if int(pair.cursor) > int(cursor or 0) and pair.live.rollout == rollout][
            :limit
        ]

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("the collector is not running", where="test", remedy="start it")

    # what users do

    def flow(self, requests: int, *, apart_s: float = 0.2) -> None:
        """Requests, one after the other, through the routing as published now."""
        routing.refresh(self.world.db, self.world.home)
        route = routing.current(self.world.home.routing)["models"][MODEL]
        for _ in range(requests):
            self.now += timedelta(seconds=apart_s)
            weights = [arm["weight"] for arm in route["arms"]]
            arm = self.dice.choices(route["arms"], weights=weights)[0]
            live = self._answer(arm["version"], arm["arm"], route["rollout"])
            shadow = route["shadow"]
            if shadow and self.dice.random() < shadow["share"]:
                copy = self._answer(shadow["version"], "shadow", route["rollout"], shadow_of=live.id)
                self.both.append(Pair(live, copy))

    def _answer(self, version: str, arm: str, rollout: str | None, **more: Any) -> Interaction:
        way = {"error": 0.0, "valid": 1.0, "up": 0.8, "votes": 0.3, "latency": 100.0, **self.behaviour.get(version, {})}
        failed = self.dice.random() < way["error"]
        one = interaction(
            len(self.rows) + 1, ts_ms=round(self.now.timestamp() * 1000), version=version, arm=arm, rollout=rollout or "",
            status=500 if failed else 200, error="engine_error" if failed else "",
            output_text='{"intent": "x"}' if self.dice.random() < way["valid"] else "no idea",
            latency_ms=way["latency"] * self.dice.uniform(0.8, 1.2), user=f"user {len(self.rows)}", **more,
        )  # fmt: skip
        self.rows.append(one)
        if arm != "shadow" and self.dice.random() < way["votes"]:
            self._vote(one, 1 if self.dice.random() < way["up"] else -1)
        return one

    def _vote(self, one: Interaction, thumb: int) -> None:
        self.votes.append(
            Feedback(
                id=f"f{len(self.votes)}", ts_ms=one.ts_ms + 1000, sequence=len(self.rows), interaction=one.id,
                interaction_ts_ms=one.ts_ms, tenant="", key="", user=one.user, model=MODEL, version=one.version,
                arm=one.arm, rollout=one.rollout, thumb=thumb, rating=0.0, correction="", comment="", reasons=(),
                idempotency_key="", thumbs_up=int(thumb > 0), thumbs_down=int(thumb < 0),
            )
        )  # fmt: skip


class Stage:
    """A world with version 0 live, version 1 approved, replicas ready, and traffic."""

    def __init__(self, path: Path, **release: Any) -> None:
        self.world = World(path, release={"shadow": 50, "steps": [5, 25, 100], **release})
        self.db, self.home = self.world.db, self.world.home
        self.candidate = self.world.passed(1).ref
        self.promote("smart-home@0")
        self.ready("smart-home@0")
        self.traffic = Traffic(self.world, clock.now())

    def promote(self, ref: str) -> rollout.Change:
        with self.db.writing() as conn:
            return rollout.promote(conn, ref, actor="ana")

    def rollback(self, to: str | None = None) -> rollout.Change:
        with self.db.writing() as conn:
            return rollout.rollback(conn, MODEL, to=to, actor="ana")

    def start(self, **more: Any) -> Rollout:
        with self.db.writing() as conn:
            return rollout.start(conn, self.candidate, actor="loop", **more)

    def ready(self, ref: str, *, number: int = 1) -> None:
        """As the supervisor would report it."""
        with self.db.writing() as conn:
            deployment = apply.get(conn, ref)
            for old in apply.replicas(conn, deployment.id):
                apply.remove_replica(conn, old.id)
            for place in range(number):
                replica = apply.add_replica(conn, deployment)
                apply.report(conn, replica.id, state="ready", url=f"http://127.0.0.1:{4000 + place}", pid=1)

    def tick(self) -> list[Rollout]:
        return rollout.tick(self.db, self.traffic, now=self.traffic.now)

    def run(self, *, requests: int = 6000, each: int = 50) -> Rollout:
        """Traffic and looks in turn until the rollout ends."""
        for _ in range(0, requests, each):
            self.traffic.flow(each)
            self.tick()
            if self.newest().ended_at or self.newest().state == "held":
                break
        return self.newest()

    def newest(self) -> Rollout:
        with self.db.reading() as conn:
            return stages.of(conn, MODEL)[0]

    def route(self) -> dict[str, Any]:
        routing.refresh(self.db, self.home)
        return dict(routing.current(self.home.routing)["models"][MODEL])

    def live(self) -> str:
        with self.db.reading() as conn:
            now = versions.live(conn, MODEL)
        return now.ref if now else ""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.db.close()


def weights(route: dict[str, Any]) -> dict[str, float]:
    return {arm["version"]: arm["weight"] for arm in route["arms"]}


def test_a_good_candidate_goes_through_shadow_and_canary_to_live(stage: Stage) -> None:
    stage.traffic.behaviour = {"smart-home@0": {"valid": 0.3, "up": 0.4}}
    begun = stage.start(turn="turn_1")
    assert (begun.state, begun.stage) == ("running", "starting")
    assert weights(stage.route()) == {"smart-home@0": 100.0}
    stage.tick()
    assert stage.newest().stage == "starting"  # no replica yet
    stage.ready(stage.candidate)
    stage.tick()
    assert stage.newest().stage == "shadow"
    assert stage.route()["shadow"]["share"] == 0.5
    ended = stage.run()
    assert (ended.state, ended.stage) == ("promoted", "100 %")
    assert stage.live() == stage.candidate
    assert weights(stage.route()) == {stage.candidate: 100.0}
    assert stage.route()["rollout"] is None
    actions = [event.action for event in reversed(audit.page(stage.db, action="rollout", limit=50))]
    assert actions == ["rollout.started", *["rollout.advanced"] * 3, "rollout.promoted"]
    assert "not worse at 25% of traffic" in ended.reason


@pytest.mark.parametrize("harm", [{"error": 0.4}, {"valid": 0.5}])
def test_a_bad_candidate_goes_back_from_the_shadow_before_any_user_saw_it(stage: Stage, harm: dict[str, float]) -> None:
    stage.traffic.behaviour = {stage.candidate: harm}
    stage.start()
    stage.ready(stage.candidate)
    ended = stage.run()
    assert (ended.state, ended.stage) == ("rolled_back", "shadow")
    assert not [one for one in stage.traffic.rows if one.arm == "canary"]
    assert stage.world.version(stage.candidate).stage == "refused"
    with stage.db.writing() as conn, pytest.raises(Refused):
        rollout.promote(conn, stage.candidate, actor="ana")


def test_what_only_shows_in_the_canary_goes_back_from_there(tmp_path: Path) -> None:
    stage = Stage(tmp_path, shadow=0, steps=[25, 100])
    stage.traffic.behaviour = {stage.candidate: {"error": 0.1}}
    stage.start()
    stage.ready(stage.candidate)
    ended = stage.run()
    assert ended.state == "rolled_back"
    assert "error_rate" in ended.reason
    assert stage.live() == "smart-home@0"
    assert weights(stage.route()) == {"smart-home@0": 100.0}
    seen = [one for one in stage.traffic.rows if one.arm == "canary"]
    assert len(seen) <= 250


def test_a_slow_candidate_goes_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path, shadow=0, steps=[50, 100])
    stage.traffic.behaviour = {stage.candidate: {"latency": 200.0}}
    stage.start()
    stage.ready(stage.candidate)
    ended = stage.run()
    assert ended.state == "rolled_back"
    assert "latency" in ended.reason


def test_shares_follow_the_steps(tmp_path: Path) -> None:
    stage = Stage(tmp_path, shadow=0)
    stage.start()
    stage.ready(stage.candidate)
    stage.tick()
    assert weights(stage.route()) == {"smart-home@0": 95.0, stage.candidate: 5.0}
    stage.run(requests=20_000, each=500)
    shares = [share for _, share in stage.newest().reading["shares"]]
    assert shares == [0.05, 0.25]


def test_one_step_to_all_needs_only_replicas(tmp_path: Path) -> None:
    stage = Stage(tmp_path, shadow=0, steps=[100])
    stage.start()
    stage.tick()
    assert stage.live() == "smart-home@0"
    stage.ready(stage.candidate)
    stage.tick()
    assert stage.live() == stage.candidate


def test_ungated_versions_never_start(stage: Stage) -> None:
    unjudged = stage.world.register(2)
    with stage.db.writing() as conn:
        with pytest.raises(Refused, match="never judged"):
            rollout.start(conn, unjudged.ref, actor="eve")
        with pytest.raises(Refused, match="never judged"):
            rollout.promote(conn, unjudged.ref, actor="eve")


def test_the_same_turn_starts_one_rollout_and_another_is_refused_meanwhile(stage: Stage) -> None:
    first = stage.start(turn="turn_1")
    assert stage.start(turn="turn_1") == first
    with pytest.raises(Conflict, match="is being released"):
        stage.start(turn="turn_2")


def test_many_starting_at_once_make_one_rollout(stage: Stage) -> None:
    made: list[str] = []

    def one() -> None:
        made.append(stage.start(turn="turn_1").id)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    assert len(set(made)) == 1


def test_a_release_that_could_never_be_decided_is_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path, quality="exact_match")
    with pytest.raises(Invalid, match="needs a reference answer"):
        stage.start()


def test_a_candidate_that_never_gets_ready_goes_back_with_the_reason(stage: Stage) -> None:
    stage.start()
    stage.traffic.now += timedelta(seconds=READY_TIMEOUT_S - 5)
    stage.tick()
    assert stage.newest().state == "running"
    stage.traffic.now += timedelta(seconds=10)
    stage.tick()
    assert stage.newest().state == "rolled_back"
    assert "became ready" in stage.newest().reason
    assert stage.world.version(stage.candidate).stage == "approved"  # the machine's fault says nothing of the version


def test_a_candidate_that_loses_its_replicas_gets_no_traffic_until_they_are_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path, shadow=0, steps=[25, 100], judge_on=["error_rate"])
    stage.start()
    stage.ready(stage.candidate)
    stage.tick()
    stage.ready(stage.candidate, number=0)
    assert weights(stage.route()) == {"smart-home@0": 100.0}
    stage.traffic.now += timedelta(seconds=10)
    stage.tick()
    assert "waiting for the candidate's replicas" in stage.newest().reason
    stage.ready(stage.candidate)
    stage.traffic.now += timedelta(seconds=10)
    stage.tick()
    assert stage.newest().unready_at == ""
    assert [share for _, share in stage.newest().reading["shares"]] == [0.25, 0.0, 0.25]
    assert weights(stage.route())[stage.candidate] == 25.0
    assert stage.run().state == "promoted"


def test_a_person_is_asked_before_any_traffic(tmp_path: Path) -> None:
    stage = Stage(tmp_path, approve="human")
    begun = stage.start()
    assert begun.state == "awaiting_approval"
    with stage.db.reading() as conn:
        assert apply.find(conn, stage.candidate) is None
    stage.tick()
    with stage.db.writing() as conn:
        after = rollout.approve(conn, MODEL, actor="ana", note="looks good")
    assert (after.state, after.reason) == ("running", "approved by ana: looks good")
    stage.ready(stage.candidate)
    stage.traffic.behaviour = {"smart-home@0": {"valid": 0.3}}
    assert stage.run().state == "promoted"
    with stage.db.writing() as conn, pytest.raises(Conflict, match="nothing of smart-home waits"):
        rollout.approve(conn, MODEL, actor="ana")


def test_an_undecided_stage_is_held_for_a_person_who_goes_on(tmp_path: Path) -> None:
    stage = Stage(tmp_path, patience="1h")
    stage.start()
    stage.ready(stage.candidate)
    stage.tick()
    stage.traffic.now += timedelta(hours=2)  # nobody came
    stage.tick()
    assert stage.newest().state == "held"
    assert stage.route()["shadow"] is not None
    with stage.db.writing() as conn:
        after = rollout.approve(conn, MODEL, actor="ana")
    assert (after.state, after.stage) == ("running", "5 %")


def test_a_held_rollout_still_goes_back_by_itself(tmp_path: Path) -> None:
    stage = Stage(tmp_path, shadow=0, steps=[50, 100], patience="1h")
    stage.start()
    stage.ready(stage.candidate)
    stage.tick()
    stage.traffic.now += timedelta(hours=2)
    stage.tick()
    assert stage.newest().state == "held"
    stage.traffic.behaviour = {stage.candidate: {"error": 0.5}}
    for _ in range(20):
        stage.traffic.flow(50)
        stage.tick()
    assert stage.newest().state == "rolled_back"


def test_rollback_returns_to_the_version_before_and_forward_again(stage: Stage) -> None:
    stage.promote(stage.candidate)
    stage.ready(stage.candidate)
    back = stage.rollback()
    assert (back.before, back.after, back.ready) == (stage.candidate, "smart-home@0", True)
    assert weights(stage.route()) == {"smart-home@0": 100.0}
    forward = stage.promote(stage.candidate)
    assert (forward.after, forward.ready) == (stage.candidate, True)
    with stage.db.reading() as conn:
        roles = {one.version: (one.role, one.replicas) for one in apply.deployments(conn, MODEL)}
    assert roles == {"smart-home@0": ("standby", 1), stage.candidate: ("live", 1)}


def test_rollback_until_published_takes_less_than_a_tenth_of_a_second(stage: Stage) -> None:
    stage.promote(stage.candidate)
    stage.ready(stage.candidate)
    stage.route()
    began = time.monotonic()
    stage.rollback()
    routing.refresh(stage.db, stage.home)
    took = time.monotonic() - began
    assert weights(routing.current(stage.home.routing)["models"][MODEL]) == {"smart-home@0": 100.0}
    assert took < 0.5, f"{took:.3f} s"


def test_rollback_while_a_rollout_runs_cancels_it_and_keeps_the_live_version(stage: Stage) -> None:
    stage.start()
    stage.ready(stage.candidate)
    stage.tick()
    change = stage.rollback()
    assert change.after == "smart-home@0"
    assert stage.newest().state == "rolled_back"
    route = stage.route()
    assert (route["shadow"], route["rollout"]) == (None, None)
    with stage.db.reading() as conn:
        assert apply.get(conn, stage.candidate).replicas == 0


def test_a_tick_that_was_late_cannot_undo_a_rollback(stage: Stage) -> None:
    """Between its look and its write somebody rolled back: the look is dropped."""
    stage.start()
    stage.ready(stage.candidate)
    stage.tick()

    class Slow(Traffic):
        def since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Interaction]:
            stage.rollback()
            return super().since(cursor, model=model, limit=limit)

    slow = Slow(stage.world, stage.traffic.now)
    stage.traffic.flow(20)
    slow.rows = stage.traffic.rows
    assert rollout.tick(stage.db, slow, now=stage.traffic.now) == []
    assert stage.newest().state == "rolled_back"


def test_there_must_be_something_to_go_back_to(stage: Stage) -> None:
    with pytest.raises(NotFound, match="no earlier live version"):
        stage.rollback()
    with pytest.raises(Refused, match="was never live"):
        stage.rollback(to=stage.candidate)
    assert stage.live() == "smart-home@0"


def test_a_later_bad_verdict_does_not_close_the_way_back(stage: Stage) -> None:
    stage.promote(stage.candidate)
    with stage.db.writing() as conn:
        verdicts.refute(conn, "smart-home@0", champion="", note="old and poor", actor="test")
    assert stage.rollback().after == "smart-home@0"


def test_promoting_another_version_ends_the_rollout(stage: Stage) -> None:
    stage.start()
    other = stage.world.passed(2)
    stage.promote(other.ref)
    assert (stage.newest().state, stage.newest().reason) == ("rolled_back", "smart-home@2 was promoted")


def test_a_promoted_version_without_replicas_takes_over_only_when_one_is_ready(stage: Stage) -> None:
    stage.promote(stage.candidate)
    assert weights(stage.route()) == {"smart-home@0": 100.0}
    stage.ready(stage.candidate)
    assert weights(stage.route()) == {stage.candidate: 100.0}
    stage.ready(stage.candidate, number=0)  # all of them died
    assert weights(stage.route()) == {"smart-home@0": 100.0}


def test_while_the_collector_is_away_nothing_is_decided(stage: Stage) -> None:
    stage.start()
    stage.ready(stage.candidate)
    stage.tick()
    stage.traffic.flow(200)
    stage.traffic.away = True
    assert stage.tick() == []
    assert stage.newest().stage == "shadow"
    stage.traffic.away = False
    stage.traffic.behaviour = {"smart-home@0": {"valid": 0.3}}
    assert stage.run().state == "promoted"


def test_every_answer_is_counted_once_however_often_one_looks(tmp_path: Path) -> None:
    stage = Stage(tmp_path, shadow=0, steps=[50, 100], judge_on=["error_rate"])
    stage.start()
    stage.ready(stage.candidate)
    stage.tick()
    stage.traffic.now += timedelta(seconds=2)
    stage.traffic.flow(30)
    for _ in range(5):
        stage.tick()
    known = stage.newest().evidence["singles"]["error_rate"]
    assert known["candidates"] + known["champions"] == 30
    revision = stage.newest().revision
    stage.tick()
    assert stage.newest().revision == revision  # nothing new: nothing written


def test_what_clients_spoil_or_leave_says_nothing_of_the_version(tmp_path: Path) -> None:
    stage = Stage(tmp_path, shadow=0, steps=[50, 100], judge_on=["error_rate"])
    stage.start()
    stage.ready(stage.candidate)
    stage.tick()
    at = round((stage.traffic.now + timedelta(seconds=5)).timestamp() * 1000)
    common = {"ts_ms": at, "rollout": stage.newest().id, "arm": "canary", "version": stage.candidate}
    stage.traffic.rows = [interaction(n, status=status, **common) for n, status in enumerate((400, 404, 429, 499), 1)]
    stage.tick()
    assert stage.newest().evidence["singles"] == {}


def test_requests_around_a_change_of_shares_are_passed_over() -> None:
    watch = answers.Watch("r", MODEL, "c", ((1_000, 0.05), (10_000, 0.25), (20_000, 0.0)), (), 0.0, lambda _: None)
    asked = {500: None, 1_500: None, 2_000: 0.05, 9_999: 0.05, 10_500: None, 11_000: 0.25, 25_000: None}
    assert {at: watch.share_at(at) for at in asked} == asked


def test_the_snapshot_has_the_shape_that_gateways_read(stage: Stage) -> None:
    with stage.db.writing() as conn:
        principal, secret = access.create(conn, "app", role="client", actor="test")
    route = stage.route()
    whole = routing.current(stage.home.routing)
    assert whole["keys"][access.digest_of(secret)]["id"] == principal.key
    (arm,) = route["arms"]
    assert {*arm} == {"arm", "version", "digest", "weight", "deployment", "engine", "replicas"}
    assert arm["digest"].startswith("sha256:")
    assert route["limits"] == {"max_in_flight": 64, "timeout_s": 120.0, "try_timeout_s": 0.0, "tries": 3}
    assert route["engine_key_file"] == "run/engine.key"
    generation = whole["generation"]
    assert routing.refresh(stage.db, stage.home) == generation
    stage.promote(stage.candidate)
    stage.ready(stage.candidate)
    assert routing.refresh(stage.db, stage.home) == generation + 1


def test_a_broken_routing_file_is_replaced(stage: Stage) -> None:
    stage.home.routing.write_text("{torn")
    assert weights(stage.route()) == {"smart-home@0": 100.0}


VERBS = st.lists(
    st.sampled_from(["promote 0", "promote 1", "promote 2", "rollback", "start", "tick", "flow", "kill", "revive"]),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(verbs=VERBS)
def test_whatever_happens_weights_sum_to_one_hundred_and_one_version_is_live(
    tmp_path_factory: pytest.TempPathFactory, verbs: list[str]
) -> None:
    stage = Stage(tmp_path_factory.mktemp("laws"), shadow=0, steps=[50, 100])
    stage.candidate = stage.world.passed(2).ref
    for verb in verbs:
        try:
            act(stage, verb)
        except (Conflict, NotFound, Refused):
            continue
        finally:
            route = stage.route()
            assert sum(arm["weight"] for arm in route["arms"]) == pytest.approx(100)
            assert all(arm["replicas"] for arm in route["arms"] if arm["arm"] == "canary")
            with stage.db.reading() as conn:
                assert sum(version.stage == "live" for version in versions.of(conn, MODEL)) == 1
                assert sum(one.state in stages.OPEN for one in stages.of(conn, MODEL)) <= 1
    assert audit.verify(stage.db).ok
    stage.db.close()


def act(stage: Stage, verb: str) -> None:
    word, _, number = verb.partition(" ")
    if word == "promote":
        with stage.db.writing() as conn:
            if number == "2":
                verdicts.record(conn, f"{MODEL}@2", PASSED, champion="", actor="test")
            rollout.promote(conn, f"{MODEL}@{number}", actor="ana")
    elif word == "rollback":
        stage.rollback()
    elif word == "start":
        stage.start()
    elif word == "tick":
        stage.tick()
    elif word == "flow":
        stage.traffic.flow(20)
    else:
        for deployment in deployments(stage):
            stage.ready(deployment, number=0 if word == "kill" else 1)


def deployments(stage: Stage) -> list[str]:
    with stage.db.reading() as conn:
        return [one.version for one in apply.deployments(conn, MODEL)]
