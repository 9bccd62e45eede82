"""Brings alerts to people: to the log, to a webhook, by e-mail. At least once, and outside every transaction.

A delivery is a row, written with its alert. `deliver` takes those that are due, sends, and writes how it ended; a kill
between the two means that a message goes out twice, so each carries an `idempotency-key` that stays the same. After
five attempts with growing pauses a delivery has failed, with the reason in its row.

A webhook is an address from a file that an engineer wrote: it must not become a way into the private network. The name is
resolved once, every address must be public, and the connection is made to the address that was checked (a second look-up
could answer otherwise); redirects are not followed. `allow_private_addresses` in the settings lifts that.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import smtplib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import sqlalchemy as sa

from ciranda.config import Settings
from ciranda.errors import CirandaError, Failed, Invalid, Unavailable
from ciranda.govern import outgoing
from ciranda.monitor.alerts import Alert, Delivery, alerts, deliveries
from ciranda.store import clock
from ciranda.store.database import Database

log = logging.getLogger("ciranda.alerts")

ATTEMPTS = 5
PAUSE_S = 5
TIMEOUT_S = 10.0
BATCH = 50


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended."""

    delivery: Delivery
    sent: bool
    reason: str
    final: bool


def deliver(db: Database, settings: Settings, *, secret: bytes = b"", limit: int = BATCH) -> list[Outcome]:
    """Send what is due.

    Args:
        db: The control database.
        settings: For the mail server, and whether private addresses may be called.
        secret: Signs webhook bodies (`x-ciranda-signature`) when it is not empty.
        limit: At most so many in one call.
    """
    outcomes = []
    for delivery, alert in _due(db, limit):
        outcome = _attempt(delivery, alert, settings, secret)
        _note(db, outcome)
        outcomes.append(outcome)
    return outcomes


def _due(db: Database, limit: int) -> Sequence[tuple[Delivery, Alert]]:
    due = sa.and_(deliveries.c.state == "pending", deliveries.c.next_at <= clock.iso())
    with db.reading() as conn:
        waiting = conn.execute(sa.select(deliveries).where(due).order_by(deliveries.c.next_at).limit(limit)).mappings()
        found = [Delivery(**row) for row in waiting]
        query = sa.select(alerts).where(alerts.c.id.in_([one.alert for one in found]))
        known = {row["id"]: Alert(**row) for row in conn.execute(query).mappings()}
    return [(one, known[one.alert]) for one in found]


def _attempt(delivery: Delivery, alert: Alert, settings: Settings, secret: bytes) -> Outcome:
    kind = delivery.target.partition(":")[0]
    try:
        if kind == "webhook":
            _webhook(delivery, alert, settings, secret)
        elif kind == "email":
            _email(delivery, alert, settings)
        elif kind == "log":
            log.warning("%s [%s] %s: %s", alert.severity, alert.model, alert.kind, alert.title)
        else:
            raise Invalid(f"no way to deliver to {delivery.target!r}", where="alerts",
                          remedy="write log, webhook:https://… or email:name@host")  # fmt: skip
    except CirandaError as error:
        return Outcome(delivery, False, str(error), final=not error.retry or delivery.attempts + 1 >= ATTEMPTS)
    return Outcome(delivery, True, "", final=True)


def _note(db: Database, outcome: Outcome) -> None:
    """Write how it ended; a later attempt waits twice as long as the one before."""
    attempts = outcome.delivery.attempts + 1
    state = "sent" if outcome.sent else "failed" if outcome.final else "pending"
    next_at = clock.iso(clock.now() + timedelta(seconds=PAUSE_S * 2**attempts))
    with db.writing() as conn:
        conn.execute(deliveries.update().where(deliveries.c.id == outcome.delivery.id).values(
            state=state, attempts=attempts, reason=outcome.reason, next_at=next_at,
            sent_at=clock.iso() if outcome.sent else ""))  # fmt: skip
    if state == "failed":
        log.error("alert %s was not delivered to %s: %s", outcome.delivery.alert, _shown(outcome.delivery.target),
                  outcome.reason)  # fmt: skip


def message_of(alert: Alert) -> dict[str, Any]:
    """What is sent, in the shape of the REST API."""
    return {"object": "alert", **alert.__dict__}


def _webhook(delivery: Delivery, alert: Alert, settings: Settings, secret: bytes) -> None:
    url = delivery.target.partition(":")[2]
    body = json.dumps(message_of(alert), ensure_ascii=False, sort_keys=True).encode()
    at = str(clock.now_ms() // 1000)
    headers = {"content-type": "application/json", "user-agent": "ciranda", "idempotency-key": delivery.id,
               "x-ciranda-timestamp": at}  # fmt: skip
    if secret:
        headers["x-ciranda-signature"] = signature(secret, at, body)
    status = post(url, body, headers, allow_private=settings.allow_private_addresses)
    if status >= 300:
        failure = Unavailable if status >= 500 or status in (408, 425, 429) else Failed
        raise failure(f"the webhook answered {status}", where=_shown(delivery.target),
                      remedy="look at what listens there; a 2xx answer accepts an alert")  # fmt: skip


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """`sha256=…` over `<timestamp>.<body>`: a receiver checks it and refuses old timestamps."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def post(url: str, body: bytes, headers: dict[str, str], *, allow_private: bool) -> int:
    """One POST to the address that was checked; returns the status. Reads none of the answer's body.

    Raises:
        Invalid: no http or https URL.
        Refused: an address behind the name is private.
        Unavailable: nobody answers in time.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(
            f"{_shown(url)} is no address of a webhook", where="alerts", remedy="write webhook:https://host/path"
        )
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = outgoing.address_of(parts.hostname, port, allow_private=allow_private, where="alerts")
    target = httpx.URL(url).copy_with(host=outgoing.as_host(address))
    named = {**headers, "host": parts.netloc.rpartition("@")[2]}
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", target, content=body, headers=named,
                          extensions={"sni_hostname": parts.hostname}) as answer,
        ):  # fmt: skip
            return answer.status_code
    except httpx.HTTPError as error:
        raise Unavailable(f"no answer: {type(error).__name__} {error}", where=_shown(url),
                          remedy="check that the address is reachable from this machine") from error  # fmt: skip


def _email(delivery: Delivery, alert: Alert, settings: Settings) -> None:
    server = urlsplit(settings.smtp_url)
    if server.scheme not in ("smtp", "smtps") or not server.hostname:
        raise Invalid("no mail server is set", where="setting smtp_url",
                      remedy="set smtp_url = \"smtp://user@host:587\" in config.toml")  # fmt: skip
    mail = EmailMessage()
    mail["From"] = (
        unquote(server.username or "") if "@" in unquote(server.username or "") else f"ciranda@{server.hostname}"
    )
    mail["To"] = delivery.target.partition(":")[2]
    mail["Subject"] = " ".join(f"[{alert.severity}] {alert.model}: {alert.title}".split())[:200]
    mail["Message-ID"] = f"<{delivery.id}@{server.hostname}>"
    mail.set_content(f"{alert.title}\n\n{json.dumps(alert.body, ensure_ascii=False, indent=2)}\n")
    try:
        _send(mail, server.scheme, server.hostname, server.port, unquote(server.username or ""), settings)
    except (OSError, smtplib.SMTPException) as error:
        raise Unavailable(f"the mail server did not take it: {error}", where="setting smtp_url",
                          remedy="check host, port, user and smtp_password_file") from error  # fmt: skip


def _send(mail: EmailMessage, scheme: str, host: str, port: int | None, user: str, settings: Settings) -> None:
    """By TLS from the start (smtps), or STARTTLS when there is a password to protect."""
    context = ssl.create_default_context()
    connect: Callable[[], smtplib.SMTP] = (
        (lambda: smtplib.SMTP_SSL(host, port or 465, timeout=TIMEOUT_S, context=context))
        if scheme == "smtps"
        else (lambda: smtplib.SMTP(host, port or 587, timeout=TIMEOUT_S))
    )
    with connect() as server:
        if settings.smtp_password_file:
            if scheme == "smtp":
                server.starttls(context=context)
            server.login(user, Path(settings.smtp_password_file).expanduser().read_text().strip())
        server.send_message(mail)


def _shown(target: str) -> str:
    """Without what may be secret: of a webhook the host alone, since many carry their key in the path."""
    parts = urlsplit(target.removeprefix("webhook:"))
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else target
