"""The one door to recorded interactions for whoever is not the recording itself: people, exports, queues of review, replays.

The same policies decide as on rows of datasets, by the same engine, and an interaction is put to them as the row that would be made
of it: `messages` are what was asked, `completion` what was answered (and what feedback said it should have been), `subject` is the
user, `group` the conversation, `language`, `thumb`; `extra` has model, version, arm, tenant and key, for conditions on rows.
The record is the dataset `interactions`, and `interactions:<model>` by model; a policy that names no dataset binds it too. A
dataset made from interactions inherits what is said of them (`facts`).
What follows from a restricted text follows it: bodies, errors, findings of guards, comments. The id stays, since it names a page.
It refuses filters on what the reader does not see, since which interactions come back would tell what stands in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ciranda.config import Home
from ciranda.data import columns
from ciranda.data.masks import MASKED, Veil
from ciranda.errors import Forbidden
from ciranda.govern import policies, pseudonyms
from ciranda.govern.policy import TEXTS, Decision, Facts, Reader, decide
from ciranda.interactions.answers import messages_of
from ciranda.store.database import Database

if TYPE_CHECKING:
    import pyarrow as pa

    from ciranda.interactions.events import Event
    from ciranda.interactions.table import Feedback, Interaction

NAME = "interactions"
CHUNK = 256
FILTERED = {
    "user": ("subject",), "conversation": ("group",), "thumb": ("thumb",), "search": TEXTS, "language": ("language",),
}  # fmt: skip
EXTRA = ("model", "version", "arm", "tenant", "key")
SEEN = ("messages", "prompt", "completion", "rejected", "language", "group", "subject", "thumb", "extra")
ASKED = ("source", "origin", "tags")  # by conditions alone
AT = "at"


@dataclass
class Hearing:
    """What one reader may hear of the record.

    Args:
        db: Where the policies are.
        home: Whose key hashes are made with.
        reader: Who asks, and what for.
    """

    db: Database
    home: Home
    reader: Reader
    _decided: dict[str, Decision] = field(default_factory=dict)

    def decision(self, model: str) -> Decision:
        """What binds the reader on a model's interactions."""
        if model not in self._decided:
            with self.db.reading() as conn:
                facts = Facts(frozenset({NAME, f"{NAME}:{model}"}))
                self._decided[model] = decide(policies.current(conn), self.reader, facts)
        return self._decided[model]

    def demand(self, model: str, chosen: Mapping[str, Any] | None = None) -> Decision:
        """The decision. Raises Forbidden when the record is closed to the reader, or a filter would tell what they do not see."""
        found = self.decision(model)
        if found.closed:
            raise Forbidden(
                f"interactions of {model or 'all models'} are closed to {self.reader.actor!r} ({self.reader.role}) for "
                f"{self.reader.purpose}",
                where=f"policy {found.closed}",
                remedy=f"`ciranda policy show {found.closed}` says why; an admin may except you",
            )
        for name, fields in FILTERED.items():
            if (chosen or {}).get(name) and found.fields & set(fields):
                raise Forbidden(
                    f"{self.reader.actor!r} ({self.reader.role}) may not choose interactions by {name}, which is restricted for "
                    f"{self.reader.purpose}",
                    where=f"policies {', '.join(found.names)}",
                    remedy=f"leave the filter by {name} out",
                )
        return found

    def bound(self, models: Sequence[str | None], names: Sequence[str], chosen: Mapping[str, Any]) -> bool:
        """Whether anything binds a reading of these models, where None stands for all, whose `names` are given. Raises Forbidden.

        Of all models, those that are closed are left out.
        """
        found = [self.demand(model or "", chosen) for model in models]
        if None in models:
            every = [self.decision(name) for name in names]
            found += [self.demand(name, chosen) for name, one in zip(names, every, strict=True) if not one.closed]
            return any(found) or any(every)
        return any(found)

    def one(self, found: Interaction) -> Interaction | None:
        """An interaction as the reader may hear it; None when it is not for them."""
        return next(iter(self.these([found])), None)

    def these(self, found: Sequence[Interaction]) -> list[Interaction]:
        """Those that are for the reader, in their order, with what they may not hear put out of them."""
        by_model: dict[str, list[int]] = {}
        for place, one in enumerate(found):
            by_model.setdefault(one.model, []).append(place)
        heard: dict[int, Interaction] = {}
        for model, places in by_model.items():
            decided = self.decision(model)
            if decided.closed:
                continue
            if not decided:
                heard |= {place: found[place] for place in places}
            else:
                heard |= self._veiled(decided, [(place, found[place]) for place in places])
        return [heard[place] for place in sorted(heard)]

    def events(self, found: Iterable[Event]) -> list[Event]:
        """What happened beside answers, as the reader may hear it: names of end users only where those are not hidden."""
        heard = []
        for one in found:
            decided = self.decision(one.model)
            if decided.closed:
                continue
            hidden = {name for name in ("user",) if one.detail.get(name) and "subject" in decided.fields}
            heard.append(replace(one, detail={**one.detail, **dict.fromkeys(hidden, MASKED)}) if hidden else one)
        return heard

    def all(self, found: Iterable[Interaction]) -> Iterator[Interaction]:
        """The same for any number, streamed."""
        rest = iter(found)
        while some := list(islice(rest, CHUNK)):
            yield from self.these(some)

    def _veiled(self, decided: Decision, found: Sequence[tuple[int, Interaction]]) -> dict[int, Interaction]:
        """Some of one model's, put to the policies as rows; what is left, by place."""
        batch, places = _batch([one for _, one in found]), dict(enumerate(found))
        shown = Veil(decided, pseudonyms.key_of(self.home)).over(batch, (*SEEN, AT)).to_pylist()
        before = batch.select([*SEEN, AT]).to_pylist()
        made: dict[int, Interaction] = {}
        for row in shown:
            place, one = places[row[AT]]
            made[place] = _retold(one, before[row[AT]], row, votes="thumb" in decided.fields)
        return made


def _batch(found: Sequence[Interaction]) -> pa.RecordBatch:
    """Interactions as the rows that policies know, each with its number."""
    import pyarrow as pa

    stored = columns.schema()
    rows = [_row(one) for one in found]
    arrays = {name: pa.array([row[name] for row in rows], stored.field(name).type) for name in (*SEEN, *ASKED)}
    return pa.RecordBatch.from_pydict({**arrays, AT: pa.array(range(len(rows)))})


def _row(one: Interaction) -> dict[str, Any]:
    corrected = any(said.correction for said in one.feedback)
    extra = {name: getattr(one, name) for name in EXTRA}
    return {
        "messages": json.dumps(_messages(one), ensure_ascii=False),
        "prompt": one.input_text,
        "completion": one.output_text or one.response,
        "rejected": one.output_text if corrected else "",
        "language": one.language,
        "group": one.conversation,
        "source": NAME,
        "origin": one.id,
        "subject": one.user or next((said.user for said in one.feedback if said.user), ""),
        "thumb": one.thumb,
        "tags": "[]",
        "extra": json.dumps(extra),
    }


def _messages(one: Interaction) -> list[dict[str, str]]:
    """What was asked, as messages of text; of a request that has none, all of it."""
    told = [
        {"content": content if isinstance(content, str) else json.dumps(content), "role": str(said.get("role", ""))}
        for said in messages_of(one.request)
        if (content := said.get("content")) is not None
    ]
    whole = one.input_text or one.request
    return told or ([{"content": whole, "role": "user"}] if whole else [])


def _retold(one: Interaction, was: Mapping[str, Any], now: Mapping[str, Any], *, votes: bool) -> Interaction:
    """The interaction with what became of its row, and without what follows from a text that is hidden."""
    asked = was["messages"] != now["messages"]
    answered = (was["completion"], was["rejected"]) != (now["completion"], now["rejected"])
    hidden: dict[str, Any] = {name: now[name] for name in ("language",)}
    if asked:
        hidden |= {"input_text": now["prompt"], "request": json.dumps({"messages": json.loads(now["messages"])})}
    if answered:
        hidden |= {"output_text": now["completion"] if one.output_text else "", "response": ""}
    if asked or answered:
        hidden |= {"error": MASKED if one.error else "", "guard": ""}
    extra = json.loads(now["extra"])
    hidden |= {name: str(extra.get(name, "")) for name in ("tenant", "key")}
    hidden |= {"user": now["subject"] if one.user else "", "conversation": now["group"]}
    unvoted = votes and 0 in (was["thumb"], now["thumb"])
    unseen = _Unseen(asked, answered, was["subject"] != now["subject"], unvoted)
    return replace(one, **hidden, feedback=tuple(_said(said, one, now, unseen) for said in one.feedback))


@dataclass(frozen=True)
class _Unseen:
    asked: bool
    answered: bool
    person: bool
    vote: bool


def _said(said: Feedback, one: Interaction, now: Mapping[str, Any], unseen: _Unseen) -> Feedback:
    """Feedback without what its interaction hides."""
    hidden: dict[str, Any] = {}
    if unseen.answered:
        hidden["correction"] = MASKED if said.correction else ""
    if unseen.asked or unseen.answered:
        hidden |= {"comment": MASKED if said.comment else "", "reasons": ()}
    if unseen.person:
        hidden["user"] = now["subject"] if said.user == one.user else MASKED if said.user else ""
    if unseen.vote:
        hidden |= {"thumb": 0, "rating": 0.0}
    return replace(said, **hidden)
