"""What checks find beyond a row's form: languages, secrets, twins, overlap with suites, balance, drift, functions of one's own."""

from __future__ import annotations

import os
import py_compile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ciranda.config import checks as written
from ciranda.config import model
from ciranda.config.checks import Checks
from ciranda.data import checks, columns, shift, words
from ciranda.data.checks import Bounds
from ciranda.data.checks.check import Part
from ciranda.data.checks.spread import features, profile_of
from ciranda.data.rows import Row
from ciranda.errors import Failed, Invalid, NotFound, Refused
from ciranda.govern import guard, kinds

LONG = "the committee looked at the figures of last year and found that most rivers in the north had less water than expected"


def row(prompt: str, completion: str = "{}", **more: Any) -> Row:
    return Row.of(prompt, completion, **{"origin": f"file:{prompt[:12]}", **more})


def judged(rows: list[Row], asked: Mapping[str, Any], **more: Any) -> checks.CheckReport:
    setting = Checks.model_validate(asked)
    return checks.run(rows, setting.policy(), bounds=Bounds(settings=setting, **more))


def reasons(report: checks.CheckReport) -> dict[str, str]:
    return {one.origin: one.reason for one in report.findings}


def test_languages_that_may_be_and_that_rows_say() -> None:
    rows = [
        row("turn the kitchen light off when nobody is at home", language="en"),
        row("apague a luz da cozinha quando não houver ninguém em casa", language="en"),
        row("schalte bitte das Licht in der Küche aus, wenn niemand da ist", language="de"),
        row("ok", language="en"),
    ]
    assert reasons(judged(rows, {"language": "warn"})) == {"file:apague a luz": "the row says en, its text reads as pt"}
    kept = judged(rows, {"language": {"action": "drop", "only": ["pt-BR", "en"]}}).kept
    assert [one.prompt[:6] for one in kept] == ["turn t", "apague", "ok"]
    assert Checks.model_validate({"language": ["pt"]}).policy() == {"language": "warn"}


def test_secrets_are_masked_and_pii_can_be_some_kinds_and_all_names() -> None:
    spoken = row("senha: Tr0ub4dor&3x", "Emily Johnson, ana@example.org")
    report = judged([spoken], {"secrets": "mask", "pii": {"action": "mask", "names": "anywhere", "kinds": ["name"]}})
    assert report.kept[0].prompt == "senha: [secret:assigned]"
    assert report.kept[0].completion == "[name], ana@example.org"
    assert {one.reason for one in report.findings} == {"personal data: 1 name", "secrets: 1 assigned"}


def test_near_duplicates_are_left_out_where_policy_says_so() -> None:
    rows = [row(LONG, origin="first"), row(f"{LONG} indeed", origin="second"), row("something else", origin="third")]
    report = judged(rows, {"near_duplicates": {"action": "drop", "threshold": 0.8}})
    assert [one.origin for one in report.kept] == ["first", "third"]
    assert report.findings[0].reason.startswith("nearly the same (0.9")
    assert report.findings[0].reason.endswith("as first")


def test_a_case_of_a_suite_is_found_exactly_nearly_and_by_a_run_of_words() -> None:
    rows = [
        row("Turn on the LAMP!", origin="exact"),
        row(f"please: {LONG}", origin="run"),
        row(LONG.replace("figures", "numbers").replace("rivers", "lakes"), origin="near"),
        row("turn off the lamp", origin="other"),
        row("turn on the lamp", split="test", origin="test"),
    ]
    report = judged(
        rows, {"contamination": {"action": "warn", "similarity": 0.6}}, suites={"s.yaml": ["turn on the lamp", LONG]}
    )
    assert reasons(report) == {
        "exact": "train row asks what suite s.yaml asks",
        "run": "train row repeats words of what suite s.yaml asks",
        "near": "train row nearly asks what suite s.yaml asks",
    }


def test_labels_out_of_balance_are_a_finding_on_all_rows() -> None:
    rows = [row(f"sentence {n}", "yes" if n % 50 else "no") for n in range(1000)]
    report = judged(rows, {"balance": {"action": "warn", "smallest": 0.05}})
    assert {one.reason for one in report.findings} == {
        "label 'yes': 98.0% of the labels, more than 90.0%",
        "label 'no': 2.00% of the labels (20 rows), less than 5.00%",
    }
    assert {one.origin for one in report.findings} == {"all rows"}
    assert report.figures["balance"]["found"] == 2
    with pytest.raises(Refused, match="all rows: balance: label 'yes'"):
        judged(rows, {"balance": "block"})


def test_drift_against_the_parent_names_what_moved() -> None:
    before = [row(f"turn on lamp number {n}", language="en") for n in range(300)]
    parent = profile_of(features(Part(columns.batch_of(before)), Bounds()))
    same = judged(before, {"drift": "block"}, parent=parent)
    assert same.figures["drift"]["found"] == 0
    after = [row(f"acenda a lâmpada de número {n} da sala de estar", language="pt") for n in range(300)]
    told = [one.reason for one in judged(after, {"drift": "warn"}, parent=parent).findings]
    assert any(reason.startswith("languages differ from the parent's: ") for reason in told)
    assert judged(after, {"drift": "warn"}).findings == ()  # a first version has no parent
    assert isinstance(parent, shift.Profile)


OWN = """
from ciranda.data.rows import Row

def no_prices(row):
    return "a price is in the answer" if "R$" in row.completion else None

def without_prices(row):
    return row.with_(completion=row.completion.replace("R$", "")) if "R$" in row.completion else None

def broken(row):
    return 1 / 0

def odd(row):
    return 7

def dies(row):
    import os
    os._exit(3)

def sleeps(row):
    while True:
        pass

def swallows(row):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

def hangs(row):
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    signal.sigwait([signal.SIGUSR2])
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "mychecks").mkdir()
    (tmp_path / "mychecks/__init__.py").write_text("")
    (tmp_path / "mychecks/prices.py").write_text(OWN)
    return tmp_path


def test_a_function_of_ones_own_is_a_check(own: Path) -> None:
    rows = [row("how much", "R$ 10"), row("how many", "10")]
    report = judged(rows, {"custom": {"mychecks.prices:no_prices": "drop"}}, custom=own)
    assert reasons(report) == {"file:how much": "a price is in the answer"}
    assert [one.prompt for one in report.kept] == ["how many"]
    masked = judged(
        rows, {"custom": {"mychecks.prices:no_prices": "warn", "mychecks.prices:without_prices": "mask"}}, custom=own
    )
    assert [one.completion for one in masked.kept] == [" 10", "10"]


def test_a_check_of_ones_own_is_what_its_file_says_now(own: Path) -> None:
    place, rows = own / "mychecks/prices.py", [row("how much", "R$ 10")]
    os.utime(place, (0, 0))
    py_compile.compile(str(place))
    place.write_text(OWN.replace("a price is", "some money"))
    os.utime(place, (0, 0))  # of the same size and time as the cached form
    report = judged(rows, {"custom": {"mychecks.prices:no_prices": "drop"}}, custom=own)
    assert reasons(report) == {"file:how much": "some money in the answer"}


def test_a_function_that_raises_is_named_with_the_row(own: Path) -> None:
    rows = [row("how much", "R$ 10")]
    with pytest.raises(Failed, match=r"mychecks\.prices:broken raised ZeroDivisionError") as raised:
        judged(rows, {"custom": {"mychecks.prices:broken": "block"}}, custom=own)
    assert raised.value.where == "file:how much"
    with pytest.raises(Failed, match="gave int"):
        judged(rows, {"custom": {"mychecks.prices:odd": "block"}}, custom=own)
    with pytest.raises(Failed, match="ended with 3"):
        judged(rows, {"custom": {"mychecks.prices:dies": "block"}}, custom=own)


@pytest.mark.parametrize("way", ["sleeps", "swallows", "hangs"])
def test_a_function_that_takes_too_long_is_named_with_the_row(own: Path, way: str) -> None:
    with pytest.raises(Failed, match=rf"mychecks\.prices:{way} on one row took more than 0.2 s") as raised:
        judged([row("how much", "R$ 10")], {"custom": {f"mychecks.prices:{way}": "block"}}, custom=own, row_s=0.2)
    assert raised.value.where == "file:how much"


@pytest.mark.parametrize("name", ["os:system", "mychecks.absent:f", "subprocess:run"])
def test_only_the_homes_folder_and_declared_functions_run(own: Path, name: str) -> None:
    with pytest.raises(NotFound, match="no check"):
        judged([row("x")], {"custom": {name: "warn"}}, custom=own)


def test_a_models_file_says_what_is_wrong_with_a_check() -> None:
    def read(line: str) -> model.ModelSpec:
        return model.read(f"model: m\ndata:\n  checks:\n    {line}\n", file="m.yaml")

    asked = read("near_duplicates: {action: drop, threshold: 0.9}").data.checks
    assert asked.policy() == {"near_duplicates": "drop"}
    assert asked.near_duplicates is not None
    assert asked.near_duplicates.threshold == 0.9
    assert read("emptiness: block").data.checks.policy() == {"schema": "block"}
    for line, told in (
        ("pii: blok", "data.checks.pii.action"),
        ("balance: drop", "data.checks.balance.action"),
        ("toxicty: drop", "did you mean 'toxicity'"),
        ("near_duplicates: {action: drop, treshold: 0.9}", "did you mean 'threshold'"),
        ("custom: {noprices: block}", "noprices"),
        ("pii: {action: mask, kinds: [cfp]}", "kinds"),
    ):
        with pytest.raises(Invalid) as raised:
            read(line)
        assert raised.value.where == "m.yaml:4"
        assert told in f"{raised.value} {raised.value.remedy}"


def test_the_kinds_that_may_be_written_are_those_there_are() -> None:
    assert set(written.PiiKind.__args__) == set(guard.KINDS) == {*(form.kind for form in kinds.FORMS), "name"}
    assert words.toxic("you f*cking idiot") == ["f*cking", "idiot"]


DOCS = Path(__file__).parent.parent / "docs/checks.md"


def blocks(kind: str) -> list[str]:
    return [block.split("\n```")[0] for block in DOCS.read_text().split(f"```{kind}\n")[1:]]


def test_the_examples_of_the_docs_do_what_they_say() -> None:
    spec = model.read(f"model: m\n{blocks('yaml')[0]}", file="docs/checks.md")
    assert spec.data.checks.policy()["custom: shop.checks:no_prices"] == "block"
    made: dict[str, Any] = {}
    exec(blocks("python")[0], made)
    assert made["no_prices"](row("how much", "R$ 10")) == "a price is in the answer"
    assert made["no_prices"](row("how much", "ten")) is None
    compile(blocks("python")[1], "judge.py", "exec")


def test_every_check_has_its_line_in_the_docs() -> None:
    text = DOCS.read_text()
    assert [name for name in checks.CHECKS if f"| `{name}` |" not in text] == []
    assert model.DEFAULT.policy() == {
        "schema": "strict", "length": "drop", "pii": "mask", "secrets": "mask", "duplicates": "drop", "near_duplicates": "warn",
        "contamination": "block",
    }  # fmt: skip
