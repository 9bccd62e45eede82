"""What people say to their homes, in some 60 languages: `home-assistant-intents`, sampled with its grammar library `hassil`.

hassil's own sampler writes out every sentence of a grammar and keeps no slots. This one walks the grammar at random and remembers
which value filled which slot, so each sentence comes with the one answer that follows from it. A pattern of the grammar
is the *template*; templates, never sentences, are split into train, validation and test: no test phrasing is seen in training.

Only what a sentence decides by itself is sampled. A template that takes its room from the device that heard it is left out,
and so are free-text wildcards and slots outside `INTENTS`. Rooms and devices are not in the package: `homes.json` has them for
some languages; any other language gets the proper names under `*` there, which a household may give its rooms anywhere.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from ciranda.data.rows import SHARES, Row, normalised
from ciranda.errors import Invalid, Unavailable

try:
    from hassil import Intents, recognize_all
    from hassil import expression as grammar
    from hassil.intents import IntentData, RangeSlotList, RangeType, SlotList, TextSlotList
    from home_assistant_intents import get_intents, get_languages
except ImportError as error:
    raise Unavailable(
        f"the sentences of the `intents` source are not installed ({error.name} is missing)",
        where="sources: intents",
        remedy='run `pip install "ciranda[demo]"`',
    ) from error

SYSTEM = "Answer with one line of JSON: the intent and its slots."
OPTIONAL = 0.4  # how often an optional word is said; at 0.5 the long-winded variants crowd out what people say

NUMBERS = frozenset({"brightness", "hours", "minutes", "start_minutes", "temperature", "volume_level"})
_PLACE = frozenset({"area", "name"})
_TIMER = frozenset({"area", "start_minutes"})
INTENTS: Mapping[str, frozenset[str]] = {
    "TurnOn": _PLACE | {"domain"},
    "TurnOff": _PLACE | {"domain"},
    "LightSet": _PLACE | {"domain", "brightness"},
    "ClimateGetTemperature": _PLACE,
    "ClimateSetTemperature": _PLACE | {"temperature"},
    "StartTimer": frozenset({"hours", "minutes"}),
    "CancelTimer": _TIMER,
    "PauseTimer": _TIMER,
    "TimerStatus": _TIMER,
    "MediaNext": _PLACE,
    "MediaPause": _PLACE,
    "MediaUnpause": _PLACE,
    "SetVolume": _PLACE | {"volume_level"},
    "GetWeather": frozenset({"name"}),
}
"""The intents that most languages share, and the slots of each that a small model can learn in a minute."""


@dataclass(frozen=True)
class Template:
    """One pattern of the grammar, with the block of facts it stands in."""

    id: str
    intent: str
    pattern: grammar.Expression
    block: IntentData


@dataclass(frozen=True)
class Grammar:
    """The part of one language that is sampled: templates by intent, and the split of each template."""

    language: str
    source: Intents
    lists: Mapping[str, SlotList]
    templates: Mapping[str, tuple[Template, ...]]
    splits: Mapping[str, str]

    def of(self, intent: str, split: str | None) -> tuple[Template, ...]:
        """The templates of an intent that belong to a split (all of them for None)."""
        return tuple(one for one in self.templates[intent] if split in (None, self.splits[one.id]))


def languages() -> tuple[str, ...]:
    """Every language code that can be sampled."""
    return tuple(sorted(get_languages()))


def sample(
    language: str,
    count: int,
    seed: int,
    *,
    intents: Sequence[str] | None = None,
    split: str | None = None,
) -> list[Row]:
    """`count` distinct sentences with their answers, balanced over the intents; the same arguments give the same rows.

    Raises Invalid for a language or an intent that the package lacks, and when it has fewer distinct sentences.
    """
    known = load(language, tuple(intents or ()))
    dice = random.Random(f"{language}:{seed}:{split}")  # noqa: S311 - sentences, not secrets
    rows: dict[str, Row] = {}
    barren: dict[str, int] = {}
    pools = {intent: pool for intent in known.templates if (pool := known.of(intent, split))}
    while len(rows) < count and pools:
        for intent in _shuffled(list(pools), dice):
            template = dice.choice(pools[intent])
            row = _row(known, template, dice)
            if len(rows) < count and rows.setdefault(normalised(row.prompt), row) is row:
                barren[intent] = 0
            elif (misses := barren.get(intent, 0) + 1) >= 60:
                del pools[intent]
            else:
                barren[intent] = misses
    if len(rows) < count:
        raise Invalid(
            f"the {language} grammar gave {len(rows)} distinct sentences of the {count} asked for",
            where=f"intents: {language}",
            remedy=f"lower `count` to {len(rows)} or name more intents",
        )
    return list(rows.values())


def split_of(language: str, template: str, *, intents: Sequence[str] | None = None) -> str:
    """The split of a template id such as `en:TurnOn:1f0c9a2b`."""
    return load(language, tuple(intents or ())).splits[template]


def recognise(text: str, language: str, *, intents: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """What hassil's own recogniser makes of a sentence: every reading as `{"intent", "slots"}`, without doubles."""
    known = load(language, tuple(intents or ()))
    readings: dict[str, None] = {}
    for result in recognize_all(text, known.source, slot_lists=dict(known.lists), language=language):
        slots = {name: _plain(entity.value) for name, entity in result.entities.items()}
        readings[_answer(_short(result.intent.name), slots)] = None
    return [json.loads(reading) for reading in readings]


@lru_cache(maxsize=8)
def load(language: str, intents: tuple[str, ...] = ()) -> Grammar:
    """Read and parse one language (about 0.1 s), keep the usable templates and split them."""
    if language not in get_languages():
        raise Invalid(
            f"no language {language!r} in home-assistant-intents",
            where="sources: intents",
            remedy=f"choose one of {', '.join(languages())}",
        )
    data = dict(get_intents(language) or {})
    wanted = intents or tuple(INTENTS)
    if unknown := [name for name in intents if f"Hass{name}" not in data["intents"]]:
        raise Invalid(
            f"no intent {unknown[0]!r} in {language}",
            where=f"intents: {language}",
            remedy=f"choose from {', '.join(sorted(_short(name) for name in data['intents']))}",
        )
    data["intents"] = {f"Hass{n}": data["intents"][f"Hass{n}"] for n in wanted if f"Hass{n}" in data["intents"]}
    source = Intents.from_dict(data)
    lists = {**source.slot_lists, **_home(language)}
    templates = {_short(intent): _templates(source, lists, intent, language) for intent in source.intents}
    templates = {intent: found for intent, found in templates.items() if found}
    splits = {one: split for found in templates.values() for one, split in _split([t.id for t in found]).items()}
    return Grammar(language, source, lists, templates, splits)


def _templates(source: Intents, lists: Mapping[str, SlotList], name: str, language: str) -> tuple[Template, ...]:
    """Every pattern of an intent that can be said completely and answered from its words alone."""
    found = []
    for block in source.intents[name].data:
        if any(isinstance(needed, Mapping) for needed in block.requires_context.values()):
            continue  # the room or device of the microphone decides, not the sentence
        for text in block.sentence_texts:
            sentence = next(one for one in block.sentences if one.text == text)
            walk, pattern = _Walk(source, lists, block, INTENTS.get(_short(name))), sentence.expression
            if walk.sayable(pattern) and walk.answerable(sentence):
                mark = hashlib.sha256(text.encode()).hexdigest()[:8]
                found.append(Template(f"{language}:{_short(name)}:{mark}", _short(name), pattern, block))
    return tuple(found)


def _split(templates: Sequence[str]) -> dict[str, str]:
    """Each distinct template's split, by the order of their hashes; from three templates on, each split has one."""
    order = sorted(set(templates), key=lambda one: hashlib.sha256(one.encode()).digest())
    splits = dict.fromkeys(order, "train")
    if len(order) < 3:
        return splits
    start = 0
    for split, share in SHARES:
        size = max(1, round(len(order) * share))
        splits |= dict.fromkeys(order[start : start + size], split)
        start += size
    return splits


def _home(language: str) -> dict[str, SlotList]:
    """The rooms and devices of a household that speaks `language`, as hassil's lists; a device carries its domain."""
    homes = json.loads(resources.files("ciranda.engines").joinpath("homes.json").read_text("utf-8"))
    home = homes.get(language) or homes.get(language.split("-")[0]) or homes["*"]
    named = [(name, name, {"domain": kind}) for kind, names in home.items() if kind != "areas" for name in names]
    return {
        "area": TextSlotList.from_strings(home["areas"], name="area"),
        "name": TextSlotList.from_tuples(named, name="name"),
        "floor": TextSlotList(name="floor", values=[]),
    }


def _row(known: Grammar, template: Template, dice: random.Random) -> Row:
    walk = _Walk(known.source, known.lists, template.block, INTENTS.get(template.intent), dice)
    text = " ".join("".join(walk.say(template.pattern)).split())
    slots = {name: _plain(value) for name, value in {**template.block.slots, **walk.slots}.items()}
    return Row.of(
        text,
        _answer(template.intent, slots),
        system=SYSTEM,
        language=known.language,
        group=template.id,
        split=known.splits[template.id],
        source="intents",
        origin=f"intents:{template.id}",
    )


class _Walk:
    """One random walk over a pattern: says words, remembers slots, never steps where a word or a value is missing."""

    def __init__(
        self,
        source: Intents,
        lists: Mapping[str, SlotList],
        block: IntentData,
        allowed: frozenset[str] | None,
        dice: random.Random | None = None,
    ) -> None:
        self.rules = {**source.expansion_rules, **block.expansion_rules}
        self.lists = {**lists, **block.slot_lists}
        self.block, self.allowed, self.dice = block, allowed, dice or random.Random(0)  # noqa: S311
        self.slots: dict[str, Any] = {}

    def sayable(self, part: grammar.Expression) -> bool:
        """Whether at least one way through `part` has all its words and values."""
        if isinstance(part, grammar.RuleReference):
            return part.rule_name in self.rules and self.sayable(self.rules[part.rule_name].expression)
        if isinstance(part, grammar.ListReference):
            return self._fillable(part)
        if isinstance(part, grammar.Alternative):
            return any(self.sayable(item) for item in part.items)
        return all(self.sayable(item) for item in part.items) if isinstance(part, grammar.Group) else True

    def answerable(self, sentence: grammar.Sentence) -> bool:
        """Whether the words decide: known facts only, a device where one is required, and more said than its name."""
        if self.allowed is not None and not set(self.block.slots) <= self.allowed:
            return False
        named = list(self._references(sentence.expression))
        if "domain" in self.block.requires_context and not any(ref.list_name == "name" for ref in named):
            return False
        return bool(sentence.get_required_clauses(self.rules)) or any(ref.slot_name in NUMBERS for ref in named)

    def say(self, part: grammar.Expression) -> Iterator[str]:
        """The words of one way through `part`."""
        if isinstance(part, grammar.TextChunk):
            yield part.original_text
        elif isinstance(part, grammar.RuleReference):
            yield from self.say(self.rules[part.rule_name].expression)
        elif isinstance(part, grammar.ListReference):
            yield from self._value(part)
        elif isinstance(part, grammar.Alternative):
            yield from self.say(self._choice(part))
        elif isinstance(part, grammar.Permutation):
            for item in _shuffled(part.items, self.dice):
                yield from (" ", *self.say(item), " ")
        elif isinstance(part, grammar.Group):
            for item in part.items:
                yield from self.say(item)

    def _choice(self, part: grammar.Alternative) -> grammar.Expression:
        """One branch that can be said; an optional part more often stays unsaid."""
        spoken = [item for item in part.items if self.sayable(item)]
        silent = [item for item in spoken if isinstance(item, grammar.TextChunk) and item.is_empty]
        if part.is_optional and silent and len(silent) < len(spoken):
            keep = self.dice.random() < OPTIONAL
            spoken = [item for item in spoken if item not in silent] if keep else silent
        return self.dice.choice(spoken)

    def _fillable(self, ref: grammar.ListReference) -> bool:
        found = self.lists.get(ref.list_name)
        if ref.is_capture or (ref.slot_name in NUMBERS and isinstance(found, TextSlotList)):
            return False  # numbers are said in digits, whatever words a language has for them
        if self.allowed is not None and ref.slot_name not in self.allowed:
            return False
        return isinstance(found, RangeSlotList) or ref.is_inline_range or bool(self._choices(ref))

    def _choices(self, ref: grammar.ListReference) -> list[Any]:
        """The values of a text list that the block's conditions admit."""
        found = self.lists.get(ref.list_name)
        if not isinstance(found, TextSlotList):
            return []
        needed = [facts["domain"] for facts in (self.block.requires_context, self.block.slots) if "domain" in facts]
        if ref.list_name != "name" or not needed:
            return [value for value in found.values if self.sayable(value.text_in)]
        return [value for value in found.values if all(_within(value.context, domain) for domain in needed)]

    def _value(self, ref: grammar.ListReference) -> Iterator[str]:
        """Choose a value for the reference, remember it, say it."""
        found = self.lists.get(ref.list_name)
        if isinstance(found, RangeSlotList) or ref.is_inline_range:
            number = self.dice.choice(_numbers(found, ref))
            factor = (found.multiplier or 1) if isinstance(found, RangeSlotList) else 1
            words = str(number)
            meant: Any = number * factor
        else:
            value = self.dice.choice(self._choices(ref))
            words = "".join(self.say(value.text_in))
            meant = words if ref.list_name in _PLACE else value.value_out
        self.slots[ref.slot_name] = meant
        yield from (ref.prefix or "", words, ref.suffix or "")

    def _references(self, pattern: grammar.Expression) -> Iterator[grammar.ListReference]:
        return pattern.list_references(self.rules) if isinstance(pattern, grammar.Group) else iter(())


def _numbers(found: SlotList | None, ref: grammar.ListReference) -> range:
    """Numbers that people say: tens and fives of a percentage, degrees of a room, minutes of an egg."""
    if ref.is_inline_range or not isinstance(found, RangeSlotList):
        first, last, step = ref.get_inline_range() or (1, 10, 1)
        return range(first, last + 1, step)
    if found.type == RangeType.PERCENTAGE:
        low, high, step = 5, 100, 5
    elif found.type == RangeType.TEMPERATURE:
        low, high, step = 16, 29, 1
    else:
        low, high, step = 1, 12 if "hour" in ref.list_name else 60, found.step
    inside = range(max(low, found.start), min(high, found.stop) + 1, step)
    return inside or range(found.start, found.stop + 1, found.step)


def _within(context: Mapping[str, Any] | None, domain: object) -> bool:
    """Whether a device's domain is the one wanted, or among them."""
    actual = (context or {}).get("domain")
    return actual == domain if isinstance(domain, str) else isinstance(domain, Sequence) and actual in domain


def _answer(intent: str, slots: Mapping[str, Any]) -> str:
    return json.dumps({"intent": intent, "slots": slots}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """42.0 as 42; a device or room as it was said."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.strip() if isinstance(value, str) else value


def _short(name: str) -> str:
    return name.removeprefix("Hass")


def _shuffled(items: Sequence[Any], dice: random.Random) -> list[Any]:
    return dice.sample(items, len(items))
