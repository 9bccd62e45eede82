"""A job that asks a judge: questions in, texts out. What they mean is the business of whoever reads them (`evals.judge`).

Each text is kept as it comes, so a job that was killed asks only for what is missing. A judge that is busy is asked again, ever
more slowly; one that refuses ends the job with what it said. An address elsewhere is looked up once and must be public, unless
the operator lets it through; our own gateway is called as it is.

    spec.json       judge (model, max_tokens), url, key, private, asks, about
    answers.jsonl   id, text and who answered, one line for each ask

    python -m ciranda.evals.asking <folder>
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ciranda import config
from ciranda.errors import Failed, Unavailable
from ciranda.evals.judge import Ask
from ciranda.govern import outgoing
from ciranda.jobs import inside
from ciranda.jobs.inside import Progress

if TYPE_CHECKING:
    import httpx  # a fifth of a second: only the job itself pays it

ANSWER_S = 180
BUSY = (408, 425, 429, 500, 502, 503, 504)
TRIES = 7
PAUSE_S, LONGEST_S = 0.5, 20.0
CONCURRENCY = 4


@dataclass(frozen=True)
class Spec:
    """What to ask whom.

    Args:
        url: The address, with or without /v1. `key` is `env:NAME`, `file:/path` or empty.
        private: Whether a private address is fine: our own gateway, or one that the operator lets through.
        about: What the answers are for; kept for whoever reads them.
    """

    model: str
    url: str
    key: str
    private: bool
    max_tokens: int
    asks: tuple[Ask, ...]
    about: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "judge", **asdict(self)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Spec:
        """From the JSON of `to_dict`."""
        fields = {name: value for name, value in values.items() if name != "kind"}
        asks = tuple(Ask(one["id"], tuple(one["messages"])) for one in fields["asks"])
        return cls(**{**fields, "asks": asks})


@dataclass(frozen=True)
class Opinion:
    """What was answered to one ask, and by whom."""

    id: str
    text: str
    served: str


def read(folder: Path) -> dict[str, Opinion]:
    """The answers so far, by the id of the ask; a line that was torn by a crash is none."""
    try:
        lines = (folder / "answers.jsonl").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    found = (_opinion(line) for line in lines)
    return {one.id: one for one in found if one}


def _opinion(line: str) -> Opinion | None:
    try:
        held = json.loads(line)
        return Opinion(str(held["id"]), str(held["text"]), str(held["served"]))
    except (ValueError, KeyError, TypeError):
        return None


def ask(folder: Path, values: Mapping[str, Any], tell: Progress) -> None:
    """Ask what was not answered yet.

    Raises:
        Refused: The address is private and not let through.
        Unavailable: Nobody answers, or the judge stays busy.
        Failed: The judge refuses what it is asked.
    """
    spec = Spec.of(values)
    known = read(folder)
    due = [one for one in spec.asks if one.id not in known]
    done, lock = len(known), threading.Lock()
    descriptor = os.open(folder / "answers.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, b"\n" if known else b"")  # behind a torn line the next one would be torn too
        with _client(spec) as client, ThreadPoolExecutor(CONCURRENCY) as pool:
            for found in pool.map(lambda one: _answered(client, spec, one), due):
                with lock:
                    os.write(descriptor, json.dumps(asdict(found), ensure_ascii=False).encode() + b"\n")
                    done += 1
                    tell({"phase": "judged", "done": done, "all": len(spec.asks)})
    finally:
        os.close(descriptor)


def _client(spec: Spec) -> httpx.Client:
    """A client bound to the address that was checked."""
    import httpx

    parts = urlsplit(spec.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = outgoing.address_of(parts.hostname or "", port, allow_private=spec.private, where="judge")
    base = httpx.URL(spec.url.rstrip("/").removesuffix("/v1") + "/v1/").copy_with(host=outgoing.as_host(address))
    headers = {"host": parts.netloc.rpartition("@")[2], "user-agent": "ciranda"}
    if spec.key:
        headers["authorization"] = f"Bearer {_secret(spec.key)}"
    return httpx.Client(base_url=base, headers=headers, timeout=ANSWER_S, follow_redirects=False, trust_env=False)


def _secret(reference: str) -> str:
    if (found := config.secret(reference)) is None:
        raise Unavailable(f"the judge's key {reference} is not there", where="judge",
                          remedy="set the variable for control, or write the file")  # fmt: skip
    return found


def _answered(client: httpx.Client, spec: Spec, one: Ask) -> Opinion:
    import httpx

    body = {"model": spec.model, "messages": list(one.messages), "temperature": 0, "max_tokens": spec.max_tokens}
    extensions = {"sni_hostname": urlsplit(spec.url).hostname or ""}
    why = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(min(LONGEST_S, PAUSE_S * 2**attempt))
        try:
            answer = client.post("chat/completions", json=body, extensions=extensions)
        except httpx.HTTPError as error:
            why = f"{type(error).__name__} {error}"
            continue
        if answer.status_code in BUSY:
            why = f"{answer.status_code} {answer.text[:200]}"
        elif answer.status_code >= 300:
            raise Failed(f"the judge answered {answer.status_code}: {answer.text[:300]}", where=_place(spec),
                         remedy="correct its model, address or key: `ciranda judges create`")  # fmt: skip
        else:
            return _read(answer, spec, one)
    raise Unavailable(
        f"the judge does not answer: {why}",
        where=_place(spec),
        remedy="see to it, then ask again; what it said is kept",
    )


def _read(answer: httpx.Response, spec: Spec, one: Ask) -> Opinion:
    try:
        body = answer.json()
        text = body["choices"][0]["message"]["content"] or ""
    except (ValueError, LookupError, TypeError):
        raise Failed(f"the judge's answer is no chat completion: {answer.text[:200]}", where=_place(spec),
                     remedy="give the address of an OpenAI-compatible server") from None  # fmt: skip
    told = f"{body.get('model') or spec.model} {body.get('system_fingerprint') or ''}".strip()
    return Opinion(one.id, str(text), answer.headers.get("x-ciranda-version") or told)


def _place(spec: Spec) -> str:
    parts = urlsplit(spec.url)
    return f"{parts.scheme}://{parts.hostname}, model {spec.model}"


if __name__ == "__main__":
    sys.exit(inside.main({"judge": ask}))
