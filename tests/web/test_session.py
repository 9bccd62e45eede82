"""Sessions: what a cookie holds, when it ends, how forms are bound to it."""

from __future__ import annotations

import multiprocessing
import stat

import pytest

from ciranda.errors import Forbidden, Unauthenticated
from ciranda.govern import access, audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata
from ciranda.web import session
from ciranda.web.session import Sessions, inside, secret_of


@pytest.fixture
def database(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/c.db")
    metadata.create_all(made.engine)
    yield made
    made.close()


@pytest.fixture
def key(database):
    with database.writing() as conn:
        return access.create(conn, "ana", role="approver", actor="test")[1]


def test_a_cookie_names_the_session_and_not_the_key(database, key):
    sessions = Sessions(database, b"s" * 32)
    who, cookie = sessions.sign_in(f"  {key}\n")
    assert who.name == "ana"
    assert key not in cookie
    held = sessions.read(cookie)
    assert sessions.principal(held) == who
    assert [event.action for event in audit.page(database)][:1] == ["session.started"]


def test_a_session_expires(database, key, monkeypatch):
    sessions = Sessions(database, b"s" * 32, hours=1)
    _, cookie = sessions.sign_in(key)
    later = clock.now_ms() + 3601 * 1000
    monkeypatch.setattr(session.clock, "now_ms", lambda: later)
    assert sessions.read(cookie) is None


def test_another_homes_secret_opens_nothing(database, key):
    _, cookie = Sessions(database, b"s" * 32).sign_in(key)
    assert Sessions(database, b"t" * 32).read(cookie) is None


def test_an_unknown_key_starts_nothing(database):
    with pytest.raises(Unauthenticated):
        Sessions(database, b"s" * 32).sign_in("cir_nobody")


def test_ended_sessions_are_forgotten_once_they_would_have_expired(database, key, monkeypatch):
    sessions = Sessions(database, b"s" * 32, hours=1)
    sessions.sign_out(sessions.sign_in(key)[1])
    with database.reading() as conn:
        assert len(conn.execute(session.ended_sessions.select()).all()) == 1
    with database.writing() as conn:
        conn.execute(session.ended_sessions.update().values(expires_at="2020-01-01T00:00:00.000Z"))
    sessions.sign_in(key)
    with database.reading() as conn:
        assert conn.execute(session.ended_sessions.select()).all() == []


def test_form_tokens_differ_each_time_and_fit_their_session_alone(database):
    sessions = Sessions(database, b"s" * 32)
    first, second = sessions.token("session_1"), sessions.token("session_1")
    assert first != second
    sessions.check("session_1", first)
    sessions.check("session_1", second)
    with pytest.raises(Forbidden):
        sessions.check("session_2", first)


def test_the_secret_is_made_once_and_closed_to_others(tmp_path):
    first = secret_of(tmp_path)
    assert secret_of(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "session.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["session.key"]


def test_two_starters_agree_on_one_secret(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert len(set(pool.map(secret_of, [tmp_path] * 8))) == 1


@pytest.mark.parametrize("path", ["https://x", "//x", "/\\x", "x", "", "/\x00", "javascript:1"])
def test_the_way_after_signing_in_stays_here(path):
    assert inside(path) == "/"
    assert inside("/models/a?b=1") == "/models/a?b=1"
