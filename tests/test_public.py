"""Feedback through the front door: fields and their bounds, public keys, other origins, rates, and the widget's script."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ciranda.errors import Forbidden, Invalid, LimitReached, Unauthenticated
from ciranda.gateway import feedback, strangers, widget
from ciranda.gateway.server import Request
from ciranda.gateway.snapshot import Key
from ciranda.gateway.strangers import Turnstile
from ciranda.govern import access, audit
from ciranda.govern import public as publics
from ciranda.store import ids
from ciranda.store.database import Database, metadata
from ciranda.web.session import Sessions
from gatewayrig import Rig, model, wait_for

SITE = "https://app.example.com"
RELEASED = {"feedback-1.js": "06d0267e905704f2"}
IDENT = str(ids.uuid7())


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("public"))
    bounds = {"origins": [SITE], "per_minute": 20, "total_per_minute": 600, "corrections": False}
    rig.add_key("cirp_site", models=("smart-home",), role="feedback", public=bounds)
    rig.add_key(
        "cirp_any", models=("smart-home",), role="feedback", public=bounds | {"origins": ["*"], "corrections": True}
    )
    rig.add_key("cirp_rare", models=("smart-home",), role="feedback", public=bounds | {"per_minute": 1})
    rig.route({"smart-home": model()})
    rig.gateway()
    wait_for(lambda: httpx.get(f"{url_of(rig)}/readyz").status_code == 200)
    yield rig
    rig.stop()


def url_of(rig: Rig) -> str:
    return rig.processes[0].url


def say(rig: Rig, body: Any, key: str = "sk-app", **headers: str) -> httpx.Response:
    sent = {"authorization": f"Bearer {key}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.post(f"{url_of(rig)}/v1/feedback", json=body, headers=sent)


def test_everything_that_can_be_said_is_recorded(rig: Rig) -> None:
    whole = {"interaction": IDENT, "thumb": "down", "rating": 2.5, "correction": " off ", "comment": "no", "user": "ana",
             "reasons": ["wrong", "too short", "wrong"]}  # fmt: skip
    answer = say(rig, whole)
    assert answer.status_code == 202
    assert answer.json() == {"id": answer.json()["id"], "object": "feedback", "interaction": IDENT}
    record = rig.records("feedback")[-1]
    wanted = {
        "thumb": -1,
        "rating": 2.5,
        "correction": "off",
        "comment": "no",
        "user": "ana",
        "reasons": ["wrong", "too short"],
    }
    assert {name: record[name] for name in wanted} == wanted


def test_a_request_id_of_ours_names_the_answer_too(rig: Rig) -> None:
    assert say(rig, {"request_id": f"req_{IDENT}", "thumb": "up"}).json()["interaction"] == IDENT
    refused = say(rig, {"request_id": "my-own-7", "thumb": "up"})
    assert "the client chose itself" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("interaction", "nonsense", "'nonsense' is no interaction id"),
        ("interaction", 7, "no interaction id"),
        ("thumb", "sideways", """'sideways'. send "up" or "down"."""),
        ("thumb", True, "True"),
        ("rating", 0, "from 1 (bad) to 5 (good)"),
        ("rating", 9, "it is 9"),
        ("rating", True, "it is True"),
        ("comment", 5, "send a text"),
        ("comment", "x" * 32_001, "32,001 characters. send at most 32,000"),
        ("correction", ["x"], "a list of 1"),
        ("reasons", "wrong", "a list of at most 20"),
        ("reasons", ["x"] * 21, "a list of at most 20"),
        ("reasons[1]", ["wrong", "y" * 65], "65 characters"),
        ("reasons[0]", ["a\nb"], "control characters"),
        ("user", "u" * 257, "257 characters"),
        ("mood", "blue", "fields are: interaction, request_id, thumb"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_what_would_be_right(rig: Rig, field: str, value: Any, told: str) -> None:
    answer = say(rig, {"interaction": IDENT, "thumb": "up", field.partition("[")[0]: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, field, "invalid_request_error")
    assert told.rstrip(".").lower() in error["message"].lower()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'"up"', b"\xff", b"[" * 100_000, b"{}", b'{"thumb": "up"}'])
def test_a_body_that_is_no_feedback_is_refused(rig: Rig, body: bytes) -> None:
    answer = httpx.post(f"{url_of(rig)}/v1/feedback", content=body, headers={"authorization": "Bearer sk-app"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    big = b'{"interaction": "%b", "mood": "%b"}' % (IDENT.encode(), b"x" * feedback.BODY_BYTES)
    huge = httpx.post(f"{url_of(rig)}/v1/feedback", content=big, headers={"authorization": "Bearer sk-app"})
    assert huge.status_code == 413


def test_a_browser_of_the_right_page_may_send_and_read_the_answer(rig: Rig) -> None:
    asked = {"origin": SITE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    first = httpx.options(f"{url_of(rig)}/v1/feedback", headers=asked)
    assert (first.status_code, first.headers["access-control-allow-origin"]) == (204, SITE)
    assert "idempotency-key" in first.headers["access-control-allow-headers"]
    assert "content-length" not in first.headers
    said = say(rig, {"interaction": IDENT, "thumb": "up"}, "cirp_site", origin=SITE)
    assert (said.status_code, said.headers["access-control-allow-origin"], said.headers["vary"]) == (
        202,
        SITE,
        "origin",
    )
    assert {"models": ["smart-home"], "public": True}.items() <= rig.records("feedback")[-1].items()
    wrong = say(rig, {"interaction": IDENT}, "cirp_site", origin=SITE)
    assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (400, SITE)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"{SITE}.evil.example", f"{SITE}:8443", "http://app.example.com"]
)
def test_another_page_may_not(rig: Rig, origin: str) -> None:
    assert (
        "for '"
        in say(rig, {"interaction": IDENT, "thumb": "up"}, "cirp_site", origin=origin).json()["error"]["message"]
    )


def test_a_program_without_an_origin_needs_a_key_for_any_origin(rig: Rig) -> None:
    assert say(rig, {"interaction": IDENT, "thumb": "up"}, "cirp_site").status_code == 403
    assert say(rig, {"interaction": IDENT, "thumb": "up"}, "cirp_any").status_code == 202


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/smart-home"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/messages/count_tokens"),
        ("POST", "/v1/moderations"),
    ],
)
def test_a_public_key_opens_nothing_else(rig: Rig, method: str, path: str) -> None:
    body = b'{"model": "smart-home", "messages": []}' if method == "POST" else None
    for named in ({"authorization": "Bearer cirp_any"}, {"x-api-key": "cirp_any"}):
        answer = httpx.request(method, url_of(rig) + path, content=body, headers={**named, "origin": SITE})
        assert answer.status_code in ((403,) if "authorization" in named else (401, 403))
        assert "access-control-allow-origin" not in answer.headers


def test_nor_the_metrics_from_elsewhere(rig: Rig) -> None:
    headers = {"authorization": "Bearer cirp_any", "x-forwarded-for": "203.0.113.9"}
    assert httpx.get(f"{url_of(rig)}/metrics", headers=headers).status_code == 403


def test_a_public_key_speaks_of_recent_answers_only_and_maybe_without_corrections(rig: Rig) -> None:
    old = "01890a5d-ac96-774b-bcce-b302099a8057"  # made in June 2023
    assert say(rig, {"interaction": old, "thumb": "up"}).status_code == 202
    assert "last 30 days" in say(rig, {"interaction": old, "thumb": "up"}, "cirp_any").json()["error"]["message"]
    fixed = {"interaction": IDENT, "correction": "buy now"}
    assert say(rig, fixed, "cirp_site", origin=SITE).status_code == 403
    assert say(rig, fixed, "cirp_any").status_code == 202


def test_an_idempotency_key_of_a_public_key_is_the_answers_own(rig: Rig) -> None:
    first, again, other = (
        say(rig, {"interaction": one, "thumb": "up"}, "cirp_any", idempotency_key="1").json()["id"]
        for one in (IDENT, IDENT, str(ids.uuid7()))
    )
    assert first == again != other


def test_a_client_address_that_asks_too_often_waits_and_others_do_not(rig: Rig) -> None:
    def ask(address: str) -> httpx.Response:
        return say(rig, {"interaction": IDENT, "thumb": "up"}, "cirp_rare", origin=SITE, x_forwarded_for=address)

    assert ask("6.6.6.6, 203.0.113.7").status_code == 202  # the next one is due in a minute, however slow the machine
    over = ask("6.6.6.6, 203.0.113.7")
    assert (over.status_code, over.headers["access-control-allow-origin"]) == (429, SITE)
    assert 1 <= int(over.headers["retry-after"]) <= 60
    assert ask("7.7.7.7, 203.0.113.7").status_code == 429  # what stands before the proxy's word is the client's own
    assert ask("203.0.113.8").status_code == 202


def test_so_many_pass_at_once_and_then_so_many_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(strangers, "monotonic", lambda: now)
    turnstile, key = Turnstile(), Key("k", public=publics.public(["*"], per_minute=20))
    for _ in range(20):
        turnstile.enter(key, "", "198.51.100.1")
    with pytest.raises(LimitReached, match="over 20") as raised:
        turnstile.enter(key, "", "198.51.100.1")
    assert raised.value.remedy == "try again in 3 s"
    now += 3.0
    turnstile.enter(key, "", "198.51.100.1")
    with pytest.raises(LimitReached):
        turnstile.enter(key, "", "198.51.100.1")


def test_all_addresses_together_are_bounded_and_so_is_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "monotonic", lambda: 1_000.0)
    turnstile, key = Turnstile(), Key("k", public=publics.public(["*"], per_minute=5, total_per_minute=10))
    for number in range(10):
        turnstile.enter(key, "", f"198.51.100.{number}")
    with pytest.raises(LimitReached, match="over 10"):
        turnstile.enter(key, "", "203.0.113.1")
    wide = Key("w", public=publics.public(["*"], per_minute=5, total_per_minute=100_000))
    for number in range(strangers.REMEMBERED + 50):
        turnstile.enter(wide, "", str(number))
    assert len(turnstile._buckets) <= strangers.REMEMBERED + 1


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        ("203.0.113.1", "198.51.100.1", "203.0.113.1"),  # a stranger's word is not taken
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.9", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1:2::"),  # one customer has all of a /64
    ],
)
def test_where_a_request_comes_from(peer: str, said: str, client: str) -> None:
    request = Request()
    request.headers = {b"x-forwarded-for": said.encode()} if said else {}
    assert strangers.client_of(request, peer, strangers.networks("10.0.0.0/8, ::1")) == client


def test_a_proxy_that_is_no_network_is_said_at_the_start() -> None:
    with pytest.raises(Invalid, match="proxies"):
        strangers.networks("10.0.0.0/8, nginx")


# --- keys


@pytest.fixture
def db(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/c.db")
    metadata.create_all(database.engine)
    return database


def test_a_public_key_shows_that_it_is_one_and_its_bounds_are_in_the_audit_log(db: Database) -> None:
    bounds = publics.public(["https://App.example.com/", "http://localhost:5173"], per_minute=12)
    with db.writing() as conn:
        who, secret = access.create(conn, "site", role="feedback", actor="ana", models=["m"], public=bounds)
    assert secret.startswith("cirp_")
    assert not any(who.may(right, "m") for right in access.ADMIN - {"feedback"})
    entry = access.for_gateway(db)[access.digest_of(secret)]
    assert entry["public"] == {
        "origins": ["https://app.example.com", "http://localhost:5173"], "per_minute": 12, "total_per_minute": 600,
        "corrections": True,
    }  # fmt: skip
    (event,) = audit.page(db, action="key.created")
    assert "http://localhost:5173" in str(event.detail)
    with pytest.raises(Unauthenticated, match="signs nobody in"):
        Sessions(db, b"secret").sign_in(secret)


@pytest.mark.parametrize(
    ("role", "models", "origins"),
    [("feedback", ["*"], [SITE]), ("feedback", ["m"], None), ("client", ["m"], [SITE])],
)
def test_a_public_key_that_is_too_wide_is_not_made(
    db: Database, role: str, models: list[str], origins: list[str] | None
) -> None:
    bounds = publics.public(origins) if origins else None
    with db.writing() as conn, pytest.raises(Invalid):
        access.create(conn, "site", role=role, actor="ana", models=models, public=bounds)


@pytest.mark.parametrize(
    "origin", ["app.example.com", "https://", "ftp://x.org", "https://x.org/page", "https://u:p@x.org", "https://x.org:99999",
               "https://x.org?a=1", "javascript:alert(1)", "https://*.x.org", "null", ""]
)  # fmt: skip
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(Invalid):
        publics.public([origin])


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("HTTPS://X.org:443/", "https://x.org"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_an_origin_is_written_as_browsers_send_it(given: str, origin: str) -> None:
    assert publics.public([given]).origins == (origin,)


def test_a_foreign_page_is_turned_away_before_it_costs_anything() -> None:
    turnstile, key = Turnstile(), Key("k", public=publics.public([SITE]))
    with pytest.raises(Forbidden):
        turnstile.enter(key, "https://evil.example", "198.51.100.1")
    assert not turnstile._buckets


# --- the widget's script


def test_the_script_may_be_kept_for_ever_by_any_page(rig: Rig) -> None:
    address = f"{url_of(rig)}/widget/{widget.NEWEST}"
    plain = httpx.get(address, headers={"accept-encoding": "identity"})
    packed = httpx.get(address, headers={"accept-encoding": "gzip, br"})
    assert plain.content == packed.content == (widget.FOLDER / widget.NEWEST).read_bytes()
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.headers["etag"] != packed.headers["etag"]
    assert "immutable" in plain.headers["cache-control"]
    assert plain.headers["access-control-allow-origin"] == "*"
    assert plain.headers["cross-origin-resource-policy"] == "cross-origin"
    again = httpx.get(address, headers={"if-none-match": packed.headers["etag"], "accept-encoding": "gzip"})
    assert (again.status_code, again.content) == (304, b"")
    assert httpx.head(address).status_code == 200
    assert httpx.get(f"{url_of(rig)}/widget/feedback-99.js").status_code == 404


def test_the_script_is_small_and_a_released_one_never_changes() -> None:
    held = {name: hashlib.sha256(one.content).hexdigest()[:16] for name, one in widget.scripts().items()}
    assert held == RELEASED, "a released file is pinned by pages: leave it, and put the next number beside it"
    assert all(len(gzip.compress(one.content, 9)) <= 5_000 for one in widget.scripts().values())


def test_the_script_shows_the_reasons_that_the_gateway_documents() -> None:
    text = (widget.FOLDER / widget.NEWEST).read_text()
    assert [name for name in feedback.REASONS if f"'{name}'" not in text] == []
