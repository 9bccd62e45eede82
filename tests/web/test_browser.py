"""The pages in a real browser: no error, no barrier, no overflow, within the budgets of the design, and all by keyboard.

CIRANDA_SHOTS=/tmp/shots pytest tests/web/test_browser.py      also keeps a picture of every page, to be looked at
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ciranda.web.formats import Formats
from web.addresses import PAGES
from web.showcase import HOME
from web.site import make, serve

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = Path("/usr/bin/chromium")
SHOTS = os.environ.get("CIRANDA_SHOTS", "")
VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium")

ON_A_PHONE = ("overview", "study", "interactions")  # frame, charts and long tables, asked for barriers when narrow too
TRANSFER, WARM, REQUESTS = 140_000, 15_000, 10


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        made = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One site for everything that changes nothing."""
    site = make(tmp_path_factory.mktemp("site"))
    server, thread = serve(site)
    yield site
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def fresh(tmp_path):
    site = make(tmp_path)
    server, thread = serve(site)
    yield site
    server.should_exit = True
    thread.join(timeout=10)


def opened(browser, site, *, role="admin", tag="en-US", theme="light", width=1440, script=True):
    """A signed-in tab, and the list that its errors go to."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, locale=tag, color_scheme=theme, java_script_enabled=script,
        timezone_id="America/Sao_Paulo", reduced_motion="reduce",
    )  # fmt: skip
    cookie = site.app.state.site.sessions.sign_in(site.keys[role])[1]
    context.add_cookies([{"name": "ciranda_session", "value": cookie, "url": site.url}])
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return page, errors


def settled(page):
    """What scripts draw is drawn."""
    page.wait_for_function(
        "document.readyState === 'complete'"
        " && (!document.querySelector('live-chart') || document.querySelector('live-chart canvas'))"
    )


def barriers(page):
    found = axe.Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    return [(one["id"], [node["html"][:160] for node in one["nodes"]][:3]) for one in found.response["violations"]]


def shoot(page, name):
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


@pytest.mark.parametrize(("tag", "theme"), [("en-US", "light"), ("pt-BR", "dark")])
def test_every_page_is_without_errors_barriers_and_overflow(browser, shared, tag, theme):
    page, errors = opened(browser, shared, tag=tag, theme=theme)
    wrong = {}
    for name, path in PAGES.items():
        page.goto(shared.url + path)
        settled(page)
        expected = ["404"] if name == "missing" else []
        told = [error for error in errors if not any(code in error for code in expected)]
        sideways = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        shoot(page, f"{name}-{theme}-{tag[:2]}")
        if told or sideways > 0 or (found := barriers(page)):
            wrong[name] = (told, sideways, found if not told and sideways <= 0 else [])
        errors.clear()
    page.context.close()
    assert not wrong, "\n".join(f"{name}: {found}" for name, found in wrong.items())


def test_no_page_scrolls_sideways_on_a_phone(browser, shared):
    page, _ = opened(browser, shared, width=390, tag="pt-BR")
    wide, barred = {}, {}
    for name, path in PAGES.items():
        page.goto(shared.url + path)
        over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if over > 0:
            wide[name] = over
        if name in ON_A_PHONE and (found := barriers(page)):
            barred[name] = found
        shoot(page, f"{name}-phone")
    page.context.close()
    assert not wide
    assert not barred


def test_signing_in_is_a_page_without_barriers(browser, shared):
    page = browser.new_context(color_scheme="dark").new_page()
    page.goto(shared.url + "/models/smart-home")
    assert not barriers(page)
    shoot(page, "sign-in-dark")
    page.fill("input[name=key]", "cir_wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert]")
    assert not barriers(page)
    page.fill("input[name=key]", shared.keys["viewer"])
    page.keyboard.press("Enter")
    page.wait_for_url("**/models/smart-home")
    page.context.close()


def test_budgets_of_transfer_and_requests(browser, shared):
    over = {}
    for name in ("overview", "model", "release", "interactions", "dataset", "lineage", "diff", "trial", "audit"):
        page, _ = opened(browser, shared)
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        sizes: dict[str, float] = {}
        session.on(
            "Network.loadingFinished",
            lambda event, sizes=sizes: sizes.update({event["requestId"]: event["encodedDataLength"]}),
        )
        page.goto(shared.url + PAGES[name])
        settled(page)
        page.wait_for_timeout(200)
        cold, count = sum(sizes.values()), len(sizes)
        sizes.clear()
        page.goto(shared.url + PAGES[name])
        settled(page)
        page.wait_for_timeout(200)
        warm = sum(sizes.values())
        if cold > TRANSFER or count > REQUESTS or warm > WARM:
            over[name] = (cold, count, warm)
        shift = page.evaluate("performance.getEntriesByType('layout-shift').reduce((sum, one) => sum + one.value, 0)")
        assert shift <= 0.02
        page.context.close()
    assert not over


def test_rolling_back_by_keyboard_alone(browser, fresh):
    page, errors = opened(browser, fresh)
    page.goto(fresh.url + "/datasets")
    page.wait_for_selector("#jump:not([hidden])")
    page.keyboard.press("Control+k")
    page.wait_for_selector("#palette[open] li")
    assert not barriers(page)
    page.keyboard.type("roll back smart")
    page.wait_for_function("document.querySelectorAll('#palette li').length === 1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask[open]")
    assert page.evaluate("document.activeElement.textContent") == "Cancel", "the safe choice has the focus"
    assert not barriers(page)
    shoot(page, "dialog-rollback")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/release")
    assert "All traffic of smart-home goes to smart-home@1 now" in page.inner_text(".toast")
    assert fresh.verbs.asked[0][:3] == ("rollback", HOME, "smart-home@1")
    assert not errors
    page.context.close()


def test_the_graph_of_lineage_is_walked_by_keyboard(browser, shared):
    page, errors = opened(browser, shared)
    page.goto(shared.url + PAGES["lineage"])
    page.focus(".scroll[role=region]")
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert "Source" in first or "Ingestion" in first, "causes come first"
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('svg.causes') !== null")
    page.focus("svg.causes a.dataset[aria-current]")
    page.keyboard.press("Enter")
    page.wait_for_url("**/datasets/smart-home/2")
    assert not errors
    page.context.close()


def test_a_dialog_gives_the_focus_back(browser, shared):
    page, _ = opened(browser, shared)
    page.goto(shared.url + "/models/smart-home")
    page.focus("a[data-dialog=ask]")
    opener = page.evaluate("document.activeElement.textContent.trim()")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#ask[open]", state="detached")
    assert page.evaluate("document.activeElement.textContent.trim()") == opener
    page.context.close()


def test_an_interaction_opens_in_a_drawer_that_has_an_address(browser, shared):
    page, errors = opened(browser, shared)
    page.goto(shared.url + "/interactions")
    page.wait_for_function("!!(window.ciranda && ciranda.move)")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("#drawer[open] .talk")
    first = page.url
    assert "/interactions/019bafe2" in first
    assert not barriers(page)
    shoot(page, "drawer")
    page.keyboard.press("]")
    page.wait_for_function(f"location.href !== {first!r}")
    page.wait_for_selector("#drawer[open] .talk")
    page.keyboard.press("Escape")
    page.wait_for_url("**/interactions")
    page.wait_for_selector("#drawer[open]", state="detached")
    assert page.locator("table[data-list] tbody tr").count() == 50
    page.goto(first)
    assert page.locator("main .talk").count() == 1
    assert not errors
    page.context.close()


def test_back_closes_the_drawer_and_a_search_is_in_the_address(browser, shared):
    page, _ = opened(browser, shared)
    page.goto(shared.url + "/interactions")
    page.wait_for_function("!!(window.ciranda && ciranda.move)")
    page.keyboard.press("/")
    page.keyboard.type("garage")
    page.wait_for_url("**q=garage**")
    page.wait_for_function("document.querySelectorAll('table[data-list] tbody tr').length === 8")
    page.click("table[data-list] a.go >> nth=0")
    page.wait_for_selector("#drawer[open] .talk")
    page.go_back()
    page.wait_for_selector("#drawer[open]", state="detached")
    page.wait_for_url("**q=garage**")
    assert page.locator("table[data-list] tbody tr").count() == 8
    assert page.input_value("#q") == "garage"
    page.reload()
    assert page.locator("table[data-list] tbody tr").count() == 8
    page.context.close()


def test_without_scripts_every_page_reads_and_every_form_posts(browser, fresh):
    page, _ = opened(browser, fresh, script=False)
    page.goto(fresh.url + "/")
    assert page.locator("svg[role=img]").count() >= 4, "charts are drawn by the server"
    page.goto(fresh.url + "/interactions")
    page.click("text=Older")
    assert "before=" in page.url
    page.goto(fresh.url + "/models/smart-home/release")
    page.click("text=Roll back")
    assert page.url.endswith("/rollback")
    page.click("button:has-text('Roll back to')")
    assert "All traffic of smart-home goes to smart-home@1 now" in page.inner_text(".toast")
    page.goto(fresh.url + "/settings")
    page.select_option("select[name=language]", "pt-BR")
    page.click("button:has-text('Save')")
    assert "Ajustes" in page.inner_text("h1")
    page.context.close()


def test_reviewing_by_keyboard_alone_and_without_scripts(browser, fresh):
    page, errors = opened(browser, fresh, role="labeller")
    page.goto(fresh.url + "/review/smart-home")
    page.wait_for_function("!!(window.ciranda && ciranda.move)")
    for key, said in (("1", "Right"), ("2", "Wrong"), ("s", "Skipped"), ("z", "Taken back")):
        page.keyboard.press(key)
        page.locator(".toast", has_text=said).wait_for()
    page.keyboard.press("e")
    assert page.evaluate("document.activeElement.name") == "correction", "a key brings one to the text"
    page.keyboard.type("1 2 s z")
    page.keyboard.press("Control+Enter")
    page.locator(".toast", has_text="Correction").wait_for()
    assert [one[3:5] for one in fresh.verbs.asked if one[0] == "review"][-1] == ("correct", "1 2 s z")
    assert [one[0] for one in fresh.verbs.asked] == ["review", "review", "review", "undo", "review"]
    assert not barriers(page)
    assert not errors
    page.context.close()
    page, _ = opened(browser, fresh, role="labeller", script=False)
    page.goto(fresh.url + "/review/smart-home")
    page.click("button[value=wrong]")
    page.wait_for_url("**/review/smart-home")
    assert "Wrong" in page.inner_text(".toast")
    assert page.locator("text=Make a dataset version").count() == 0, "that needs an engineer"
    page.context.close()


def test_live_numbers_move_and_a_change_reaches_the_page(browser, fresh):
    page, errors = opened(browser, fresh)
    page.goto(fresh.url + "/models/smart-home/release")
    page.wait_for_selector("#pulse[data-state=live]")
    while not fresh.app.state.site.hub.marks:
        page.wait_for_timeout(50)
    fresh.reader.running = False
    fresh.reader.live = "smart-home@2"
    fresh.reader.marks = {"loop": "2"}
    page.wait_for_selector("text=smart-home@2 has all traffic", timeout=30_000)
    page.goto(fresh.url + "/")
    settled(page)
    page.wait_for_selector("#pulse[data-state=live]")
    before = page.get_attribute("live-chart[metric=requests]", "aria-label")
    page.wait_for_function(
        "before => document.querySelector('live-chart[metric=requests]').getAttribute('aria-label') !== before",
        arg=before,
        timeout=30_000,
    )
    page.keyboard.press("p")
    page.wait_for_selector("#pulse[data-state=paused]")
    assert not errors
    page.context.close()


def test_a_list_that_is_followed_and_a_table_of_figures_are_asked_for_anew(browser, fresh):
    page, errors = opened(browser, fresh)

    def part(name):
        return lambda one: one.headers.get("hx-target") == f"div#{name}"

    page.goto(fresh.url + "/interactions")
    with page.expect_request(part("results"), timeout=30_000):
        page.get_by_role("link", name="Follow live").click()
    page.get_by_role("link", name="Following").wait_for()
    assert "tail=1" in page.url
    first = page.locator("#results tbody tr a").first
    first.focus()
    with page.expect_request_finished(part("results"), timeout=30_000):
        pass
    assert first.evaluate("link => link === document.activeElement"), "a new row takes nobody's focus away"
    page.goto(fresh.url + "/models/smart-home/live?span=1h")
    page.evaluate("document.getElementById('figures').dataset.fresh = 1")
    with page.expect_request_finished(part("figures"), timeout=30_000):
        pass
    assert page.locator("#figures table").count() == 1
    assert not errors
    page.context.close()


def test_ten_tabs_share_one_stream(browser, shared):
    page, _ = opened(browser, shared)
    page.goto(shared.url + "/")
    began = time.monotonic()
    tabs = [page.context.new_page() for _ in range(9)]
    for tab in tabs:
        tab.goto(shared.url + "/models/smart-home")
    for tab in tabs:
        tab.wait_for_selector("#pulse:not([hidden])", state="attached", timeout=30_000)
    assert time.monotonic() - began <= 60
    assert len(shared.app.state.site.hub.queues) <= 3
    page.context.close()


def test_the_browser_writes_numbers_as_the_server_does(browser, shared):
    for tag in ("en", "pt-BR"):
        page, _ = opened(browser, shared, tag=tag)
        page.goto(shared.url + "/models")
        page.wait_for_function("!!(window.ciranda && ciranda.formats)")
        for lang, value, digits, shown in VECTORS["number"]:
            if lang == tag:
                assert page.evaluate("([v, d]) => ciranda.formats.number(v, d)", [value, digits]) == shown
        for name in ("compact", "percent", "ms"):
            for lang, value, shown in VECTORS[name]:
                if lang == tag:
                    assert page.evaluate("([n, v]) => ciranda.formats[n](v)", [name, value]) == shown
        page.reload()  # the first page told the server the zone
        for lang, zone, iso, shown in VECTORS["clock"]:
            if lang == tag and zone == "America/Sao_Paulo":
                seconds = Formats().moment(iso).timestamp()
                assert page.evaluate("s => ciranda.formats.clock(s, true)", seconds) == shown
        page.context.close()


def test_a_theme_is_one_key_away_and_kept(browser, shared):
    page, _ = opened(browser, shared)
    page.goto(shared.url + "/")
    page.wait_for_function("!!(window.ciranda && ciranda.theme)")
    page.keyboard.press("t")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.reload()
    assert page.get_attribute("html", "data-theme") == "dark"
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    assert not barriers(page)
    page.context.close()


def test_paper_has_the_page_and_not_the_controls(browser, shared):
    page, _ = opened(browser, shared)
    page.goto(shared.url + "/models/smart-home")
    settled(page)
    page.emulate_media(media="print")
    assert not page.is_visible(".nav")
    assert not page.is_visible(".head-actions")
    assert page.is_visible("live-chart canvas >> nth=0")
    last = page.locator(".stop").last.bounding_box()
    assert last["x"] + last["width"] <= 1440
    assert len(page.pdf()) > 10_000
    page.context.close()
