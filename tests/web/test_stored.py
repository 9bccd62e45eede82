"""The pages of a real home: real tables, a real dataset, a real collector; every link that they offer is followed."""

from __future__ import annotations

import html
import re

import pytest
import sqlalchemy as sa

from ciranda.data import versions
from ciranda.data.reviews import queues
from ciranda.deploy import stages
from ciranda.errors import NotFound
from ciranda.govern.access import Principal
from ciranda.loop import reviews
from ciranda.monitor import alerts
from ciranda.train.trials import trials
from ciranda.web.views.interactions import Filters
from ciranda.web.views.live import SPANS
from ciranda.web.views.stored import Stored
from registry_world import MODEL
from web.home import CURVE, SEARCH, TURN, Home
from web.test_pages import shape_of, token_of

ADMIN = Principal("key_1", "ana", "admin")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    made = Home(tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(home):
    return home.client(home.key)


def text_of(page: str) -> str:
    return html.unescape(
        re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script).*?</\1>", "", page, flags=re.S)))
    )


def test_every_link_of_a_real_home_leads_to_a_whole_page(client):
    waiting, seen = ["/"], set()
    while waiting:
        path = waiting.pop()
        shape = path.split("?")[0]
        if path in seen or len([one for one in seen if one.split("?")[0] == shape]) > 3:
            continue
        seen.add(path)
        answer = client.get(path)
        assert answer.status_code == 200, f"{path}: {text_of(answer.text)[:300]}"
        assert not shape_of(answer.text).wrong, path
        found = re.findall(r'href="(/[^"#]*)"', answer.text)
        waiting += [html.unescape(one) for one in found if not one.startswith("/static")]
    assert len(seen) > 30
    for part in (
        "/release",
        "/drift",
        "/versions/",
        "/experiments/",
        "/turns/",
        "/alerts/",
        "/interactions/",
        "/diff/",
        "/suites/",
        "/evaluations/",
    ):
        assert any(part in path for path in seen), part


def test_the_overview_says_what_waits_and_where_the_model_is(client):
    text = text_of(client.get("/").text)
    assert "the source is away" in text
    assert "Input changed: messages in “pt” went from 0% to 90%" in text
    assert f"{MODEL} @1" in text
    assert f"{MODEL} @0" in text


def test_the_model_page_shows_its_track(client):
    text = text_of(client.get(f"/models/{MODEL}").text)
    assert "@1 · 60 rows" in text
    assert "2 of 2 passed" in text
    assert "shadow, 50% copied" in text
    assert "found: input" in text
    assert "The loop is at work: release" in text


def test_the_release_page_has_both_sides_and_the_evidence(client, home):
    view = Stored(home.platform).release(MODEL)
    assert [(arm.arm, arm.version, arm.percent, arm.ready) for arm in view.arms] == [
        ("live", f"{MODEL}@0", 100.0, 1), ("shadow", f"{MODEL}@1", 50.0, 1),
    ]  # fmt: skip
    assert view.arms[0].requests == 61
    judged = {one.metric: one for one in view.judged}
    assert (judged["quality"].champion, judged["quality"].candidate, judged["quality"].verdict) == (0.1, 0.9, "fine")
    assert judged["error_rate"].verdict == "worse"
    assert [(step.kind, step.percent, step.state) for step in view.steps] == [
        ("shadow", 50.0, "now"), ("canary", 5.0, "todo"), ("canary", 25.0, "todo"), ("canary", 100.0, "todo"),
    ]  # fmt: skip
    assert [(gate.name, gate.verdict) for gate in view.gates] == [("", "pass"), ("en", "pass")]


def test_a_version_has_its_lineage_and_its_champion_beside_it(home):
    view = Stored(home.platform).version(f"{MODEL}@1")
    assert [kind for kind, *_ in view.lineage] == ["source", "dataset", "base", "trial", "version", "gates", "answers"]
    assert [(one.slice, one.n, one.value, one.against) for one in view.slices] == [
        ("", 60, 0.8, 0.1),
        ("en", 30, 0.8, 0.8),
    ]
    assert view.against == f"{MODEL}@0"
    assert Stored(home.platform).version(f"{MODEL}@0").verdicts[0][:2] == ("baseline", "pass")


def test_interactions_are_filtered_searched_and_paged(home):
    reader = Stored(home.platform)
    first = reader.interactions(("*",), Filters(), "", ADMIN)
    assert len(first.rows) == 50
    rest = reader.interactions(("*",), Filters(), first.older, ADMIN)
    assert len(rest.rows) == 11
    assert rest.older == ""
    assert {row.id for row in first.rows}.isdisjoint({row.id for row in rest.rows})
    assert [row.error for row in reader.interactions(("*",), Filters(status="error"), "", ADMIN).rows] == [
        "upstream_unavailable"
    ]
    assert [row.thumb for row in reader.interactions(("*",), Filters(thumb="down"), "", ADMIN).rows] == [-1]
    assert len(reader.interactions(("*",), Filters(q="QUESTION 7 ", since="1h"), "", ADMIN).rows) == 1
    assert reader.interactions(("other",), Filters(), "", ADMIN).rows == ()


def test_one_interaction_has_everything_that_is_known(client, home):
    text = text_of(client.get(f"/interactions/{home.asked[0]}").text)
    for said in ("question 0 <script>", "an answer", "wrong", "Corrected to", "20 ms"):
        assert said in text
    assert client.get("/interactions/nobody").status_code == 404


def test_rows_are_paged_filtered_and_searched(home):
    reader = Stored(home.platform)
    page = reader.dataset(MODEL, 1, ADMIN, page=2, split="", language="", q="")
    assert (page.samples.total, len(page.samples.rows), page.samples.pages) == (60, 25, 3)
    assert reader.dataset(MODEL, 1, ADMIN, page=1, split="test", language="en", q="").samples.total == 6
    assert [
        row.prompt for row in reader.dataset(MODEL, 1, ADMIN, page=1, split="", language="", q="SAY 7 ").samples.rows
    ] == ["say 7 <b>"]
    assert [(check.check, check.action, check.count) for check in page.checks] == [
        ("schema", "passed", 0),
        ("duplicates", "dropped", 1),
    ]
    diff = reader.diff(MODEL, 1, 2, "", 1, ADMIN)
    assert (diff.n_added, diff.n_removed, diff.kept) == (1, 1, 59)


def test_the_window_of_live_numbers_has_every_step(home):
    window = Stored(home.platform).window(("*",), MODEL, seconds=900)
    assert len(window.tracks[0].buckets) == 180
    assert sum(bucket.requests for bucket in window.tracks[0].buckets) == 61
    assert sum(bucket.errors for bucket in window.tracks[0].buckets) == 1
    fleet = Stored(home.platform).window(("*",), "", seconds=900)
    assert sum(bucket.requests for bucket in fleet.tracks[0].buckets) == 61
    assert not Stored(home.platform).window(("other",), "", seconds=900).tracks[0].buckets[0].requests


def test_figures_of_a_version_over_every_stretch_of_time(home):
    for span, (seconds, step) in SPANS.items():
        found = Stored(home.platform).figures(MODEL, span)
        assert len(found.window.tracks[0].buckets) == seconds // step
        assert sum(row.requests for row in found.rows) == 61, span
        assert all(row.p50 <= row.p95 <= row.p99 for row in found.rows if row.p50)
    with pytest.raises(NotFound):
        Stored(home.platform).figures("nobody", "1h")


def test_marks_change_with_what_they_stand_for(home):
    reader = Stored(home.platform)
    before = reader.state()
    assert reader.state() == before
    with home.db.writing() as conn:
        conn.execute(
            trials.update().where(trials.c.number == 2).values(state="running", loss_curve=[*CURVE, [41, 0.01]])
        )
    after = reader.state()
    assert {topic for topic in after if after[topic] != before[topic]} == {"runs"}
    with home.db.writing() as conn:
        conn.execute(trials.update().where(trials.c.number == 2).values(state="failed"))


def test_the_chain_goes_from_a_row_to_answers_and_from_an_answer_to_the_source(home, client):
    reader = Stored(home.platform)
    row = reader.dataset(MODEL, 1, ADMIN, page=1, split="train", language="", q="say 7 ").samples.rows[0]
    forward = reader.lineage(ADMIN, f"row:{MODEL}@1/{row.key}", "forward", 5)
    assert {"row", "dataset", "version", "evaluation", "release", "answers"} <= {node.kind for node in forward.nodes}
    assert len([node for node in forward.nodes if node.kind == "dataset"]) == 2
    back = reader.lineage(ADMIN, home.asked[0], "back", 5)
    assert back.start == f"answer:{home.asked[0]}"
    assert f"version:{MODEL}@0" in {node.id for node in back.nodes}
    page = client.get(f"/lineage?of=row:{MODEL}@1/{row.key}")
    assert page.status_code == 200
    assert f"{MODEL}@1" in page.text
    assert client.get(f"/lineage?of=row:{MODEL}@1/0000").status_code == 404
    told = home.client(home.narrow).get(f"/lineage?of=row:{MODEL}@1/{row.key}")
    assert told.status_code == 403


def test_a_dataset_is_described_and_found_on_its_pages(home, client):
    token = token_of(client.get("/settings").text)
    form = {
        "token": token,
        "owner": "ana",
        "licence": "mit",
        "tags": "pii br",
        "every": "7d",
        "description": "What people say",
    }
    assert client.post(f"/datasets/{MODEL}/describe", data=form).status_code == 303
    said = client.post(
        "/glossary", data={"token": token, "term": "Casa", "definition": "Where one lives", "synonyms": "lar"}
    )
    assert said.status_code == 303
    fresh = {"token": token, "fresh": "1", "field": "completion", "terms": "lar", "description": "", "tags": ""}
    assert client.post(f"/datasets/{MODEL}/describe", data=fresh).status_code == 303
    text = text_of(client.get(f"/datasets/{MODEL}").text)
    for word in ("What people say", "MIT", "Casa", "completion", "Fresh" if "Fresh" in text else "expected every 7 d"):
        assert word in text
    assert MODEL in client.get("/datasets?q=ana&tag=pii").text
    assert "Clear filters" in client.get("/datasets?q=nobody-said-this").text
    assert "60" in client.get(f"/datasets/{MODEL}/1/checks").text
    assert client.get(f"/datasets/{MODEL}/1").text.count("croissant") >= 1
    assert client.post("/glossary/Casa/remove", data={"token": token}).status_code == 409


def test_a_limited_key_finds_nothing_of_this_model(home):
    client = home.client(home.narrow)
    for path in ("/", "/models", "/alerts", "/turns", "/experiments", "/datasets", "/interactions"):
        page = client.get(path)
        assert page.status_code == 200
        assert MODEL not in page.text, path
    for path in (f"/models/{MODEL}", f"/datasets/{MODEL}/1", f"/turns/{TURN}", f"/experiments/{SEARCH}.0", f"/alerts/{home.alert}",
                 f"/interactions/{home.asked[0]}", f"/models/{MODEL}/rollback"):  # fmt: skip
        assert client.get(path).status_code == 403, path


def test_while_the_collector_is_away_the_rest_still_shows(home, client):
    home.recorded.kill()
    try:
        for path in ("/", f"/models/{MODEL}", f"/models/{MODEL}/release", f"/versions/{MODEL}@1", "/models"):
            assert client.get(path).status_code == 200, path
        assert "No figures of traffic" in client.get("/").text
        answer = client.get("/interactions")
        assert answer.status_code == 503
        assert "What to do" in answer.text
    finally:
        home.recorded.start()


def test_the_buttons_reach_the_loop(tmp_path):
    home = Home(tmp_path)
    try:
        client = home.client(home.key)

        def send(path, **fields):
            return client.post(path, data={"token": token_of(client.get("/settings").text), **fields})

        assert send(f"/alerts/{home.alert}/acknowledge").status_code == 303
        assert send(f"/models/{MODEL}/rollback", to=f"{MODEL}@0").status_code == 303
        with home.db.reading() as conn:
            assert stages.open_of(conn, MODEL) is None
            assert alerts.get(conn, home.alert).acknowledged_by == "ana"
            state = conn.execute(sa.select(stages.rollouts.c.state)).scalar()
        assert state == "rolled_back"
        assert "All traffic of smart-home goes to smart-home@0 now" in client.get(f"/models/{MODEL}/release").text
        refused = send(f"/models/{MODEL}/turn", once="once_1")
        assert refused.status_code == 409
        assert "is under way" in refused.text
        assert text_of(client.get("/audit").text).count("alert.acknowledged") == 1
        assert "The chain holds" in client.get("/audit").text
    finally:
        home.close()


def test_reviewing_real_answers_ends_in_a_dataset_version(home, client):
    """Chosen out of recorded traffic, looked at one by one, and back into the data with the annotator's name."""
    with home.db.writing() as conn:
        queues.put(conn, queues.Queue("doubts", MODEL, MODEL, twice=0.0), actor="ana")
    who = Principal("key_1", "ana", "admin")
    told = reviews.fill(home.platform, "doubts", who, count=10)
    assert told["added"] == 10
    assert told["reasons"]["random"] >= 2, "nobody complained of more than one answer, which was corrected"
    assert "10" in text_of(client.get("/review").text)
    before = versions.get(home.db, MODEL)
    for verdict, correction in (("right", ""), ("wrong", ""), ("correct", '{"intent":"Y"}'), ("skip", "")):
        page = client.get("/review/doubts").text
        assert "question" in text_of(page)
        assert "<script>" not in re.sub(r'<script src="[^"]*" defer></script>', "", page), "texts are shown as texts"
        item = re.search(r'name="item" value="(item_\w+)"', page)[1]
        form = {"token": token_of(page), "item": item, "verdict": verdict, "correction": correction, "once": verdict}
        assert client.post("/review/doubts", data=form).status_code == 303
    assert (
        client.post("/review/doubts/commit", data={"token": token_of(client.get("/review/doubts").text)}).status_code
        == 303
    )
    after = versions.get(home.db, MODEL)
    assert (after.number, after.transformation["kind"]) == (before.number + 1, "review")
    new = [row for row in versions.read(home.platform.home, after.ref) if row.source == "review"]
    assert sorted(str(row.extra["verdict"]) for row in new) == ["correct", "right"]
    assert {row.extra["annotator"] for row in new} == {"ana"}
    assert all(row.origin in home.asked for row in new)
    assert "1" in text_of(client.get("/review/doubts").text)
