"""Scorers, suites and comparisons: what is good, how sure we are, and when nothing can be told."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciranda.config import Home
from ciranda.data import versions
from ciranda.data.rows import Row
from ciranda.errors import CirandaError, Failed, Invalid, NotFound, Refused, Unavailable
from ciranda.evals import compare, intervals, scorers, suites
from ciranda.evals.cases import Case, Reply
from ciranda.evals.suites import Answer, Evaluation, Suite
from ciranda.govern import audit
from ciranda.store.database import Database, metadata

GOOD = '{"intent":"TurnOn","slots":{"area":"kitchen"}}'


@pytest.mark.parametrize(
    ("name", "answer", "reference", "score"),
    [
        ("exact_match", f" {GOOD}\n", GOOD, 1),
        ("exact_match", '{"slots":{"area":"kitchen"},"intent":"TurnOn"}', GOOD, 0),
        ("json_match", '{"slots": {"area": "kitchen"}, "intent": "TurnOn"}', GOOD, 1),
        ("json_match", "kitchen", GOOD, 0),
        ("intent_accuracy", '{"intent":"TurnOn","slots":{}}', GOOD, 1),
        ("intent_accuracy", '{"intent":"TurnOff"}', GOOD, 0),
        ("intent_accuracy", "TurnOn", GOOD, 0),
        ("json_field:slots.area", '{"slots":{"area":"kitchen"}}', GOOD, 1),
        ("json_field:slots.name", '{"slots":{}}', GOOD, 1),
        ("json_field:slots.name", "no JSON", GOOD, 0),
        ("valid_json", GOOD, None, 1),
        ("valid_json", "[1]", None, 0),
        ("valid_json", "[" * 100_000, None, 0),
        ("length_ratio", "abcd", "ab", 0.5),
        ("length_ratio", "", "", 1),
        ("repetition", "no no no no no no", None, 0.75),
        ("repetition", "short", None, 0),
        ("refusal", "I'm sorry, but I can't help with that.", None, 1),
        ("refusal", "Não posso ajudar com isso.", None, 1),
        ("refusal", GOOD, None, 0),
        ("toxicity", "you asshole", None, 1),
        ("toxicity", "the class assessed it", None, 0),
        ("pii_leak", "write to bia@example.org", None, 1),
        ("pii_leak", "write to me@example.org", None, 0),
    ],
)
def test_scorers(name: str, answer: str, reference: str | None, score: float) -> None:
    assert scorers.score(name, answer, reference, "my mail is me@example.org") == pytest.approx(score)


def test_a_scorer_that_needs_a_reference_is_silent_without_one_and_unknown_names_are_refused() -> None:
    assert scorers.score("exact_match", "a", None, "") is None
    for name in ("accuracy", "json_field:", ""):
        with pytest.raises(Invalid, match="no scorer") as error:
            scorers.scorer(name)
        assert "exact_match" in error.value.remedy


@given(st.integers(1, 400), st.data())
def test_an_interval_holds_its_mean_and_stays_in_bounds(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    found = intervals.estimate([1.0] * right + [0.0] * (n - right), rate=True)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.low < found.high


def test_wilson_says_what_the_textbook_says() -> None:
    assert intervals.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert intervals.wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    dice = random.Random(3)
    samples = [[dice.betavariate(2, 3) for _ in range(60)] for _ in range(200)]
    found = [intervals.estimate(sample, rate=False) for sample in samples]
    assert 0.90 <= sum(one.low <= 0.4 <= one.high for one in found) / 200 <= 0.99


# Suites


def suite(count: int = 20) -> Suite:
    languages = ["en", "pt-BR"]
    rows = [Row.of(f"q{n}", f"a{n}", language=languages[n % 2]) for n in range(count)]
    return Suite("test", tuple(Case(row.key, row.messages, row.completion, {"language": row.language}) for row in rows))


def right(case: Case) -> Reply:
    return Reply(case.prompt.replace("q", "a"))


def test_a_run_keeps_every_answer_and_figures_by_slice() -> None:
    asked = suite()
    seen: list[tuple[int, int]] = []
    portuguese = {case.prompt for case in asked.cases if case.slices["language"] == "pt-BR"}
    result = suites.run(
        asked,
        lambda case: Reply("?") if case.prompt in portuguese else right(case),
        ["exact_match", "valid_json"],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [one.case for one in result.answers] == [case.id for case in asked.cases]
    assert result.metrics["exact_match"].mean == 0.5
    assert result.slices["language=en"]["exact_match"].mean == 1
    assert result.slices["language=pt-BR"]["exact_match"].high < 0.35
    assert result.estimate("exact_match", {"language": "en"}).n == 10  # type: ignore[union-attr]
    assert result.estimate("exact_match", {"language": "de"}) is None
    assert seen[-1] == (20, 20)
    assert Evaluation.of(json.loads(json.dumps(result.to_dict()))) == result


def test_questions_are_asked_side_by_side() -> None:
    together = threading.Barrier(4, timeout=10)

    def ask(case: Case) -> Reply:
        together.wait()
        return right(case)

    assert suites.run(suite(8), ask, ["exact_match"], concurrency=4).metrics["exact_match"].mean == 1


def test_a_refused_question_is_the_worst_answer_and_an_absent_engine_ends_the_run() -> None:
    def ask(case: Case) -> Reply:
        if case.prompt == "q3":
            raise Failed("too long", where="engine", remedy="shorten it")
        return right(case)

    result = suites.run(suite(), ask, ["exact_match", "toxicity"])
    assert result.errors == 1
    assert result.metrics["exact_match"].mean == 0.95
    assert result.answers[3].scores == {"exact_match": 0.0, "toxicity": 1.0}
    assert result.answers[3].error == "too long"

    def away(_case: Case) -> Reply:
        raise Unavailable("engine is away", where="engine", remedy="wait")

    with pytest.raises(Unavailable):
        suites.run(suite(), away, ["exact_match"])


def test_a_suite_file_is_read_and_its_mistakes_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text(
        "suite: routing\ncases:\n"
        "  - {prompt: turn on, system: short, reference: a, slices: {language: en}}\n"
        "  - messages: [{role: user, content: desliga}]\n"
    )
    read = suites.from_yaml(path)
    assert (read.name, read.prompts) == ("routing", ["turn on", "desliga"])
    assert read.cases[0].slices == {"language": "en"}
    assert [message.role for message in read.cases[0].messages] == ["system", "user"]
    assert read.cases[1].reference is None
    path.write_text("suite: routing\ncases:\n  - {prompt: a}\n  - {promt: b}\n")
    with pytest.raises(Invalid) as error:
        suites.from_yaml(path)
    assert f"{path}:4" in error.value.where
    path.write_text("suite: routing\ncases:\n  - {prompt: a}\n  - {prompt: a}\n")
    with pytest.raises(Invalid, match="twice"):
        suites.from_yaml(path)
    with pytest.raises(NotFound):
        suites.from_yaml(tmp_path / "none.yaml")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.make()
    return made


@pytest.fixture
def db(home: Home) -> Database:
    made = Database(f"sqlite:///{home.database}")
    metadata.create_all(made.engine)
    return made


def test_a_split_is_a_suite_and_a_limit_takes_the_same_cases_evenly(db: Database, home: Home) -> None:
    languages = ["en"] * 30 + ["pt-BR"] * 6
    rows = [Row.of(f"q{n}", "a", language=one, split="test", source="s") for n, one in enumerate(languages)]
    versions.commit(db, home, "home", [*rows, Row.of("t", "a")], transformation={}, actor="t")
    whole = suites.from_dataset(db, home, "home@1")
    assert (whole.name, len(whole.cases)) == ("home@1/test", 36)
    assert whole.cases[0].slices.keys() == {"language", "source"}
    some = suites.from_dataset(db, home, "home@1", limit=10)
    assert [case.slices["language"] for case in some.cases].count("pt-BR") == 5
    assert some == suites.from_dataset(db, home, "home@1", limit=10)
    assert len(suites.from_dataset(db, home, "home@1", limit=20).cases) == 20
    with pytest.raises(Refused, match="no validation rows"):
        suites.from_dataset(db, home, "home@1", split="validation")


def test_reports_are_named_by_their_content_and_figures_are_recorded_once(db: Database, home: Home) -> None:
    result = suites.run(suite(), right, ["exact_match"])
    report = suites.save(home, result)
    assert suites.save(home, result) == report
    assert suites.load(home, report) == result
    with db.writing() as conn:
        first = suites.record(conn, result, model="m", version="m@1", report=report, actor="t", id="eval_1")
        assert suites.record(conn, result, model="m", version="m@1", report=report, actor="t", id="eval_1") == first
    with db.reading() as conn:
        (kept,) = suites.of_version(conn, "m@1")
        assert suites.get(conn, "eval_1") == kept
        with pytest.raises(NotFound):
            suites.get(conn, "eval_2")
    assert kept["metrics"]["exact_match"]["mean"] == 1
    assert [event.action for event in audit.page(db)] == ["evaluation.recorded"]
    suites.report_path(home, report).write_text("{}")
    with pytest.raises(Invalid, match="changed on disk"):
        suites.load(home, report)
    for name in ("../../etc/passwd", "sha256:zz"):
        with pytest.raises(CirandaError):
            suites.load(home, name)


# Comparisons


def scored(values: list[float], metric: str = "exact_match") -> Evaluation:
    answers = [Answer(str(n), "", None, "", {metric: v}, {"language": "en"}, 0) for n, v in enumerate(values)]
    return Evaluation("test", "sha256:0", tuple(answers))


def test_clearly_better_and_clearly_worse() -> None:
    good, bad = scored([1.0] * 80 + [0.0] * 20), scored([1.0] * 20 + [0.0] * 80)
    up, down = compare.compare(good, bad, "exact_match"), compare.compare(bad, good, "exact_match", 0.05)
    assert (up.verdict, down.verdict) == ("better", "worse")
    assert (up.wins, up.losses, up.n) == (60, 0, 100)
    assert up.difference == pytest.approx(0.6) == -down.difference
    assert up.low > 0.4
    assert up.p_value < 1e-9
    assert up == compare.compare(good, bad, "exact_match")


@pytest.mark.parametrize(("wins", "losses", "p"), [(10, 0, 2 / 1024), (8, 2, 0.109375), (2, 8, 0.109375), (5, 5, 1.0)])
def test_the_sign_test_is_exact(wins: int, losses: int, p: float) -> None:
    pairs = [(1.0, 0.0)] * wins + [(0.0, 1.0)] * losses + [(1.0, 1.0)] * 30
    assert compare.of_pairs(pairs, "exact_match").p_value == pytest.approx(p, rel=1e-12)


def test_the_sign_test_bears_many_cases() -> None:
    pairs = [(1.0, 0.0)] * 5000 + [(0.0, 1.0)] * 5100
    assert compare.of_pairs(pairs, "exact_match").p_value == pytest.approx(0.32458154633)


def test_a_rise_of_what_should_be_low_is_a_loss() -> None:
    calm, rude = scored([0.0] * 100, "toxicity"), scored([1.0] * 30 + [0.0] * 70, "toxicity")
    assert compare.compare(rude, calm, "toxicity", 0.02).verdict == "worse"
    assert compare.compare(calm, rude, "toxicity").verdict == "better"
    assert compare.compare(rude, calm, "toxicity").difference == pytest.approx(-0.3)


def test_the_same_answers_are_not_worse_once_there_are_enough_of_them() -> None:
    few, many = scored([1.0] * 10), scored([1.0, 0.0] * 200)
    assert compare.compare(many, many, "exact_match", 0.05).verdict == "not_worse"
    assert compare.compare(many, many, "exact_match").verdict == "cannot_tell"
    told = compare.compare(few, few, "exact_match", 0.5)
    assert (told.verdict, told.reason) == ("cannot_tell", "10 common cases, fewer than 30")
    assert compare.compare(scored([1.0] * 40), scored([1.0] * 40), "exact_match", 0.02).verdict == "cannot_tell"


def test_only_common_cases_and_the_wanted_slice_count() -> None:
    assert compare.compare(scored([1.0] * 60), scored([0.0] * 40), "exact_match").n == 40
    nothing = compare.compare(scored([1.0] * 60), scored([0.0] * 60), "exact_match", where={"language": "de"})
    assert (nothing.n, nothing.verdict, nothing.reason) == (0, "cannot_tell", "no case was answered by both")


def _verdicts(a: float, b: float, n: int, margin: float, runs: int = 300) -> dict[str, float]:
    """Shares of verdicts over simulated pairs: candidate right with chance `a`, champion with `b`."""
    dice, told = random.Random(f"{a}{b}{n}"), []
    for _ in range(runs):
        pairs = [(float(dice.random() < a), float(dice.random() < b)) for _ in range(n)]
        told.append(compare.of_pairs(pairs, "exact_match", margin).verdict)
    return {verdict: told.count(verdict) / runs for verdict in set(told)}


def test_false_words_are_rare_and_true_ones_come_with_enough_cases() -> None:
    equal = _verdicts(0.8, 0.8, 300, 0.05)
    assert equal.get("better", 0) <= 0.05
    assert equal.get("worse", 0) <= 0.05
    at_the_margin = _verdicts(0.75, 0.8, 300, 0.05)
    assert at_the_margin.get("not_worse", 0) + at_the_margin.get("better", 0) <= 0.08
    assert _verdicts(0.9, 0.7, 200, 0.05).get("better", 0) >= 0.95
