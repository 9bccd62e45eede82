"""A release as it stands: shares from the published routing, evidence from the rollout's row, gates from the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ciranda.deploy import apply, routing, stages
from ciranda.deploy.bets import KNOWN
from ciranda.deploy.evidence import Evidence, Tally
from ciranda.evals import scorers
from ciranda.loop.platform import Platform
from ciranda.registry import history, models, verdicts, versions
from ciranda.registry.verdicts import Ruling
from ciranda.web.load import versions as lines
from ciranda.web.load.traffic import Traffic
from ciranda.web.views.release import Arm, Estimate, GateRow, Judged, ReleasePage, Rollout, Step

HISTORY = 20
STOP_AT, GO_AT = 100.0, 20.0


def page(platform: Platform, traffic: Traffic, model: str) -> ReleasePage:
    """Everything on the release page. Raises NotFound."""
    with platform.db.reading() as conn:
        models.get(conn, model)
        live, before = versions.live(conn, model), versions.previous(conn, model)
        known = stages.of(conn, model)
        since = live_since(conn, model, live.number) if live else ""
        now = next((one for one in known if one.state in stages.OPEN), None)
        judged = now.candidate if now else live.ref if live else ""
        ruling = newest_judged(conn, judged)
        rows = lines.rows(conn, model)
        replicas, deployments = apply.replicas(conn), apply.deployments(conn)
    arms = _arms(platform, traffic, model, now, deployments, replicas, live_since=since)
    return ReleasePage(
        model, live.ref if live else "", before.ref if before else "", since, rollout_of(now) if now else None, arms,
        _steps(now), _judged(now), gates(ruling), tuple(rollout_of(one) for one in known[:HISTORY]), rows,
    )  # fmt: skip


def live_since(conn: sa.Connection, model: str, number: int) -> str:
    """When the live version became so."""
    changes = [one for one in history.of(conn, model) if one.number == number and one.stage == "live"]
    return changes[-1].at if changes else ""


def newest_judged(conn: sa.Connection, version: str) -> Ruling | None:
    """The newest verdict that gates spoke, of a version."""
    found = verdicts.of(conn, version) if version else []
    return next((one for one in found if one.kind == "judged"), None)


def rollout_of(one: stages.Rollout) -> Rollout:
    return Rollout(one.id, one.candidate, one.champion, one.state, one.started_at, one.ended_at, one.reason, one.turn)


def _arms(
    platform: Platform,
    traffic: Traffic,
    model: str,
    now: stages.Rollout | None,
    deployments: Sequence[apply.Deployment],
    replicas: Sequence[apply.Replica],
    *,
    live_since: str,
) -> tuple[Arm, ...]:
    """The arms as gateways have them, with the replicas behind each."""
    route = routing.current(platform.home.routing).get("models", {}).get(model, {})
    told = [*route.get("arms", ()), *([route["shadow"]] if route.get("shadow") else [])]
    counts = traffic.answered(now.id) if now else {}
    found = []
    for arm in told:
        deployment = next((one for one in deployments if one.version == arm["version"]), None)
        mine = [one for one in replicas if deployment and one.deployment == deployment.id]
        ready = sum(one.state == "ready" for one in mine)
        percent = float(arm["share"]) * 100 if arm["arm"] == "shadow" else float(arm["weight"])
        asked = counts.get(arm["arm"], 0) if now else traffic.served(arm["version"], live_since) if live_since else 0
        found.append(Arm(arm["arm"], arm["version"], percent, ready, deployment.replicas if deployment else 0, asked))
    return tuple(found)


def _steps(now: stages.Rollout | None) -> tuple[Step, ...]:
    if now is None:
        return ()
    shares = now.reading.get("shares", [])
    return (
        tuple(
            Step(
                "shadow" if stage["kind"] == "shadow" else "canary",
                float(stage["percent"]),
                "done" if place < now.step else "now" if place == now.step else "todo",
                now.stage_at if place == now.step else "",
            )
            for place, stage in enumerate(now.stages)
        )
        if shares or now.stages
        else ()
    )


def _judged(now: stages.Rollout | None) -> tuple[Judged, ...]:
    """Each metric with both sides: pairs while it is in shadow, single answers in the canary, pairs where those are silent."""
    if now is None or not now.evidence:
        return ()
    evidence = Evidence.from_dict(now.evidence)
    names = dict.fromkeys(name.rpartition(":")[0] for name in now.e_values)
    return tuple(_metric(name, now, evidence) for name in names if name)


def _metric(name: str, now: stages.Rollout, evidence: Evidence) -> Judged:
    single, pair = evidence.single(name), evidence.pair(name)
    tally = pair if now.kind == "shadow" or not single.n else single
    worse, fine = now.e_values.get(f"{name}:worse", 0.0), now.e_values.get(f"{name}:fine", 0.0)
    verdict = "worse" if worse >= STOP_AT else "fine" if fine >= GO_AT else "open"
    high_is_bad = KNOWN[name].high_is_bad if name in KNOWN else scorers.bad_when_high(name)
    return Judged(
        name, _mean(tally, candidate=False), _mean(tally, candidate=True), tally.champions, tally.candidates, worse, fine,
        verdict, high_is_bad, STOP_AT, GO_AT,
    )  # fmt: skip


def _mean(tally: Tally, *, candidate: bool) -> float | None:
    count, total = (tally.candidates, tally.candidate_sum) if candidate else (tally.champions, tally.champion_sum)
    return total / count if count else None


def gates(ruling: Ruling | None) -> tuple[GateRow, ...]:
    """The gates of a verdict, with both values."""
    if ruling is None:
        return ()
    return tuple(
        GateRow(
            " · ".join(part for part in (_suite(gate["suite"]), _slice(gate["slice"])) if part), gate["rule"],
            gate["outcome"].replace(" ", "_"), _estimate(gate.get("candidate")), _estimate(gate.get("live")), gate["metric"],
            gate["reason"],
        )
        for gate in ruling.gates
    )  # fmt: skip


def _suite(path: str) -> str:
    """The dataset's own test split goes without saying."""
    return "" if path == "test" else path.rpartition("/")[2]


def _slice(given: Mapping[str, str]) -> str:
    return ", ".join(str(value) for value in given.values())


def _estimate(given: Mapping[str, Any] | None) -> Estimate | None:
    return Estimate(given["mean"], given["low"], given["high"], int(given["n"])) if given else None
