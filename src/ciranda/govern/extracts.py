"""The audit log as one signed file, for whoever is to check it without this installation.

    one line of JSON for each event, in order, with its hashes
    {"seal": {format, first, last, events, previous, head, sha256, at}, "signer": …, "signature": …}

The seal says which events there are and the SHA-256 of their lines; the signature (`signatures`, Ed25519) is over the seal as one
line of compact JSON with sorted keys. So who reads the file checks three things without asking anybody: that the chain holds from
line to line, that nothing was cut off, and that the installation whose fingerprint they know by another way vouches for it. The
signature is made last, so a file that ends early has none. It believes no key because it is in the file: without a fingerprint to
compare, the check says whose it claims to be and no more.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.errors import Invalid
from ciranda.govern import audit, signatures
from ciranda.govern.audit import GENESIS, Event, audit_events
from ciranda.store import clock
from ciranda.store.database import Database

FORMAT = "ciranda-audit-1"
PIECE = 1000  # events that are read at a time
LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Checked:
    """What a file turned out to be.

    Args:
        ok: The chain holds, the seal is of these lines, the signature is the signer's, and the signer the expected one.
        signer: The fingerprint that the file claims. `expected` is whether somebody named it beforehand.
    """

    ok: bool
    events: int
    head: str
    signer: str
    expected: bool
    problem: str = ""


def extract(db: Database, home: Home, *, actor: str, since: int = 0) -> Iterator[bytes]:
    """The lines of a file with the events after number `since` up to now; that they were taken is the last of them.

    Raises:
        Invalid: There is no such event to go on from.
    """
    with db.writing() as conn:
        before = conn.execute(sa.select(audit_events.c.hash).where(audit_events.c.number == since)).scalar()
        if since and before is None:
            raise Invalid(f"there is no event {since}", where="since", remedy="`ciranda audit list` shows the numbers")
        last = audit.record(conn, actor=actor, action="audit.exported", subject="audit", detail={"since": since})
    return _lines(db, home, since, before or GENESIS, last)


def _lines(db: Database, home: Home, since: int, previous: str, last: Event) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for event in _events(db, since, last.number):
        line = _compact(asdict(event))
        digest.update(line)
        yield line
    seal = {
        "format": FORMAT, "first": since + 1, "last": last.number, "events": last.number - since, "previous": previous,
        "head": last.hash, "sha256": digest.hexdigest(), "at": clock.iso(),
    }  # fmt: skip
    signed = base64.b64encode(signatures.sign(home, _compact(seal))).decode()
    yield _compact({"seal": seal, "signer": signatures.signer(home).to_dict(), "signature": signed})


def _events(db: Database, after: int, last: int) -> Iterator[Event]:
    table = audit_events
    while after < last:
        query = (
            sa.select(table).where(table.c.number > after, table.c.number <= last).order_by(table.c.number).limit(PIECE)
        )
        with db.reading() as conn:
            found = [Event(**row._mapping) for row in conn.execute(query)]
        if not found:
            return  # events are missing: the seal, which counts them, will not hold
        yield from found
        after = found[-1].number


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def check(lines: Iterable[bytes], *, signer: str = "") -> Checked:
    """Whether a file is what it claims to be.

    Args:
        signer: The fingerprint that it must be signed by, known by another way.

    Raises:
        Invalid: It is no such file.
    """
    walk, held = _Walk(), b""
    for line in lines:
        if held:
            walk.take(held)
        held = line
    closing = _closing(held)
    problem = walk.problem or _unsealed(closing, walk, signer)
    return Checked(not problem, walk.count, walk.head, closing["signer"]["fingerprint"], bool(signer), problem)


class _Walk:
    """The events of a file, one after the other: where they begin, how far the chain holds."""

    def __init__(self) -> None:
        self.digest, self.count, self.problem = hashlib.sha256(), 0, ""
        self.first = self.last = 0
        self.previous = self.head = ""

    def take(self, line: bytes) -> None:
        """One line more. Raises Invalid when it is no event."""
        self.digest.update(line)
        try:
            event = Event(**json.loads(line))
        except (ValueError, TypeError):
            raise _no_file(f"line {self.count + 1}") from None
        if not self.count:
            self.first, self.previous = event.number, event.previous
        self.count += 1
        before = self.head or self.previous
        self.problem = self.problem or audit.problem(event, self.first + self.count - 1, before)
        self.last, self.head = event.number, event.hash

    def seal(self) -> dict[str, Any]:
        """What its seal must say."""
        return {
            "format": FORMAT, "first": self.first, "last": self.last, "events": self.count, "previous": self.previous,
            "head": self.head, "sha256": self.digest.hexdigest(),
        }  # fmt: skip


def _closing(line: bytes) -> dict[str, Any]:
    """The last line. Raises Invalid when the file ends without one."""
    try:
        found = json.loads(line)
        if {"seal", "signer", "signature"} <= set(found) and {"fingerprint", "public_key"} <= set(found["signer"]):
            return dict(found)
    except (ValueError, TypeError):
        pass
    raise _no_file("the last line")


def _no_file(where: str) -> Invalid:
    return Invalid(
        "this is no whole file of an audit log", where=where, remedy="give a file that `ciranda audit export` finished"
    )


def _unsealed(closing: dict[str, Any], walk: _Walk, signer: str) -> str:
    """Why seal or signature do not hold; empty when they do."""
    told = walk.seal()
    if wrong := sorted(name for name, value in told.items() if closing["seal"].get(name) != value):
        return f"the seal speaks of other events: {', '.join(wrong)}"
    who = signatures.read(str(closing["signer"]["public_key"]))
    if who.fingerprint != closing["signer"]["fingerprint"] or (signer and who.fingerprint != signer):
        return f"it was signed by {who.fingerprint}"
    try:
        signature = base64.b64decode(closing["signature"], validate=True)
    except (ValueError, TypeError):
        signature = b""
    return "" if signatures.holds(who.public, _compact(closing["seal"]), signature) else "the signature does not hold"
