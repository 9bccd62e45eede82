"""Signing in: a key is pasted once, and the browser then holds a signed cookie that names the session, not the key.

The cookie is `SameSite=Strict`, `HttpOnly`, expires, and is checked against the key on every request, so a revoked key ends
its sessions at once; signing out writes the session's id to a table, so a stolen cookie ends too. Every form carries a token
bound to the session and masked anew each time (so that compression tells nothing), and a POST whose `Sec-Fetch-Site` or
`Origin` is foreign is refused before it is read. Keys are never put in a cookie, a page, a log or an address.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa
from starlette.requests import HTTPConnection

from ciranda.errors import Forbidden, Unauthenticated
from ciranda.govern import access, audit
from ciranda.govern import public as publics
from ciranda.govern.access import Principal
from ciranda.store import clock, ids
from ciranda.store.database import Database, metadata

COOKIE = "ciranda_session"
ended_sessions = sa.Table(
    "ended_sessions",
    metadata,
    sa.Column("session", sa.String(50), primary_key=True),
    sa.Column("expires_at", sa.String(32), nullable=False, index=True),
)


@dataclass(frozen=True)
class Session:
    """One browser that signed in."""

    id: str
    key: str
    expires: int  # seconds since the epoch


def secret_of(folder: Path) -> bytes:
    """The signing secret of this home: made at the first start, readable by its owner alone. Two starters agree on one."""
    path = folder / "session.key"
    fresh = folder / f".session.key.{os.getpid()}.{secrets.token_hex(4)}"
    if not path.exists():
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # fails when the other one was first
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()


class Sessions:
    """The sessions of one home.

    Args:
        database: Where keys and ended sessions are.
        secret: What cookies and form tokens are signed with.
        hours: How long a session lasts.
    """

    def __init__(self, database: Database, secret: bytes, *, hours: int = 12) -> None:
        self.database, self.secret, self.seconds = database, secret, hours * 3600

    def sign_in(self, key: str) -> tuple[Principal, str]:
        """The person behind a key, and the cookie's value. Raises Unauthenticated for a key that opens nothing."""
        who = access.check(self.database, key.strip())
        if who.role == publics.ROLE:  # everybody has it
            raise Unauthenticated("a public key signs nobody in", where="key", remedy="use a key of another role")
        session = Session(ids.new("session"), who.key, clock.now_ms() // 1000 + self.seconds)
        with self.database.writing() as conn:
            conn.execute(ended_sessions.delete().where(ended_sessions.c.expires_at < clock.iso()))
            audit.record(conn, actor=who.name, action="session.started", subject=who.key)
        return who, self._seal(session)

    def sign_out(self, cookie: str) -> None:
        """End the session of a cookie, also for whoever copied it. A cookie that is no longer valid is ended already."""
        session = self.read(cookie)
        if session is None:
            return
        with self.database.writing() as conn:
            known = conn.execute(sa.select(ended_sessions).where(ended_sessions.c.session == session.id)).first()
            if known is None:
                until = clock.iso(datetime.fromtimestamp(session.expires, UTC))
                conn.execute(ended_sessions.insert().values(session=session.id, expires_at=until))
                audit.record(conn, actor=session.key, action="session.ended", subject=session.key)

    def read(self, cookie: str) -> Session | None:
        """The session in a cookie that we signed and that has not expired."""
        payload, _, mark = cookie.rpartition(".")
        if not payload or not hmac.compare_digest(mark, self._mark(payload)):
            return None
        session = Session(**json.loads(base64.urlsafe_b64decode(payload)))
        return session if session.expires * 1000 > clock.now_ms() else None

    def principal(self, session: Session) -> Principal | None:
        """Who it is now: None once the key is revoked or the session was ended."""
        with self.database.reading() as conn:
            table = access.keys
            row = conn.execute(sa.select(table).where(table.c.id == session.key, table.c.revoked_at.is_(None))).first()
            if (
                row is None
                or conn.execute(
                    sa.select(ended_sessions.c.session).where(ended_sessions.c.session == session.id)
                ).first()
            ):
                return None
        return Principal(row.id, row.name, row.role, row.tenant, tuple(row.models))

    def token(self, session_id: str) -> str:
        """A form token: the session's own, hidden behind fresh random bytes."""
        mask = secrets.token_bytes(16)
        return (mask + _xor(self._own(session_id), mask)).hex()

    def check(self, session_id: str, token: str) -> None:
        """Let a form with its session's token pass, or raise Forbidden."""
        try:
            raw = bytes.fromhex(token)
        except ValueError:
            raw = b""
        if len(raw) != 32 or not hmac.compare_digest(_xor(raw[16:], raw[:16]), self._own(session_id)):
            raise Forbidden("this form is out of date", where="form token", remedy="reload the page and send it again")

    def _own(self, session_id: str) -> bytes:
        return hmac.new(self.secret, f"form:{session_id}".encode(), hashlib.sha256).digest()[:16]

    def _seal(self, session: Session) -> str:
        payload = base64.urlsafe_b64encode(json.dumps(session.__dict__).encode()).decode()
        return f"{payload}.{self._mark(payload)}"

    def _mark(self, payload: str) -> str:
        return hmac.new(self.secret, f"session:{payload}".encode(), hashlib.sha256).hexdigest()

    def principal_of(self, connection: HTTPConnection) -> tuple[Principal, Session] | None:
        """Who the cookie of this request stands for, if anybody."""
        session = self.read(connection.cookies.get(COOKIE, ""))
        who = self.principal(session) if session else None
        return (who, session) if who and session else None


def refuse_foreign(connection: HTTPConnection) -> None:
    """Raise Forbidden when another site made the browser send this. Old browsers are judged by `Origin`."""
    site = connection.headers.get("sec-fetch-site", "")
    origin = connection.headers.get("origin", "")
    own = urlsplit(origin).netloc in ("", connection.headers.get("host", ""))
    if site not in ("", "same-origin", "none") or (origin and not own):
        raise Forbidden(
            "another site sent this form", where=origin or site, remedy="open the page here and send it again"
        )


def inside(path: str) -> str:
    """A path on this site to go to after signing in; anything else becomes the overview."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if safe else "/"


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def decodes(text: str) -> dict[str, object]:
    """The JSON object in a base64 cookie; empty for anything else."""
    try:
        value = json.loads(base64.urlsafe_b64decode(text.encode()))
    except (ValueError, binascii.Error):
        return {}
    return value if isinstance(value, dict) else {}
