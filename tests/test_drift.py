"""Drift: silent while nothing changes, quick and plain-spoken when something does, the same after any restart."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciranda.data import language
from ciranda.data.language import detect
from ciranda.data.vectors import embed
from ciranda.errors import Invalid, NotFound
from ciranda.govern import audit
from ciranda.monitor import alerts, drift, look, rates, signals, streams
from ciranda.monitor.bets import PairBet, Reference
from ciranda.monitor.drift import CHANNELS, Watch
from ciranda.monitor.explain import Text, explain
from ciranda.monitor.streams import Baseline, Message, Stream, observe
from ciranda.store.database import Database, metadata
from monitored import Store, sentences


@pytest.fixture
def db(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/c.db")
    metadata.create_all(database.engine)
    return database


def messages(language: str, count: int, seed: int) -> list[Message]:
    return [streams.message(f"{language}{seed}-{n}", text, at=f"2026-11-23T07:{n // 60 % 60:02d}:{n % 60:02d}.000Z")
            for n, text in enumerate(sentences(language, count, seed))]  # fmt: skip


def feed(stream: Stream, seen: list[Message], *, step: int = 50) -> tuple[Stream, list[streams.DriftAlarm]]:
    alarms: list[streams.DriftAlarm] = []
    for start in range(0, len(seen), step):
        stream, more = observe(stream, seen[start : start + step])
        alarms += more
    return stream, alarms


@pytest.fixture(scope="module")
def english() -> Stream:
    return Stream.on("input", Baseline.of(messages("en", 1500, 1), distinct=True))


def test_three_thousand_ordinary_messages_raise_no_alarm(english: Stream) -> None:
    stream, alarms = feed(english, messages("en", 3000, 2))
    assert alarms == []
    assert stream.state == "quiet"
    assert stream.bet is not None
    assert stream.bet.bound.per_100k < 3


@pytest.mark.parametrize("size", [300, 1500])
def test_another_language_is_found_within_sixty_messages_and_named(size: int) -> None:
    stream, _ = feed(Stream.on("input", Baseline.of(messages("en", size, 1), distinct=True)), messages("en", 200, 2))
    stream, alarms = feed(stream, messages("pt-BR", 60, 3), step=5)
    alarm = alarms[0]
    assert alarm.notify
    assert alarm.messages <= 60
    told = {move.label: (move.before, move.after) for move in alarm.change.languages}
    assert told["pt"][0] < 0.05
    assert told["pt"][1] > 0.6
    examples = next(move.examples for move in alarm.change.languages if move.label == "pt")
    assert all(name.startswith("pt-BR3-") for name, _ in examples[1:])
    assert "pt" in alarm.summary
    assert stream.state == "drift"


def test_a_change_is_told_once_while_it_lasts_and_anew_after_quiet_has_returned(english: Stream) -> None:
    stream, first = feed(english, [*messages("en", 100, 2), *messages("pt-BR", 300, 3)], step=20)
    assert [alarm.notify for alarm in first] == [True]
    calm = [one for seed in range(4, 8) for one in messages("en", 700, seed)]
    stream, later = feed(stream, calm)
    assert [alarm for alarm in later if alarm.notify] == []
    assert stream.state == "quiet"
    stream, again = feed(stream, messages("pt-BR", 100, 9), step=20)
    assert [alarm.number for alarm in again if alarm.notify] == [stream.alarms]


def test_a_new_topic_in_the_same_language_is_found_and_described(english: Stream) -> None:
    banking = [f"please {verb} {n} euros {place} my {kind} account number {n}" for n in range(10, 40)
               for verb, place in (("transfer", "from"), ("pay", "into")) for kind in ("savings", "current")]  # fmt: skip
    talk = [streams.message(f"bank-{n}", text) for n, text in enumerate(banking)]
    _, alarms = feed(english, [*messages("en", 200, 2), *talk], step=10)
    told = [alarm for alarm in alarms if alarm.notify]
    assert told
    assert any(move.after > move.before and {"account", "euros"} & set(move.label.split(", "))
               for move in told[0].change.kinds)  # fmt: skip


@pytest.mark.parametrize("cut", [1, 7, 204, 225])
def test_a_restart_in_mid_stream_changes_nothing(english: Stream, cut: int) -> None:
    seen = [*messages("en", 200, 2), *messages("pt-BR", 60, 3)]
    whole, told = observe(english, seen)
    half, first = observe(english, seen[:cut])
    half = Stream.from_bytes(
        half.to_bytes(), Baseline.from_bytes(english.baseline.to_bytes() if english.baseline else b"")
    )
    resumed, rest = observe(half, seen[cut:])
    assert [alarm.at for alarm in (*first, *rest)] == [alarm.at for alarm in told]
    assert resumed.bet is not None
    assert whole.bet is not None
    assert np.allclose(resumed.bet.wealth, whole.bet.wealth, rtol=1e-3)
    assert (resumed.marks, resumed.recent, resumed.found) == (whole.marks, whole.recent, whole.found)


def test_observing_leaves_the_state_before_untouched(english: Stream) -> None:
    before = english.to_bytes()
    observe(english, messages("pt-BR", 50, 3))
    assert english.to_bytes() == before


def test_a_conversation_and_a_repeated_text_count_once(english: Stream) -> None:
    chat = [streams.message(f"m{n}", f"turn on lamp {word}", conversation="c1") for n, word in enumerate("abcde")]
    same = [streams.message(f"s{n}", "Turn on the lamp") for n in range(40)]
    stream, alarms = observe(english, [*chat, *same])
    assert (stream.seen, alarms) == (2, [])


def test_a_daily_cycle_is_no_drift_with_strata_and_one_without() -> None:
    """Half of the day people say one kind of thing, half of it another: what a naive test calls drift at every dusk."""
    dice = np.random.default_rng(0)
    day, night = np.zeros(8), np.r_[3.0, np.zeros(7)]

    def hours(count: int) -> tuple[np.ndarray, np.ndarray]:
        night_time = (np.arange(count) // 150) % 2
        return dice.normal(size=(count, 8)) + np.where(night_time[:, None] == 1, night, day), night_time

    vectors, strata = hours(2000)
    live, at = hours(3000)
    plain, layered = PairBet(Reference.of(vectors)), PairBet(Reference.of(vectors, strata=strata.tolist()))
    assert layered.update(live, strata=at.tolist()) is None
    assert plain.update(live) is not None


def test_personal_data_never_reaches_an_alarm(english: Stream) -> None:
    seen = [streams.message(f"m{n}", f"meu e-mail é pessoa{n}@exemplo.com.br, mande o recibo") for n in range(60)]
    stream, alarms = feed(english, [*messages("en", 50, 2), *seen])
    assert alarms
    assert "@exemplo" not in str(alarms)
    assert b"@exemplo" not in stream.to_bytes()


def test_too_small_a_reference_is_refused() -> None:
    with pytest.raises(Invalid, match="12 different messages"):
        Baseline.of(messages("en", 12, 1), distinct=True)


def test_the_same_text_has_the_same_vector_in_every_process() -> None:
    code = "from ciranda.data.vectors import embed; print(embed(['Acenda a luz 3'])[0].tobytes().hex())"
    for seed in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "src"},
                              capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)  # fmt: skip
        assert done.stdout.strip() == embed(["acenda a luz 7"])[0].tobytes().hex()
    assert embed(["", "x"]).shape == (2, 512)


@pytest.mark.parametrize(("text", "language"), [("turn on the kitchen lights please", "en"),
                                                ("acende a luz da cozinha por favor", "pt"), ("ok", "und")])  # fmt: skip
def test_languages(text: str, language: str) -> None:
    assert detect(text) == language


def test_nothing_changed_has_no_size() -> None:
    texts = [Text(str(n), text, "en") for n, text in enumerate(sentences("en", 800, 1))]
    change = explain(texts[:500], texts[500:])
    assert not change.large
    assert change.languages == ()


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000))
def test_under_exchangeable_messages_wealth_does_not_grow(seed: int) -> None:
    """The line-up makes every bet fair: final wealth averaged over runs stays near what was put in."""
    dice = np.random.default_rng(seed)
    runs = []
    for run in range(8):
        vectors = dice.normal(size=(400, 6))
        bet = PairBet(Reference.of(vectors[:200], seed=run), alpha=1e-9)
        bet.update(vectors[200:])
        runs.append(bet.e_value)
    assert np.median(runs) <= 1.5
    assert np.mean(np.array(runs) >= 100) <= 0.25


# --- rates ----------------------------------------------------------------------------------------------------------


def values(bads: list[float]) -> list[rates.Value]:
    return [rates.Value(bad, f"i{n}", f"2026-11-23T07:00:{n % 60:02d}.000Z", "why") for n, bad in enumerate(bads)]


def test_a_share_that_stays_is_silent_and_one_that_rises_is_told_with_before_and_now() -> None:
    dice = np.random.default_rng(3)
    start, calm = (dice.random(100) < 0.15).astype(float), (dice.random(1500) < 0.15).astype(float)
    level, alarms = rates.observe(rates.Level("feedback", rates.Rate()), values([*start, *calm]))
    assert alarms == []
    worse = [rates.Value(float(dice.random() < 0.7), f"w{n}", "2026-11-23T08:00:00.000Z") for n in range(60)]
    level, alarms = rates.observe(level, worse)
    assert len(alarms) == 1
    assert alarms[0].messages <= 40
    assert alarms[0].before == pytest.approx(0.15, abs=0.1)
    assert alarms[0].now > 0.5
    assert "thumbs down rose" in alarms[0].summary
    assert level.rate.worsened
    assert rates.Level.from_dict(level.to_dict()) == level


def test_a_rate_counts_an_interaction_once_and_refuses_nonsense() -> None:
    level, _ = rates.observe(rates.Level("feedback", rates.Rate()), values([1.0]) * 50)
    assert level.rate.seen == 1
    with pytest.raises(Invalid, match="badness"):
        rates.add(rates.Rate(), [2.0])


# --- the watch ------------------------------------------------------------------------------------------------------


def live_then_changed(store: Store, *, portuguese: int = 80) -> None:
    for n, text in enumerate(sentences("en", 120, 2)):
        store.vote(store.ask(text), -1 if n % 10 == 0 else 1)
    for text in sentences("pt-BR", portuguese, 3):
        store.vote(store.ask(text), -1, comment="isto não foi o que pedi")


def test_a_change_of_language_with_worse_votes_asks_for_a_turn_exactly_once(db: Database) -> None:
    store = Store()
    watch = Watch(db, store)
    watch.freeze("home", "home@1", sentences("en", 600, 1))
    live_then_changed(store)
    told = watch.tick("home", quality=lambda one: 1.0)
    assert [one.kind for one in told] == ["drift", "feedback", "retrain"]
    wanted = watch.pending()
    assert [one.event_id for one in wanted] == ["retrain:home@1:1:2"]
    assert {one["label"] for one in wanted[0].evidence["languages"]} >= {"pt", "en"}
    assert watch.tick("home") == []
    with db.writing() as conn:
        signals.take(conn, wanted[0].event_id, turn="turn:home:x")
        raised = alerts.page(conn, model="home")
    assert watch.pending() == []
    assert next((one.kind, one.severity, one.turn) for one in raised) == ("retrain", "critical", "turn:home:x")
    assert audit.verify(db).ok


def test_drift_alone_is_told_and_asks_for_nothing(db: Database) -> None:
    store = Store()
    watch = Watch(db, store)
    watch.freeze("home", "home@1", sentences("en", 600, 1))
    for text in (*sentences("en", 60, 2), *sentences("pt-BR", 60, 3)):
        store.vote(store.ask(text), 1)
    assert [one.kind for one in watch.tick("home")] == ["drift"]
    assert watch.pending() == []


def test_worse_answers_without_drift_are_told(db: Database) -> None:
    store = Store()
    watch = Watch(db, store)
    watch.freeze("home", "home@1", sentences("en", 600, 1))
    for n, text in enumerate(sentences("en", 260, 2)):
        store.ask(text, "good" if n < 120 else "bad")
    told = watch.tick("home", quality=lambda one: float(one.output_text == "good"))
    assert [one.kind for one in told] == ["quality"]
    assert "bad answers rose" in told[0].reason


def test_with_on_drift_alert_no_turn_is_asked_for(db: Database) -> None:
    store = Store()
    watch = Watch(db, store)
    watch.freeze("home", "home@1", sentences("en", 600, 1))
    live_then_changed(store)
    assert "retrain" not in [one.kind for one in watch.tick("home", retrain=False)]


def test_shadows_other_versions_and_what_came_before_count_for_nothing(db: Database) -> None:
    store = Store()
    store.ask("before the reference was frozen")
    watch = Watch(db, store)
    watch.freeze("home", "home@1", sentences("en", 600, 1))
    for n, text in enumerate(sentences("pt-BR", 80, 3)):
        store.ask(text, arm="shadow", shadow_of=str(n))
    store.vote(store.ask("turn on the lamp", version="home@0"), -1, version="home@0")
    assert watch.tick("home") == []
    seen = {one["name"]: one["seen"] for one in watch.status("home")}
    assert seen == {"input": 1, "output": 0, "quality": 0, "feedback": 0}


def test_nothing_is_counted_twice_when_a_look_dies_before_its_end(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole look is one transaction: a death inside leaves the state before, and the next look does it all."""
    store = Store()
    watch = Watch(db, store)
    watch.freeze("home", "home@1", sentences("en", 600, 1))
    live_then_changed(store)
    tell: Callable[..., signals.Signal] = signals.tell

    def killed(*args: object, **kwargs: object) -> signals.Signal:
        raise KeyboardInterrupt

    monkeypatch.setattr(signals, "tell", killed)
    with pytest.raises(KeyboardInterrupt):
        watch.tick("home")
    monkeypatch.setattr(signals, "tell", tell)
    assert [one["seen"] for one in watch.status("home")] == [0, 0, 0, 0]
    assert [one.kind for one in Watch(db, store).tick("home")] == ["drift", "feedback", "retrain"]


def test_two_processes_looking_at_once_count_once(db: Database) -> None:
    store = Store()
    first, second = Watch(db, store), Watch(db, store)
    first.freeze("home", "home@1", sentences("en", 600, 1))
    live_then_changed(store)

    class Slow(Store):
        """Another process finishes its look while this one is reading."""

        def since(self, *args: object, **kwargs: object) -> list:  # type: ignore[type-arg, override]
            read = store.since(*args, **kwargs)  # type: ignore[arg-type]
            first.tick("home")
            return read

    slow = Slow(asked=store.asked, voted=store.voted)
    second._reader = slow
    assert second.tick("home") == []
    seen = watch_seen(second)
    assert (seen["output"], seen["feedback"]) == (200, 200)
    with db.reading() as conn:
        assert len(alerts.page(conn)) == 3


def watch_seen(watch: Watch) -> dict[str, int]:
    return {one["name"]: one["seen"] for one in watch.status("home")}


def test_pieces_and_restarts_give_what_one_look_gives(db: Database, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path}/other.db")
    metadata.create_all(other.engine)
    whole, pieces = Store(), Store()
    for base, store in ((db, whole), (other, pieces)):
        Watch(base, store).freeze("home", "home@1", sentences("en", 600, 1))
    live_then_changed(whole)
    at_once = Watch(db, whole).tick("home")
    asked, voted = list(whole.asked), list(whole.voted)
    told = []
    for start in range(0, 200, 17):
        pieces.asked, pieces.voted = asked[: start + 17], voted[: start + 17]
        told += Watch(other, pieces).tick("home")
    keep = {one.event_id for one in at_once if one.kind != "retrain"}
    assert {one.event_id for one in told if one.kind != "retrain"} == keep
    assert [one for one in told if one.kind == "retrain"]


def test_the_output_stream_takes_its_reference_from_the_first_answers(db: Database) -> None:
    store = Store()
    watch = Watch(db, store)
    watch.freeze("home", "home@1", [], channels=["input", "output"])
    said = list(sentences("en", 700, 2))
    for text in said:
        store.ask(text, f"you said {text}")
    assert watch.tick("home") == []
    assert {one["name"]: one["state"] for one in watch.status("home")} == {"input": "quiet", "output": "quiet"}
    for text in sentences("en", 80, 5):
        store.ask(text, "I am sorry, I cannot help with that request.")
    told = watch.tick("home")
    assert [(one.kind, one.evidence["channel"]) for one in told] == [("drift", "output")]


def test_a_new_reference_closes_old_alerts_and_begins_again(db: Database) -> None:
    store = Store()
    watch = Watch(db, store)
    watch.freeze("home", "home@1", sentences("en", 600, 1))
    live_then_changed(store)
    watch.tick("home")
    assert watch.freeze("home", "home@2", [*sentences("en", 300, 1), *sentences("pt-BR", 300, 4)]) == 2
    with db.reading() as conn:
        assert {one.state for one in alerts.page(conn)} == {"closed"}
    for pair in zip(sentences("pt-BR", 60, 7), sentences("en", 60, 8), strict=True):
        for text in pair:
            store.ask(text, version="home@2")
    assert watch.tick("home") == []
    assert watch_seen(watch)["output"] == 120


def test_what_was_said_can_be_forgotten(db: Database) -> None:
    store = Store()
    watch = Watch(db, store)
    watch.freeze("home", "home@1", sentences("en", 600, 1))
    live_then_changed(store)
    told = watch.tick("home")
    gone = {example[0] for move in told[0].evidence["languages"] for example in move["examples"]}
    words = [one.input_text for one in store.asked if one.id in gone]
    assert watch.forget(gone) >= 1
    with db.reading() as conn:
        left = str([alert.body for alert in alerts.page(conn)]) + str([one.evidence for one in signals.pending(conn)])
    assert words
    assert not [text for text in words if text in left]
    assert watch.forget(gone) == 0


def test_status_tells_what_pages_show(db: Database) -> None:
    store = Store()
    watch = Watch(db, store)
    assert watch.status("home") == []
    watch.freeze("home", "home@1", sentences("en", 600, 1))
    live_then_changed(store)
    watch.tick("home")
    shown = watch.status("home")
    assert [one["name"] for one in shown] == list(CHANNELS)
    assert [one["state"] for one in shown] == ["drift", "learning", "learning", "drift"]
    assert shown[0]["shift"] > 0.3
    assert shown[0]["history"][-1][0] > 180
    assert {"e_value", "e_limit", "shift_limit", "since", "false_alarms_per_100k"} <= shown[0].keys()


def test_a_channel_that_is_not_is_refused_and_a_signal_that_is_not_is_not_found(db: Database) -> None:
    with pytest.raises(Invalid, match="channels"):
        Watch(db, Store()).freeze("home", "home@1", [], channels=["mood"])
    with db.writing() as conn, pytest.raises(NotFound, match="no signal"):
        signals.take(conn, "retrain:nobody")


def test_a_look_is_pure() -> None:
    held = {name: look.fresh(name, alpha=0.01, margin=0.05, baseline=None) for name in CHANNELS}
    store = Store()
    store.vote(store.ask("turn on the lamp"), 1)
    once = look.look(held, version="home@1", asked=store.asked, voted=store.voted, quality=lambda one: 1.0)
    twice = look.look(held, version="home@1", asked=store.asked, voted=store.voted, quality=lambda one: 1.0)
    assert once == twice


# --- what a version is compared with


def test_a_version_made_for_a_new_language_expects_that_language() -> None:
    english = [f"turn on the kitchen light number {n} please" for n in range(300)]
    portuguese = [f"por favor acenda a luz da cozinha número {n}" for n in range(60)]
    traffic = [f"apague todas as luzes do quarto {n} agora" for n in range(95)]
    traffic += [f"switch off the lights of room {n}" for n in range(5)]
    chosen = drift.expected(english + portuguese, traffic)
    told = Counter(detect(text) for text in chosen)
    assert told["pt"] / len(chosen) == pytest.approx(0.95, abs=0.03)
    assert len(chosen) > 150
    assert drift.expected(english, traffic[:49]) == english  # so little traffic says nothing


def test_the_texts_kept_of_a_reference_are_of_all_its_parts() -> None:
    texts = [f"switch on lamp {n} in the kitchen" for n in range(900)] + [
        f"acenda a lâmpada {n} da cozinha" for n in range(100)
    ]
    baseline = Baseline.of([streams.message(str(n), text) for n, text in enumerate(texts)], distinct=True)
    portuguese = sum("lâmpada" in one.text for one in baseline.sample)
    assert portuguese / len(baseline.sample) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("text", ["reproduza rádio", "aborta timer", "abrir a toldo"])
def test_a_guess_that_is_not_sure_is_no_language(text: str) -> None:
    assert detect(text) in ("pt", "und")


def test_texts_that_come_together_settle_each_others_language() -> None:
    texts = sentences("pt-BR", 60, 3)
    assert Counter(detect(text) for text in texts)["pt"] < 50  # short commands, each alone
    assert set(language.detect_all(texts)) == {"pt"}
    mixed = language.detect_all([*texts, *sentences("en", 60, 4), "ok"])
    assert mixed[:60].count("pt") > 50
    assert (set(mixed[60:120]), mixed[-1]) == ({"en"}, "und")
