"""Judges at work: labelled answers are shown to them, evaluations are judged by them, and gates are told what to believe.

    calibrate    answers that people labelled, in a review queue or a suite, are judged; a job, then a calibration
    consult      what a model's gates ask of judges about two evaluations; jobs, then judgements
    standings    what of that is to be believed now, beside the evaluations with the scores in them
    keep         the leader keeps what jobs have found, and starts again what died

A judge that is not believed is not paid: `consult` leaves it out, and the gate says why. Its questions go to our own gateway by a
key of their own, which can only chat, or to an address elsewhere by the key that its registration names.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.data.reviews import items, queues
from ciranda.data.rows import Message
from ciranda.deploy import routing
from ciranda.errors import Invalid, NotFound, Refused, Unauthenticated, Unavailable
from ciranda.evals import asking, calibration, judge, judgements, library, suites
from ciranda.evals.asking import Spec
from ciranda.evals.calibration import Calibration, Standing
from ciranda.evals.compare import LEAST, of_pairs
from ciranda.evals.judge import Ask, Judge
from ciranda.evals.judgements import Judgement
from ciranda.evals.suites import Answer, Evaluation
from ciranda.govern import access, audit
from ciranda.govern.access import Principal
from ciranda.govern.outgoing import Door
from ciranda.jobs.local import ATTEMPTS, JobSpec
from ciranda.loop import reviews
from ciranda.loop.heavy import POLL_S, Told
from ciranda.loop.platform import Platform
from ciranda.registry.versions import Version
from ciranda.store import clock, files, ids

PREFIX = "judge:"
DAYS = 30.0
MOST = 1000  # labelled answers that one calibration looks at, the newest
Ids = Mapping[str, Mapping[str, str]]


# --- held against people ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """An answer with what people say of it: 1 is right. With `other`, whether they prefer the answer to that."""

    case: str
    messages: tuple[Message, ...]
    answer: str
    label: float
    version: str = ""
    other: str = ""


def calibrate(
    platform: Platform,
    name: str,
    who: Principal,
    *,
    kind: str = "judge",
    queue: str = "",
    suite: str = "",
    model: str = "",
    days: float = DAYS,
    everything: bool = False,
) -> str:
    """Begin to hold a judge against people; returns the key of the job, whose end is a calibration.

    Args:
        kind: `judge` for grades, `preferred` for preferences.
        queue: A review queue with labels. `suite`: a registered one whose cases carry labels (`_of_suite`).
        model: Whose answers they are; without it, the queue's model.
        days: How long it holds.
        everything: Also items that were chosen for being doubtful; else those alone that came at random.

    Raises:
        Refused: Too few labels; says how to get more.
    """
    with platform.db.reading() as conn:
        by = judge.get(conn, name)
        chosen = queues.get(conn, queue) if queue else None
    whose = model or (chosen.model if chosen else "")
    if bool(queue) == bool(suite):
        raise Invalid("labels come from a queue or from a suite", where="queue, suite",
                      remedy="name one of them: `--queue` or `--suite`")  # fmt: skip
    if not whose:
        raise Invalid("whose answers are these?", where="model", remedy="name the model: `--model`")
    said = _of_queue(platform, queue, who, kind, everything) if queue else _of_suite(platform, suite, kind)
    found = list(said)
    if len(found) < LEAST:
        raise Refused(
            f"{len(found)} labelled answers in {queue or suite}, fewer than {LEAST}", where=f"judge {name}",
            remedy=f"label more: `ciranda review fill {queue or 'QUEUE'}`; or take those too that were chosen for doubt: --all",
        )  # fmt: skip
    identifier = ids.new("cal")
    told = f"queue {queue}, {'all' if everything else 'at random'}" if queue else f"suite {suite}"
    about = {
        "purpose": "calibrate", "id": identifier, "judge": name, "digest": by.digest, "kind": kind, "model": whose,
        "source": told, "labels": {one.case: [one.label, one.version] for one in found}, "actor": who.name, "scale": by.scale,
        "valid_until": clock.iso(clock.now() + timedelta(days=days)),
    }  # fmt: skip
    key = f"{PREFIX}calibrate:{identifier}"
    with platform.db.writing() as conn:
        detail = {"job": key, "source": told, "labels": len(found), "model": whose}
        audit.record(conn, actor=who.name, action="judge.calibration_asked", subject=name, detail=detail)
    _begin(platform, key, by, [ask for one in found for ask in _asks(by, kind, one)], about)
    return key


def _asks(by: Judge, kind: str, one: Labelled) -> Sequence[Ask]:
    if kind == "preferred":
        return judge.comparing(by, one.case, one.messages, one.answer, one.other)
    return (judge.grading(by, one.case, one.messages, one.answer),)


def _of_queue(platform: Platform, queue: str, who: Principal, kind: str, everything: bool) -> Iterator[Labelled]:
    """The settled items of a queue: right is 1, wrong and corrected are 0; for preferences each correction over the answer."""
    with platform.db.reading() as conn:
        settled = _settled(conn, queue, everything)
    looked = reviews.look_at_all(platform, [item for item, _ in settled], who)
    for item, said in settled:
        given = [one for one in said if one.verdict != "skip"]
        right = sum(one.verdict == "right" for one in given)
        shown = looked.get(item.id)
        if shown is None or right * 2 == len(given):
            continue
        version = shown.version if item.kind == "interaction" else ""
        better = next((one.correction.strip() for one in reversed(given) if one.correction.strip()), "")
        if kind == "judge":
            yield Labelled(item.id, shown.messages, shown.answer, float(right * 2 > len(given)), version)
        elif better and right * 2 < len(given) and better != shown.answer.strip():
            yield Labelled(item.id, shown.messages, better, 1.0, version, shown.answer)


def _of_suite(platform: Platform, name: str, kind: str) -> Iterator[Labelled]:
    """Cases that carry labels: an `answer` with its `verdict` (right, wrong, or a number from 0 to 1), or two answers.

    Two are `answer` and `other`, and `preferred` names the better one.
    """
    for case in library.load(platform.db, platform.home, name).cases:
        said = case.labels
        if kind == "judge" and "answer" in said and "verdict" in said:
            yield Labelled(
                case.id, case.messages, said["answer"], _share(said["verdict"], case.id), said.get("version", "")
            )
        elif kind == "preferred" and {"answer", "other", "preferred"} <= set(said):
            yield Labelled(case.id, case.messages, said["answer"], float(said["preferred"] == "answer"), said.get("version", ""),
                           said["other"])  # fmt: skip


def _share(verdict: str, case: str) -> float:
    known = {"right": 1.0, "wrong": 0.0}
    try:
        value = known[verdict] if verdict in known else float(verdict)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise Invalid(
            f"a verdict of {verdict!r}", where=f"case {case}: labels", remedy="right, wrong, or a number from 0 to 1"
        )
    return value


def _settled(conn: sa.Connection, queue: str, everything: bool) -> list[tuple[items.Item, list[items.Label]]]:
    table = items.review_items
    query = sa.select(table).where(table.c.queue == queue, table.c.state == "done")
    if not everything:
        query = query.where(table.c.chance)
    rows = conn.execute(query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(MOST)).all()
    found = [items.Item(**row._mapping) for row in rows]
    return [(one, items.labels_of(conn, one.id)) for one in found]


# --- asked about evaluations ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """What a gate wants to know of a judge: its opinion of a report, against another one for a preference."""

    by: Judge
    kind: str
    suite: str
    version: str
    report: str
    against: str = ""
    against_report: str = ""

    @property
    def id(self) -> str:
        return judgements.identity(self.by.digest, self.kind, self.report, self.against_report)


def questions(
    conn: sa.Connection, spec: ModelSpec, candidate: Version, champion: Version, evaluations: Ids
) -> list[Question]:
    """What the gates of a model ask of judges about two versions; nothing of judges that nobody registered."""
    found: dict[str, Question] = {}
    for gate in spec.gates:
        named = judge.of_metric(gate.metric)
        by = judge.find(conn, named[1]) if named else None
        reports = [_report(conn, evaluations, version.ref, gate.suite) for version in (candidate, champion)]
        if named is None or by is None or not reports[0]:
            continue
        pairs = [(candidate.ref, reports[0], champion.ref, reports[1])]
        if named[0] == "judge":
            pairs = [(candidate.ref, reports[0], "", ""), (champion.ref, reports[1], "", "")]
        asked = [Question(by, named[0], gate.suite, *pair) for pair in pairs if pair[1] and (pair[3] or not pair[2])]
        found |= {one.id: one for one in asked}
    return list(found.values())


def _report(conn: sa.Connection, evaluations: Ids, ref: str, suite: str) -> str:
    known = evaluations.get(ref, {}).get(suite)
    return str(suites.get(conn, known)["report"]) if known else ""


def consult(
    platform: Platform, spec: ModelSpec, candidate: Version, champion: Version, evaluations: Ids,
    cases: Mapping[str, Mapping[str, Sequence[Message]]], *, again: bool = False,
) -> list[str]:  # fmt: skip
    """Begin to ask judges what the gates want to know and nobody asked before; the keys of the jobs that are still to end.

    Args:
        cases: The conversation of each case, by suite and id.
        again: Whether a job that failed is tried anew.
    """
    with platform.db.reading() as conn:
        asked = questions(conn, spec, candidate, champion, evaluations)
        known = {one.id for one in asked if judgements.find(conn, one.id)}
        due = [one for one in asked if one.id not in known and not _unbelieved(conn, one, spec.model)]
    keys = [_key(platform, one, again) for one in due]
    for key, one in zip(keys, due, strict=True):
        if platform.jobs.status(key).state in ("unknown", "lost"):
            _ask(platform, key, one, cases.get(one.suite, {}))
    return [key for key in keys if platform.jobs.status(key).state in ("running", "lost", "succeeded")]


def ask(platform: Platform, one: Question, cases: Mapping[str, Sequence[Message]]) -> str:
    """Ask a judge one thing, believed or not; the key of the job, which is the same for the same question."""
    key = _key(platform, one, again=False)
    if platform.jobs.status(key).state in ("unknown", "lost"):
        _ask(platform, key, one, cases)
    return key


def weighed(platform: Platform, model: str, one: Question, made: Judgement) -> dict[str, Any]:
    """The net preference that a judge tells, as it stands and as people would say it; or why it is not believed."""
    with platform.db.reading() as conn:
        found = calibration.newest(conn, one.by.name, one.kind, model)
    metric = f"{one.kind}:{one.by.name}"
    known = calibration.standing(metric, one.by.name, one.by.digest, found, now=clock.now(), served=made.served,
                                 silent=made.silent, asked=len(made.scores) + made.silent)  # fmt: skip
    pairs = [(score, 1 - score) for score in made.scores.values()]
    raw = of_pairs(pairs, metric)
    people = found.compared(raw, [2 * ours - 1 for ours, _ in pairs]) if found and not known.refusal else None
    return {"raw": raw.to_dict(), "people": people.to_dict() if people else None, "standing": known.to_dict()}


def _unbelieved(conn: sa.Connection, one: Question, model: str) -> str:
    known = calibration.newest(conn, one.by.name, one.kind, model)
    metric = f"{one.kind}:{one.by.name}"
    return calibration.standing(metric, one.by.name, one.by.digest, known, now=clock.now()).refusal


def _key(platform: Platform, one: Question, again: bool) -> str:
    keys = [f"{PREFIX}ask:{one.id[:32]}{end}" for end in ("", *(f":{n}" for n in range(2, 100)))]
    tried = [key for key in keys if platform.jobs.status(key).state != "unknown"]
    if not tried:
        return keys[0]
    failed = platform.jobs.status(tried[-1]).state == "failed"
    return keys[len(tried)] if again and failed and len(tried) < len(keys) else tried[-1]


def _ask(platform: Platform, key: str, one: Question, cases: Mapping[str, Sequence[Message]]) -> None:
    mine = suites.load(platform.home, one.report)
    theirs = {answer.case: answer for answer in _answers(platform, one.against_report)}
    asks: list[Ask] = []
    for answer in mine.answers:
        said = cases.get(answer.case) or (Message("user", answer.prompt),)
        if one.kind == "judge":
            asks.append(judge.grading(one.by, answer.case, said, answer.answer, answer.reference))
        elif other := theirs.get(answer.case):
            asks += judge.comparing(one.by, answer.case, said, answer.answer, other.answer, answer.reference)
    about = {
        "purpose": "consult", "id": one.id, "judge": one.by.name, "digest": one.by.digest, "kind": one.kind, "scale": one.by.scale,
        "version": one.version, "against": one.against, "suite": mine.suite, "report": one.report,
        "against_report": one.against_report, "actor": "loop",
    }  # fmt: skip
    _begin(platform, key, one.by, asks, about)


def _answers(platform: Platform, report: str) -> Sequence[Answer]:
    return suites.load(platform.home, report).answers if report else ()


def wait(platform: Platform, keys: Sequence[str], *, tell: Told) -> None:
    """Wait until each of these jobs has ended, however it did, telling how far they are."""
    while open_ := [key for key in keys if platform.jobs.status(key).state in ("running", "lost")]:
        _revive(platform, open_)
        lines, _ = platform.jobs.progress(open_[0], 0)
        if lines:
            tell(f"{lines[-1]['done']} of {lines[-1]['all']} opinions")
        time.sleep(POLL_S)
    keep(platform)


# --- what is to be believed -------------------------------------------------------------------------------------------


def standings(
    platform: Platform,
    spec: ModelSpec,
    candidate: Version,
    champion: Version,
    evaluations: Ids,
    loaded: Mapping[str, Mapping[str, Evaluation]],
) -> tuple[dict[str, Standing], dict[str, dict[str, Evaluation]]]:
    """What is to be believed of each judge's metric of the gates now, and the evaluations with the judges' scores in them."""
    joined = {ref: dict(by_suite) for ref, by_suite in loaded.items()}
    with platform.db.reading() as conn:
        asked = questions(conn, spec, candidate, champion, evaluations)
        found = {one.id: judgements.find(conn, one.id) for one in asked}
        metrics = {gate.metric for gate in spec.gates if judge.of_metric(gate.metric)}
        for one in asked:
            if made := found[one.id]:
                _join(joined, one, made)
        told = {
            metric: _standing(conn, spec.model, metric, [one for one in asked if f"{one.kind}:{one.by.name}" == metric], found,
                              candidate.ref, champion.ref)
            for metric in metrics
        }  # fmt: skip
    return told, joined


def evidence(
    conn: sa.Connection, spec: ModelSpec, candidate: Version, champion: Version, evaluations: Ids
) -> dict[str, dict[str, Any]]:
    """What a verdict stands on beside evaluations: each judge's calibration, and the opinions that it gave."""
    told: dict[str, dict[str, Any]] = {}
    for one in questions(conn, spec, candidate, champion, evaluations):
        found = calibration.newest(conn, one.by.name, one.kind, spec.model)
        held = told.setdefault(
            f"{one.kind}:{one.by.name}", {"calibration": found.id if found else "", "judgements": []}
        )
        held["judgements"] += [one.id] if judgements.find(conn, one.id) else []
    return told


def _join(joined: dict[str, dict[str, Evaluation]], one: Question, made: Judgement) -> None:
    mine = joined[one.version]
    mine[one.suite] = judgements.joined(mine[one.suite], made.metric, made.scores)
    if one.kind == "preferred":
        theirs = joined[one.against]
        turned = {case: 1 - score for case, score in made.scores.items()}
        theirs[one.suite] = judgements.joined(theirs[one.suite], made.metric, turned)


def _standing(
    conn: sa.Connection, model: str, metric: str, asked: Sequence[Question], found: Mapping[str, Judgement | None],
    candidate: str, champion: str,
) -> Standing:  # fmt: skip
    kind, name = judge.of_metric(metric) or ("", "")
    by = judge.find(conn, name)
    if by is None:
        remedy = f"`ciranda judges create {name}`"
        return Standing(metric, refusal=f"there is no judge {name}; {remedy}")
    made = [one for question in asked if (one := found[question.id])]
    told = calibration.standing(
        metric, name, by.digest, calibration.newest(conn, name, kind, model), now=clock.now(),
        served=[version for one in made for version in one.served], silent=sum(one.silent for one in made),
        asked=sum(len(one.scores) + one.silent for one in made), candidate=candidate, live=champion,
    )  # fmt: skip
    if not told.refusal and len(made) < len(asked):
        why = f"the judge {name} gave no opinion; look at its job, then `ciranda evaluate {candidate}`"
        return Standing(metric, told.calibration, why, candidate, champion)
    return told


def worth(platform: Platform, by: Judge) -> list[dict[str, Any]]:
    """What a judge is worth by now, for each kind and model that it was ever held against people for."""
    with platform.db.reading() as conn:
        known = calibration.of(conn, by.name, limit=MOST)
    newest: dict[tuple[str, str], Calibration] = {}
    for one in known:
        newest.setdefault((one.kind, one.model), one)
    told = []
    for (kind, model), one in sorted(newest.items()):
        metric = f"{kind}:{by.name}"
        stands = calibration.standing(metric, by.name, by.digest, one, now=clock.now())
        told.append({"metric": metric, "kind": kind, "model": model, "believed": not stands.refusal, **stands.to_dict(),
                     "figures": one.figures() if one.n else {}})  # fmt: skip
    return told


# --- jobs -------------------------------------------------------------------------------------------------------------


def _begin(platform: Platform, key: str, by: Judge, asks: Sequence[Ask], about: Mapping[str, Any]) -> None:
    url, secret, private = endpoint(platform, by)
    spec = Spec(by.model, url, secret, private, by.max_tokens, tuple(asks), dict(about))
    folder = platform.home.jobs / key
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_atomic(folder / "spec.json", json.dumps(spec.to_dict(), ensure_ascii=False))
    _submit(platform, key)


def _submit(platform: Platform, key: str) -> None:
    folder = platform.home.jobs / key
    platform.jobs.submit(key, JobSpec((sys.executable, "-m", "ciranda.evals.asking", str(folder)), folder))


def endpoint(platform: Platform, by: Judge) -> tuple[str, str, bool]:
    """Where a judge is asked, the reference of its key, and whether a private address is fine."""
    if by.url:
        parts, settings = urlsplit(by.url), platform.settings
        door = Door.of(settings.allow_private_addresses, settings.allow_hosts)
        return by.url, by.key, door.opens(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    try:
        url = str(json.loads((platform.home.run / "gateway-1.json").read_text())["url"])
    except (OSError, ValueError, KeyError):
        raise Unavailable("no gateway runs in this home", where=f"judge {by.name}",
                          remedy="start it with `ciranda up`, or give the judge the address of yours: --at") from None  # fmt: skip
    return url, f"file:{_key_file(platform)}", True


def _key_file(platform: Platform) -> Path:
    """The judges' own key, made at its first use, and again when somebody revoked it."""
    path = platform.home.run / "judges.key"
    try:
        access.check(platform.db, path.read_text().strip())
    except (FileNotFoundError, Unauthenticated):
        with platform.db.writing() as conn:
            _, secret = access.create(conn, "judges", role="client", actor="loop")
            files.write_atomic(path, secret)
        routing.taken(platform.home, routing.refresh(platform.db, platform.home))
    return path


def keep(platform: Platform) -> None:
    """Keep what jobs have found, once, and start again those that died without a result."""
    known = platform.jobs.keys()
    mine = [key for key in known if key.startswith(PREFIX)]
    _revive(platform, mine)
    for key in mine:
        folder = platform.home.jobs / key
        if not (folder / "recorded").exists() and platform.jobs.status(key).state == "succeeded":
            _record(platform, folder)
            files.write_atomic(folder / "recorded", "")


def _revive(platform: Platform, keys: Iterable[str]) -> None:
    for key in keys:
        state = platform.jobs.status(key)
        if state.state == "lost" and state.attempt < ATTEMPTS:
            _submit(platform, key)


def _record(platform: Platform, folder: Path) -> None:
    about = json.loads((folder / "spec.json").read_text())["about"]
    said = asking.read(folder)
    by = Judge(about["judge"], "", "", scale=int(about["scale"]))
    opinions = judge.opinions(by, about["kind"], {one.id: one.text for one in said.values()})
    served = tuple(sorted({one.served for one in said.values() if one.served}))
    spoken = {case: score for case, score in opinions.items() if score is not None}
    silent = len(opinions) - len(spoken)
    with platform.db.writing() as conn:
        if about["purpose"] == "calibrate":
            calibration.record(conn, _calibration(about, spoken, silent, served))
        else:
            fields = ("id", "judge", "digest", "kind", "version", "against", "suite", "report", "against_report")
            made = Judgement(**{name: about[name] for name in fields}, scores=spoken, silent=silent, served=served,
                             created_at=clock.iso())  # fmt: skip
            judgements.record(conn, made, actor=about["actor"])


def _calibration(
    about: Mapping[str, Any], spoken: Mapping[str, float], silent: int, served: tuple[str, ...]
) -> Calibration:
    labels: Mapping[str, Any] = about["labels"]
    pairs = calibration.counted((score, float(labels[case][0]), str(labels[case][1])) for case, score in spoken.items())
    return Calibration(
        about["id"], about["judge"], about["digest"], about["kind"], about["model"], about["source"], pairs, silent, served,
        clock.iso(), about["actor"], about["valid_until"],
    )  # fmt: skip


def told(platform: Platform, key: str) -> dict[str, Any]:
    """How a job of a judge stands. Raises NotFound for a key that nobody was given."""
    folder = platform.home.jobs / key
    if not key.startswith(PREFIX) or "/" in key or not (folder / "spec.json").is_file():
        raise NotFound(f"no job {key!r}", where="judges", remedy="`ciranda judges show <judge>` lists what was kept")
    state = platform.jobs.status(key)
    lines, _ = platform.jobs.progress(key, 0)
    error = json.loads((folder / "error.json").read_text()) if (folder / "error.json").exists() else None
    about = json.loads((folder / "spec.json").read_text())["about"]
    return {
        "job": key, "judge": about["judge"], "purpose": about["purpose"], "id": about["id"], "state": state.state,
        "progress": lines[-1] if lines else {}, "recorded": (folder / "recorded").exists(),
        "error": error if state.state == "failed" else None, "reason": state.reason,
    }  # fmt: skip
