"""Records of an HTTP(S) API that answers with JSON, page by page.

The address is checked like a webhook's and the connection goes to what was checked; redirects and links to another host are
refused, since our secret would go along. What may pass by itself (no connection, 408, 425, 429, 5xx) is tried again with
growing pauses, or after what `Retry-After` asks. Pages are read in order, so the cursor of a run that is cut off is simply
not kept."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx

from ciranda import config
from ciranda.config.source import Auth, Http, Source
from ciranda.data.sources import cursors
from ciranda.data.sources.found import BEGINNING, Desk, Item
from ciranda.data.sources.mapping import field
from ciranda.errors import CirandaError, Failed, Invalid, Refused, Unavailable
from ciranda.govern import outgoing

ATTEMPTS, PAUSE_S, LONGEST_PAUSE_S = 5, 0.5, 60.0
MOST_PAGES, MOST_BYTES = 100_000, 64 << 20
AGAIN = (408, 425, 429)


@dataclass(frozen=True)
class Answer:
    """One page: its body as a value, and where the header says the next one is."""

    body: Any
    following: str
    size: int


def items(source: Source, desk: Desk) -> Iterator[Item]:
    """Every record of every page, from the cursor on."""
    assert source.http is not None
    http, greatest = source.http, cursors.value_of(desk.cursor)
    with _Line(http, desk) as line:
        for url, answer in _pages(http, line, _first(source, desk)):
            desk.tally.add(size=answer.size, pages=1)
            for number, record in enumerate(_listed(answer.body, http.items, url)):
                value = field(record, source.cursor) if source.cursor else None
                greatest = cursors.later(greatest, value)
                yield Item(_origin(source, url, record, number), record, value)
    desk.place.cursor = cursors.written(greatest)


def _origin(source: Source, url: str, record: object, number: int) -> str:
    """Where a record stands: by its own name where it has one, else by page and place."""
    name = field(record, source.id) if source.id else None
    return f"{url}[{number}]" if name is None else f"{url.partition('?')[0]}#{name}"


def _first(source: Source, desk: Desk) -> str:
    """The address of the first page: parameters, the first place, and from when on."""
    assert source.http is not None
    http, window = source.http, desk.window
    params: dict[str, Any] = dict(http.params)
    paging = http.paging
    if paging.size:
        params[paging.size_param] = paging.size
    if paging.kind in ("page", "offset"):
        params[paging.name] = paging.start if paging.kind == "page" else 0
    like = cursors.value_of(desk.cursor)
    start = cursors.before(like, source.lag)
    if window.since:
        start = None if window.since == BEGINNING else cursors.given(window.since, like)
    if http.since and start is not None:
        params[http.since] = cursors.shown(start)
    if http.until and window.until:
        params[http.until] = cursors.shown(cursors.given(window.until, like))
    return _with(http.url, params)


def _with(url: str, params: Mapping[str, Any]) -> str:
    """The address with these parameters in place of those of the same name."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in params]
    return parts._replace(query=urlencode([*kept, *params.items()]), fragment="").geturl()


def _pages(http: Http, line: _Line, url: str) -> Iterator[tuple[str, Answer]]:
    seen: set[str] = set()
    while url:
        if url in seen or len(seen) >= MOST_PAGES:
            raise Failed(
                f"page {len(seen) + 1} is one that was read already",
                where=url,
                remedy="correct `paging` of this source",
            )
        seen.add(url)
        answer = line.get(url)
        yield url, answer
        url = _next(http, url, answer)


def _next(http: Http, url: str, answer: Answer) -> str:
    """The address of the page after; empty at the end."""
    paging = http.paging
    if paging.kind == "none":
        return ""
    if paging.kind in ("link", "header"):
        link = answer.following if paging.kind == "header" else field(answer.body, paging.at or "")
        return _same_host(url, str(link)) if link else ""
    if paging.kind == "cursor":
        value = field(answer.body, paging.at or "")
        return _with(url, {paging.name: value}) if value not in (None, "", False) else ""
    count = len(_listed(answer.body, http.items, url))
    if not count or (paging.size and count < paging.size):
        return ""
    now = int(dict(parse_qsl(urlsplit(url).query)).get(paging.name, paging.start))
    return _with(url, {paging.name: now + (1 if paging.kind == "page" else paging.size or count)})


def _same_host(url: str, link: str) -> str:
    following = urljoin(url, link)
    if urlsplit(following)[:2] != urlsplit(url)[:2]:
        raise Refused(
            f"the next page is on another host: {_shown(following)}", where=_shown(url),
            remedy="our key is for this host alone; correct `paging: at`, or name the other host in `url`",
        )  # fmt: skip
    return following


def _listed(body: Any, path: str, url: str) -> list[Any]:
    """The list of records in a page: where `items` says, else the body itself, else its only list."""
    found = field(body, path) if path else body
    if not path and isinstance(body, Mapping):
        lists = [value for value in body.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == 1 else None
    if not isinstance(found, list):
        said = f"no list at {path!r}" if path else "no list, or several"
        raise Invalid(f"{said} in the answer", where=_shown(url), remedy="say where it stands: `items: data.items`")
    return found


class _Line:
    """One client to one checked address, with our secret."""

    def __init__(self, http: Http, desk: Desk) -> None:
        parts = urlsplit(http.url)
        if not parts.hostname:
            raise Invalid(f"{http.url!r} has no host", where=desk.label, remedy="write https://host/path")
        self._host = parts.hostname
        port = parts.port or (443 if parts.scheme == "https" else 80)
        door = desk.inputs.door
        self._address = outgoing.as_host(
            outgoing.address_of(self._host, port, allow_private=door.opens(self._host, port), where=desk.label)
        )
        self._headers = {"accept": "application/json", "user-agent": "ciranda", **http.headers, "host": parts.netloc}
        self._params: dict[str, str] = {}
        self._basic: tuple[str, str] | None = None
        if http.auth:
            self._sign(http.auth, desk.label)
        self._client = httpx.Client(timeout=http.timeout, follow_redirects=False, trust_env=False)

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _sign(self, auth: Auth, where: str) -> None:
        word = secret(auth.bearer or auth.secret or "", where)
        if auth.bearer:
            self._headers["authorization"] = f"Bearer {word}"
        elif auth.header:
            self._headers[auth.header] = word
        elif auth.param:
            self._params = {auth.param: word}
        else:
            self._basic = (auth.basic or "", word)

    def get(self, url: str) -> Answer:
        """One page; what may pass by itself is tried again."""
        for attempt in range(ATTEMPTS):
            try:
                return self._once(url)
            except _Busy as error:
                if attempt == ATTEMPTS - 1:
                    raise Unavailable(
                        f"{error.message}, {ATTEMPTS} times", where=_shown(url),
                        remedy="it is tried again by itself when the source is due; see that the address answers",
                    ) from error  # fmt: skip
                pause = PAUSE_S * 2**attempt * random.uniform(0.8, 1.2) if error.after is None else error.after  # noqa: S311
                time.sleep(min(pause, LONGEST_PAUSE_S))
        raise AssertionError("unreachable")

    def _once(self, url: str) -> Answer:
        target = httpx.URL(_with(url, self._params) if self._params else url).copy_with(host=self._address)
        try:
            with self._client.stream(
                "GET", target, headers=self._headers, auth=self._basic, extensions={"sni_hostname": self._host}
            ) as answer:
                _good(answer, url)
                content = _bounded(answer, url)
                following = answer.links.get("next", {}).get("url", "")
        except httpx.TransportError as error:
            raise _Busy(f"no answer: {type(error).__name__}") from error
        try:
            return Answer(json.loads(content), following, len(content))
        except (ValueError, RecursionError) as error:
            raise Invalid(
                f"the answer is no JSON: {error}", where=_shown(url), remedy="correct `url`; only JSON is read"
            ) from error


class _Busy(Unavailable):
    """Something that may pass by itself."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message, where="http", remedy="try again")
        self.after = after


def _good(answer: httpx.Response, url: str) -> None:
    status = answer.status_code
    if status == 200:
        return
    if status >= 500 or status in AGAIN:
        after = answer.headers.get("retry-after", "")
        raise _Busy(f"the answer was {status}", float(after) if after.isdecimal() else None)
    told: CirandaError = Failed(f"the answer was {status}", where=_shown(url), remedy="correct `url` and `params`")
    if status in (401, 403):
        told = Failed(f"the answer was {status}", where=_shown(url), remedy="check the secret that `auth` refers to")
    elif 300 <= status < 400:
        to = _shown(urljoin(url, answer.headers.get("location", "")))
        told = Refused(f"it leads on to {to}", where=_shown(url), remedy="write that address, if you trust it")
    raise told


def _bounded(answer: httpx.Response, url: str) -> bytes:
    pieces, size = [], 0
    for piece in answer.iter_bytes():
        size += len(piece)
        if size > MOST_BYTES:
            raise Refused(
                f"a page has over {MOST_BYTES} bytes", where=_shown(url), remedy="ask for smaller pages: `size`"
            )
        pieces.append(piece)
    return b"".join(pieces)


def secret(reference: str, where: str) -> str:
    """The secret behind a reference. Raises Unavailable when it is not there."""
    found = config.secret(reference)
    if found is None:
        raise Unavailable(
            f"there is no secret at {reference}", where=where, remedy="set it for control, in one word, then try again"
        )
    return found


def _shown(url: str) -> str:
    """Without the query, which may carry a key."""
    return url.partition("?")[0]
