"""The feedback widget in a real browser, on the example's page of another origin under a strict policy: votes reach the store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatewayrig import Rig, arm, model, wait_for
from recorded import Recorded, until

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = Path("/usr/bin/chromium")
EXAMPLE = Path(__file__).parent.parent / "examples/chat/serve.py"
SHOTS = os.environ.get("CIRANDA_SHOTS", "")
SEND = """([address, interaction]) => fetch(address, {
    method: 'POST', headers: {authorization: 'Bearer cirp_page', 'content-type': 'application/json'},
    body: JSON.stringify({interaction, thumb: 'up'})}).then((one) => one.status, () => 'blocked')"""
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium")


@dataclass
class World:
    """A gateway with an engine, the store behind it, and the example's server on an origin of its own."""

    rig: Rig
    store: Recorded
    site: str

    def voices(self, ident: str) -> Any:
        found = self.store.interactions.get(ident)
        return found.feedback if found else ()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    store = Recorded(tmp_path_factory.mktemp("widget"))
    rig = Rig(store.home.path)
    store.launch()
    engine = rig.engine("smart-home@1")
    gateway = rig.gateway()
    live = {"smart-home": model(arm("live", "smart-home@1", engine.url))}
    rig.route(live)
    wait_for(lambda: httpx.get(f"{gateway.url}/readyz").status_code == 200)
    command = [
        sys.executable,
        str(EXAMPLE),
        "--gateway",
        gateway.url,
        "--key",
        "sk-app",
        "--public-key",
        "cirp_page",
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        site = server.stdout.readline().strip()
        bounds = {"origins": [site], "per_minute": 200, "total_per_minute": 600, "corrections": True}
        rig.add_key("cirp_page", models=("smart-home",), role="feedback", public=bounds)
        rig.route(live)
        wait_for(
            lambda: httpx.options(f"{gateway.url}/v1/feedback", headers={"origin": site}).headers.get(
                "access-control-allow-origin"
            )
        )
        yield World(rig, store, site)
        server.terminate()
    rig.stop()
    store.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        made = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 900, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.errors = []
    page.on("console", lambda one: page.errors.append(one.text) if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


def asked(tab: Any, world: World, text: str = "turn on the light", *, lang: str = "en") -> str:
    """Ask on the page; the interaction of the answer."""
    tab.goto(world.site)
    tab.evaluate("lang => { document.documentElement.lang = lang }", lang)
    tab.get_by_label("Message").fill(text)
    tab.keyboard.press("Enter")
    return str(tab.locator("ciranda-feedback").get_attribute("interaction"))


def barriers(tab: Any) -> list[Any]:
    found = axe.Axe().run(
        tab, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    return [(one["id"], [node["html"][:160] for node in one["nodes"]][:3]) for one in found.response["violations"]]


def shoot(tab: Any, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=f"{SHOTS}/{name}.png")


def test_a_vote_and_what_is_said_after_it_reach_the_store(world: World, tab: Any) -> None:
    ident = asked(tab, world)
    tab.get_by_role("button", name="Bad answer").click()
    (vote,) = until(lambda: world.voices(ident))
    assert (vote.thumb, vote.key, vote.version, vote.reasons) == (-1, "key_cirp_page", "smart-home@1", ())
    tab.get_by_label("Wrong").check()
    tab.get_by_label("Incomplete").check()
    tab.get_by_label("What should the answer have been?").fill('{"intent": "HassTurnOn"}')
    tab.get_by_label("Anything else?").fill("the lamp stayed off")
    tab.locator("ciranda-feedback").get_by_role("button", name="Send").click()
    tab.get_by_text("Sent, thank you.").wait_for()
    _, whole = until(lambda: len(voices := world.voices(ident)) == 2 and voices)
    assert (whole.thumb, whole.first, whole.reasons) == (-1, False, ("wrong", "incomplete"))
    assert (whole.correction, whole.comment) == ('{"intent": "HassTurnOn"}', "the lamp stayed off")
    assert tab.errors == []


def test_a_changed_mind_replaces_the_vote(world: World, tab: Any) -> None:
    ident = asked(tab, world)
    tab.get_by_role("button", name="Good answer").click()
    until(lambda: world.voices(ident))
    tab.get_by_role("button", name="Bad answer").click()
    until(lambda: len(world.voices(ident)) == 2)
    found = world.store.interactions.get(ident)
    assert found is not None
    assert found.thumb == -1
    assert tab.get_by_role("button", name="Good answer").get_attribute("aria-pressed") == "false"


def test_all_of_it_by_keyboard_and_focus_comes_back(world: World, tab: Any) -> None:
    ident = asked(tab, world)
    tab.locator("ciranda-feedback").get_by_role("button", name="Good answer").focus()
    tab.keyboard.press("Enter")
    tab.get_by_text("Thank you.").wait_for()
    for key in (
        "Tab",
        "Tab",
        "Space",
        "Tab",
        "Tab",
        "Tab",
    ):  # over the other thumb to the reasons; past them to the comment
        tab.keyboard.press(key)
    tab.keyboard.type("fine")
    for key in ("Tab", "Tab", "Enter"):  # Close, Send
        tab.keyboard.press(key)
    tab.get_by_text("Sent, thank you.").wait_for()
    assert focused(tab) == "Good answer"
    (_, whole) = until(lambda: len(voices := world.voices(ident)) == 2 and voices)
    assert (whole.thumb, whole.reasons, whole.comment) == (1, ("correct",), "fine")
    tab.keyboard.press("Enter")
    tab.get_by_label("Helpful").focus()
    tab.keyboard.press("Escape")
    assert tab.locator("ciranda-feedback form").count() == 0
    assert focused(tab) == "Good answer"


def focused(tab: Any) -> str:
    return str(tab.evaluate("document.activeElement.shadowRoot.activeElement.getAttribute('aria-label')"))


@pytest.mark.parametrize(("theme", "lang", "width"), [("light", "en", 900), ("dark", "pt-BR", 360)])
def test_no_barrier_and_no_overflow_in_any_state(world: World, browser: Any, theme: str, lang: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce")
    tab = context.new_page()
    ident = asked(tab, world, lang=lang)
    assert barriers(tab) == []
    tab.get_by_role("button", name="Resposta ruim" if lang == "pt-BR" else "Bad answer").click()
    tab.get_by_text("Obrigado." if lang == "pt-BR" else "Thank you.").wait_for()
    assert barriers(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    shoot(tab, f"widget-{theme}-{lang}-{width}")
    assert ident
    context.close()


def test_a_vote_that_cannot_be_sent_is_taken_back_and_said(world: World, tab: Any) -> None:
    asked(tab, world)
    tab.evaluate("document.querySelector('ciranda-feedback').setAttribute('key', 'cirp_revoked')")
    tab.evaluate(
        "() => { window.told = []; addEventListener('ciranda-feedback', (event) => told.push(event.detail)); }"
    )
    tab.get_by_role("button", name="Good answer").click()
    tab.get_by_text("This could not be sent.").wait_for()
    assert tab.get_by_role("button", name="Good answer").get_attribute("aria-pressed") == "false"
    (detail,) = tab.evaluate("window.told")
    assert (detail["taken"], detail["status"], detail["thumb"]) == (False, 401, "up")


def test_a_page_of_an_origin_that_the_key_does_not_name_gets_nothing_through(world: World, tab: Any) -> None:
    elsewhere = world.site.replace("127.0.0.1", "localhost")
    tab.goto(elsewhere)
    tab.get_by_label("Message").fill("turn on the light")
    tab.keyboard.press("Enter")
    ident = str(tab.locator("ciranda-feedback").get_attribute("interaction"))
    status = tab.evaluate(SEND, [f"{world.rig.processes[1].url}/v1/feedback", ident])
    assert status == "blocked"
    assert world.voices(ident) == ()
