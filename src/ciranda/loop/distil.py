"""Distillation: a teacher is asked what its pupil shall learn to answer, and its answers become rows of a dataset.

The teacher is a version of ours (served for the length of the job, as in an exam) or any OpenAI-compatible address. Prompts come
as JSON lines, or are those of a dataset version, whose own answers are then not looked at. Answers are kept one by one while they
come, by teacher and way of asking, so whoever asks again asks only what was not heard; then they are checked as the learner's model
file says and committed beside the newest version's rows. What a teacher of ours has answered to users already needs no asking: a
source `interactions: {model: teacher, corrected: false}` brings it.

A prompt that the teacher refuses makes no row and is counted. Refused is a private address that the settings do not allow.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ciranda import config
from ciranda.data import reading, rows, succession
from ciranda.data import versions as datasets
from ciranda.data.rows import Message, Row, compact
from ciranda.errors import Failed, Invalid, NotFound, Refused, Unavailable
from ciranda.evals import exams
from ciranda.govern import outgoing
from ciranda.govern.outgoing import Door
from ciranda.govern.policy import Reader
from ciranda.jobs.inside import Progress
from ciranda.loop import committed, picks
from ciranda.loop.bring import UNCLAIMED
from ciranda.loop.platform import Platform
from ciranda.registry import models, versions

if TYPE_CHECKING:
    import httpx

ANSWER_S = 300.0
BUSY = (408, 425, 429, 502, 503, 504)  # says nothing of the prompt
TRIES = 6
LONGEST_PAUSE_S = 20.0
MOST = 100_000


@dataclass(frozen=True)
class Teacher:
    """Who is asked: a version of ours, or a model's name at an address."""

    name: str
    url: str = ""
    key: str = ""
    digest: str = ""

    @property
    def shown(self) -> str:
        return f"{self.name} at {self.url}" if self.url else self.name


def teacher(platform: Platform, name: str, *, url: str = "", key: str = "") -> Teacher:
    """The teacher that was asked for: `model@2`, a model's live version, or a name at an address.

    Raises:
        NotFound: There is no such model or version, or the model has no live one.
        Refused: The address is private and not allowed. Invalid: It is none.
    """
    if url:
        _address(platform, url)
        return Teacher(name, url.rstrip("/").removesuffix("/v1"), key)
    with platform.db.reading() as conn:
        found = versions.find(conn, name) if "@" in name else versions.live(conn, models.get(conn, name).name)
    if found is None:
        raise NotFound(
            f"no teacher {name!r}",
            where="teacher",
            remedy="name a version such as support@2, or say where it is (`--at`)",
        )
    return Teacher(found.ref, digest=found.digest)


def prompts(text: str) -> list[tuple[Message, ...]]:
    """What shall be asked, from JSON lines with `prompt` (and `system`) or `messages`; answers in them are not looked at.

    Raises:
        Invalid: A line is neither; names it. Or there are none, or too many.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            found.append(_prompt(line, f"prompts:{number}"))
    if not 0 < len(found) <= MOST:
        raise Invalid(f"{len(found)} prompts", where="prompts", remedy=f"give between 1 and {MOST:,}")
    return found


def _prompt(line: str, where: str) -> tuple[Message, ...]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise Invalid(f"no JSON: {error}", where=where, remedy='write {"prompt": "..."} on a line') from None
    asked = (
        {name: record[name] for name in ("prompt", "messages", "system") if name in record}
        if isinstance(record, dict)
        else {}
    )
    return rows.parse({**asked, "completion": "-"}, origin=where).messages


def distil(platform: Platform, asked: Mapping[str, Any], tell: Progress) -> dict[str, Any]:
    """Ask the teacher and commit what it said; the job of `ciranda data distil`."""
    dataset, who = str(asked["dataset"]), Teacher(**asked["teacher"])
    wanted = list(dict.fromkeys(_wanted(platform, asked)))
    kept = _kept(platform, who, asked)
    with _asking(platform, who, tell.path.parent) as client:
        refused = _heard(client, who, wanted, kept, asked, tell)
    said = _answers(kept)
    newest = datasets.newest_of(platform.db, dataset)
    before = succession.inherited(platform.home, newest.ref) if newest else iter(())
    version = committed.commit(
        platform, dataset, chain(before, _rows(wanted, said, who)),
        committed.policy(platform, dataset, otherwise=UNCLAIMED),
        made=lambda: _made(who, asked, wanted, refused), actor=str(asked["actor"]),
        sources=[str(asked["rows"])] if asked["rows"] and str(asked["rows"]).partition("@")[0] != dataset else [],
    )  # fmt: skip
    return {
        "dataset": version.ref, "rows": version.rows, "digest": version.digest, "teacher": who.shown, "asked": len(wanted),
        "refused": len(refused), "refusals": list(refused.values())[:20], "before": newest.ref if newest else "",
        "new": newest is None or newest.ref != version.ref,
    }  # fmt: skip


def _wanted(platform: Platform, asked: Mapping[str, Any]) -> Iterator[tuple[Message, ...]]:
    if asked["prompts"]:
        yield from prompts(str(asked["prompts"]))
    if asked["rows"]:
        reader = Reader(str(asked["actor"]), str(asked["role"]), "training", str(asked["key_id"]), str(asked["tenant"]))
        yield from (
            row.messages for row in reading.read(platform.db, platform.home, str(asked["rows"]), reader) if row.messages
        )


def _kept(platform: Platform, who: Teacher, asked: Mapping[str, Any]) -> Path:
    """Where what this teacher said is kept; one that has another digest is another teacher."""
    way = compact([who.name, who.digest, who.url, asked["max_tokens"], asked["temperature"]])
    folder = platform.home.jobs / "rows"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"answers-{hashlib.sha256(way.encode()).hexdigest()[:16]}.jsonl"


def _name(messages: tuple[Message, ...]) -> str:
    return hashlib.sha256(compact([one.to_dict() for one in messages]).encode()).hexdigest()[:24]


def _heard(
    client: httpx.Client, who: Teacher, wanted: list[tuple[Message, ...]], path: Path, asked: Mapping[str, Any], tell: Progress
) -> dict[str, str]:  # fmt: skip
    """Ask what has no answer yet, each kept as it comes; returns why prompts were refused."""
    had, refused = _answers(path), dict[str, str]()
    due = [one for one in wanted if _name(one) not in had]
    already = len(wanted) - len(due)
    with path.open("ab", buffering=0) as file, ThreadPoolExecutor(max_workers=int(asked["abreast"])) as pool:
        waiting = [(one, pool.submit(_ask, client, who, one, asked)) for one in due]
        try:
            for number, (one, answer) in enumerate(waiting, 1):
                try:
                    line = {"key": _name(one), "answer": answer.result()}
                except Failed as error:
                    refused[_name(one)] = error.message
                    continue
                file.write((json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
                tell({"phase": "asking", "done": number + already, "all": len(wanted), "refused": len(refused)})
        finally:
            for _, one_waiting in waiting:
                one_waiting.cancel()
    return refused


def _ask(client: httpx.Client, who: Teacher, messages: tuple[Message, ...], asked: Mapping[str, Any]) -> str:
    body = {"model": who.name, "messages": [one.to_dict() for one in messages], "max_tokens": asked["max_tokens"],
            "temperature": asked["temperature"]}  # fmt: skip
    for attempt in range(TRIES):
        answer = _posted(client, who, body)
        if answer.status_code not in BUSY:
            break
        time.sleep(_pause(answer, attempt))
    if answer.status_code in (*BUSY, 401, 403, 404):
        raise Unavailable(
            f"the teacher answers {answer.status_code}: {answer.text[:200]}", where=who.shown,
            remedy="look at its address, name and key, then ask again: what it said so far is kept",
        )  # fmt: skip
    if answer.status_code >= 400:
        raise Failed(f"{answer.status_code}: {answer.text[:200]}", where=who.shown, remedy="change or drop the prompt")
    return _text(answer, who)


def _posted(client: httpx.Client, who: Teacher, body: Mapping[str, Any]) -> httpx.Response:
    import httpx

    try:
        return client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"the teacher does not answer: {error}", where=who.shown, remedy="ask again: what it said so far is kept"
        ) from None


def _pause(answer: httpx.Response, attempt: int) -> float:
    """How long to wait for one that is busy: what it asks for, bounded; else longer each time."""
    try:
        asked = float(answer.headers.get("retry-after", ""))
    except ValueError:
        asked = 0.5 * 2**attempt
    return max(0.0, min(asked, LONGEST_PAUSE_S))


def _text(answer: httpx.Response, who: Teacher) -> str:
    try:
        text = answer.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str) or not text.strip():
        raise Failed("it said nothing", where=who.shown, remedy="change or drop the prompt")
    return text.strip()


def _answers(path: Path) -> dict[str, str]:
    """What was heard so far; a line that a kill cut short is asked again."""
    found: dict[str, str] = {}
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        found[told["key"]] = told["answer"]
    return found


def _rows(wanted: Iterable[tuple[Message, ...]], said: Mapping[str, str], who: Teacher) -> Iterator[Row]:
    for messages in wanted:
        if (answer := said.get(_name(messages))) is not None:
            row = Row(
                messages,
                answer,
                source=f"teacher: {who.name}",
                origin=f"{who.name}#{_name(messages)}",
                tags=("distilled",),
            )
            group = rows.normalised(row.prompt)
            yield row.with_(group=f"prompt:{_name(messages)}", split=rows.split_of(group))


def _made(who: Teacher, asked: Mapping[str, Any], wanted: list[Any], refused: Mapping[str, str]) -> dict[str, Any]:
    how = {name: asked[name] for name in ("max_tokens", "temperature")}
    return {
        "kind": "distil", "teacher": who.name, "teacher_digest": who.digest, "url": who.url, "asked": len(wanted),
        "refused": len(refused), **how, "sources": [{"source": asked["rows"]}] if asked["rows"] else [],
    }  # fmt: skip


# --- who is asked -----------------------------------------------------------------------------------------------------


@contextmanager
def _asking(platform: Platform, who: Teacher, folder: Path) -> Iterator[httpx.Client]:
    """A client of the teacher; a version of ours is served for as long as it is open."""
    if not who.url:
        with platform.db.reading() as conn:
            version = versions.get(conn, who.name)
            spec = models.get(conn, version.model).spec
        engine = tuple(picks.engine_of(platform.home, spec, version))
        with exams.serving(engine, str(platform.home.engine_key), folder) as client:
            yield client
        return
    import httpx

    address = _address(platform, who.url)
    parts = urlsplit(who.url)
    headers = {"host": parts.netloc, **_signed(who)}
    base = f"{parts.scheme}://{outgoing.as_host(address)}:{_port(who.url)}{parts.path}"
    options = {"sni_hostname": parts.hostname} if parts.scheme == "https" else {}
    transport = httpx.HTTPTransport(retries=1)
    with httpx.Client(
        base_url=base, headers=headers, timeout=ANSWER_S, transport=transport, trust_env=False,
        event_hooks={"request": [lambda request: request.extensions.update(options)]},
    ) as client:  # fmt: skip
        yield client


def _signed(who: Teacher) -> dict[str, str]:
    if not who.key:
        return {}
    word = config.secret(who.key)
    if word is None:
        raise Refused(
            f"the key {who.key} is not there",
            where="key",
            remedy="set the variable, or write the file, where control runs",
        )
    return {"authorization": f"Bearer {word}"}


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _address(platform: Platform, url: str) -> str:
    """The address behind a URL, if it may be called."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(f"{url!r} is no address", where="url", remedy="write https://host/v1")
    settings = platform.settings
    door = Door.of(settings.allow_private_addresses, settings.allow_hosts)
    return outgoing.address_of(
        parts.hostname, _port(url), allow_private=door.opens(parts.hostname, _port(url)), where="teacher"
    )
