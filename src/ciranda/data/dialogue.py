"""Conversations as other tools write them, as messages of ours: who spoke, and what, as text.

    {"role": "user", "content": "…"}      OpenAI, TRL, Hugging Face         content may be a list of text parts
    {"from": "human", "value": "…"}       ShareGPT, LLaMA-Factory           names of keys and roles may differ (`Tags`)
    "\\n\\nHuman: …\\n\\nAssistant: …"        transcripts, as in HH-RLHF

A call of a tool becomes the assistant's text: a JSON list of name and arguments, as LLaMA-Factory writes it. It refuses what is
no text (images, sound) and roles that nobody knows, since a conversation with a part left out is another conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ciranda.data.rows import Message

ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user", "assistant": "assistant",
    "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
    "bot": "assistant", "function_call": "assistant", "tool": "tool", "observation": "tool", "function": "tool",
    "function_response": "tool", "ipython": "tool",
}  # fmt: skip
SPOKEN = re.compile(r"\n\n(Human|Assistant): ?")


class Unreadable(ValueError):
    """Why something is no conversation of text; the reader adds where it stands."""


@dataclass(frozen=True)
class Tags:
    """How a source writes a message: the keys of role and content, and its own names of roles.

    Args:
        role: The key that says who spoke; empty: `role` or `from`, whichever is there.
        content: The key of the text; empty: `content` or `value`.
        names: Names of roles in the source, and ours; without any, the usual ones.
    """

    role: str = ""
    content: str = ""
    names: Mapping[str, str] | None = None


USUAL = Tags()


def messages(value: Any, tags: Tags = USUAL) -> tuple[Message, ...]:
    """A list of turns, a transcript, or a plain question, as messages. Raises Unreadable."""
    if isinstance(value, str):
        return transcript(value) if SPOKEN.match(value) else (Message("user", value),)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or not value:
        raise Unreadable(f"a conversation is a list of turns, not {_shown(value)}")
    return tuple(message(item, tags) for item in value)


def message(item: Any, tags: Tags = USUAL) -> Message:
    """One turn. Raises Unreadable."""
    if not isinstance(item, Mapping):
        raise Unreadable(f"a turn is an object with a role and a text, not {_shown(item)}")
    role_key = tags.role or ("role" if "role" in item else "from")
    text_key = tags.content or ("content" if "content" in item else "value")
    said = item.get(role_key)
    known = ROLES if tags.names is None else tags.names
    if not isinstance(said, str) or said not in known:
        raise Unreadable(f"{role_key} is {said!r}, it must be one of {', '.join(known)}")
    calls = item.get("tool_calls")
    return Message(known[said], _called(calls) if calls and not item.get(text_key) else text(item.get(text_key)))


def text(value: Any) -> str:
    """A content as text: a string, or a list of parts that are text. Raises Unreadable."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, Sequence) and value:
        return "".join(_part(part) for part in value)
    raise Unreadable(f"a turn has no text but {_shown(value)}")


def _part(part: Any) -> str:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise Unreadable(f"a turn has a part of kind {kind!r}; only text can be read")


def _called(calls: Any) -> str:
    """Calls of tools as the text that stands for them."""
    made = [call.get("function", call) if isinstance(call, Mapping) else {} for call in calls]
    if not all(isinstance(one, Mapping) and isinstance(one.get("name"), str) for one in made):
        raise Unreadable("tool_calls without the name of a function")
    plain = [{"name": one["name"], "arguments": _decoded(one.get("arguments"))} for one in made]
    return json.dumps(plain, ensure_ascii=False)


def _decoded(arguments: Any) -> Any:
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments


def transcript(text: str) -> tuple[Message, ...]:
    """A transcript of `Human:` and `Assistant:` as messages. Raises Unreadable."""
    parts = SPOKEN.split(text)
    if parts[0].strip() or len(parts) < 3:
        raise Unreadable("a transcript begins with `Human:`")
    names = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(names[who], said.strip()) for who, said in zip(parts[1::2], parts[2::2], strict=True))


def answered(turns: Sequence[Message]) -> tuple[tuple[Message, ...], str]:
    """A conversation as what was asked and what was answered last. Raises Unreadable when nobody answered."""
    if len(turns) < 2 or turns[-1].role != "assistant":
        last = turns[-1].role if turns else "nobody"
        raise Unreadable(f"the conversation ends with {last}, so there is no answer to learn")
    return tuple(turns[:-1]), turns[-1].content


def pair(prompt: Any, chosen: Any, rejected: Any, tags: Tags = USUAL) -> tuple[tuple[Message, ...], str, str]:
    """What was asked, the better answer and the worse one; the prompt may stand in both answers (TRL's implicit prompt).

    Raises:
        Unreadable: Two plain texts without a prompt and without a common beginning, or answers of several turns.
    """
    if isinstance(chosen, str) and isinstance(rejected, str) and not SPOKEN.match(chosen):
        if prompt is not None:
            return messages(prompt, tags), chosen, rejected
        asked = _common(chosen, rejected)
        return (Message("user", asked.strip()),), chosen[len(asked) :].strip(), rejected[len(asked) :].strip()
    good, bad = messages(chosen, tags), messages(rejected, tags)
    shared = next((n for n, (one, two) in enumerate(zip(good, bad, strict=False)) if one != two), len(good))
    shared = min(shared, len(good) - 1, len(bad) - 1)
    if len(good) - shared != 1 or len(bad) - shared != 1:
        raise Unreadable("chosen and rejected differ in more than their last turn")
    if good[-1].role != "assistant" or bad[-1].role != "assistant":
        raise Unreadable("chosen and rejected end with a turn that is not the assistant's")
    asked_in = good[:shared] or (messages(prompt, tags) if prompt is not None else ())
    if not asked_in:
        raise Unreadable("there is no prompt, neither beside chosen and rejected nor in them")
    return asked_in, good[-1].content, bad[-1].content


def _common(one: str, two: str) -> str:
    """The common beginning of two texts, to the last whole word. Raises Unreadable when there is none."""
    shared = one[: next((n for n, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))]
    if len(shared) < min(len(one), len(two)) and not shared[-1:].isspace():
        shared = shared[: max(shared.rfind(" "), shared.rfind("\n")) + 1]
    if not shared.strip():
        raise Unreadable("chosen and rejected have no prompt, and no common beginning that could be one")
    return shared


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
