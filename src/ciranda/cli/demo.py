"""`ciranda demo`: the whole story, told live, on real data, by the platform that a user would run. No figure is written by hand.

It starts `ciranda up` in a home of its own and then only does what its people would do: an engineer applies a model file and asks
for a turn; users talk to the gateway and vote; the world changes; somebody presses rollback. What happens in between is the
platform's work; the demo watches and tells. A stage that cannot do what the story says ends it with a message and an exit
code that is not 0.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ciranda.cli import telling
from ciranda.cli.crowd import Crowd
from ciranda.cli.screen import Screen
from ciranda.cli.stage import Stage
from ciranda.cli.telling import Progress
from ciranda.data import language
from ciranda.data.rows import Row
from ciranda.deploy import stages
from ciranda.engines import hassil
from ciranda.errors import Failed, Invalid
from ciranda.govern import audit
from ciranda.loop import turns
from ciranda.registry import verdicts, versions
from ciranda.store import clock

MODEL = "smart-home"
PAUSE_S, LEISURE_S = 0.1, 4.0
HEARD = 60  # sentences from which it is told how the platform will call a language


@dataclass(frozen=True)
class Size:
    """How much is done: the same code, with fewer steps and messages for `--fast`."""

    rows: int
    steps: int
    trials: int
    cases: int
    corrections: int
    least: int
    live: int
    limit_s: float


FULL = Size(rows=1200, steps=180, trials=2, cases=140, corrections=240, least=15, live=60, limit_s=900)
FAST = Size(rows=900, steps=120, trials=2, cases=90, corrections=150, least=8, live=60, limit_s=600)

PROJECT = """\
model: {model}
purpose: Turns what people say to their home into one line of JSON.
base: smollm2-135m-instruct
data:
  sources:
    - {{intents: {first}, count: {rows}}}
    - {{interactions: feedback}}
train:
  search: {{trials: {trials}, budget: 10m}}
  recipe: {{steps: {steps}}}
evaluate: {{cases: {cases}, max_tokens: 64}}
gates:
  - {{metric: exact_match, slice: {{language: {first}}}, rule: ">= 0.3"}}
  - {{metric: exact_match, slice: {{language: {first}}}, rule: not worse than live by 0.15}}
  - {{metric: exact_match, slice: {{language: {then}}}, rule: better than live, least: {least}, optional: true}}
  - {{metric: valid_json, rule: ">= 0.9"}}
release:
  shadow: 100
  steps: [50, 100]
  judge_on: [error_rate, quality, thumbs_up]
  margins: {{error_rate: 0.1, quality: 0.1, thumbs_up: 0.15}}
serve: {{replicas: 2, slots: 4, context: 2048, threads: 1}}
watch: {{cooldown: 1h, corrections: {corrections}}}
"""


@dataclass
class Story:
    """What the demo learnt on the way, for the closing table."""

    size: Size
    first: str
    then: str
    arriving: str  # what the platform hears when users speak it: `pt` for pt-BR, `no` for nb
    stage: Stage
    screen: Screen
    times_s: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def act(self, name: str, sentence: str) -> Iterator[None]:
        """One stage of the story: a sentence before, the time after."""
        self.screen.line("")
        self.screen.line(f"{len(self.times_s) + 1}. {name}", "bold")
        self.screen.line(f"   {sentence}")
        began = time.monotonic()
        yield
        self.times_s[name] = time.monotonic() - began
        self.screen.line(f"   done in {self.times_s[name]:.0f} s", "dim")

    def say(self, text: str) -> None:
        """A line of the story."""
        self.screen.line(f"   {text}")


def run(*, fast: bool, first: str, then: str, stay: bool, home: Path | None, screen: Screen) -> dict[str, Any]:
    """Tell the story; returns its figures.

    Args:
        fast: Fewer steps and messages.
        first: Language in which the assistant starts, and `then` the one that arrives later.
        stay: Leave the platform up until it is ended by hand.
        home: Folder to play in; without it a fresh temporary one.

    Raises:
        Invalid: An unknown language, or two that the platform takes for one. Failed: A stage did not do what the story says.
    """
    arriving = heard_as(first, then)
    folder = home or Path(tempfile.mkdtemp(prefix="ciranda-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    story = Story(FAST if fast else FULL, first, then, arriving, Stage(folder), screen)
    try:
        return _told(story, stay=stay)
    finally:
        story.stage.stop()


def heard_as(first: str, then: str) -> str:
    """What the platform will call the language that arrives. Raises Invalid when it will not notice that it is another one."""
    heard = {
        name: Counter(language.detect_all([row.prompt for row in hassil.sample(name, HEARD, 7)])).most_common(1)[0][0]
        for name in (first, then)
    }
    if heard[first] == heard[then]:
        raise Invalid(
            f"{first} and {then} sound alike to the language detector: it hears {heard[then]!r} in both", where="--then",
            remedy="choose two languages that differ more, such as --first en --then pt-BR",
        )  # fmt: skip
    return heard[then]


def _told(story: Story, *, stay: bool) -> dict[str, Any]:
    began = time.monotonic()
    _begin(story)
    _data(story)
    _train(story)
    crowd = _crowd(story)
    try:
        _release(story, crowd)
        _live(story, crowd)
        _change(story, crowd)
        _heal(story, crowd)
        _back(story, crowd)
    finally:
        crowd.stop()
    figures = _close(story, crowd, time.monotonic() - began)
    if stay:
        story.say("The platform stays up; end it with Ctrl-C.")
        story.stage.wait()
    return figures


def _begin(story: Story) -> None:
    stage = story.stage
    with story.act(
        "Up", f"The platform starts in {stage.folder}: control, collector, gateway; no container, no account."
    ):
        stage.start()
        story.say(f"pages    {stage.control.url}")
        story.say(f"gateway  {stage.gateway}/v1")
        story.say(f"key      {stage.key}")


def _data(story: Story) -> None:
    size, stage = story.size, story.stage
    text = PROJECT.format(
        model=MODEL, first=story.first, then=story.arriving, rows=size.rows, trials=size.trials, steps=size.steps,
        cases=size.cases, corrections=size.corrections, least=size.least,
    )  # fmt: skip
    file = stage.folder / "models" / f"{MODEL}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    sentence = f"Sentences that people say to their homes ({story.first}), real grammar, split by template; checked, then frozen."
    with story.act("Data", sentence):
        stage.control.post("/apply", {"files": {str(file): text}})
        made = stage.control.post(f"/models/{MODEL}/ingest")
        story.screen.table(["split", "rows"], [(name, count) for name, count in made["counts"]["split"].items()])
        story.screen.table(
            ["check", "action", "looked", "found"],
            [(name, one["action"], one["looked"], one["found"]) for name, one in made["report"]["checks"].items()],
        )
        for row in stage.control.get(f"/datasets/{made['dataset']}")["samples"]["test"][:2]:
            story.say(f"{row['prompt']}  ->  {row['completion']}")
        story.say(
            f"{made['dataset']} {made['digest'][:19]}: {made['rows']} rows; no test phrasing was seen in training."
        )


def _train(story: Story) -> None:
    sentence = (
        f"A search of {story.size.trials} LoRA recipes on SmolLM2-135M-Instruct, trained on this CPU, judged by gates."
    )
    with story.act("Train, evaluate, gate", sentence), Progress(story.screen) as progress:
        turn = story.stage.control.post(f"/models/{MODEL}/turns", {"cause": "asked"})["turn"]
        _follow(story, turn, progress, until=("released", "promoted"))
    _verdict(story, f"{MODEL}@1")


def _follow(story: Story, turn: str, progress: Progress, *, until: tuple[str, ...]) -> turns.Turn:
    """Watch a turn until it is in one of these states; a turn that ends otherwise ends the demo."""
    platform = story.stage.platform

    def look() -> turns.Turn | None:
        with platform.db.reading() as conn:
            now = turns.get(conn, turn)
        progress.show(now, telling.trials(platform, turn))
        if now.state in turns.ENDED and now.state not in until:
            raise Failed(f"the turn {turn} ended {now.state}: {now.steps[-1]['summary'] if now.steps else now.reason}",
                         where=turn, remedy="read the step's message; `ciranda status` shows the turn")  # fmt: skip
        return now if now.state in until else None

    return story.stage.until(f"turn {turn} is {' or '.join(until)}", look, limit_s=story.size.limit_s)


def _verdict(story: Story, ref: str, *, learned: str = "") -> None:
    """What the gates said of a version, and its figures; `learned` is a language that it must have been judged on."""
    with story.stage.platform.db.reading() as conn:
        ruling = verdicts.newest(conn, ref)
        version = versions.get(conn, ref)
    if ruling is None:
        raise Failed(f"{ref} has no verdict", where="verdicts")
    story.screen.table(["gate", "slice", ref, ruling.champion, "outcome"], [telling.gate(one) for one in ruling.gates])
    if learned and not any(one["slice"] == {"language": learned} and one["candidate"] for one in ruling.gates):
        raise Failed(f"{ref} was not judged on {learned}: no correction in it reached the test split", where=ref)
    story.say(f"{ref} {version.digest[:19]} from {version.dataset}; adapter {version.adapter_digest[:19]}")


def _sentences(language: str, seed: int, count: int, *, tested: bool) -> Callable[[], Row]:
    """An endless stream of fresh sentences, drawn as the world draws them.

    `tested` keeps the marks of test templates, so that users do not vote on what version 1 was judged by. A language that
    nobody has tested yet has no such templates: what its users say is split later, sentence by sentence.
    """
    drawn = hassil.sample(language, count, seed)
    rows, lock = itertools.cycle(drawn if tested else [row.with_(split="train") for row in drawn]), threading.Lock()

    def next_row() -> Row:
        with lock:
            return next(rows)

    return next_row


def _crowd(story: Story) -> Crowd:
    key = story.stage.client_key("demo users")
    return Crowd(
        story.stage.gateway, key, MODEL, _sentences(story.first, 99, 800, tested=True), users=4, pause_s=PAUSE_S
    ).start()


def _release(story: Story, crowd: Crowd) -> None:
    with story.act(
        "Release",
        "Users arrive. The version goes shadow -> canary -> all, moved by statistics that stay valid at any look.",
    ):
        _promoted(story, f"{MODEL}@1", crowd)


def _promoted(story: Story, ref: str, crowd: Crowd) -> None:
    """Watch a rollout to its good end, telling each stage."""
    told: set[tuple[str, str]] = set()

    def look() -> bool:
        with story.stage.platform.db.reading() as conn:
            rollout = next(one for one in stages.of(conn, MODEL) if one.candidate == ref)
        mark = (rollout.stage, rollout.state)
        if mark not in told:
            told.add(mark)
            story.say(f"{clock.iso()[11:19]} UTC  {ref} {rollout.stage}: {rollout.state}, {rollout.reason}")
        if rollout.state in ("rolled_back", "held"):
            raise Failed(f"the rollout of {ref} ended {rollout.state}: {rollout.reason}", where=rollout.id)
        return rollout.state == "promoted"

    story.stage.until(f"{ref} is promoted", look, limit_s=story.size.limit_s)
    story.say(f"{crowd.count.answered} answers so far, {crowd.count.failed} failed requests")


def _live(story: Story, crowd: Crowd) -> None:
    with story.act(
        "Live",
        f"{story.size.live} more questions: half streamed, nine in ten voted on, one vote in twenty mistaken.",
    ):
        crowd.count.recent.clear()
        crowd.wait(story.size.live, limit_s=story.size.limit_s)
        _settled(story, crowd)
        story.screen.table(telling.TOTALS, telling.totals(story.stage.platform, MODEL))
        story.found["live_right"] = crowd.count.recent_right
        story.say(f"users found {crowd.count.recent_right:.0%} of the last answers right")


def _settled(story: Story, crowd: Crowd) -> None:
    """The collector has brought in what was answered so far."""
    answered = crowd.count.answered
    story.stage.until(
        "the interactions are stored", lambda: telling.recorded(story.stage.platform, MODEL) >= answered, limit_s=60
    )


def _change(story: Story, crowd: Crowd) -> None:
    with story.act(
        "The world changes",
        f"The assistant opens elsewhere: {story.then} sentences arrive. Nobody tells the platform.",
    ):
        at, before = clock.iso(), crowd.count.answered
        crowd.count.recent.clear()
        crowd.serve(_sentences(story.then, 7, 800, tested=False))
        alarm = story.stage.until(
            "the drift is noticed",
            lambda: telling.drift_since(story.stage.platform, MODEL, at),
            limit_s=story.size.limit_s,
        )
        story.found["messages_until_drift"] = telling.messages_between(story.stage.platform, MODEL, at, alarm.at)
        story.say(f"alert after {story.found['messages_until_drift']} messages: {alarm.title}")
        for line in telling.explained(alarm):
            story.say(f"  {line}")
        story.say(f"answers since: {crowd.count.answered - before}, right {crowd.count.recent_right:.0%}")


def _heal(story: Story, crowd: Crowd) -> None:
    sentence = "Drift and worse feedback start a turn: users' corrections become the next dataset version. Nobody touches anything."
    with story.act("It heals itself", sentence):
        platform = story.stage.platform
        turn = story.stage.until(
            "the drift starts a turn", lambda: telling.turn_by_drift(platform, MODEL), limit_s=story.size.limit_s
        )
        story.say(f"{turn.id}: {turn.reason}")
        with Progress(story.screen) as progress:
            _follow(story, turn.id, progress, until=("queued", "running", "released", "promoted"))
            story.say("corrections enough; it learns while users go on asking, one every second or so")
            crowd.pace(LEISURE_S)
            _follow(story, turn.id, progress, until=("released", "promoted"))
            crowd.pace(PAUSE_S)
        _verdict(story, f"{MODEL}@2", learned=story.arriving)
        _promoted(story, f"{MODEL}@2", crowd)
        crowd.count.recent.clear()
        crowd.wait(story.size.live, limit_s=story.size.limit_s)
        story.found["healed_right"] = crowd.count.recent_right
        story.say(f"users now find {crowd.count.recent_right:.0%} of the answers right")


def _back(story: Story, crowd: Crowd) -> None:
    with story.act("And back", f"`ciranda rollback {MODEL}` while traffic runs, then forward again."):
        failed = crowd.count.failed
        back_s = _moved(story, crowd, lambda: story.stage.control.post(f"/models/{MODEL}/rollback"), f"{MODEL}@1")
        forward = {"version": f"{MODEL}@2"}
        ahead_s = _moved(
            story, crowd, lambda: story.stage.control.post(f"/models/{MODEL}/promote", forward), f"{MODEL}@2"
        )
        crowd.wait(10, limit_s=60)
        story.found |= {"rollback_s": back_s, "forward_s": ahead_s, "failed_while_moving": crowd.count.failed - failed}
        story.say(f"back in {back_s:.2f} s, forward in {ahead_s:.2f} s, {crowd.count.failed - failed} failed requests")
        if back_s > 1 or crowd.count.failed > failed:
            raise Failed(f"the rollback took {back_s:.2f} s and {crowd.count.failed - failed} requests failed",
                         where=MODEL, remedy=f"look at {story.stage.home.logs}")  # fmt: skip


def _moved(story: Story, crowd: Crowd, verb: Callable[[], Any], ref: str) -> float:
    """Seconds from the verb to the first answer by `ref` that somebody asked for after it."""
    began = time.monotonic()
    verb()
    first = crowd.served_by(ref, limit_s=30)
    if not first:
        raise Failed(f"no answer by {ref} came", where=MODEL, remedy=f"look at {story.stage.home.logs}")
    return first - began


def _close(story: Story, crowd: Crowd, total_s: float) -> dict[str, Any]:
    crowd.stop()
    platform = story.stage.platform
    _settled(story, crowd)
    rows = telling.versions_by_language(platform, MODEL)
    recorded, checked = telling.recorded(platform, MODEL), audit.verify(platform.db)
    figures = {
        **story.found,
        "seconds": round(total_s, 1),
        "times_s": {name: round(value, 1) for name, value in story.times_s.items()},
        "answers_given": crowd.count.answered,
        "interactions_recorded": recorded,
        "failed_requests": crowd.count.failed,
        "audit_events": checked.events,
        "audit_verified": checked.ok,
        "versions": [dict(zip(telling.COLUMNS, row, strict=True)) for row in rows],
    }
    story.screen.line("")
    story.screen.table(
        telling.COLUMNS, rows, title=f"What each version can do (slices of {telling.SHOWN} cases and more)"
    )
    story.screen.table(["stage", "seconds"], [*figures["times_s"].items(), ("in all", figures["seconds"])])
    story.say(f"drift noticed after {figures['messages_until_drift']} messages")
    story.say(f"{crowd.count.answered} answers given, {recorded} recorded; audit chain of {checked.events} events "
              f"{'verified' if checked.ok else 'BROKEN: ' + checked.problem}")  # fmt: skip
    story.say(
        f"look further: {story.stage.control.url}   ciranda --home {story.stage.home.path} status | interactions | audit verify"
    )
    if recorded != crowd.count.answered or not checked.ok:
        raise Failed(f"{crowd.count.answered} answers were given and {recorded} recorded; chain: {checked.problem or 'whole'}",
                     where=str(story.stage.home.path), remedy=f"look at {story.stage.home.logs}")  # fmt: skip
    return figures
