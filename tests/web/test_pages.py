"""Every page through the front door of the app: in both languages, whole and as a fragment, with rights, forms and errors."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from ciranda.govern import access
from ciranda.web import pages, parallel
from web.addresses import PAGES
from web.showcase import HOME
from web.site import PEOPLE, Site, make

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
FORBIDDEN = re.compile(r"""\s(on\w+|style|hx-on[\w:.-]*|srcdoc)\s*=""")


class Shape(HTMLParser):
    """Finds tags that do not close, ids that come twice, and what a strict content policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag not in VOID and not (tag in ("path", "circle", "rect") or self.get_starttag_text().endswith("/>")):
            self.open.append(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag == "script" and "src" not in given and given.get("type") != "application/json":
            self.wrong.append("an inline script")
        if {"hx-get", "hx-post"} & given.keys() and not {"hx-target", "hx-swap"} <= given.keys():
            self.wrong.append(f"{self.get_starttag_text()} does not say where its answer goes")
        self.wrong += [name for name in given if name.startswith(("on", "hx-on")) or name == "style"]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("path", "circle", "rect"):
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")


def shape_of(text: str) -> Shape:
    shape = Shape()
    shape.feed(text)
    return shape


def client_of(site: Site, key: str = "") -> TestClient:
    client = TestClient(site.app, base_url="http://testserver", follow_redirects=False, raise_server_exceptions=True)
    if key:
        answer = client.post("/sign-in", data={"key": key, "token": token_of(client.get("/sign-in").text)})
        assert answer.status_code == 303
    return client


def token_of(text: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f]+)"', text)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return make(tmp_path_factory.mktemp("site"))


@pytest.fixture
def fresh(tmp_path):
    return make(tmp_path)


@pytest.fixture(scope="module")
def admin(site):
    return client_of(site, site.keys["admin"])


@pytest.fixture(scope="module")
def first_day(tmp_path_factory):
    site = make(tmp_path_factory.mktemp("empty"), empty=True)
    return client_of(site, site.keys["admin"])


@pytest.mark.parametrize("tag", ["en", "pt-BR"])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_and_fragment_is_whole(admin, name, tag):
    for headers in ({"accept-language": tag}, {"accept-language": tag, "hx-request": "true"}):
        answer = admin.get(PAGES[name], headers=headers)
        assert answer.status_code == (404 if name == "missing" else 200)
        shape = shape_of(answer.text)
        assert not shape.wrong
        assert not shape.open
        assert len(shape.ids) == len(set(shape.ids))
        whole = "<html" in answer.text
        assert whole is ("hx-request" not in headers)
        if whole:
            assert f'<html lang="{tag}"' in answer.text
            assert answer.text.count("<h1") == 1


@pytest.mark.parametrize(
    "path", ["/", "/models", "/interactions", "/datasets", "/experiments", "/alerts", "/turns", "/suites"]
)
def test_an_empty_platform_says_what_to_do(first_day, path):
    answer = first_day.get(path)
    assert answer.status_code == 200
    assert 'class="empty' in answer.text
    assert not shape_of(answer.text).wrong


def test_results_alone_come_for_their_own_target(admin):
    answer = admin.get("/interactions?q=garage", headers={"hx-request": "true", "hx-target": "div#results"})
    assert "garage" in answer.text
    assert "<form" not in answer.text
    assert "HX-Request" in answer.headers["vary"]
    rows = admin.get("/datasets/smart-home/2?page=2", headers={"hx-request": "true", "hx-target": "div#rows"})
    assert "<h1" not in rows.text
    assert "smart-home" in rows.text


def test_model_text_is_shown_as_text(fresh):
    nasty = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&lt;"
    import web.showcase as showcase

    client = client_of(fresh, fresh.keys["admin"])
    before = showcase.SENTENCES
    try:
        showcase.SENTENCES = ((nasty, nasty, "en"),)
        for path in ("/interactions", PAGES["interaction"], "/datasets/smart-home/2", "/datasets/smart-home/diff/1..2"):
            text = client.get(path).text
            assert "<script>alert" not in text
            assert "<img" not in text
            assert "&lt;script&gt;alert(1)" in text
    finally:
        showcase.SENTENCES = before


# --- who may ----------------------------------------------------------------------------------------------------------


def concrete(entry):
    given = {"model": HOME, "version": f"{HOME}@2", "turn:path": "turn_1", "interaction": "int_1", "dataset": HOME,
             "number:int": "2", "old:int": "1", "new:int": "2", "trial:path": "trial_12", "search": "search:smart-home:fast",
             "alert": "alert_1", "key": "key_3", "erasure": "erasure_1", "term": "customer", "queue": HOME,
             "run": "0199c2d47b2c7d1e8f00000000000009"}  # fmt: skip
    path = entry.path
    for name, value in given.items():
        path = path.replace("{" + name + "}", value)
    return path


@pytest.mark.parametrize("role", PEOPLE)
def test_every_page_admits_exactly_the_roles_with_its_right(site, role):
    client = client_of(site, site.keys[role])
    for entry in pages.ENTRIES:
        if entry.read and not entry.open and entry.name != "approve":
            answer = client.get(concrete(entry))
            allowed = entry.right in access.ROLES[role]
            assert (answer.status_code == 403) is not allowed, f"{role} {entry.path}: {answer.status_code}"
            if not allowed:
                assert "ask an admin for a key with one of the roles" in answer.text


@pytest.mark.parametrize("role", PEOPLE)
def test_every_form_admits_exactly_the_roles_with_its_right(fresh, role):
    client = client_of(fresh, fresh.keys[role])
    session = fresh.app.state.site.sessions
    for entry in pages.ENTRIES:
        if entry.write and not entry.open:
            token = session.token(session.read(client.cookies["ciranda_session"]).id)
            answer = client.post(concrete(entry), data={"token": token})
            assert (answer.status_code == 403) is (entry.does not in access.ROLES[role]), f"{role} {entry.path}"


@pytest.mark.parametrize("entry", [entry for entry in pages.ENTRIES if not entry.open], ids=lambda entry: entry.path)
def test_nothing_opens_before_signing_in(site, entry):
    client = client_of(site)
    answer = client.get(concrete(entry))
    if entry.read:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in?next=")
        fragment = client.get(concrete(entry), headers={"hx-request": "true"})
        assert fragment.status_code == 401
        assert fragment.headers["hx-redirect"].startswith("/sign-in")
    if entry.write:
        assert client.post(concrete(entry), data={}).status_code == 303
    assert client.get("/stream").status_code == 401


def test_a_key_for_some_models_sees_those_alone(site):
    client = client_of(site, site.keys["narrow"])
    assert client.get("/models/smart-home").status_code == 200
    for path in ("/models/invoice-parser", "/versions/invoice-parser@12", "/alerts/alert_3", "/turns/turn_3",
                 "/interactions?model=invoice-parser", "/window?model=invoice-parser"):  # fmt: skip
        assert client.get(path).status_code == 403, path
    assert "invoice-parser" not in client.get("/models").text
    assert "invoice-parser" not in client.get("/palette").text
    made = client.post(
        "/settings/keys",
        data={"name": "x", "role": "admin", "models": "*", "token": token_of(client.get("/settings/keys").text)},
    )
    assert made.status_code == 400


# --- forms ------------------------------------------------------------------------------------------------------------


def test_a_rollback_by_form_alone(fresh):
    client = client_of(fresh, fresh.keys["approver"])
    asked = client.get("/models/smart-home/rollback")
    assert "All traffic goes to smart-home@1 in under 2 seconds" in asked.text
    form = {"token": token_of(asked.text), "to": "smart-home@1"}
    done = client.post("/models/smart-home/rollback", data=form)
    assert done.headers["location"] == "/models/smart-home/release"
    assert fresh.verbs.asked == [("rollback", "smart-home", "smart-home@1", "the approver")]
    told = client.get("/models/smart-home/release")
    assert "All traffic of smart-home goes to smart-home@1 now. It took 0.4 s." in told.text
    assert "It took" not in client.get("/models/smart-home/release").text
    client.post("/models/smart-home/rollback", data=form)
    assert len(fresh.verbs.asked) == 1, "the same form sent twice is one rollback"


def test_a_rollback_to_nowhere_is_refused(fresh):
    client = client_of(fresh, fresh.keys["admin"])
    token = token_of(client.get("/models/smart-home/rollback").text)
    for to in ("", "smart-home@9", "invoice-parser@12", "../../x"):
        answer = client.post("/models/smart-home/rollback", data={"token": token, "to": to})
        assert answer.status_code == 400
        assert "is no version of smart-home" in answer.text
    assert not fresh.verbs.asked


def test_the_other_verbs_by_form(fresh):
    client = client_of(fresh, fresh.keys["admin"])

    def send(path, **fields):
        token = token_of(client.get("/settings").text)
        return client.post(path, data={"token": token, **fields})

    assert send("/versions/smart-home@2/promote").headers["location"] == "/models/smart-home/release"
    assert send("/models/support-router/approve", note="looks good").status_code == 303
    assert send("/models/smart-home/turn", once="once_1").headers["location"] == "/models/smart-home"
    assert send("/alerts/alert_1/acknowledge", back="/").headers["location"] == "/"
    send("/alerts/alert_1/acknowledge")
    assert fresh.verbs.asked == [
        ("promote", "smart-home@2", "the admin"),
        ("approve", "support-router", "looks good", "the admin"),
        ("turn", "smart-home", "page-once_1", "the admin"),
        ("acknowledge", "alert_1", "the admin"),
    ]
    assert send("/alerts/alert_2/acknowledge", back="https://evil.example/").headers["location"] == "/"


def test_what_an_admin_does_to_a_version_asks_for_a_reason(fresh):
    client = client_of(fresh, fresh.keys["admin"])

    def send(path, **fields):
        token = token_of(client.get("/settings").text)
        return client.post(f"/versions/smart-home@2/{path}", data={"token": token, **fields})

    for path in ("override", "remove"):
        assert 'name="reason"' in client.get(f"/versions/smart-home@2/{path}").text
        assert send(path, reason=" ").status_code == 400
        assert send(path, reason="it leaks").headers["location"] == "/versions/smart-home@2"
    assert send("name", name="champion").status_code == 303
    assert send("unname", name="champion").status_code == 303
    assert fresh.verbs.asked == [
        ("override", "smart-home@2", "it leaks", "the admin", "admin"),
        ("remove", "smart-home@2", "it leaks", "the admin"),
        ("alias", "smart-home@2", "champion", "the admin"),
        ("unalias", "smart-home@2", "champion", "the admin"),
    ]
    viewer = client_of(fresh, fresh.keys["viewer"]).get("/versions/smart-home@2").text
    assert "/override" not in viewer
    assert "/remove" not in viewer
    assert "/name" not in viewer


def test_a_search_is_started_stopped_resumed_staffed_and_released_by_form(fresh):
    client, one = client_of(fresh, fresh.keys["engineer"]), "/experiments/study/search:smart-home:fast"

    def send(path, **fields):
        return client.post(path, data={"token": token_of(client.get("/settings").text), **fields})

    where = send("/experiments/start/smart-home", once="once_1", trials="12").headers["location"]
    assert where == "/experiments/study/search:smart-home:nightly"
    assert send(one, verb="release").headers["location"] == "/turns/turn_1"
    for fields in ({"verb": "stop"}, {"verb": "resume", "trials": "16"}, {"verb": "workers", "workers": "4"}):
        assert send(one, **fields).headers["location"] == one
    for fields in ({"verb": "workers", "workers": "many"}, {"verb": "resume", "trials": "100000"}, {}):
        assert send(one, **fields).status_code == 400
    search = "search:smart-home:fast"
    assert fresh.verbs.asked == [
        ("search", "smart-home", 12, "the engineer"), ("search_release", search, "the engineer"),
        ("search_stop", search, "the engineer"), ("search_resume", search, 16, "the engineer"),
        ("search_workers", search, 4, "the engineer"),
    ]  # fmt: skip


def test_a_study_shows_its_trials_as_strands_whose_words_are_escaped(admin):
    text = admin.get("/experiments/study/search:smart-home:fast").text
    assert text.count('class="strand ') == 5 + 3  # all that got somewhere over the settings, three with both objectives
    assert text.count('class="strand best"') == 2
    assert "<title>trial 3: learning_rate 0.00520; rank 8" in text
    hostile = parallel.parallel(
        [parallel.Axis("<b>", ["<i>", "x"], choices=("<i>", "x")), parallel.Axis("q", [0.5, None])],
        [parallel.Strand("<script>"), parallel.Strand("b", "best")], "a name",
    )  # fmt: skip
    assert "<b>" not in hostile
    assert "<script>" not in hostile
    assert not parallel.parallel([parallel.Axis("one", [1])], [parallel.Strand("a")], "too few axes")


def test_ingesting_and_judging_bad_rows_by_form(fresh):
    client = client_of(fresh, fresh.keys["admin"])
    page = client.get("/sources/tickets").text
    assert "the answer was 401" in client.get("/sources/runs/ing_2-001").text
    for path, fields in (("ingest", {}), ("rows", {"row": "bad_1", "do": "retry"}), ("rows", {"do": "drop"})):
        sent = client.post(f"/sources/tickets/{path}", data={"token": token_of(page), **fields})
        assert sent.headers["location"] == "/sources/tickets"
    assert fresh.verbs.asked == [
        ("ingest", "tickets", "the admin"),
        ("bad_rows", "tickets", ("bad_1",), True, "the admin"),
        ("bad_rows", "tickets", (), False, "the admin"),
    ]
    assert "not json" in page
    assert "not json" not in client_of(fresh, fresh.keys["viewer"]).get("/sources/tickets").text
    assert client.get("/sources/nobody").status_code == 404


def test_a_key_is_shown_once_and_works(fresh):
    client = client_of(fresh, fresh.keys["admin"])
    form = {"name": "app", "role": "client", "models": HOME, "token": token_of(client.get("/settings/keys").text)}
    made = client.post("/settings/keys", data=form)
    secret = re.search(r"cir_[\w-]+", made.text)[0]
    assert access.check(fresh.db, secret).models == (HOME,)
    assert made.headers["cache-control"] == "no-store"
    assert secret not in client.get("/settings/keys").text


def test_a_version_is_gone_back_to_branched_and_named(fresh):
    client = client_of(fresh, fresh.keys["engineer"])
    asked = client.get("/datasets/smart-home/1/revert").text
    token, parent = token_of(asked), re.search(r'name="parent" value="([^"]+)"', asked)[1]
    done = client.post("/datasets/smart-home/1/revert", data={"token": token, "parent": parent}, follow_redirects=False)
    assert done.headers["location"] == "/datasets/smart-home/3"
    done = client.post("/datasets/smart-home/2/branch", data={"token": token, "name": "spare"}, follow_redirects=False)
    assert done.headers["location"] == "/datasets/spare/1"
    client.post("/datasets/smart-home/2/name", data={"token": token, "name": "golden", "moves": "off"})
    assert fresh.verbs.asked[-3:] == [
        ("revert", "smart-home@1", parent, "the engineer"), ("branch", "smart-home@2", "spare", "the engineer"),
        ("name", "smart-home", "golden", 2, True, "the engineer"),
    ]  # fmt: skip
    assert (
        "is no name for a dataset"
        in client.post("/datasets/smart-home/2/branch", data={"token": token, "name": "No!"}).text
    )


def test_a_public_key_is_made_with_its_bounds_and_the_element_for_the_pages(fresh):
    client = client_of(fresh, fresh.keys["admin"])
    page = client.get("/settings/keys").text
    form = {"name": "shop", "role": "feedback", "models": HOME, "token": token_of(page), "per_minute": "5"}
    refused = client.post("/settings/keys", data=form | {"origins": "https://shop.example/cart"})
    assert "is no origin" in refused.text
    made = client.post(
        "/settings/keys",
        data=form | {"origins": "https://shop.example  https://www.shop.example", "corrections": "off"},
    )
    secret = re.search(r"cirp_[\w-]+", made.text)[0]
    assert f"key=&#34;{secret}&#34;" in made.text
    with fresh.db.reading() as conn:
        (bounds,) = conn.execute(sa.select(access.keys.c.public).where(access.keys.c.name == "shop")).one()
    assert bounds["origins"] == ["https://shop.example", "https://www.shop.example"]
    assert (bounds["per_minute"], bounds["corrections"]) == (5, False)


def test_limits_are_shown_with_their_use_and_changed(fresh):
    client = client_of(fresh, fresh.keys["admin"])
    assert "36,210 of 40,000" in client.get("/settings/keys").text
    question = client.get("/settings/limits/key/key_3").text
    assert 'name="tokens_per_minute"' in question
    assert 'value="40000"' in question
    form = {"requests_per_minute": "10", "cost_per_day": "2,5", "concurrent": "", "token": token_of(question)}
    assert client.post("/settings/limits/key/key_3", data=form).headers["location"] == "/settings/keys"
    wanted = {"requests_per_minute": 10, "cost_per_day": 2.5}
    assert fresh.verbs.asked[-1] == ("limit", "key", "key_3", wanted, "the admin")
    bad = client.post("/settings/limits/tenant/acme", data={**form, "requests_per_minute": "-1"})
    assert bad.status_code == 400
    assert "requests_per_minute" in bad.text
    assert client.get("/settings/limits/key/nobody").status_code == 400


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}]
)
def test_a_form_of_another_site_is_refused(fresh, headers):
    client = client_of(fresh, fresh.keys["admin"])
    token = token_of(client.get("/settings").text)
    answer = client.post("/models/smart-home/turn", data={"token": token}, headers=headers)
    assert answer.status_code == 403
    assert not fresh.verbs.asked


@pytest.mark.parametrize("token", ["", "00" * 32, "zz", "0" * 63])
def test_a_form_without_its_token_is_refused(fresh, token):
    client = client_of(fresh, fresh.keys["admin"])
    answer = client.post("/models/smart-home/turn", data={"token": token})
    assert answer.status_code == 403
    assert "reload the page" in answer.text
    other = client_of(fresh, fresh.keys["approver"])
    stolen = token_of(other.get("/settings").text)
    assert client.post("/models/smart-home/turn", data={"token": stolen}).status_code == 403
    assert not fresh.verbs.asked


def test_a_form_has_a_bound(fresh):
    client = client_of(fresh, fresh.keys["admin"])
    answer = client.post("/models/smart-home/approve", data={"note": "x" * 100_000})
    assert answer.status_code == 413


# --- the door ---------------------------------------------------------------------------------------------------------


def test_signing_in_leads_back_to_the_page_and_never_away(fresh):
    client = client_of(fresh)
    page = client.get("/sign-in?next=/models/smart-home")
    form = {"key": fresh.keys["viewer"], "token": token_of(page.text), "next": "/models/smart-home"}
    answer = client.post("/sign-in", data=form)
    assert answer.headers["location"] == "/models/smart-home"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    for away in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\n/evil"):
        answer = client_of(fresh).post("/sign-in", data={**form, "next": away})
        assert answer.headers["location"] == "/"


def test_a_wrong_key_is_told_without_saying_why(fresh):
    client = client_of(fresh)
    form = {"key": "cir_nobody", "token": token_of(client.get("/sign-in").text)}
    answer = client.post("/sign-in", data=form)
    assert answer.status_code == 401
    assert "unknown or revoked" in answer.text
    assert "ciranda_session" not in answer.headers.get("set-cookie", "")
    assert "cir_nobody" not in answer.text


def test_signing_out_ends_the_session_for_whoever_copied_it(fresh):
    client = client_of(fresh, fresh.keys["admin"])
    cookie = client.cookies["ciranda_session"]
    client.post("/sign-out", data={"token": token_of(client.get("/settings").text)})
    thief = client_of(fresh)
    thief.cookies.set("ciranda_session", cookie)
    assert thief.get("/").status_code == 303


def test_a_revoked_key_ends_its_sessions_at_once(fresh):
    client = client_of(fresh, fresh.keys["viewer"])
    assert client.get("/").status_code == 200
    with fresh.db.writing() as conn:
        access.revoke(conn, access.check(fresh.db, fresh.keys["viewer"]).key, actor="test")
    assert client.get("/").status_code == 303


def test_a_forged_or_broken_cookie_opens_nothing(fresh):
    client = client_of(fresh, fresh.keys["admin"])
    payload, _, mark = client.cookies["ciranda_session"].rpartition(".")
    for forged in ("", ".", "x.y", f"{payload}.{mark[::-1]}", f"{payload[1:]}.{mark}", "a" * 5000):
        other = client_of(fresh)
        other.cookies.set("ciranda_session", forged)
        assert other.get("/").status_code == 303


def test_a_link_from_another_site_gets_a_second_try_with_the_cookie(fresh):
    answer = client_of(fresh).get("/alerts/alert_1?x=1", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert 'content="0;url=/alerts/alert_1?x=1"' in answer.text
    sneaky = client_of(fresh).get('/alerts/"><script>', headers={"sec-fetch-site": "cross-site"})
    assert "<script>" not in sneaky.text


def test_a_choice_of_language_and_theme_is_kept(fresh):
    client = client_of(fresh, fresh.keys["viewer"])
    form = {
        "language": "pt-BR",
        "theme": "dark",
        "keys": "off",
        "back": "/settings",
        "token": token_of(client.get("/settings").text),
    }
    client.post("/preferences", data=form)
    text = client.get("/settings").text
    assert '<html lang="pt-BR" data-theme="dark">' in text
    assert 'data-keys="off"' in text
    assert "Salvo." in text


# --- errors and headers -----------------------------------------------------------------------------------------------


def test_an_error_says_what_where_and_what_to_do(admin):
    answer = admin.get("/models/nobody")
    assert "no model &#39;nobody&#39;" in answer.text
    assert "lists the models of this home" in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert admin.get("/nowhere").status_code == 404
    assert admin.put("/models").status_code == 405


def test_a_bug_becomes_an_id_and_keeps_the_headers(fresh, monkeypatch):
    def broken(*_arguments):
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(fresh.reader, "models", broken)
    key = fresh.keys["admin"]
    client = TestClient(fresh.app, follow_redirects=False, raise_server_exceptions=False)
    client.cookies = client_of(fresh, key).cookies
    answer = client.get("/models")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.text
    assert "a secret detail" not in answer.text
    assert "default-src" in answer.headers["content-security-policy"]


def test_every_answer_carries_a_strict_policy(admin):
    for path in ("/", "/sign-in", "/palette", "/nowhere", "/api/v1/status"):
        headers = admin.get(path).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'self'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"].startswith("req_")


def test_static_files_are_named_by_content_and_kept_for_ever(admin):
    found = re.findall(r'(?:href|src)="(/static/[^"]+)"', admin.get("/").text)
    assert len(found) == 6
    for path in found:
        answer = admin.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert re.search(r"\.[0-9a-f]{12}\.", path)
    assert admin.get("/static/../app.py").status_code == 404
    assert admin.get("/static/app.css").status_code == 404


def test_below_a_prefix_every_address_carries_it(site):
    client = TestClient(site.app, root_path="/x/y", follow_redirects=False)
    session = site.app.state.site.sessions
    client.cookies.set("ciranda_session", session.sign_in(site.keys["admin"])[1])
    for path in ("/x/y/", "/x/y/models/smart-home", "/x/y/interactions", "/x/y/datasets/smart-home/2"):
        text = client.get(path).text
        links = re.findall(
            r'(?:href|src|action|hx-get|data-stream|data-home|data-palette|data-worker)="(/[^"]*)"', text
        )
        assert links
        assert all(link.startswith("/x/y/") for link in links), [link for link in links if not link.startswith("/x/y/")]


def test_without_the_built_files_one_page_says_how_to_build_them(tmp_path, monkeypatch):
    monkeypatch.setattr("ciranda.web.assets.VENDOR", tmp_path / "none")
    monkeypatch.setattr(
        "ciranda.web.app.Assets", lambda: __import__("ciranda.web.assets").web.assets.Assets(vendor=tmp_path / "none")
    )
    site = make(tmp_path)
    client = TestClient(site.app, follow_redirects=False)
    answer = client.get("/models")
    assert answer.status_code == 503
    assert "hatch_build.py" in answer.text
    assert client.get("/api/v1/keys", headers={"authorization": f"Bearer {site.keys['admin']}"}).status_code == 200


# --- people who are forgotten -----------------------------------------------------------------------------------------


def test_a_person_is_forgotten_after_a_look_at_what_is_theirs_and_a_yes(fresh):
    client = client_of(fresh, fresh.keys["admin"])
    session = fresh.app.state.site.sessions
    token = session.token(session.read(client.cookies["ciranda_session"]).id)
    asked = client.post("/erasures", data={"token": token, "subject": "maria@example.com"})
    assert "maria@example.com" in asked.text
    assert "interactions: 4" in asked.text
    assert "smart-home@1" in asked.text
    assert fresh.verbs.asked == []
    done = client.post("/erasures", data={"token": token, "subject": "maria@example.com", "sure": "1"})
    assert done.headers["location"].endswith("/erasures/erasure_1")
    assert fresh.verbs.asked == [("erase", "maria@example.com", False, "the admin")]
