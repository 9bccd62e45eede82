"""Alerts: raised once, seen by a person, brought to the log, a webhook or a mailbox, never into a private network."""

from __future__ import annotations

import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from ciranda.config import Settings
from ciranda.errors import Conflict, NotFound
from ciranda.govern import audit
from ciranda.monitor import alerts, delivery
from ciranda.store.database import Database, metadata

OPEN = Settings(allow_private_addresses=True)


@pytest.fixture
def db(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/c.db")
    metadata.create_all(database.engine)
    return database


class Hook(BaseHTTPRequestHandler):
    """Receives webhooks and answers with the statuses it is given, the last one for ever."""

    answers: ClassVar[list[int]] = []
    got: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        self.send_header("location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.answers, Hook.got = [200], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook?key=secret"
    server.shutdown()
    server.server_close()


def raised(db: Database, *targets: str, event: str = "drift:home@1:1:input:1") -> alerts.Alert:
    with db.writing() as conn:
        return alerts.raise_(conn, event, model="home", kind="drift", severity="warning", title="the input has changed",
                             body={"summary": "pt 0% -> 95%", "examples": [["i1", "acende a luz"]]}, targets=targets)  # fmt: skip


def due_now(db: Database) -> None:
    with db.writing() as conn:
        conn.execute(alerts.deliveries.update().values(next_at="2000-01-01T00:00:00.000Z"))


def ended(db: Database, alert: alerts.Alert) -> list[tuple[str, int]]:
    with db.reading() as conn:
        return [(one.state, one.attempts) for one in alerts.deliveries_of(conn, alert.id)]


def test_an_event_raises_one_alert_however_often_it_is_told(db: Database) -> None:
    first, again = raised(db, "log"), raised(db, "log")
    assert first.id == again.id
    with db.reading() as conn:
        assert alerts.count(conn) == 1
        assert len(alerts.deliveries_of(conn, first.id)) == 1
        events = conn.execute(sa.select(audit.audit_events.c.action)).scalars().all()
    assert events == ["alert.raised"]


def test_a_matter_that_is_open_is_not_told_again_but_counted(db: Database) -> None:
    def risen(number: int, title: str) -> alerts.Alert:
        with db.writing() as conn:
            return alerts.raise_(conn, f"feedback:home@1:1:feedback:{number}", model="home", kind="feedback",
                                 severity="warning", title=title, matter="feedback:home@1:1:feedback:")  # fmt: skip

    first, again = risen(1, "28% to 87%"), risen(2, "28% to 89%")
    assert again.id == first.id
    assert (again.title, again.body["times"]) == ("28% to 89%", 2)
    with db.writing() as conn:
        alerts.close_all(conn, "home", kinds=["feedback"], actor="ana", note="a new version is live")
    assert risen(3, "30% to 60%").id != first.id


def test_a_person_takes_it_another_cannot_and_closing_ends_it(db: Database) -> None:
    alert = raised(db)
    with db.writing() as conn:
        taken = alerts.acknowledge(conn, alert.id, actor="ana", note="looking")
        assert (taken.state, taken.acknowledged_by, taken.note) == ("acknowledged", "ana", "looking")
        assert alerts.acknowledge(conn, alert.id, actor="ana") == taken
        with pytest.raises(Conflict, match="acknowledged by ana"):
            alerts.acknowledge(conn, alert.id, actor="rui")
        assert alerts.close(conn, alert.id, actor="ana").state == "closed"
        with pytest.raises(Conflict, match="closed"):
            alerts.acknowledge(conn, alert.id, actor="rui")
        with pytest.raises(NotFound, match="alert_none"):
            alerts.get(conn, "alert_none")
    assert audit.verify(db).ok


def test_lists_are_paged_and_filtered(db: Database) -> None:
    made = [raised(db, event=f"e{n}") for n in range(7)]
    with db.writing() as conn:
        alerts.close(conn, made[0].id, actor="ana")
        page = alerts.page(conn, limit=3)
        rest = alerts.page(conn, limit=50, before=page[-1].id)
        assert [one.id for one in (*page, *rest)] == [
            one.id for one in sorted(made, key=lambda one: one.id, reverse=True)
        ]
        assert [one.id for one in alerts.page(conn, state="closed")] == [made[0].id]
        assert alerts.page(conn, models=["other"]) == []


def test_a_webhook_gets_the_alert_signed_and_with_a_key_that_stays(db: Database, hook: str) -> None:
    alert = raised(db, f"webhook:{hook}")
    assert [one.sent for one in delivery.deliver(db, OPEN, secret=b"s3cret")] == [True]
    headers, body = Hook.got[0]
    assert json.loads(body)["title"] == "the input has changed"
    assert headers["x-ciranda-signature"] == delivery.signature(b"s3cret", headers["x-ciranda-timestamp"], body)
    assert headers["host"].startswith("127.0.0.1:")
    with db.reading() as conn:
        (sent,) = alerts.deliveries_of(conn, alert.id)
    assert (sent.state, headers["idempotency-key"]) == ("sent", sent.id)
    assert delivery.deliver(db, OPEN) == []


def test_a_webhook_that_is_busy_is_tried_again_with_the_same_key_and_not_at_once(db: Database, hook: str) -> None:
    Hook.answers = [503, 200]
    alert = raised(db, f"webhook:{hook}")
    assert not delivery.deliver(db, OPEN)[0].sent
    assert delivery.deliver(db, OPEN) == []
    due_now(db)
    assert delivery.deliver(db, OPEN)[0].sent
    assert ended(db, alert) == [("sent", 2)]
    assert len({headers["idempotency-key"] for headers, _ in Hook.got}) == 1


def test_five_times_is_enough(db: Database, hook: str) -> None:
    Hook.answers = [500]
    alert = raised(db, f"webhook:{hook}")
    for _ in range(7):
        delivery.deliver(db, OPEN)
        due_now(db)
    assert ended(db, alert) == [("failed", 5)]
    assert len(Hook.got) == 5


@pytest.mark.parametrize("status", [302, 401, 404])
def test_an_answer_that_no_repetition_helps_fails_at_once_and_is_not_followed(
    db: Database, hook: str, status: int
) -> None:
    Hook.answers = [status]
    alert = raised(db, f"webhook:{hook}")
    outcome = delivery.deliver(db, OPEN)[0]
    assert str(status) in outcome.reason
    assert "secret" not in outcome.reason
    assert ended(db, alert) == [("failed", 1)]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.1.2.3]",
                                  "0.0.0.0", "100.64.0.1"])  # fmt: skip
def test_a_webhook_into_the_private_network_is_refused(db: Database, host: str) -> None:
    alert = raised(db, f"webhook:http://{host}:9/x")
    outcome = delivery.deliver(db, Settings())[0]
    assert "private address" in outcome.reason
    assert ended(db, alert) == [("failed", 1)]


def test_what_is_no_address_fails_with_a_remedy(db: Database) -> None:
    for target in ("webhook:ftp://example.org/x", "pigeon:home", "email:ops@example.org"):
        raised(db, target, event=target)
    reasons = [one.reason for one in delivery.deliver(db, Settings())]
    assert all("do: " in reason for reason in reasons)
    assert "no mail server is set" in reasons[2]


def test_the_log_says_it(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    raised(db, "log")
    with caplog.at_level(logging.WARNING, logger="ciranda.alerts"):
        delivery.deliver(db, Settings())
    assert "the input has changed" in caplog.text


class Mailbox(socketserver.StreamRequestHandler):
    """As much SMTP as a client needs to hand over a message."""

    got: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 box\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go\r\n")
                text = b""
                while not text.endswith(b"\r\n.\r\n"):
                    text += self.rfile.readline()
                self.got.append(text)
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")


def test_an_e_mail_is_sent(db: Database) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        alert = raised(db, "email:ops@example.org")
        settings = Settings(smtp_url=f"smtp://ciranda%40example.org@127.0.0.1:{server.server_address[1]}")
        assert delivery.deliver(db, settings)[0].sent
        server.shutdown()
    text = Mailbox.got[0].decode()
    assert "Subject: [warning] home: the input has changed" in text
    assert "From: ciranda@example.org" in text
    assert ended(db, alert) == [("sent", 1)]


def test_a_kill_after_sending_sends_again_with_the_same_key(
    db: Database, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised(db, f"webhook:{hook}")
    note = delivery._note

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(delivery, "_note", killed)
    with pytest.raises(KeyboardInterrupt):
        delivery.deliver(db, OPEN)
    monkeypatch.setattr(delivery, "_note", note)
    assert delivery.deliver(db, OPEN)[0].sent
    assert len(Hook.got) == 2
    assert len({headers["idempotency-key"] for headers, _ in Hook.got}) == 1
