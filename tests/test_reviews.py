"""Review: what is chosen, who gets it, what is said, how far people agree, and the rows that come of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import postgres
from ciranda import loop
from ciranda.config import Home
from ciranda.data import versions
from ciranda.data.reviews import agreement, items, queues, taught
from ciranda.data.reviews.items import Candidate, Label, Who
from ciranda.data.reviews.queues import Queue
from ciranda.data.reviews.taught import Shown
from ciranda.data.rows import Message, Row
from ciranda.errors import CirandaError, Conflict, Invalid, Refused
from ciranda.govern import audit
from ciranda.govern.access import Principal
from ciranda.interactions.table import Interaction, Score
from ciranda.loop import candidates, reviews
from ciranda.loop.platform import Platform
from ciranda.store import clock, schema
from ciranda.store.database import Database

ANA, BOB, EVA = (Principal(f"key_{name}", name, "labeller") for name in ("ana", "bob", "eva"))


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    opened = loop.open(Home(tmp_path / ".ciranda"))
    rows = [
        Row.of(f"question {n}", f"answer {n}", subject=f"user {n % 3}", thumb=-1 if n == 3 else 0) for n in range(20)
    ]
    versions.commit(opened.db, opened.home, "set", rows, transformation={"kind": "test"}, actor="ana")
    yield opened
    opened.close()


def queue(platform: Platform, **settings: Any) -> Queue:
    with platform.db.writing() as conn:
        return queues.put(conn, Queue("q", "", "set", **{"twice": 0.0, **settings}), actor="ana")


def filled(platform: Platform, count: int = 5, **settings: Any) -> Queue:
    made = queue(platform, **settings)
    told = reviews.fill(platform, "q", ANA, count=count, of="rows")
    assert told["added"] == count
    return made


def take(platform: Platform, who: Principal) -> Any:
    found = reviews.ask(platform, "q", who)
    return found[0] if found else None


def say(platform: Platform, who: Principal, verdict: str, **more: Any) -> Label:
    return reviews.say(platform, "q", take(platform, who).id, who, verdict=verdict, **more)


# Who gets what


def test_each_item_is_one_annotators_and_the_same_one_again_until_they_answer(platform: Platform) -> None:
    filled(platform, 3)
    first, second = take(platform, ANA), take(platform, BOB)
    assert first.id == take(platform, ANA).id
    assert second.id not in (first.id, take(platform, EVA).id)
    say(platform, ANA, "right")
    assert take(platform, ANA) is None, "the other two are leased to others"
    say(platform, BOB, "skip")
    assert take(platform, ANA).id == second.id, "who skips leaves it to others"
    assert take(platform, BOB) is None


def test_many_who_ask_at_once_never_get_the_same_item(platform: Platform) -> None:
    filled(platform, 16)
    taken: list[str] = []
    people = [Principal(f"key_{n}", f"p{n}", "labeller") for n in range(8)]

    def work(who: Principal) -> None:
        for _ in range(2):
            taken.append(take(platform, who).id)
            say(platform, who, "right")

    threads = [threading.Thread(target=work, args=(who,)) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 16


def test_on_postgresql_too_nobody_gets_what_another_has() -> None:
    with postgres.server() as server:
        database = Database(postgres.fresh(server, "reviews"))
        schema.migrate(database)
        made, taken = Queue("q", "", "set"), []
        with database.writing() as conn:
            queues.put(conn, made, actor="ana")
            items.put(
                conn, made, [(Candidate("row", f"set@1:{n}", "random", {}), 1 + n % 2) for n in range(8)], actor="ana"
            )

        def work(who: Who) -> None:
            while True:
                with database.writing() as conn:
                    item = items.take(conn, made, who)
                if item is None:
                    return
                taken.append((item.id, who.key))
                with database.writing() as conn:
                    items.answer(conn, made, item.id, who, verdict="right", once=item.id)

        threads = [threading.Thread(target=work, args=(Who(f"k{n}", f"p{n}"),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with database.reading() as conn:
            assert items.counts(conn, "q")["done"] == 8
            wanted = {one: items.get(conn, one).wanted for one, _ in taken}
        assert len(taken) == len(set(taken)) == sum(wanted.values()) == 12
        database.close()


def test_a_lease_that_expired_gives_the_item_to_the_next_one(platform: Platform) -> None:
    filled(platform, 1)
    item = take(platform, ANA)
    with platform.db.writing() as conn:
        conn.execute(items.review_leases.update().values(expires_at=clock.iso(clock.of_ms(0))))
    assert take(platform, BOB).id == item.id
    with pytest.raises(Conflict, match="somebody else has it"):
        reviews.say(platform, "q", item.id, ANA, verdict="right")
    with platform.db.writing() as conn:
        conn.execute(items.review_leases.delete())
    assert reviews.say(platform, "q", item.id, ANA, verdict="right").annotator == "ana", "late, but nobody else had it"


def test_two_are_asked_where_agreement_is_wanted_and_a_third_when_they_disagree(platform: Platform) -> None:
    filled(platform, 2, twice=1.0)
    first = take(platform, ANA)
    assert take(platform, BOB).id == first.id
    say(platform, ANA, "right")
    say(platform, BOB, "wrong")
    with platform.db.reading() as conn:
        asked = items.get(conn, first.id)
    assert (asked.state, asked.wanted, asked.reason) == ("open", 3, "annotators")
    assert take(platform, EVA).id == first.id, "what people disagree on comes first"
    say(platform, EVA, "correct", correction="better")
    told = reviews.told(platform, "q")
    assert told["items"]["done"] == 1
    assert told["annotators"]["eva"] == {"right": 0, "wrong": 0, "correct": 1}


def test_the_last_label_can_be_taken_back_until_a_version_was_made_of_it(platform: Platform) -> None:
    filled(platform, 2)
    with pytest.raises(Conflict, match="you have labelled nothing"):
        reviews.undo(platform, "q", ANA)
    label = say(platform, ANA, "wrong")
    assert reviews.undo(platform, "q", ANA).id == label.item == take(platform, ANA).id
    say(platform, ANA, "right")
    reviews.commit(platform, "q", ANA)
    with pytest.raises(Conflict, match="set@2 was made of your last label"):
        reviews.undo(platform, "q", ANA)
    actions = [event.action for event in audit.page(platform.db)]
    assert [action for action in actions if action.startswith("review.")] == [
        "review.labelled", "review.undone", "review.labelled", "review.filled", "review.queue_set",
    ]  # fmt: skip


def test_the_same_sending_twice_is_one_label(platform: Platform) -> None:
    filled(platform, 1)
    item = take(platform, ANA)
    one, two = (reviews.say(platform, "q", item.id, ANA, verdict="right", once="once_1") for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("given", "reason"),
    [({"verdict": "maybe"}, "no verdict"), ({"verdict": "correct", "correction": " "}, "a correction says")],
)
def test_what_is_no_answer_is_refused(platform: Platform, given: dict[str, str], reason: str) -> None:
    filled(platform, 1)
    with pytest.raises(Invalid, match=reason):
        reviews.say(platform, "q", take(platform, ANA).id, ANA, **given)


def test_what_three_skip_is_put_aside_and_what_is_gone_is_passed_over(platform: Platform) -> None:
    filled(platform, 2)
    item = take(platform, ANA)
    for who in (ANA, BOB, EVA):
        reviews.say(platform, "q", item.id, who, verdict="skip")
    with platform.db.writing() as conn:
        conn.execute(
            items.review_items.update().where(items.review_items.c.state == "open").values(ref="set@1:" + "0" * 64)
        )
    assert take(platform, ANA) is None
    assert reviews.told(platform, "q")["items"] == {"open": 0, "done": 0, "skipped": 1, "gone": 1, "untaken": 0}


# What it comes to


SHOWN = Shown((Message("user", "q"),), "given", "int_1", "ana", "en")


def label(verdict: str, correction: str = "", annotator: str = "ana", at: str = "2026-11-23T00:00:00.000Z") -> Label:
    return Label("l", "i", "q", f"key_{annotator}", annotator, verdict, correction, "", "o", at, "", "")


@pytest.mark.parametrize(
    ("makes", "said", "expected"),
    [
        ("answers", [label("right")], [("given", 1, "")]),
        ("answers", [label("wrong")], []),
        ("answers", [label("correct", "better")], [("better", 1, "")]),
        ("answers", [label("right"), label("wrong", annotator="bob")], []),
        ("answers", [label("right"), label("correct", "x", "bob"), label("correct", "x", "eva")], [("x", 1, "")]),
        ("labelled", [label("wrong")], [("given", -1, "")]),
        ("labelled", [label("correct", "better")], [("given", -1, ""), ("better", 1, "")]),
        ("labelled", [label("right"), label("skip", annotator="bob")], [("given", 1, "")]),
        ("pairs", [label("correct", "better")], [("better", 0, "given")]),
        ("pairs", [label("right")], []),
    ],
)
def test_labels_become_what_the_queue_says(makes: Any, said: list[Label], expected: list[tuple[str, int, str]]) -> None:
    found = taught.taught(SHOWN, said, makes)
    assert [(row.completion, row.thumb, row.rejected) for row in found.add] == expected
    for row in found.add:
        assert (row.source, row.origin, row.subject, row.language) == ("review", "int_1", "ana", "en")
        assert row.extra["labelled_at"] == "2026-11-23T00:00:00.000Z"
        assert row.extra["annotator"]


def test_rows_of_a_dataset_are_signed_replaced_or_taken_out(platform: Platform) -> None:
    filled(platform, 3)
    with pytest.raises(Refused, match="nothing new"):
        reviews.commit(platform, "q", ANA)
    kept = take(platform, ANA).ref.rpartition(":")[2]
    say(platform, ANA, "right")
    replaced = take(platform, ANA).ref.rpartition(":")[2]
    say(platform, ANA, "correct", correction="what it is")
    out = take(platform, ANA).ref.rpartition(":")[2]
    say(platform, ANA, "wrong")
    told = reviews.commit(platform, "q", BOB)
    assert (told["dataset"], told["rows"], told["labels"], told["removed"]) == ("set@2", 19, 3, 2)
    after = {row.key: row for row in versions.read(platform.home, "set@2")}
    assert after[kept].extra["annotator"] == "ana"
    assert replaced not in after
    assert out not in after
    assert [row.extra["verdict"] for row in after.values() if row.completion == "what it is"] == ["correct"]
    made = versions.get(platform.db, "set@2").transformation
    assert (made["kind"], made["annotators"], made["labels"]) == ("review", ["ana"], 3)
    with pytest.raises(Refused, match="nothing new"):
        reviews.commit(platform, "q", ANA)


def test_a_label_taken_back_meanwhile_stops_the_commit(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(platform, 1)
    say(platform, ANA, "right")
    with platform.db.reading() as conn:
        settled = items.untaken(conn, "q")
    reviews.undo(platform, "q", ANA)
    with pytest.raises(Conflict, match="taken back"), platform.db.writing() as conn:
        items.took(conn, settled[0][1], "set@2")


# Agreement


def test_alpha_and_kappa_are_those_of_the_literature() -> None:
    # Krippendorff 2011, section C: four observers, twelve units, nominal data with missing values
    table = """1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 ."""
    rows = [line.split() for line in table.splitlines()]
    units = [[value for value in unit if value != "."] for unit in zip(*rows, strict=True)]
    assert agreement.alpha(units) == pytest.approx(0.743, abs=0.0005)
    # Cohen: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert agreement.kappa(pairs) == pytest.approx(0.4)


def test_figures_come_with_an_interval_and_none_where_chance_explains_all() -> None:
    said = [
        (f"i{n}", who, "right" if n % 3 or (who == "bob" and n % 2) else "wrong")
        for n in range(60)
        for who in ("ana", "bob")
    ]
    alpha, kappa = agreement.agreement(said)
    assert (alpha.name, kappa.name, alpha.n) == ("alpha", "kappa: ana, bob", 60)
    assert alpha.low is not None
    assert alpha.low < alpha.value < alpha.high  # type: ignore[operator]
    assert agreement.agreement(said) == [alpha, kappa], "the same labels, the same figures"
    same = [(f"i{n}", who, "right") for n in range(5) for who in ("ana", "bob")]
    assert [one.value for one in agreement.agreement(same)] == [None, None]
    assert agreement.agreement(said[:2]) == []


# What is chosen


def interaction(number: int, text: str, thumb: int = 0, score: float | None = None, language: str = "en") -> Any:
    blank = dict.fromkeys(Interaction.__dataclass_fields__, "")
    values = {**blank, "id": f"int_{number}", "ts_ms": number, "input_text": text, "output_text": "a", "language": language,
              "scores": (Score(f"int_{number}", "valid_json", score),) if score is not None else (), "feedback": ()}  # fmt: skip
    one = Interaction(**values)
    return type("Seen", (), {**one.__dict__, "thumb": thumb})()


def test_each_reason_is_found_and_said() -> None:
    found = [
        interaction(0, "turn on the light", 1, 0.1), interaction(1, "make it warm", -1, 0.9), interaction(2, "open it", -1, 0.2),
        interaction(3, "close it", 0, 0.1), interaction(4, "what is my bank balance today"),
        interaction(5, "acenda a luz", language="pt"),
        interaction(6, "all is well", 1, 1.0),
    ]  # fmt: skip
    moved = [candidates.Grown("bank", 0.0, 0.2, ("show my bank balance", "what is my bank balance")),
             candidates.Grown("pt", 0.0, 0.4, language=True)]  # fmt: skip
    reasons = {one.candidate.ref: one.candidate.reason for one in candidates.of_interactions(found, moved)}
    assert reasons == {"int_0": "disagreement", "int_1": "disagreement", "int_2": "thumb_down", "int_3": "low_score",
                       "int_4": "drifted", "int_5": "drifted"}  # fmt: skip


def test_reasons_take_turns_and_a_share_comes_by_chance() -> None:
    weighed = [candidates.Weighed(Candidate("interaction", f"{reason}{n}", reason, {}), n / 100, f"{reason} {n}")
               for reason in ("disagreement", "low_score") for n in range(50)]  # fmt: skip
    chance = candidates.at_random((("interaction", f"any{n}", f"any {n}") for n in range(500)), "seed")
    chosen = candidates.choose(weighed, chance, count=40, random=0.25)
    assert [sum(one.reason == reason for one in chosen) for reason in ("random", "disagreement", "low_score")] == [
        10,
        15,
        15,
    ]
    assert chosen[0].ref in ("disagreement49", "low_score49")
    assert candidates.choose(weighed, chance, count=40, random=0.25) == chosen
    assert len(candidates.choose(weighed, chance, count=1000, random=0.5)) == 600, "all there is, each once"
    assert len(candidates.choose(weighed, [], count=1000, random=0.5)) == 100
    doubled = [replace(one, candidate=replace(one.candidate, ref=f"other{one.candidate.ref}")) for one in weighed]
    assert len(candidates.choose([*weighed, *doubled], [], count=1000, random=0.0)) == 100, (
        "the same words are asked once"
    )


def test_rows_that_checks_flagged_or_users_disliked_come_first(platform: Platform) -> None:
    queue(platform, random=0.0)
    told = reviews.fill(platform, "q", ANA, count=5, of="rows")
    assert told["reasons"]["thumb_down"] == 1
    assert take(platform, ANA).why == {"thumb": -1}
    queue(platform, random=0.5)
    assert reviews.fill(platform, "q", ANA, count=2000, of="rows")["added"] == 19, "all there is, and nothing twice"
    with pytest.raises(CirandaError, match="reviews no model's answers"):
        reviews.fill(platform, "q", ANA, count=5)


def test_the_share_of_right_answers_is_told_from_the_random_ones(platform: Platform) -> None:
    filled(platform, 10, random=1.0)
    for n in range(10):
        say(platform, ANA, "right" if n < 8 else "wrong")
    right = reviews.told(platform, "q")["right"]
    assert (right["share"], right["n"]) == (0.8, 10)
    assert right["low"] < 0.8 < right["high"]


def test_what_a_queue_reviews_is_for_good(platform: Platform) -> None:
    queue(platform)
    assert queue(platform, makes="pairs").makes == "pairs"
    with platform.db.writing() as conn, pytest.raises(Conflict):
        queues.put(conn, Queue("q", "", "other"), actor="ana")


def test_items_are_found_by_their_order(platform: Platform) -> None:
    made = queue(platform)
    with platform.db.writing() as conn:
        items.put(conn, made, [(Candidate("row", f"set@1:{n:064x}", "random", {}), 1) for n in range(3)], actor="ana")
        items.put(conn, made, [(Candidate("row", f"set@1:{n:064x}", "random", {}), 1) for n in (2, 3)], actor="ana")
        order = (
            conn.execute(sa.select(items.review_items.c.ref).order_by(items.review_items.c.priority.desc()))
            .scalars()
            .all()
        )
        assert [int(ref[-2:], 16) for ref in order] == [0, 1, 2, 3]
        assert items.take(conn, made, Who("k", "ana")).ref == order[0]  # type: ignore[union-attr]
