"""Figures for Prometheus: one scrape of a whole platform, and the dashboard and rules that stand on it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests import smallmodel

import house
from ciranda.cli.stage import Stage
from ciranda.monitor.exposition import Exposition
from ciranda.monitor.scrape import Target, fetched
from test_spans import Receiver

DEPLOY = Path(__file__).parent.parent / "deploy"
NAME = re.compile(r"\b(?:ciranda_[a-z_]+|llamacpp:[a-z_]+)\b")


def named(*files: str) -> set[str]:
    """Every metric that these files name."""
    return {name for file in files for name in NAME.findall((DEPLOY / file).read_text())}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A platform with two workers, an export, and a model that was asked and voted on."""
    folder, receiver = tmp_path_factory.mktemp("scraped"), Receiver()
    (folder / ".ciranda").mkdir()
    (folder / ".ciranda" / "config.toml").write_text(f'gateway_workers = 2\notlp_endpoint = "{receiver.url}"\n')
    file = house.project(folder)
    with house.platform(folder) as stage:
        house.apply(stage, file)
        house.live(stage, "house@0")
        with house.users(stage):
            stage.until("answers are scored", lambda: "ciranda_model_score{" in scraped(stage), limit_s=60)
            stage.until("spans are exported", lambda: receiver.taken, limit_s=60)
        yield stage
    receiver.server.shutdown()


def scraped(stage: Stage, **headers: str) -> str:
    address = json.loads((stage.home.run / "control.json").read_text())["url"]
    with urllib.request.urlopen(urllib.request.Request(f"{address}/metrics", headers=headers)) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return str(answer.read().decode())


def test_one_scrape_tells_of_every_process(stage: Stage) -> None:
    families = {one.name: one for one in text_string_to_metric_families(scraped(stage))}
    up = {tuple(sorted(sample.labels.items())): sample.value for sample in families["ciranda_scrape_up"].samples}
    assert {dict(labels)["job"] for labels in up} == {"gateway", "engine"}
    assert set(up.values()) == {1.0}
    requests = families["ciranda_gateway_requests"]
    assert requests.type == "counter"
    assert {sample.labels["worker"] for sample in families["ciranda_gateway_in_flight"].samples} == {"1", "2"}
    durations = families["ciranda_gateway_request_duration_seconds"]
    assert durations.type == "histogram"
    (count,) = [one for one in durations.samples
                if one.name.endswith("_count") and one.labels["status"] == "200" and one.labels["arm"] == "live"]  # fmt: skip
    assert {"model": "house", "version": "house@0", "worker": "1"}.items() <= count.labels.items()
    assert count.value > 0
    (engine,) = families["fake_requests_total"].samples
    assert (engine.labels["model"], engine.labels["version"]) == ("house", "house@0")
    assert engine.labels["replica"].startswith("rep_")
    processes = {one.labels["process"]: one.value for one in families["ciranda_process_up"].samples}
    assert processes == {"control": 1, "collector": 1, "gateway-1": 1, "gateway-2": 1}
    (share,) = families["ciranda_model_traffic_percent"].samples
    assert (share.labels["version"], share.value) == ("house@0", 100.0)


def test_every_metric_of_dashboard_and_rules_exists(stage: Stage) -> None:
    wanted = {name for name in named("grafana/ciranda.json", "prometheus/alerts.yml") if name.startswith("ciranda_")}
    assert len(wanted) > 25
    found = {sample.name for family in text_string_to_metric_families(scraped(stage)) for sample in family.samples}
    always = wanted - {"ciranda_alerts_open"}  # there when an alert is
    assert always <= found


def test_the_engines_of_the_dashboard_speak_so(tmp_path: Path) -> None:
    with smallmodel.serving(tmp_path, "--slots", "1", "--context", "512") as served:
        text = fetched(Target("engine", f"{served.url}/metrics", {}, served.key))
    told = Exposition()
    assert text is not None
    assert told.take(text, {"model": "m", "version": "m@1", "replica": "rep_1"}) > 5
    families = {one.name: one for one in text_string_to_metric_families(told.text())}
    samples = {sample.name: sample for family in families.values() for sample in family.samples}
    wanted = {name for name in named("grafana/ciranda.json") if name.startswith("llamacpp:")}
    assert wanted
    assert wanted <= samples.keys()
    assert samples["llamacpp:tokens_predicted_total"].labels == {"model": "m", "version": "m@1", "replica": "rep_1"}


def test_from_elsewhere_it_takes_a_key(stage: Stage) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        scraped(stage, **{"x-forwarded-for": "203.0.113.9"})
    key = stage.client_key("app")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        scraped(stage, **{"x-forwarded-for": "203.0.113.9", "authorization": f"Bearer {key}"})
    assert "ciranda_process_up" in scraped(
        stage, **{"x-forwarded-for": "203.0.113.9", "authorization": f"Bearer {stage.key}"}
    )


def test_the_files_are_what_their_readers_take() -> None:
    board = json.loads((DEPLOY / "grafana/ciranda.json").read_text())
    panels = [one for one in board["panels"] if one["type"] != "row"]
    assert len({one["id"] for one in board["panels"]}) == len(board["panels"])
    assert all(one["targets"] and one["description"] and one["title"] for one in panels)
    assert yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    (group,) = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    assert all({"alert", "expr", "labels", "annotations"} <= rule.keys() for rule in group["rules"])


def test_figures_of_several_processes_stand_together() -> None:
    told = Exposition()
    one = (
        '# HELP a_total Help.\n# TYPE a_total counter\na_total{model="x"} 1\n'
        '# TYPE b histogram\nb_bucket{le="+Inf"} 2\nb_sum 3\nb_count 2\n'
    )
    told.take(one, {"worker": "1"})
    told.take(one + 'evil{x="}\n"} 1\nno sample at all\nplain NaN\n', {"worker": "2"})
    told.take(one, {"model": 'odd "name"'})
    text = told.text()
    assert text.count("# TYPE a_total counter") == 1
    assert 'a_total{worker="1",model="x"} 1' in text
    assert 'a_total{model="odd \\"name\\"",exported_model="x"} 1' in text
    assert "evil" not in text
    assert "no sample" not in text
    families = {one.name: one for one in text_string_to_metric_families(text)}
    assert len(families["a"].samples) == 3
    assert [sample.name for sample in families["b"].samples].count("b_count") == 3
    assert families["plain"].samples[0].labels == {"worker": "2"}
