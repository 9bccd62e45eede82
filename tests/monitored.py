"""What the monitor's tests share: sentences people say to their homes, and interactions kept in lists, read by cursor."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ciranda.engines.hassil import sample
from ciranda.interactions.table import Feedback, Interaction, Score
from ciranda.store import clock

_STARTED_MS = clock.now_ms() - 7_200_000


@lru_cache(maxsize=64)
def sentences(language: str, count: int, seed: int) -> tuple[str, ...]:
    """Sentences drawn from the grammar of a language."""
    return tuple(row.prompt for row in sample(language, count, seed))


def blank(kind: type, **values: object) -> dict[str, object]:
    """Every field of a record, empty unless given."""
    empty = {"str": "", "int": 0, "float": 0.0, "tuple[str, ...]": ()}
    fields = {one.name: empty.get(str(one.type), ()) for one in dataclasses.fields(kind)}
    return {**fields, **values}


@dataclass
class Store:
    """Interactions, votes and scores in the order of their arrival: what the collector's store answers, without one."""

    asked: list[Interaction] = field(default_factory=list)
    voted: list[Feedback] = field(default_factory=list)
    scores: dict[str, Score] = field(default_factory=dict)

    def ask(self, text: str, answer: str = '{"intent":"TurnOn"}', *, version: str = "home@1", **values: object) -> str:
        """One more interaction; returns its id."""
        n = len(self.asked) + 1
        name = f"int-{n:06d}"
        row = blank(Interaction, id=name, sequence=n, ts_ms=_STARTED_MS + n * 500, model="home", version=version, arm="live",
                    status=200, input_text=text, output_text=answer)  # fmt: skip
        self.asked.append(Interaction(**{**row, **values}))  # type: ignore[arg-type]
        return name

    def vote(self, interaction: str, thumb: int, *, version: str = "home@1", comment: str = "") -> None:
        n = len(self.voted) + 1
        row = blank(Feedback, id=f"fb-{n}", sequence=n, ts_ms=_STARTED_MS + n * 500, interaction=interaction, model="home",
                    version=version, arm="live", thumb=thumb, comment=comment,
                    thumbs_up=int(thumb > 0), thumbs_down=int(thumb < 0))  # fmt: skip
        self.voted.append(Feedback(**row))  # type: ignore[arg-type]

    def cursor(self) -> str:
        return str(max(len(self.asked), len(self.voted)))

    def since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Interaction]:
        return [one for one in self.asked if one.sequence > int(cursor or 0)][:limit]

    def feedback_since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Feedback]:
        return [one for one in self.voted if one.sequence > int(cursor or 0)][:limit]

    def insert_scores(self, scores: Sequence[Score]) -> int:
        fresh = {f"{one.interaction}:{one.scorer}": one for one in scores}
        new = {name: one for name, one in fresh.items() if name not in self.scores}
        self.scores |= new
        return len(new)
