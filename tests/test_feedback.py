"""What users said becomes rows: the majority of voices, the latest among equals, disagreement named, nothing lost on a kill."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ciranda.config import Home
from ciranda.config.model import Source
from ciranda.data import feedback, sources, versions
from ciranda.data.feedback import Voice
from ciranda.data.rows import Message, Row
from ciranda.data.sources import Inputs
from ciranda.errors import Unavailable
from ciranda.interactions import seals
from ciranda.interactions.query import Interactions
from ciranda.interactions.spool import FEEDBACK, INTERACTION, SpoolWriter
from ciranda.store import clock, ids
from ciranda.store.database import Database, metadata


def voice(prompt: str, answer: str, at: int = 0, **more: Any) -> Voice:
    voiced = Voice((Message("user", prompt),), answer, f"i{at}", "ana", 1, at)
    return replace(voiced, **more)


def test_a_correction_becomes_a_row_with_its_person_and_origin() -> None:
    rows, contradictions = feedback.rows_of(
        [voice("acenda a luz", " {} ", 7, thumb=-1)], languages_of=lambda texts: ["pt"] * len(texts)
    )
    assert contradictions == []
    (row,) = rows
    assert (row.prompt, row.completion, row.source) == ("acenda a luz", "{}", "interactions")
    assert (row.subject, row.origin, row.thumb, row.language) == ("ana", "i7", -1, "pt")
    assert row.group.startswith("prompt:")


def test_the_majority_wins_the_latest_among_equals_and_disagreement_is_named() -> None:
    voices = [
        voice("Go", "a", 1),
        voice("go.", "a", 2),
        voice("go", "b", 3),
        voice("run", "x", 4),
        voice("run", "y", 5),
    ]
    rows, contradictions = feedback.rows_of(voices)
    assert {row.prompt.casefold().strip("."): row.completion for row in rows} == {"go": "a", "run": "y"}
    assert [(one.prompt.casefold(), one.answers) for one in contradictions] == [
        ("go.", {"a": 2, "b": 1}),
        ("run", {"x": 1, "y": 1}),
    ]


def test_alike_prompts_land_in_one_group_and_split() -> None:
    first, _ = feedback.rows_of([voice("Turn it ON.", "a")])
    second, _ = feedback.rows_of([voice("turn it  on", "b")])
    assert (first[0].group, first[0].split) == (second[0].group, second[0].split)


@dataclass
class Spoken:
    """Traffic as the store of interactions gives it: rows with a rising sequence, read from a cursor in pages."""

    corrected: list[Any] = field(default_factory=list)
    votes: list[Any] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)

    def say(self, prompt: str, answer: str, *, correction: str = "", thumb: int = 0) -> None:
        n = len(self.asked) + 1
        messages = [{"role": "user", "content": prompt}]
        common = {"ts_ms": n, "cursor": str(n), "user": "ana", "interaction": f"i{n}"}
        self.asked[f"i{n}"] = SimpleNamespace(
            id=f"i{n}", request=json.dumps({"messages": messages}), output_text=answer, status=200, user="ana", ts_ms=n
        )
        self.votes.append(SimpleNamespace(thumb=thumb, correction=correction, **common))
        if correction:
            told = {"messages": messages, "correction": correction, "thumb": thumb, "output_text": answer}
            self.corrected.append(SimpleNamespace(**told, **common))

    def corrections(self, model: str, cursor: str | None = None, *, since: Any = None, limit: int = 500) -> list[Any]:
        return [one for one in self.corrected if int(one.cursor) > int(cursor or 0)][:limit]

    def feedback_since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Any]:
        return [one for one in self.votes if int(one.cursor) > int(cursor or 0)][:limit]

    def spoken_of(self, votes: list[Any]) -> list[Any]:
        return [self.asked[vote.interaction] for vote in votes]


def test_corrections_and_approved_answers_teach_and_a_bare_thumb_down_does_not() -> None:
    traffic = Spoken()
    traffic.say("one", "bad", correction="good", thumb=-1)
    traffic.say("two", "fine", thumb=1)
    traffic.say("three", "bad", thumb=-1)
    heard = feedback.listen(traffic, "home", None)
    assert {(one.messages[0].content, one.answer) for one in heard.voices} == {("one", "good"), ("two", "fine")}
    assert feedback.listen(traffic, "home", heard.cursor).voices == ()
    traffic.say("four", "bad", correction="better")
    assert [one.answer for one in feedback.listen(traffic, "home", heard.cursor).voices] == ["better"]


def test_thumbs_go_both_ways_and_a_correction_says_two_things() -> None:
    traffic = Spoken()
    traffic.say("one", "bad", correction="good", thumb=-1)
    traffic.say("two", "fine", thumb=1)
    traffic.say("three", "awful", thumb=-1)
    heard = feedback.listen(traffic, "home", None, both=True)
    rows, _ = feedback.labelled_of(heard.voices)
    assert {(row.prompt, row.completion, row.thumb) for row in rows} == {
        ("one", "good", 1), ("one", "bad", -1), ("two", "fine", 1), ("three", "awful", -1),
    }  # fmt: skip
    assert {row.shape for row in rows} == {"labelled"}
    pairs, _ = feedback.pairs_of(heard.voices)
    assert [(row.prompt, row.completion, row.rejected, row.shape) for row in pairs] == [
        ("one", "good", "bad", "preference")
    ]


def test_an_answer_on_which_thumbs_tie_says_nothing_and_is_named() -> None:
    up, down = voice("one", "maybe", thumb=1), voice("one", "maybe", thumb=-1)
    rows, contradictions = feedback.labelled_of([up, down])
    assert rows == []
    assert contradictions[0].answers == {"maybe (up)": 1, "maybe (down)": 1}
    (row,), _ = feedback.labelled_of([up, down, down])
    assert (row.completion, row.thumb) == ("maybe", -1)
    (pair,), _ = feedback.pairs_of([up, down, down, voice("one", "surely", thumb=1)])
    assert (pair.completion, pair.rejected) == ("surely", "maybe")


class Busy(Spoken):
    """Traffic that does not pause while it is read: whoever asks for more finds more."""

    def feedback_since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Any]:
        self.say(f"prompt {len(self.asked)}", "fine", thumb=1)
        return super().feedback_since(cursor, model=model, limit=limit)


def test_listening_ends_while_people_go_on_voting() -> None:
    traffic = Busy()
    heard = feedback.listen(traffic, "home", None)
    assert [one.answer for one in heard.voices] == ["fine"]
    assert len(feedback.listen(traffic, "home", heard.cursor).voices) == 1


def test_every_page_is_read() -> None:
    traffic = Spoken()
    for n in range(1203):
        traffic.say(f"prompt {n}", "bad", correction=f"right {n}")
    assert len(feedback.listen(traffic, "home", None).voices) == 1203


def test_a_correction_that_arrives_while_votes_are_read_is_left_for_the_next_time() -> None:
    traffic = Spoken()
    traffic.say("one", "bad", correction="good")

    class Late(Spoken):
        def corrections(self, *args: Any, **named: Any) -> list[Any]:
            if len(traffic.asked) == 1:
                traffic.say("two", "bad", correction="late")
            return traffic.corrections(*args, **named)

    heard = feedback.listen(Late(votes=traffic.votes), "home", None)
    assert [one.answer for one in heard.voices] == ["good"]
    assert [one.answer for one in feedback.listen(traffic, "home", heard.cursor).voices] == ["late"]


def test_a_prompt_that_is_no_text_is_left_out() -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "…"}}]}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "two "}, {"type": "text", "text": "parts"}]}]
    common = {"correction": "a", "interaction": "i", "user": "", "thumb": 0, "ts_ms": 1}
    found = [SimpleNamespace(messages=image, **common), SimpleNamespace(messages=parts, **common)]
    (voiced,) = feedback.voices_of_corrections(found)  # type: ignore[arg-type]
    assert voiced.messages == (Message("user", "two parts"),)


def test_feedback_accumulates_over_versions_and_a_run_that_dies_loses_none(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    db = Database(f"sqlite:///{home.database}")
    metadata.create_all(db.engine)
    traffic, wanted = Spoken(), [Source(interactions="feedback")]

    def ingest(*, die: bool = False) -> list[Row]:
        inputs = Inputs(traffic=traffic)  # type: ignore[arg-type]
        with sources.ingest(db, home, dataset="home", model="home", sources=wanted, inputs=inputs) as batch:
            if die:
                return []
            version = versions.commit(
                db, home, "home", batch.rows, transformation=batch.transformation, actor="t", within=batch.finish
            )
        return versions.read(home, version.ref)

    traffic.say("one", "bad", correction="good")
    assert [row.completion for row in ingest()] == ["good"]
    traffic.say("two", "bad", correction="also good")
    assert ingest(die=True) == []
    assert {row.completion for row in ingest()} == {"good", "also good"}
    traffic.say("One.", "good", correction="best")
    assert {row.completion for row in ingest()} == {"best", "also good"}
    assert {row.completion for row in ingest()} == {"best", "also good"}
    assert [run["state"] for run in sources.history(db, "home")] == ["done", "done", "done", "failed", "done"]
    newest = versions.newest_of(db, "home")
    assert newest is not None
    assert newest.number == 3


def test_feedback_given_at_the_gateway_comes_back_as_rows_through_the_real_store(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    db = Database(f"sqlite:///{home.database}")
    assert seals.segments.name in metadata.tables  # the collector's table, made with the others
    metadata.create_all(db.engine)
    spool = SpoolWriter(home.spool / "gateway-0")
    said = [("acenda a luz", "?", "right", -1), ("apague a luz", "fine", "", 1), ("feche tudo", "bad", "", -1)]
    for prompt, answer, correction, thumb in said:
        _speak(spool, prompt, answer, correction=correction, thumb=thumb)
    command = [sys.executable, "-m", "ciranda.interactions.collector", "--home", str(home.path)]
    with subprocess.Popen(command) as collector:
        try:
            traffic = Interactions.at(home)
            _wait_for(lambda: len(traffic.feedback_since(None, model="home")) == 3)
            wanted = [Source(interactions="feedback")]
            inputs = Inputs(traffic=traffic, languages_of=lambda texts: ["pt"] * len(texts))
            with sources.ingest(db, home, dataset="home", model="home", sources=wanted, inputs=inputs) as batch:
                versions.commit(db, home, "home", batch.rows, transformation={}, actor="t", within=batch.finish)
            cursor = sources.cursor_of(db, "home", "interactions: feedback")
            assert traffic.corrections("home", cursor) == []
        finally:
            collector.terminate()
    rows = {row.prompt: row for row in versions.read(home, "home@1")}
    assert {prompt: row.completion for prompt, row in rows.items()} == {"acenda a luz": "right", "apague a luz": "fine"}
    assert rows["acenda a luz"].messages[0] == Message("system", "short")
    assert (rows["acenda a luz"].subject, rows["acenda a luz"].language) == ("ana", "pt")


def _speak(spool: SpoolWriter, prompt: str, answer: str, *, correction: str, thumb: int) -> None:
    """What the gateway writes for one question, and for what the user said of its answer."""
    identifier, now = str(ids.uuid7()), clock.now_ms()
    messages = [{"role": "system", "content": "short"}, {"role": "user", "content": prompt}]
    response = {"choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]}
    about = {
        "id": identifier, "ts_ms": now, "tenant": "default", "key": "key_1", "user": "ana", "model": "home",
        "version": "home@1", "arm": "live", "endpoint": "/v1/chat/completions", "stream": 0, "status": 200,
    }  # fmt: skip
    request = json.dumps({"model": "home", "messages": messages}).encode()
    spool.append(INTERACTION, about, request, json.dumps(response).encode())
    spool.append(
        FEEDBACK,
        {"id": str(ids.uuid7()), "ts_ms": now + 1, "interaction": identifier, "tenant": "default", "key": "key_1",
         "user": "ana", "thumb": thumb, "rating": 0, "correction": correction, "comment": "", "reasons": []},
    )  # fmt: skip


def _wait_for(condition: Callable[[], bool], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except Unavailable:
            pass  # the collector is still starting
        assert time.monotonic() < deadline, "the collector did not bring the feedback in"
        time.sleep(0.1)
