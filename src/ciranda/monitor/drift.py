"""Keeps what is watched of each model: reads every interaction and vote once, tells what changed, asks for a turn.

    input       is what people ask still what the version was trained for?    against the prompts of its dataset (`expected`)
    output      does it still answer as it did at first?                      against its first healthy answers
    quality     has the share of bad answers risen?                           against its first answers
    feedback    has the share of thumbs down risen?                           against its first votes

State, cursor, alerts, signals and audit events of one look are written in one transaction, which first makes sure that nobody
else has looked meanwhile. So a kill at any line counts nothing twice and tells nothing twice, and two processes do no
harm. All reading and reckoning happens before that transaction, outside any.

The reference is frozen at promotion (`Watch.freeze`) and never follows the stream by itself: it would hide a slow change.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from ciranda.data import language
from ciranda.errors import Invalid
from ciranda.govern import audit
from ciranda.interactions.table import Feedback, Interaction
from ciranda.monitor import alerts, look, signals, streams
from ciranda.monitor.look import CHANNELS, Quality, Watched
from ciranda.monitor.reference import LEAST
from ciranda.monitor.signals import Signal
from ciranda.monitor.streams import Baseline, DriftAlarm, Stream, observe
from ciranda.store import clock
from ciranda.store.database import Database, metadata

__all__ = ["CHANNELS", "DriftAlarm", "Signal", "Watch", "drift_references", "drift_states", "expected", "observe"]

BATCH = 500
BATCHES = 20
TELLING = 50  # messages from which traffic says what a version will be asked
RARE = 0.05  # share of a language below which its few rows do not bound the reference
ACTOR = "monitor"
KINDS = ("drift", "quality", "feedback", "retrain")

drift_states = sa.Table(
    "drift_states",
    metadata,
    sa.Column("model", sa.String(120), primary_key=True),
    sa.Column("channel", sa.String(20), primary_key=True),
    sa.Column("version", sa.String(140), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("summary", sa.JSON, nullable=False),
    sa.Column("cursor", sa.Text, nullable=False),
    sa.Column("updated_at", sa.String(32), nullable=False),
)

drift_references = sa.Table(
    "drift_references",
    metadata,
    sa.Column("model", sa.String(120), primary_key=True),
    sa.Column("channel", sa.String(20), primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("reference", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
)


class Reader(Protocol):
    """The part of `interactions.query.Interactions` that is read here."""

    def cursor(self) -> str: ...

    def since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Interaction]: ...

    def feedback_since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Feedback]: ...


@dataclass(frozen=True)
class _Held:
    """The channels of a model as they are in the database. `sequence` counts looks, so that none is taken twice."""

    version: str
    generation: int
    sequence: int
    cursors: tuple[str, str]
    watched: Mapping[str, Watched]
    summaries: Mapping[str, Mapping[str, Any]]


class Watch:
    """What is watched, for all models of one control database.

    Args:
        db: The control database.
        reader: The store of interactions.
    """

    def __init__(self, db: Database, reader: Reader) -> None:
        self._db = db
        self._reader = reader
        self._baselines: dict[tuple[str, str], tuple[int, Baseline]] = {}

    def freeze(
        self,
        model: str,
        version: str,
        prompts: Sequence[str],
        *,
        channels: Sequence[str] = CHANNELS,
        alpha: float = 0.01,
        margins: Mapping[str, float] | None = None,
        actor: str = ACTOR,
    ) -> int:
        """Begin to watch a version against a new reference, as at its promotion; what came before is not counted.

        Args:
            model: The model.
            version: Its live version, such as `smart-home@2`.
            prompts: What it was made for: the prompts of its dataset version, of all splits (what was held out is no news when
                it comes), in the languages of the traffic that it was promoted on: see `expected`. With
                fewer than 40 different ones (the bare base), the input stream takes the first live messages instead.
            channels: `watch.drift` of the model file.
            alpha: `watch.alpha`, shared among the channels.
            margins: How much the share of bad answers (`quality`) or votes (`feedback`) may rise; 0.05 each by default.
            actor: For the audit log.

        Returns the number of the reference, counted per model.
        """
        if not channels or set(channels) - set(CHANNELS):
            raise Invalid(
                f"channels {list(channels)}", where="watch.drift", remedy=f"choose from {', '.join(CHANNELS)}"
            )
        cursor, baseline = self._reader.cursor(), _baseline(prompts) if "input" in channels else None
        begun = {
            name: look.fresh(
                name, alpha=alpha / len(channels), margin=(margins or {}).get(name, 0.05), baseline=baseline
            )
            for name in channels
        }
        with self._db.writing() as conn:
            known = conn.execute(sa.select(sa.func.max(drift_states.c.generation)).where(drift_states.c.model == model))
            generation = 1 + (known.scalar() or 0)
            for table in (drift_states, drift_references):
                conn.execute(table.delete().where(table.c.model == model))
            for name, watched in begun.items():
                conn.execute(drift_states.insert().values(
                    model=model, channel=name, version=version, generation=generation, sequence=0,
                    state=look.to_bytes(watched), summary=look.summarise(name, watched, {}),
                    cursor=json.dumps([cursor, cursor]), updated_at=clock.iso()))  # fmt: skip
                _keep_reference(conn, model, name, generation, watched)
            audit.record(conn, actor=actor, action="drift.frozen", subject=version,
                         detail={"generation": generation, "prompts": len(prompts), "channels": list(channels)})  # fmt: skip
            alerts.close_all(conn, model, kinds=KINDS, actor=actor, note=f"{version} has a reference of its own")
        return generation

    def tick(
        self,
        model: str,
        *,
        quality: Quality | None = None,
        targets: Sequence[str] = ("log",),
        retrain: bool = True,
    ) -> list[Signal]:
        """Look at what came since the last look.

        Args:
            model: The model; one that nothing was frozen for has nothing to tell.
            quality: The quality of an answer in [0, 1], None for no opinion; see `quality.quality_of`.
            targets: Where alerts go (`alerts:` of the model file).
            retrain: Whether drift with worse quality or feedback asks for a turn (`watch.on_drift`).

        Returns the new signals. Those of kind `retrain` are also in `pending` until they are taken.
        """
        told: list[Signal] = []
        for _ in range(BATCHES):
            held = self._load(model)
            if held is None:
                break
            asked = self._reader.since(held.cursors[0], model=model, limit=BATCH)
            voted = self._reader.feedback_since(held.cursors[1], model=model, limit=BATCH)
            if not asked and not voted:
                break
            after, alarms = look.look(held.watched, version=held.version, asked=asked, voted=voted, quality=quality)
            found = signals.follow(model, held.version, held.generation, after=after, alarms=alarms, retrain=retrain)
            cursors = (asked[-1].cursor if asked else held.cursors[0], voted[-1].cursor if voted else held.cursors[1])
            if not self._commit(model, held, after, cursors, found, targets):
                break  # another process has looked at these, or a new reference was frozen
            told += found
        return told

    def status(self, model: str) -> list[dict[str, Any]]:
        """Each channel as pages show it: name, state, seen, e_value, e_limit, shift, shift_limit, since, history, latest …"""
        with self._db.reading() as conn:
            query = sa.select(drift_states).where(drift_states.c.model == model)
            rows = {row["channel"]: row for row in conn.execute(query).mappings()}
        kept = ("version", "generation", "updated_at")
        return [
            {**rows[name]["summary"], **{one: rows[name][one] for one in kept}} for name in CHANNELS if name in rows
        ]

    def pending(self, *, model: str | None = None) -> list[Signal]:
        """Signals that wait to be taken (`signals.take`), oldest first."""
        with self._db.reading() as conn:
            return signals.pending(conn, model=model)

    def forget(self, interactions: Iterable[str]) -> int:
        """Drop the texts kept of these interactions (a person was erased), in alerts too; numbers learned from them stay.

        Returns how many channels held some. References made of dataset prompts go with the next version's promotion.
        """
        gone, count = set(interactions), 0
        with self._db.reading() as conn:
            models = [row.model for row in conn.execute(sa.select(drift_states.c.model).distinct())]
        for model in models:
            while (held := self._load(model)) is not None:
                after = {name: look.without(one, gone) for name, one in held.watched.items()}
                changed = sum(after[name] != one for name, one in held.watched.items())
                if not changed or self._commit(model, held, after, held.cursors, [], ()):
                    count += changed
                    break
        with self._db.writing() as conn:
            alerts.forget(conn, gone)
            signals.forget(conn, gone)
        return count

    def _load(self, model: str) -> _Held | None:
        with self._db.reading() as conn:
            query = sa.select(drift_states).where(drift_states.c.model == model)
            found = {row["channel"]: row for row in conn.execute(query).mappings()}
            if not found:
                return None
            rows = {name: found[name] for name in CHANNELS if name in found}
            first = next(iter(rows.values()))
            watched = {
                name: look.from_bytes(name, row["state"], self._reference(conn, model, name, row["generation"]))
                for name, row in rows.items()
            }
        answers, votes = json.loads(first["cursor"])
        return _Held(first["version"], first["generation"], first["sequence"], (answers, votes), watched,
                     {name: row["summary"] for name, row in rows.items()})  # fmt: skip

    def _reference(self, conn: sa.Connection, model: str, channel: str, generation: int) -> Baseline | None:
        """A reference never changes once it is there, so a process reads it once."""
        known = self._baselines.get((model, channel))
        if known and known[0] == generation:
            return known[1]
        table = drift_references
        blob = conn.execute(
            sa.select(table.c.reference).where(table.c.model == model, table.c.channel == channel)
        ).scalar()
        if blob is None:
            return None
        self._baselines[model, channel] = (generation, Baseline.from_bytes(blob))
        return self._baselines[model, channel][1]

    def _commit(
        self,
        model: str,
        held: _Held,
        after: Mapping[str, Watched],
        cursors: tuple[str, str],
        found: Sequence[Signal],
        targets: Sequence[str],
    ) -> bool:
        """Write one look as a whole, or nothing when the state has changed since it was read."""
        table, blobs = drift_states, {name: look.to_bytes(watched) for name, watched in after.items()}
        with self._db.writing() as conn:
            here = sa.select(table.c.channel).where(table.c.model == model, table.c.generation == held.generation,
                                                    table.c.sequence == held.sequence)  # fmt: skip
            if {row.channel for row in conn.execute(here.with_for_update())} != set(after):
                return False
            for name, watched in after.items():
                conn.execute(table.update().where(table.c.model == model, table.c.channel == name).values(
                    sequence=held.sequence + 1, state=blobs[name], cursor=json.dumps(cursors), updated_at=clock.iso(),
                    summary=look.summarise(name, watched, held.summaries[name])))  # fmt: skip
                if _renewed(held.watched[name], watched):
                    _keep_reference(conn, model, name, held.generation, watched)
            for signal in found:
                signals.tell(conn, signal, targets=targets, actor=ACTOR)
        return True


def expected(prompts: Sequence[str], traffic: Sequence[str]) -> list[str]:
    """What a version is to be asked from now on: its dataset's prompts, in the languages that its users spoke at its promotion.

    A version that was trained because the world changed has few rows of the new world among many of the old one. Compared with
    all of them it would drift from its first hour. The traffic it was promoted on says which of them matter; below fifty
    messages it says nothing, and all prompts count.
    """
    if len(traffic) < TELLING:
        return list(prompts)
    spoken = Counter(language.detect_all(traffic))
    known: dict[str, list[str]] = {}
    texts = list(dict.fromkeys([*traffic, *prompts]))
    for text, name in zip(texts, language.detect_all(texts), strict=True):
        known.setdefault(name, []).append(text)
    common = {name: count for name, count in spoken.items() if count >= RARE * len(traffic)}
    size = min((len(known[name]) * len(traffic) / count for name, count in common.items()), default=len(texts))
    return [
        text for name, count in sorted(spoken.items()) for text in known[name][: round(size * count / len(traffic))]
    ]


def _baseline(prompts: Sequence[str]) -> Baseline | None:
    """The reference of a dataset's prompts; None when they are too few to bet against."""
    messages = {one.mark: one for one in (streams.message(str(n), prompt) for n, prompt in enumerate(prompts))}
    return Baseline.of(list(messages.values()), distinct=True) if len(messages) >= LEAST else None


def _renewed(before: Watched, after: Watched) -> bool:
    """Whether a learning stream has just got its reference, or texts of a person have left it."""
    return isinstance(before, Stream) and isinstance(after, Stream) and after.baseline is not before.baseline


def _keep_reference(conn: sa.Connection, model: str, channel: str, generation: int, watched: Watched) -> None:
    if isinstance(watched, Stream) and watched.baseline is not None:
        table = drift_references
        conn.execute(table.delete().where(table.c.model == model, table.c.channel == channel))
        conn.execute(table.insert().values(
            model=model, channel=channel, generation=generation, reference=watched.baseline.to_bytes(),
            created_at=clock.iso()))  # fmt: skip
