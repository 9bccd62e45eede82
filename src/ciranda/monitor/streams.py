"""One watched stream of texts as a value: `observe(stream, messages) -> (stream, alarms)`. No store, no clock.

The life of a stream: it *learns* until it has a reference (the input stream is given one, the prompts of the dataset
version; the output stream takes the first healthy answers), then it is *quiet*, *certain* when the bet has found a change too
small to tell anybody, and in *drift* when it is large too. While the change lasts nobody is told twice; when a whole epoch
passes without new evidence the stream is quiet again. The reference stays frozen until the next promotion: one that followed
the stream would hide a slow change.

What would break the bound is left out: further messages of a conversation, and, where the reference holds every text once
as a dataset does, texts met before. The latest two thousand marks are remembered.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ciranda.data import language, vectors
from ciranda.errors import Invalid
from ciranda.govern import guard
from ciranda.monitor.bets import LEAST, Bound, Hit, PairBet, Reference
from ciranda.monitor.explain import Change, Text, explain, texts_from

Channel = Literal["input", "output", "quality", "feedback"]
State = Literal["learning", "quiet", "certain", "drift"]

SAMPLE = 800  # texts of the reference kept for explanations
RECENT = 500
MARKS = 2000
START = 300  # healthy answers that the output reference is made of
ENOUGH = 20  # messages that the size of a change is judged on at least
AGAIN = 50  # messages between two looks at the size of a change found small
SHOWN = 160  # characters of an example


@dataclass(frozen=True, slots=True)
class Message:
    """One text of the stream, made by `message`: the interaction's id, when it came (ISO), its masked text and language,
    its conversation, within which stratum line-ups must stay, and a mark that the same words always have."""

    id: str
    at: str
    text: str
    language: str = ""
    conversation: str = ""
    stratum: int = 0
    mark: int = 0


@dataclass(frozen=True)
class Baseline:
    """A reference with what is needed to explain a change: a sample of its texts, and the number of each language."""

    reference: Reference
    sample: tuple[Text, ...]
    languages: tuple[str, ...]
    distinct: bool
    provider: str = vectors.PROVIDER

    @classmethod
    def of(cls, messages: Sequence[Message], *, distinct: bool) -> Baseline:
        """A reference of messages; `distinct` when it holds every text once, so that the stream must too."""
        if distinct:
            messages = list({one.mark: one for one in messages}.values())
        if len(messages) < LEAST:
            raise Invalid(f"a reference of {len(messages)} different messages", where="drift reference",
                          remedy=f"give at least {LEAST}; 6,000 make the best bound")  # fmt: skip
        languages = tuple(sorted({one.language for one in messages}))
        labels = [languages.index(one.language) for one in messages]
        reference = Reference.of(vectors.embed([one.text for one in messages]), labels=labels,
                                 strata=[one.stratum for one in messages])  # fmt: skip
        held = min(SAMPLE, len(messages))
        spread = (messages[place * len(messages) // held] for place in range(held))  # the newest rows stand at the end
        return cls(reference, tuple(map(_text, spread)), languages, distinct)

    def label(self, language: str) -> int:
        """The number of a language; one that the reference never saw has the next."""
        return self.languages.index(language) if language in self.languages else len(self.languages)

    def without(self, gone: set[str]) -> Baseline:
        """The same reference without the texts of these interactions."""
        if not any(one.id in gone and one.text for one in self.sample):
            return self
        return replace(self, sample=tuple(replace(one, text="") if one.id in gone else one for one in self.sample))

    def to_bytes(self) -> bytes:
        """As bytes without pickle."""
        head = {"sample": [asdict(one) for one in self.sample], "languages": self.languages,
                "distinct": self.distinct, "provider": self.provider}  # fmt: skip
        return _join(head, self.reference.to_bytes())

    @classmethod
    def from_bytes(cls, blob: bytes) -> Baseline:
        """What `to_bytes` wrote. Refuses another embedding's vectors: they cannot be compared."""
        head, rest = _split(blob)
        if head["provider"] != vectors.PROVIDER:
            raise Invalid(f"a reference made by {head['provider']}, this process embeds by {vectors.PROVIDER}",
                          where="drift_references", remedy="freeze the reference again")  # fmt: skip
        return cls(Reference.from_bytes(rest), texts_from(head["sample"]), tuple(head["languages"]), head["distinct"])


@dataclass(frozen=True)
class Found:
    """A change under way: its first and latest evidence, and whether it was large enough to be told."""

    since: int
    since_at: str
    first_at: int
    latest_at: int
    looked_at: int
    told: bool


@dataclass(frozen=True)
class DriftAlarm:
    """A change of a stream that is certain; `notify` when it is large too.

    Args:
        channel: input or output.
        number: Its number on this reference, from 1.
        at: The message it came with, counted from 1 since the reference was frozen; `messages` after the change began.
        since: When the first message of the change came (ISO).
        e_value: The evidence; `bound` says what it is worth.
        change: Its size, with examples.
    """

    channel: str
    number: int
    notify: bool
    at: int
    messages: int
    since: str
    e_value: float
    bound: Bound
    change: Change

    @property
    def summary(self) -> str:
        """One sentence."""
        return (f"the {self.channel} has changed since {self.since[:16].replace('T', ' ')}: {self.change.words} "
                f"(found after {self.messages} messages, e-value {self.e_value:,.0f})")  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """The state of one stream. Feed it with `observe`."""

    channel: str
    alpha: float = 0.01
    baseline: Baseline | None = None
    bet: PairBet | None = None
    gathered: tuple[Message, ...] = ()
    recent: tuple[Text, ...] = ()
    recent_at: tuple[str, ...] = ()
    marks: tuple[int, ...] = ()
    found: Found | None = None
    alarms: int = 0
    latest: dict[str, Any] | None = None

    @property
    def state(self) -> State:
        """learning, quiet, certain or drift."""
        if self.bet is None:
            return "learning"
        return "quiet" if self.found is None else "drift" if self.found.told else "certain"

    @property
    def seen(self) -> int:
        """Messages counted."""
        return self.bet.seen if self.bet else len(self.gathered)

    def to_bytes(self) -> bytes:
        """All but the baseline, as bytes without pickle."""
        found = asdict(self.found) if self.found else None
        head = {"channel": self.channel, "alpha": self.alpha, "gathered": [asdict(one) for one in self.gathered],
                "recent": [asdict(one) for one in self.recent], "recent_at": self.recent_at, "marks": self.marks,
                "found": found, "alarms": self.alarms, "latest": self.latest}  # fmt: skip
        return _join(head, self.bet.to_bytes() if self.bet else b"")

    @classmethod
    def from_bytes(cls, blob: bytes, baseline: Baseline | None) -> Stream:
        """What `to_bytes` wrote, on the same baseline."""
        head, rest = _split(blob)
        return cls(
            channel=head["channel"], alpha=head["alpha"], baseline=baseline,
            bet=PairBet.from_bytes(baseline.reference, rest) if baseline and rest else None,
            gathered=tuple(Message(**one) for one in head["gathered"]), recent=texts_from(head["recent"]),
            recent_at=tuple(head["recent_at"]), marks=tuple(head["marks"]),
            found=Found(**head["found"]) if head["found"] else None, alarms=head["alarms"], latest=head["latest"],
        )  # fmt: skip

    @classmethod
    def on(cls, channel: str, baseline: Baseline, *, alpha: float = 0.01) -> Stream:
        """A stream that has its reference already."""
        return cls(channel, alpha, baseline, PairBet(baseline.reference, alpha=alpha))


def observe(stream: Stream, messages: Iterable[Message]) -> tuple[Stream, list[DriftAlarm]]:
    """The stream after some more messages in the order of arrival, and the alarms they raised."""
    stream, fresh = _unmet(stream, messages)
    if stream.bet is None:
        room = START - len(stream.gathered)
        stream, fresh = _gather(stream, fresh[:room]), fresh[room:]
    rows, alarms = vectors.embed([one.text for one in fresh]), []
    while fresh:
        # One alarm at a time: each ends a part, so that it is explained with what was known then.
        stream, taken, alarm = _part(stream, fresh, rows)
        fresh, rows = fresh[taken:], rows[taken:]
        alarms += [alarm] if alarm else []
    return stream, alarms


def _gather(stream: Stream, messages: Sequence[Message]) -> Stream:
    gathered = (*stream.gathered, *messages)
    if len(gathered) < START:
        return replace(stream, gathered=gathered)
    baseline = Baseline.of(gathered, distinct=False)
    return replace(stream, gathered=(), baseline=baseline, bet=PairBet(baseline.reference, alpha=stream.alpha))


def _unmet(stream: Stream, messages: Iterable[Message]) -> tuple[Stream, list[Message]]:
    """Messages that count: not of a conversation met before, nor a text met before where the reference is distinct."""
    marks, fresh = dict.fromkeys(stream.marks), []
    distinct = stream.baseline is not None and stream.baseline.distinct
    for one in messages:
        own = [_mark(f"c{one.conversation}")] if one.conversation else []
        own += [one.mark] if distinct else []
        if one.text.strip() and not any(mark in marks for mark in own):
            fresh.append(one)
        marks.update(dict.fromkeys(own))
    return replace(stream, marks=tuple(marks)[-MARKS:]), fresh


def _part(stream: Stream, messages: Sequence[Message], rows: vectors.Floats32) -> tuple[Stream, int, DriftAlarm | None]:
    """Bet on messages up to and including the first that raises an alarm; returns how many that were."""
    if stream.bet is None or stream.baseline is None:
        raise Invalid("a stream without reference cannot bet", where=stream.channel, remedy="freeze a reference first")
    bet = stream.bet.copy()
    labels = [stream.baseline.label(one.language) for one in messages]
    hit = bet.update(rows, labels=labels, strata=[one.stratum for one in messages])
    taken = bet.seen - stream.bet.seen
    stream = replace(
        stream, bet=bet, recent=(*stream.recent, *map(_text, messages[:taken]))[-RECENT:],
        recent_at=(*stream.recent_at, *(one.at for one in messages[:taken]))[-RECENT:],
    )  # fmt: skip
    if hit is None:
        return _calmed(stream), taken, None
    stream, alarm = _judge(stream, hit)
    return stream, taken, alarm


def _calmed(stream: Stream) -> Stream:
    """Quiet again when a whole epoch has passed without evidence."""
    found, bet = stream.found, stream.bet
    if found and bet and bet.seen - found.latest_at > max(bet.reference.epoch, 2 * AGAIN):
        return replace(stream, found=None)
    return stream


def _judge(stream: Stream, hit: Hit) -> tuple[Stream, DriftAlarm | None]:
    """How large it is; told once when large, looked at again every so many messages while small."""
    found = stream.found
    if found and (found.told or hit.at - found.looked_at < AGAIN):
        return replace(stream, found=replace(found, latest_at=hit.at)), None
    since = found.since if found else hit.since
    window = stream.recent[-max(hit.at - since + 1, ENOUGH) :]
    change = explain(stream.baseline.sample if stream.baseline else (), window)
    began = found.since_at if found else stream.recent_at[-min(hit.at - since + 1, len(stream.recent_at))]
    alarms = stream.alarms + 1
    alarm = DriftAlarm(
        channel=stream.channel, number=alarms, notify=change.large, at=hit.at, messages=hit.at - since + 1,
        since=began, e_value=hit.wealth, bound=stream.bet.bound if stream.bet else Bound(stream.alpha, 1), change=change,
    )  # fmt: skip
    first = found.first_at if found else hit.at
    now = Found(since, began, first, hit.at, hit.at, told=change.large)
    return replace(stream, found=now, alarms=alarms, latest=described(alarm)), alarm


def described(alarm: DriftAlarm) -> dict[str, Any]:
    """An alarm as JSON values, in the shape that pages show."""
    return {
        "channel": alarm.channel, "number": alarm.number, "notify": alarm.notify, "at": alarm.at,
        "messages": alarm.messages, "since": alarm.since, "summary": alarm.summary,
        "e_value": float(f"{min(alarm.e_value, 1e12):.4g}"), "false_alarms_per_100k": round(alarm.bound.per_100k, 3),
        **{name: value for name, value in alarm.change.to_dict().items() if name != "summary"},
    }  # fmt: skip


def message(id: str, text: str, *, at: str = "", conversation: str = "", stratum: int = 0) -> Message:
    """A message, its personal data masked before anything is kept of it, and its language found."""
    masked = guard.mask(text[: vectors.CHARACTERS])[0]
    return Message(id, at, masked, language.detect(masked), conversation, stratum, _mark("t" + text.strip().casefold()))


def _text(one: Message) -> Text:
    return Text(one.id, one.text[:SHOWN], one.language)


def _mark(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")


def _join(head: dict[str, Any], rest: bytes) -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    return struct.pack("<I", len(text)) + text + rest


def _split(blob: bytes) -> tuple[dict[str, Any], bytes]:
    (size,) = struct.unpack_from("<I", blob)
    head: dict[str, Any] = json.loads(blob[4 : 4 + size])
    return head, blob[4 + size :]
