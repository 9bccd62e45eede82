"""A small house that people talk to, for tests of the whole loop on the fake engine: sentences, a model file, a platform, users."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ciranda.cli.crowd import Crowd
from ciranda.cli.stage import Stage
from ciranda.data.rows import Row
from ciranda.loop import turns
from ciranda.loop.turns import Turn

MODEL = "house"
ROOMS = {
    "en": ("kitchen", "bedroom", "garage", "office", "attic", "hallway", "studio", "garden", "cellar", "porch"),
    "pt": ("cozinha", "quarto", "garagem", "escritório", "sótão", "corredor", "estúdio", "jardim", "porão", "varanda"),
}
PHRASES = {
    "en": {
        "LightOn": ("turn on the light in the {}", "switch the {} lamp on please", "i need light in the {}", "lights on in {}"),
        "LightOff": ("turn off the light in the {}", "make it dark in the {}", "no more light for the {}", "{} lights off"),
        "Warmer": ("make the {} warmer", "it is cold in the {}", "heat up the {} a little", "raise the {} temperature"),
        "Open": ("open the window of the {}", "let some air into the {}", "please open up the {}", "{} window open"),
    },
    "pt": {
        "LightOn": ("acenda a luz do cômodo {}", "quero luz no cômodo {}"),
        "LightOff": ("apague a luz do cômodo {}", "deixe escuro o cômodo {}"),
        "Warmer": ("esquente o cômodo {}", "está frio no cômodo {}"),
        "Open": ("abra a janela do cômodo {}", "deixe entrar ar no cômodo {}"),
    },
}  # fmt: skip
SPEC = """\
model: house
purpose: Turns what people say to their house into one line of JSON.
data:
  sources:
    - {files: ../data/*.jsonl}
    - {interactions: feedback}
train:
  search: {trials: 2, budget: 1m}
  recipe: {steps: 50, batch_size: 8}
evaluate: {cases: 100, max_tokens: 32}
gates:
  - {metric: exact_match, rule: better than live}
  - {metric: exact_match, slice: {language: en}, rule: not worse than live by 0.15}
  - {metric: valid_json, rule: ">= 0.9"}
release:
  shadow: 100
  steps: [50, 100]
  judge_on: [error_rate, quality, thumbs_up]
  margins: {error_rate: 0.1, quality: 0.1, thumbs_up: 0.15}
serve: {engine: fake}
watch: {cooldown: 0s, corrections: 50, budget: {turns_per_week: 1}}
"""


def rows(language: str = "en") -> list[Row]:
    """Every sentence of a language with its right answer, mixed, the same each time."""
    made = [
        Row.of(phrase.format(room), json.dumps({"intent": intent, "area": room}, ensure_ascii=False), language=language)
        for room in ROOMS[language]
        for intent, phrases in PHRASES[language].items()
        for phrase in phrases
    ]
    return sorted(made, key=lambda row: row.key)


def project(folder: Path, *, spec: str = SPEC, languages: Sequence[str] = ("en",)) -> Path:
    """A project's files; returns the model file."""
    data, file = folder / "data" / "said.jsonl", folder / "models" / f"{MODEL}.yaml"
    for path in (data, file):
        path.parent.mkdir(parents=True, exist_ok=True)
    lines = [_line(row) for language in languages for row in rows(language)]
    data.write_text("".join(f"{line}\n" for line in lines))
    file.write_text(spec)
    return file


def _line(row: Row) -> str:
    said = {"prompt": row.prompt, "completion": row.completion, "language": row.language}
    return json.dumps(said, ensure_ascii=False)


def apply(stage: Stage, file: Path) -> None:
    stage.control.post("/apply", {"files": {str(file): file.read_text()}})


@contextmanager
def platform(folder: Path) -> Iterator[Stage]:
    """A whole platform in a project's folder, ended afterwards; its logs are shown when the test fails."""
    stage = Stage(folder)
    try:
        stage.start(limit_s=90)
        yield stage
    except BaseException:
        for log in sorted((stage.home.logs).glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}")
        raise
    finally:
        stage.stop()


def live(stage: Stage, ref: str, *, limit_s: float = 60) -> None:
    """Wait until a version is live with a replica that answers."""
    stage.until(f"{ref} is live and ready", lambda: _live(stage, ref), limit_s=limit_s)


def _live(stage: Stage, ref: str) -> bool:
    routing = stage.home.routing
    told = json.loads(routing.read_text())["models"] if routing.exists() else {}
    arms = told.get(ref.partition("@")[0], {}).get("arms", [])
    return [arm["version"] for arm in arms if arm["replicas"]] == [ref]


def turn(stage: Stage, identifier: str) -> Turn:
    with stage.platform.db.reading() as conn:
        return turns.get(conn, identifier)


def ended(stage: Stage, identifier: str, *states: str, limit_s: float = 60) -> Turn:
    """Wait until a turn is in one of these states; fails at once when it ends in another."""

    def look() -> Turn | None:
        now = turn(stage, identifier)
        assert now.state in states or now.state not in turns.ENDED, f"{now.state}: {now.steps}"
        return now if now.state in states else None

    return stage.until(f"{identifier} is {' or '.join(states)}", look, limit_s=limit_s)


def speech(language: str = "en") -> Callable[[], Row]:
    """What people say next, for ever; for several threads."""
    said, lock = itertools.cycle(rows(language)), threading.Lock()

    def next_row() -> Row:
        with lock:
            return next(said)

    return next_row


@contextmanager
def users(stage: Stage, language: str = "en", *, count: int = 3, pause_s: float = 0.02) -> Iterator[Crowd]:
    """People who talk to the house and vote, until the block ends."""
    key = stage.client_key("people")
    crowd = Crowd(stage.gateway, key, MODEL, speech(language), users=count, pause_s=pause_s).start()
    try:
        yield crowd
    finally:
        crowd.stop()


def recorded(stage: Stage) -> int:
    """Answers to users that are in the store."""
    found = stage.platform.interactions.totals(model=MODEL)
    return sum(one.requests - one.errors - one.cancelled for one in found if one.arm != "shadow")


def environment() -> dict[str, Any]:
    return dict(os.environ)
