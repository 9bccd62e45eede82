"""The judging steps of a turn: ask a version the cases of its model's gates, keep what it scored, let the gates speak.

An exam is a job under a key that follows from the version and the suites, so asking again finds the one under way.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.evals import exams, replays, suites
from ciranda.evals.cases import Suite
from ciranda.evals.scorers import scorer
from ciranda.evals.suites import Evaluation
from ciranda.jobs.local import JobSpec
from ciranda.loop import judging, papers, picks, replaying
from ciranda.loop.heavy import Told, await_job
from ciranda.loop.platform import Platform
from ciranda.registry import gates, models, verdicts, versions
from ciranda.registry.versions import Version
from ciranda.store import files

ASKED, JUDGED = "asked", "judged"  # marks in the folder of an exam that somebody asked for by hand


def examine(
    platform: Platform,
    spec: ModelSpec,
    version: Version,
    *,
    actor: str,
    dataset: str = "",
    extra: Sequence[str] = (),
    scorers: Sequence[str] = (),
) -> str:
    """Begin to ask a version the cases of its model's gates; returns the key of the job.

    Asked before: the same key, unless that job failed; then it is tried anew.

    Args:
        dataset: Whose test split `suite: test` means; without it the newest version of the model's dataset.
        extra: Other suites to ask in their place, as gates name them.
        scorers: Scorers to ask beside those of the gates.
    """
    chosen = papers.suites_of(platform, spec, dataset, extra)
    metrics = papers.asked(spec, scorers)
    spec_of_exam = exams.Spec(
        engine=tuple(picks.engine_of(platform.home, spec, version)),
        name=version.ref,
        key_file=str(platform.home.engine_key),
        suites=tuple(chosen.values()),
        metrics=metrics,
        known=_reports(platform, version),
        max_tokens=spec.evaluate.max_tokens,
        concurrency=spec.serve.slots,
        **papers.needs(platform, spec, version),
    )
    mark = papers.mark(spec, chosen.values(), metrics)
    keys = (f"evaluate:{version.ref}:{mark}{again}" for again in ("", *(f":{n}" for n in range(2, 1000))))
    key = next(one for one in keys if platform.jobs.status(one).state != "failed")
    folder = platform.home.jobs / key
    if platform.jobs.status(key).state in ("unknown", "lost"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_atomic(folder / "spec.json", json.dumps(spec_of_exam.to_dict(), ensure_ascii=False))
        platform.jobs.submit(key, JobSpec((sys.executable, "-m", "ciranda.evals.exams", str(folder)), folder))
    return key


def ask(platform: Platform, spec: ModelSpec, version: Version, *, actor: str, scorers: Sequence[str] = ()) -> str:
    """Begin an exam that somebody asked for by hand, whose end has the gates judged; returns the key of the job."""
    key = examine(platform, spec, version, actor=actor, scorers=scorers)
    with platform.db.reading() as conn:
        live = versions.live(conn, spec.model)
    if live is not None and live.ref != version.ref:
        examine(platform, spec, live, actor=actor)
    folder = platform.home.jobs / key
    (folder / JUDGED).unlink(missing_ok=True)
    files.write_atomic(folder / ASKED, actor)
    return key


def examined(
    platform: Platform, spec: ModelSpec, sitting: Sequence[Version], *, dataset: str, tell: Told
) -> dict[str, dict[str, str]]:
    """Evaluate versions to the end, side by side; the ids of their evaluations by version and suite.

    What was recorded before is not asked again.

    Raises:
        Failed: An exam failed for good; says how its log ends.
    """
    chosen = papers.suites_of(platform, spec, dataset)
    found = {version.ref: _evaluations(platform, spec, version, chosen) for version in sitting}
    due = [version for version in sitting if set(found[version.ref]) != set(chosen)]

    def begin(version: Version) -> str:
        return examine(platform, spec, version, actor="loop", dataset=dataset)

    for version, key in [(version, begin(version)) for version in due]:
        await_job(platform, key, partial(begin, version), tell=_prefixed(tell, f"{version.ref}: "))
        found[version.ref] = _recorded(platform, version, list(chosen), exams.results(platform.jobs.collect(key)))
    return found


def _evaluations(platform: Platform, spec: ModelSpec, version: Version, chosen: Mapping[str, Suite]) -> dict[str, str]:
    """The evaluations of a version on these very cases, by these scorers at least, that are recorded already."""
    needed = set(papers.asked(spec))
    with platform.db.reading() as conn:
        rows = [row for row in suites.of_version(conn, version.ref) if needed <= set(row["scorers"])]
    return {
        name: next(row["id"] for row in rows if row["suite_digest"] == suite.digest)
        for name, suite in chosen.items()
        if any(row["suite_digest"] == suite.digest for row in rows)
    }


def _prefixed(tell: Told, start: str) -> Told:
    return lambda text: tell(start + text)


def record_exams(platform: Platform) -> None:
    """Keep the results of exams that somebody asked for by hand; one that a turn waits for is kept once all the same."""
    known = platform.jobs.keys()
    for key in known:
        folder = platform.home.jobs / key
        done = folder / "recorded"
        if not key.startswith("evaluate:") or done.exists() or platform.jobs.status(key).state != "succeeded":
            continue
        with platform.db.reading() as conn:
            version = versions.get(conn, key.split(":")[1])
        evaluations = exams.results(folder)
        ids = _recorded(platform, version, [one.suite for one in evaluations], evaluations)
        files.write_atomic(done, json.dumps(list(ids.values())))
    for key in known:
        folder = platform.home.jobs / key
        by_hand = key.startswith("evaluate:") and (folder / "recorded").exists() and (folder / ASKED).exists()
        if by_hand and not (folder / JUDGED).exists() and _judged(platform, key.split(":")[1]):
            files.write_atomic(folder / JUDGED, "")


def replay(platform: Platform, spec: ModelSpec, candidate: Version, *, tell: Told) -> None:
    """Replay the traffic of the day before to a candidate, where a gate names the suite `replay`."""
    if any(gate.suite == replays.SUITE for gate in spec.gates):
        replaying.freeze(platform, candidate, tell=tell)


def consult(
    platform: Platform, spec: ModelSpec, candidate: Version, champion: Version, evaluations: Mapping[str, Mapping[str, str]],
    *, dataset: str = "", again: bool = False,
) -> list[str]:  # fmt: skip
    """Begin to ask the judges that the gates name about two examined versions; the keys of jobs that are still to end."""
    if not any(scorer(gate.metric).needs == "judge" for gate in spec.gates):
        return []
    chosen = papers.suites_of(platform, spec, dataset)
    cases = {name: {case.id: case.messages for case in suite.cases} for name, suite in chosen.items()}
    return judging.consult(platform, spec, candidate, champion, evaluations, cases, again=again)


def _evidence(
    conn: sa.Connection, spec: ModelSpec, candidate: Version, champion: Version, evaluations: Mapping[str, Mapping[str, str]],
    generation: int,
) -> dict[str, Any]:  # fmt: skip
    """What a verdict stands on."""
    judges = judging.evidence(conn, spec, candidate, champion, evaluations)
    return {"evaluations": evaluations, "generation": generation, **({"judges": judges} if judges else {})}


def _judged(platform: Platform, ref: str) -> bool:
    """Let the gates speak of a version that was examined by hand; False while the live one still sits its exam.

    Only one that is on its way is judged: what was live keeps its way back.
    """
    with platform.db.reading() as conn:
        version = versions.get(conn, ref)
        model, live = models.get(conn, version.model), versions.live(conn, version.model)
        rulings = verdicts.of(conn, ref)
    spec = model.spec
    if version.stage not in ("candidate", "approved", "refused") or live is None:
        return True
    chosen = papers.suites_of(platform, spec, "")
    found = {one.ref: _evaluations(platform, spec, one, chosen) for one in (version, live)}
    if set(found[ref]) != set(chosen):
        return True  # the suites have changed since: another exam is due
    if set(found[live.ref]) != set(chosen):
        return False
    if consult(platform, spec, version, live, found):
        return False
    with platform.db.reading() as conn:
        stands_on = _evidence(conn, spec, version, live, found, model.generation)
    if all(ruling.evidence != stands_on for ruling in rulings):  # the same again would say nothing new
        judge(platform, spec, version, live, found, turn="")
    return True


def kept(platform: Platform, key: str) -> list[str]:
    """The ids of the evaluations that came of an exam; empty until they are recorded."""
    try:
        return list(json.loads((platform.home.jobs / key / "recorded").read_text()))
    except (OSError, ValueError):
        return []


def _recorded(platform: Platform, version: Version, names: list[str], evaluations: list[Evaluation]) -> dict[str, str]:
    done: dict[str, str] = {}
    for name, evaluation in zip(names, evaluations, strict=True):
        report = suites.save(platform.home, evaluation)
        by = hashlib.sha256(" ".join(evaluation.scorers).encode()).hexdigest()[:8]
        identifier = f"eval_{version.model}-{version.number}_{evaluation.suite_digest[7:23]}-{by}"
        with platform.db.writing() as conn:
            models.lock(conn, version.model)  # the turn that waits for an exam and the leader's look both come here
            done[name] = suites.record(
                conn, evaluation, model=version.model, version=version.ref, report=report, actor="loop", id=identifier
            )
            figures = {metric: one.to_dict() for metric, one in evaluation.metrics.items()}
            versions.evaluated(conn, platform.home, version.ref, {evaluation.suite: figures}, actor="loop")
    return done


def _reports(platform: Platform, version: Version) -> tuple[str, ...]:
    with platform.db.reading() as conn:
        rows = suites.of_version(conn, version.ref)
    return tuple(str(suites.report_path(platform.home, row["report"])) for row in rows)


def judge(
    platform: Platform, spec: ModelSpec, candidate: Version, champion: Version, evaluations: Mapping[str, Mapping[str, str]],
    *, turn: str,
) -> dict[str, Any]:  # fmt: skip
    """Let the gates speak, and keep what they said.

    Args:
        evaluations: Ids of evaluations by version and suite.
    """
    with platform.db.reading() as conn:
        loaded = {
            ref: {name: suites.load(platform.home, suites.get(conn, one)["report"]) for name, one in by_suite.items()}
            for ref, by_suite in evaluations.items()
        }
    standings, judged = judging.standings(platform, spec, candidate, champion, evaluations, loaded)
    verdict = gates.judge(spec.gates, judged[candidate.ref], judged[champion.ref], standings)
    with platform.db.writing() as conn:
        generation = models.get(conn, candidate.model).generation
        stands_on = _evidence(conn, spec, candidate, champion, evaluations, generation)
        verdicts.record(
            conn, candidate.ref, verdict, champion=champion.ref, actor="loop", turn=turn, evidence=stands_on
        )
        if verdict.outcome != "pass":
            versions.move(conn, candidate.ref, "refused", actor="loop", reason=verdict.reason)
        else:
            versions.admit(conn, candidate.ref, actor="loop")
    return {"outcome": verdict.outcome, "reason": verdict.reason}
