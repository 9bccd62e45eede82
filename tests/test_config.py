"""What a user writes, and what they are told when it is wrong."""

from __future__ import annotations

import pytest

from ciranda import config
from ciranda.config import model
from ciranda.errors import Invalid


def test_a_name_is_enough():
    spec = model.read("model: support-router\n", file="m.yaml")
    assert spec.base == "smollm2-135m-instruct"
    assert spec.dataset == "support-router"
    assert spec.release.steps == (5.0, 25.0, 100.0)


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("model: a\ntrian: {}\n", "m.yaml:2", "did you mean 'train'"),
        ("model: a\ntrain:\n  search:\n    trails: 3\n", "m.yaml:4", "did you mean 'trials'"),
        ("model: a\nwatch: {cooldown: soon}\n", "m.yaml:2", "a duration such as 90s"),
        ("model: a\nrelease: {steps: [5, 25]}\n", "m.yaml:2", "end with 100"),
        ("model: a\ndata:\n  sources:\n    - {files: x, intents: en}\n", "m.yaml:4", "exactly one of"),
        ("model: a\ntrain: {executor: slurm}\n", "m.yaml:2", "'local'"),
        ("model: Big Name\n", "m.yaml:1", "match pattern"),
        ("base: x\n", "m.yaml:1", "'model' is missing"),
        ("model: a\nmodel: b\n", "m.yaml:2", "stands twice"),
        ("model: [a\n", "m.yaml:", "no valid YAML"),
        ("", "m.yaml", "no `key: value` lines"),
        ("model: a\nalerts: ['smoke signal']\n", "m.yaml:2", "webhook:https"),
    ],
)
def test_a_mistake_is_named_by_file_line_key_and_remedy(text, where, said):
    with pytest.raises(Invalid) as caught:
        model.read(text, file="m.yaml")
    assert caught.value.where.startswith(where)
    assert said in str(caught.value)
    assert caught.value.remedy


def test_every_mistake_of_a_file_is_told_at_once():
    with pytest.raises(Invalid) as caught:
        model.read("model: a\nfoo: 1\nbar: 2\n", file="m.yaml")
    assert caught.value.where == "m.yaml:2"
    assert "m.yaml:3" in str(caught.value)


def test_settings_come_from_the_environment_then_the_file(tmp_path, monkeypatch):
    home = config.home(tmp_path / "h")
    home.make()
    (home.path / "config.toml").write_text("control_port = 8000\ngateway_port = 8001\n")
    monkeypatch.setenv("CIRANDA_CONTROL_PORT", "9000")
    settings = config.settings(home)
    assert (settings.control_port, settings.gateway_port) == (9000, 8001)
    monkeypatch.setenv("CIRANDA_CONTROL_PORT", "many")
    with pytest.raises(Invalid, match="CIRANDA_CONTROL_PORT"):
        config.settings(home)
    monkeypatch.delenv("CIRANDA_CONTROL_PORT")
    (home.path / "config.toml").write_text("port = 1\n")
    with pytest.raises(Invalid, match=r"settings are: .*control_port"):
        config.settings(home)
