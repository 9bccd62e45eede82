"""What the fake engine answers from, and what the fake trainer learns: sentences it was told, and analogy. No model, no weights.

Asked what it was told, it says what it was told. Asked something near, it takes the nearest sentence it knows; where the two
differ in one stretch of words and that stretch stands in the remembered answer, it puts the new words there: "turn on the hall
light" from "turn on the kitchen light". Asked anything else, it repeats the question as JSON. So it gets better with more
examples, worse when the world changes, and never random; which is all that a rehearsal of the loop needs. It is no measure of
what a language model would do.

Kept as one JSON file, sorted, so that the same lessons give the same bytes and the same digest.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from ciranda.data.rows import normalised
from ciranda.errors import Invalid
from ciranda.store import files

FORMAT = 1
FILE = "lessons.json"
TRIED = 8  # nearest sentences that an analogy is looked for in
NEAR = 0.4  # least share of common words


class Parrot:
    """What it knows: a right answer for each sentence, spaces, case and full stops aside."""

    def __init__(self, lessons: Mapping[str, str] | None = None) -> None:
        self.lessons: dict[str, str] = {}
        self._with: defaultdict[str, set[str]] = defaultdict(set)
        for prompt, answer in (lessons or {}).items():
            self.learn(prompt, answer)

    def learn(self, prompt: str, answer: str) -> None:
        """Remember one right answer; the newest word on a sentence counts."""
        sentence = normalised(prompt)
        self.lessons[sentence] = answer
        for word in sentence.split():
            self._with[word].add(sentence)

    def answer(self, prompt: str) -> str:
        """What it says to this."""
        sentence = normalised(prompt)
        if sentence in self.lessons:
            return self.lessons[sentence]
        near = self._nearest(sentence)
        for known in near:
            if (said := _transferred(known, sentence, self.lessons[known])) is not None:
                return said
        return self.lessons[near[0]] if near else echo(prompt)

    def _nearest(self, sentence: str) -> list[str]:
        """The sentences with the most words in common, the nearest first."""
        words = set(sentence.split())
        common = Counter(known for word in words for known in self._with.get(word, ()))
        shares = {known: n / len(words | set(known.split())) for known, n in common.items()}
        near = [known for known, share in shares.items() if share >= NEAR]
        return sorted(near, key=lambda known: (-shares[known], known))[:TRIED]

    def save(self, path: Path) -> None:
        """Write the file that `load` reads, whole."""
        files.write_atomic(path, json.dumps({"format": FORMAT, "lessons": self.lessons}, sort_keys=True, indent=0))

    @classmethod
    def load(cls, path: Path) -> Parrot:
        """What was saved.

        Raises:
            Invalid: The file is another trainer's, or broken.
        """
        try:
            held = json.loads(path.read_text())
            if held["format"] != FORMAT:
                raise KeyError(held["format"])
            return cls({str(prompt): str(answer) for prompt, answer in held["lessons"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Invalid(
                f"no lessons of the fake trainer: {type(error).__name__}: {error}",
                where=str(path),
                remedy="an adapter of another engine cannot be served by `engine: fake`; train a version with it",
            ) from None


def echo(prompt: str) -> str:
    """What it says to what it cannot place."""
    return json.dumps({"intent": "echo", "text": prompt}, ensure_ascii=False, separators=(",", ":"))


def _transferred(known: str, sentence: str, answer: str) -> str | None:
    """The known answer with the words exchanged in which the two sentences differ; None when it says nothing of them."""
    old, new = known.split(), sentence.split()
    start = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    rest = list(zip(reversed(old[start:]), reversed(new[start:]), strict=False))
    same = next((n for n, (a, b) in enumerate(rest) if a != b), len(rest))
    was, now = " ".join(old[start : len(old) - same]), " ".join(new[start : len(new) - same])
    return answer.replace(was, now) if was and now and was in answer else None
