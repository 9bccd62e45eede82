"""Questions to the record: filters, pages, readers that miss nothing, figures from roll-ups, and a collector that is away."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ciranda.errors import Invalid, NotFound, Unauthenticated, Unavailable
from ciranda.interactions.query import Interactions, Score
from ciranda.interactions.spool import INTERACTION
from ciranda.store import clock, ids
from recorded import Recorded, opinion, record, until

START = clock.now_ms() // 60_000 * 60_000 - 3_600_000  # a whole minute, an hour ago


@pytest.fixture(scope="module")
def lamp(recorded: Recorded) -> list[str]:
    """Forty interactions of the model `lamp` over four minutes: every tenth failed, thumbs on some, two versions."""
    writer = recorded.writer("lamp")
    made = []
    for number in range(40):
        identifier = str(ids.uuid7())
        meta = {"id": identifier, "ts_ms": START + number * 6_000, "model": "lamp", "user": f"user{number % 4}",
                "version": "lamp@1" if number < 20 else "lamp@2", "latency_ms": float(10 + number),
                "status": 503 if number % 10 == 9 else 200, "error": "upstream" if number % 10 == 9 else ""}  # fmt: skip
        record(writer, f"Turn on light {number}", f"done {number}", **meta)
        if number % 5 == 0:
            opinion(writer, identifier, thumb=-1 if number % 10 == 0 else 1)
        made.append(identifier)
    until(lambda: recorded.interactions.count(model="lamp") == 40)
    until(lambda: len(recorded.interactions.feedback_since(None, model="lamp")) == 8)
    return made


def test_a_page_is_newest_first_and_goes_on_after_the_last_one_seen(recorded: Recorded, lamp: list[str]) -> None:
    seen: list[str] = []
    while page := recorded.interactions.page(model="lamp", limit=15, before=seen[-1] if seen else None):
        seen += [one.id for one in page]
    assert seen == lamp[::-1]


def test_a_glance_is_the_same_page_without_its_weight(recorded: Recorded, lamp: list[str]) -> None:
    for chosen in ({}, {"thumb": -1}, {"status": 5}, {"search": "light 7"}, {"version": "lamp@2"}):
        whole = recorded.interactions.page(model="lamp", limit=9, **chosen)  # type: ignore[arg-type]
        lines = recorded.interactions.glance(model="lamp", limit=9, **chosen)  # type: ignore[arg-type]
        assert [(one.id, one.thumb, one.place, one.status) for one in lines] == [
            (one.id, one.thumb, one.place, one.status) for one in whole
        ]
        assert all(
            (one.input, one.output) == (full.input_text[:240], full.output_text[:240])
            for one, full in zip(lines, whole, strict=True)
        )
    assert recorded.interactions.glance(model="nobody") == []


def test_equal_times_are_paged_without_loss(recorded: Recorded) -> None:
    made = [record(recorded.writer("twins"), model="twins", ts_ms=START) for _ in range(9)]
    until(lambda: recorded.interactions.count(model="twins") == 9)
    seen: list[str] = []
    while page := recorded.interactions.page(model="twins", limit=2, before=seen[-1] if seen else None):
        seen += [one.id for one in page]
    assert sorted(seen) == sorted(made)


def test_a_page_is_read_on_where_counts_promise_more_than_there_is(recorded: Recorded) -> None:
    writer, day_ms = recorded.writer("gap"), 86_400_000
    old = [record(writer, model="gap", status=503, ts_ms=START - days * day_ms) for days in (40, 20)]
    for number in range(3):  # counted as errors, though their status is none
        record(writer, model="gap", status=200, error="cut", ts_ms=START - day_ms + number)
    until(lambda: recorded.interactions.count(model="gap") == 5)
    for limit in (1, 2, 3):
        found = recorded.interactions.glance(model="gap", status=5, limit=limit)
        assert [one.id for one in found] == old[::-1][:limit]
    (last,) = recorded.interactions.glance(model="gap", status=5, before=found[0].place)
    assert (last.id, last.error) == (old[0], "")
    assert recorded.interactions.glance(model="gap", status=5, before=last.place) == []


def test_filters_can_be_put_together(recorded: Recorded, lamp: list[str]) -> None:
    ask = recorded.interactions
    assert ask.count(model="lamp", version="lamp@2") == 20
    assert ask.count(model="lamp", status=5) == ask.count(model="lamp", status=503) == 4
    assert ask.count(model="lamp", user="user1", status=2) == 8
    assert ask.count(model="lamp", arm="canary") == 0
    middle = datetime.fromtimestamp((START + 120_000) / 1000, UTC)
    assert ask.count(model="lamp", since=middle) == ask.count(model="lamp", until=middle) == 20
    assert {one.id for one in ask.page(model="lamp", thumb=-1)} == {lamp[number] for number in (0, 10, 20, 30)}
    assert [one.id for one in ask.page(search="LIGHT 17")] == [lamp[17]]
    assert [one.id for one in ask.page(model="lamp", search="done 3", until=middle)] == [lamp[3]]


def test_words_are_found_in_any_order_and_phrases_as_they_stand(recorded: Recorded) -> None:
    writer = recorded.writer("words")
    record(writer, "Liga a luz da cozinha, já!", "Küche: Licht AN", model="w", id="w-1")
    record(writer, "台所の電気をつけて", "はい", model="w", id="w-2")
    record(writer, "lighting 100% of it", "snake_case", model="w", id="w-3")
    until(lambda: recorded.interactions.count(model="w") == 3)
    for search, expected in {
        "luz LIGA": {"w-1"}, "JÁ an": {"w-1"}, "küche": {"w-1"}, "lu": set(), '"lu"': {"w-1"}, "liga lighting": set(),
        "電気": {"w-2"}, "%": {"w-3"}, "case snake": {"w-3"}, "light": set(), '"LIGHT"': {"w-3"}, 'of "100%"': {"w-3"},
        'luz "da coz" "AN"': {"w-1"}, 'luz "an zz"': set(), '"luz': {"w-1"}, '""': set(),
    }.items():  # fmt: skip
        assert {one.id for one in recorded.interactions.page(model="w", search=search)} == expected, search


def test_the_newest_vote_decides(recorded: Recorded) -> None:
    writer = recorded.writer("fickle")
    identifier = record(writer, model="fickle")
    opinion(writer, identifier, thumb=1, ts_ms=START)
    opinion(writer, identifier, thumb=-1, ts_ms=START + 1)
    opinion(writer, identifier, thumb=0, ts_ms=START + 2, comment="hm")
    (found,) = until(lambda: recorded.interactions.page(model="fickle", thumb=-1))
    assert found.thumb == -1
    assert recorded.interactions.page(model="fickle", thumb=1) == []


@pytest.mark.parametrize(
    "text", ["' OR 1=1 --", "\\' OR 1=1 --", "{x:String}", "%", "a\tb\nc", "\0", "ação 😀", "%(x)s", "\\N"]
)
def test_what_a_user_types_is_only_ever_a_value(recorded: Recorded, lamp: list[str], text: str) -> None:
    assert recorded.interactions.page(model="lamp", search=text) == []
    assert recorded.interactions.count(model=text) == 0
    identifier = record(recorded.writer("odd"), f"before {text} after", model="odd", user=text)
    until(lambda: recorded.interactions.get(identifier))
    assert identifier in [one.id for one in recorded.interactions.page(model="odd", search=f'"re {text} AF"')]
    assert [one.id for one in recorded.interactions.page(model="odd", user=text)] == [identifier]


def test_questions_that_cannot_be_are_refused(recorded: Recorded) -> None:
    ask = recorded.interactions
    for wrong in ({"status": 7}, {"status": 99}, {"thumb": 3}, {"since": datetime(2026, 1, 1)}):
        with pytest.raises(Invalid):
            ask.page(**wrong)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        ask.page(before="nobody")
    with pytest.raises(Invalid):
        ask.since("yesterday")
    assert ask.get("nobody") is None
    assert ask.get("") is None


def test_an_interaction_is_found_by_any_id(recorded: Recorded) -> None:
    writer = recorded.writer("named")
    record(writer, id="chosen-by-hand", model="named")
    late = record(writer, id=str(ids.uuid7()), model="named", ts_ms=START - 90 * 86_400_000)
    until(lambda: recorded.interactions.count(model="named") == 2)
    for identifier in ("chosen-by-hand", late):
        assert recorded.interactions.get(identifier).id == identifier  # type: ignore[union-attr]


def test_a_reader_by_arrival_misses_no_late_row_and_sees_none_twice(recorded: Recorded) -> None:
    writer = recorded.writer("late")
    cursor = recorded.interactions.cursor()
    first = [record(writer, model="late", ts_ms=START + number) for number in range(5)]
    until(lambda: recorded.interactions.count(model="late") == 5)
    read = recorded.interactions.since(cursor, model="late", limit=3)
    late = record(writer, model="late", ts_ms=START - 5 * 86_400_000)
    until(lambda: recorded.interactions.count(model="late") == 6)
    while more := recorded.interactions.since(read[-1].cursor, model="late", limit=2):
        read += more
    assert [one.id for one in read] == [*first, late]
    assert {one.id for one in recorded.interactions.since(None, model="late")} == {*first, late}


def test_a_question_about_thousands_of_ids_is_answered_too(recorded: Recorded) -> None:
    made_up = [Score(f"it's-nobody-{number}\r\n--x", "bulk", 1.0) for number in range(5_000)]
    assert recorded.interactions.insert_scores(made_up) == 5_000
    assert recorded.interactions.insert_scores([*made_up, Score("nobody", "bulk", 1.0)]) == 1


def test_means_of_scores_by_version_and_scorer_over_time(recorded: Recorded) -> None:
    start = START // 3_600_000 * 3_600_000
    given = [
        Score(f"toned-{value}", "tone", value, "toned", version, arm, ts_ms=start)
        for value, version, arm in (
            (0.5, "t@1", "live"),
            (1.0, "t@1", "live"),
            (0.25, "t@2", "live"),
            (0.0, "t@1", "shadow"),
        )
    ]
    recorded.interactions.insert_scores(given)
    found = recorded.interactions.means("toned", since=datetime.fromtimestamp(start / 1000, UTC), step_s=3600)
    assert [(one.version, one.mean, one.n) for one in found] == [("t@1", 0.75, 2), ("t@2", 0.25, 1)]


def test_three_quantiles_of_latency(recorded: Recorded, lamp: list[str]) -> None:
    (total, *_) = recorded.interactions.totals(model="lamp")
    points = recorded.interactions.series("lamp", since=datetime.fromtimestamp(START / 1000 - 60, UTC), step_s=5)
    assert 0 < total.latency_p50 < total.latency_p95 <= total.latency_p99
    assert all(0 < one.latency_p50 <= one.latency_p99 for one in points if one.requests > one.errors)


def test_feedback_is_read_by_arrival_too(recorded: Recorded) -> None:
    writer = recorded.writer("votes")
    identifier = record(writer, model="votes")
    cursor = recorded.interactions.cursor()
    given = [opinion(writer, identifier, comment=str(number)) for number in range(3)]
    until(lambda: len(recorded.interactions.feedback_since(cursor, model="votes")) == 3)
    (first,) = recorded.interactions.feedback_since(cursor, model="votes", limit=1)
    rest = recorded.interactions.feedback_since(first.cursor, model="votes")
    assert [one.id for one in (first, *rest)] == given


@pytest.mark.parametrize("step", [60, 20])
def test_a_series_agrees_with_the_rows(recorded: Recorded, lamp: list[str], step: int) -> None:
    points = recorded.interactions.series("lamp", since=datetime.fromtimestamp(START / 1000, UTC), step_s=step)
    assert sum(point.requests for point in points) == 40
    assert sum(point.errors for point in points) == 4
    assert (sum(point.thumbs_up for point in points), sum(point.thumbs_down for point in points)) == (4, 4)
    assert sum(point.prompt_tokens for point in points) == 280
    assert [point.t for point in points] == sorted(point.t for point in points)
    assert len(points) == 240 // step
    first = points[0]
    assert first.version == "lamp@1"
    assert first.latency_p50 == pytest.approx(10 + (60 // 6 - 1) / 2 if step == 60 else 11, rel=0.1)
    assert recorded.interactions.series("lamp", version="lamp@2", since=clock.parse("2026-01-01"), step_s=3600)


def test_totals_count_by_version_and_arm_and_hold_the_means_of_scores(recorded: Recorded, lamp: list[str]) -> None:
    whole = recorded.interactions.since(None, model="lamp")
    scores = [Score(one.id, "exact_match", one.stream + (number % 2), one.model, one.version, one.arm)
              for number, one in enumerate(whole)]  # fmt: skip
    assert recorded.interactions.insert_scores(scores) == 40
    assert recorded.interactions.insert_scores(scores) == 0
    assert recorded.interactions.insert_scores([*scores[:2], replace(scores[0], scorer="other")]) == 1
    first, second = recorded.interactions.totals(model="lamp")
    assert (first.version, first.arm, first.requests, first.errors) == ("lamp@1", "live", 20, 2)
    assert first.scores == {"exact_match": 0.5, "other": 0.0}
    assert second.scores == {"exact_match": 0.5}
    assert second.latency_p95 == pytest.approx(48, rel=0.05)
    assert [one.scorer for one in recorded.interactions.get(whole[0].id).scores] == ["exact_match", "other"]  # type: ignore[union-attr]
    soon = clock.now() + timedelta(hours=1)
    assert recorded.interactions.totals(soon, model="lamp") == []


def test_totals_and_the_series_of_all_models_begin_with_their_minute(recorded: Recorded) -> None:
    hour = START // 3_600_000 * 3_600_000 - 5 * 3_600_000
    moments = [hour + minute * 60_000 + 5 for minute in (0, 29, 30, 31, 59, 60, 61, 150, 179)]
    for number, ts_ms in enumerate(moments):
        record(recorded.writer("span"), model=f"span-{number % 2}", ts_ms=ts_ms)
    spans = lambda since: [one for one in recorded.interactions.totals(since) if one.model.startswith("span-")]  # noqa: E731
    for since in (
        None,
        datetime.fromtimestamp(hour / 1000, UTC) + timedelta(minutes=1),
    ):  # hours and minutes follow the rows
        until(lambda since=since: sum(one.requests for one in spans(since)) == (9 if since is None else 8))
    for minute in (0, 30, 59, 60, 100):
        since = datetime.fromtimestamp((hour + minute * 60_000 + 30) / 1000, UTC)
        expected = sum(one >= hour + minute * 60_000 for one in moments)
        totals = spans(since)
        assert sum(one.requests for one in totals) == expected, minute
        points = [one for one in recorded.interactions.series(since=since) if one.model.startswith("span-")]
        assert sum(one.requests for one in points) == expected, minute
        assert {one.model for one in points} == {one.model for one in totals}


def test_shadows_are_told_apart_and_paired(recorded: Recorded) -> None:
    writer = recorded.writer("pairs")
    live = [record(writer, f"q{number}", f"live {number}", model="p", rollout="roll_p") for number in range(3)]
    early = record(
        writer, "q0", "shadow 0", model="p", rollout="roll_p", arm="shadow", shadow_of=live[0], version="p@2"
    )
    (pair,) = until(lambda: recorded.interactions.pairs("roll_p"))
    assert (pair.live.id, pair.shadow.id) == (live[0], early)
    assert (pair.live.output_text, pair.shadow.output_text) == ("live 0", "shadow 0")
    record(writer, "q2", "shadow 2", model="p", rollout="roll_p", arm="shadow", shadow_of=live[2], version="p@2")
    (second,) = until(lambda: recorded.interactions.pairs("roll_p", pair.cursor))
    assert second.live.id == live[2]
    assert recorded.interactions.pairs("roll_p", second.cursor) == []
    since = clock.now() - timedelta(minutes=5)
    for arm, requests in ((None, 3), ("shadow", 2)):  # roll-ups follow the rows by a moment
        until(lambda: sum(one.requests for one in recorded.interactions.series("p", arm=arm, since=since)) == requests)  # noqa: B023


def test_corrections_come_with_the_messages_that_were_sent(recorded: Recorded) -> None:
    writer = recorded.writer("corrections")
    identifier = record(writer, "Liga a luz", '{"intent": "?"}', model="c", user="ana")
    opinion(writer, identifier, thumb=-1, correction='{"intent": "HassTurnOn"}')
    opinion(writer, identifier, thumb=1)
    (given,) = until(lambda: recorded.interactions.corrections("c"))
    assert given.correction == '{"intent": "HassTurnOn"}'
    assert (given.output_text, given.user, given.thumb, given.interaction) == ('{"intent": "?"}', "ana", -1, identifier)
    assert [message["role"] for message in given.messages] == ["system", "user"]
    assert recorded.interactions.corrections("c", given.cursor) == []
    assert recorded.interactions.corrections("c", since=clock.now() + timedelta(hours=1)) == []


def test_requests_in_other_shapes_have_messages_or_none(recorded: Recorded) -> None:
    writer = recorded.writer("shapes")
    for number, body in enumerate((json.dumps({"prompt": "once"}).encode(), b"[]", b"not json")):
        identifier = f"shape-{number}"
        meta = {"id": identifier, "ts_ms": START, "tenant": "default", "model": "s"}
        writer.append(INTERACTION, meta, body)
        opinion(writer, identifier, correction="x")
    given = until(lambda: len(found := recorded.interactions.corrections("s")) == 3 and found)
    assert [one.messages for one in given] == [({"role": "user", "content": "once"},), (), ()]


def test_a_restart_of_the_collector_is_survived_and_its_absence_is_named(recorded: Recorded, lamp: list[str]) -> None:
    if recorded.server:
        pytest.skip("readers ask the server, whether the collector is up or not")
    recorded.kill()
    with pytest.raises(Unavailable, match="does not answer") as raised:
        recorded.interactions.count()
    assert "ciranda up" in raised.value.remedy
    fresh = Interactions.at(recorded.home)
    with pytest.raises(Unavailable):
        fresh.count()
    recorded.start()
    assert recorded.interactions.count(model="lamp") == 40
    assert fresh.count(model="lamp") == 40
    fresh.close()


def test_a_wrong_token_is_named_and_a_home_without_collector_too(recorded: Recorded) -> None:
    if recorded.server:
        pytest.skip("readers ask the server, which has no token")
    with pytest.raises(Unauthenticated, match="refused the token"):
        Interactions(recorded.announced()["url"], "wrong").count()
    empty = Interactions.at(type(recorded.home)(recorded.home.path / "elsewhere"))
    with pytest.raises(Unavailable, match="the collector is not running"):
        empty.count()
