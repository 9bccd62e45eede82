"""Our interactions as OpenTelemetry spans to an endpoint of the settings, after they are recorded: never on the way of a request.

The store of interactions is the queue, so nothing has to be kept in memory and nothing is lost: a row in the control database
says how far the receiver has acknowledged, and is moved on after it did. A kill between the two sends a batch again, with the
same span ids (at least once). The export begins with what comes after it was switched on.

What a receiver answers decides, as OTLP wants it: 200 moves on (a partial success is logged and counted), 429, 502, 503, 504 and
silence are tried again, ever more slowly, not before `retry-after`; so are 401, 403 and 404, which mean that a setting is wrong.
What it calls bad data (400, 413, 422 and the like) is halved until the one span that it means is found, which is passed over,
logged and counted. It refuses redirects: where records of people go is what the settings say.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import httpx
import sqlalchemy as sa

from ciranda.config import Settings
from ciranda.errors import Invalid, Unavailable
from ciranda.interactions.otlp import wire, writing
from ciranda.interactions.query import Interactions
from ciranda.interactions.table import Interaction
from ciranda.store import clock
from ciranda.store.database import Database, metadata

log = logging.getLogger("ciranda.export")

OTLP = "otlp"
BATCH = 200
BATCH_BYTES = 4 << 20
TIMEOUT_S = 10.0
LOOK_S = 5.0  # at most so long in one look, so that a large backlog does not hold up the end of the process
LONGEST_WAIT_S = 300.0
WAITS = frozenset({401, 403, 404, 408, 429})

exports = sa.Table(
    "exports",
    metadata,
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("cursor", sa.String(40), nullable=False),
    sa.Column("sent", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("updated_at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Progress:
    """How far an export has come. `refused` counts what the receiver would not take, `reason` is the last one it gave."""

    cursor: str
    sent: int = 0
    refused: int = 0
    reason: str = ""


def progress(db: Database) -> Progress | None:
    """How far the export has come; None before it began."""
    with db.reading() as conn:
        row = conn.execute(sa.select(exports).where(exports.c.name == OTLP)).mappings().first()
    return Progress(row["cursor"], row["sent"], row["refused"], row["reason"]) if row else None


def position(db: Database, name: str) -> str | None:
    """How far another export has come; None before it began."""
    with db.reading() as conn:
        found = conn.execute(sa.select(exports.c.cursor).where(exports.c.name == name)).scalar()
    return None if found is None else str(found)


def move(db: Database, name: str, cursor: str, *, sent: int = 0, refused: int = 0) -> None:
    """Note how far another export has come, and how much more it sent."""
    more = {"sent": exports.c.sent + sent, "refused": exports.c.refused + refused}
    with db.writing() as conn:
        values = {"cursor": cursor, "updated_at": clock.iso()}
        if not conn.execute(exports.update().where(exports.c.name == name).values(**values, **more)).rowcount:
            conn.execute(exports.insert().values(name=name, sent=sent, refused=refused, reason="", **values))


Heard = Callable[[Sequence[Interaction]], list[Interaction]]


class Export:
    """The export of one home. `tick` again and again, from one process at a time.

    Args:
        settings: `otlp_endpoint`, `otlp_headers_file` and `otlp_content`.
        hear: What policies leave of interactions that go out; without it all.
    """

    def __init__(
        self, db: Database, interactions: Interactions, settings: Settings, *, hear: Heard | None = None
    ) -> None:
        self._hear = hear or list
        self._db, self._interactions, self._settings = db, interactions, settings
        self._not_before = 0.0

    def tick(self) -> int:
        """Send what has come since the last look, and say how many spans that were.

        Raises:
            Unavailable: the receiver takes nothing at present; call again later.
            Invalid: the file with headers cannot be read.
        """
        if monotonic() < self._not_before:
            return 0
        done, before, began = progress(self._db), 0, monotonic()
        if done is None:
            self._keep(Progress(self._interactions.cursor()))
            return 0
        while monotonic() - began < LOOK_S:
            found = self._interactions.since(done.cursor, limit=BATCH)
            if not found:
                break
            sent, refused, reason = self._send(writing.own(self._hear(found)))
            before += sent
            done = Progress(found[-1].cursor, done.sent + sent, done.refused + refused, reason or done.reason)
            self._keep(done)
        return before

    def _keep(self, done: Progress) -> None:
        values = {**done.__dict__, "updated_at": clock.iso()}
        with self._db.writing() as conn:
            changed = conn.execute(exports.update().where(exports.c.name == OTLP).values(values))
            if not changed.rowcount:
                conn.execute(exports.insert().values(name=OTLP, **values))

    def _send(self, told: list[Interaction]) -> tuple[int, int, str]:
        """How many were taken, how many refused, and why."""
        if not told:
            return 0, 0, ""
        body = writing.body(told, content=self._settings.otlp_content)
        if len(body) > BATCH_BYTES and len(told) > 1:
            return self._halved(told)
        answer = self._post(body)
        if answer.status_code == 200:
            refused, reason = wire.refused(answer.content)
            if refused:
                log.warning("the receiver of traces refused %d of %d spans: %s", refused, len(told), reason)
            return len(told) - refused, refused, reason
        if len(told) > 1:
            return self._halved(told)
        reason = f"{answer.status_code}: {answer.text[:200]!r}"
        log.warning("the receiver of traces does not take %s: %s", told[0].id, reason)
        return 0, 1, reason

    def _halved(self, told: list[Interaction]) -> tuple[int, int, str]:
        middle = len(told) // 2
        first, second = self._send(told[:middle]), self._send(told[middle:])
        return first[0] + second[0], first[1] + second[1], second[2] or first[2]

    def _post(self, body: bytes) -> httpx.Response:
        """The receiver's word on a batch. Raises Unavailable when it has none, or bids to wait."""
        url = address(self._settings.otlp_endpoint)
        given = {"content-type": wire.PROTOBUF, "content-encoding": "gzip", **headers(self._settings)}
        try:
            answer = httpx.post(
                url, content=gzip.compress(body, 5), headers=given, timeout=TIMEOUT_S, follow_redirects=False
            )
        except httpx.HTTPError as error:
            raise self._away(f"{type(error).__name__}: {error}") from error
        if answer.status_code in WAITS or answer.status_code >= 500 or 300 <= answer.status_code < 400:
            after = answer.headers.get("retry-after", "")
            self._not_before = monotonic() + min(float(after) if after.isdigit() else 0.0, LONGEST_WAIT_S)
            raise self._away(f"it answered {answer.status_code}: {answer.text[:200]!r}")
        return answer

    def _away(self, reason: str) -> Unavailable:
        return Unavailable(
            f"the receiver of traces takes nothing: {reason}", where="setting otlp_endpoint",
            remedy="start it, or correct otlp_endpoint and otlp_headers_file; what waits is sent then",
        )  # fmt: skip


def address(endpoint: str) -> str:
    """Where traces go, for a base address as OpenTelemetry's own settings have it, or for the whole path."""
    plain = endpoint.rstrip("/")
    return plain if plain.endswith("/v1/traces") else f"{plain}/v1/traces"


def headers(settings: Settings) -> dict[str, str]:
    """The headers in the file of the settings, one `name: value` a line. Raises Invalid."""
    if not settings.otlp_headers_file:
        return {}
    file = Path(settings.otlp_headers_file).expanduser()
    try:
        lines = [line.partition(":") for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"the file with headers cannot be read: {error}", where=str(file), remedy="write one `name: value` a line"
        ) from error
    return {name.strip().lower(): value.strip() for name, _, value in lines}
