"""The demo tells a true story: with the real model, to its end, and its figures hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ciranda.cli import demo
from ciranda.errors import Invalid

DEMO = [sys.executable, "-m", "ciranda.cli", "demo", "--fast", "--json"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_tells_its_story_to_the_end(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*DEMO, "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
        env=os.environ.copy(),
    )
    print(ended.stderr)
    assert ended.returncode == 0, ended.stderr[-4000:]
    told: dict[str, Any] = json.loads(ended.stdout)
    assert told["answers_given"] == told["interactions_recorded"] > 200
    assert told["audit_verified"]
    assert told["audit_events"] > 50
    assert told["failed_requests"] == told["failed_while_moving"] == 0
    assert told["rollback_s"] < 1
    assert told["forward_s"] < 1
    assert 0 < told["messages_until_drift"] <= 100
    assert told["seconds"] <= 900
    the_second_version_is_better_where_the_world_changed(told["versions"])


def the_second_version_is_better_where_the_world_changed(rows: list[dict[str, Any]]) -> None:
    """Columns are text, as the closing table shows them."""
    exact = {(row["version"], row["slice"]): float(row["mean"]) for row in rows if row["metric"] == "exact_match"}
    valid = {(row["version"], row["slice"]): float(row["mean"]) for row in rows if row["metric"] == "valid_json"}
    assert exact["smart-home@0", "en"] <= 0.05
    assert exact["smart-home@1", "en"] >= 0.3
    assert exact["smart-home@2", "en"] >= exact["smart-home@1", "en"] - 0.15
    assert exact["smart-home@2", "pt"] > exact["smart-home@1", "pt"]
    assert all(valid[version, "en"] >= 0.9 for version in ("smart-home@1", "smart-home@2"))


def test_a_language_that_the_package_does_not_have_ends_the_demo_before_it_starts(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*DEMO, "--then", "tlh", "--home", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == Invalid.exit_code
    error = json.loads(ended.stderr.splitlines()[-1])["error"]
    assert "tlh" in error["message"]
    assert error["remedy"]
    assert not list(tmp_path.iterdir())


def test_the_gate_of_a_language_bears_the_name_that_the_platform_hears() -> None:
    assert demo.heard_as("en", "pt-BR") == "pt"
    assert demo.heard_as("en", "nb") == "no"
    assert demo.heard_as("pt-BR", "gl") == "gl"


def test_two_languages_that_sound_alike_are_refused_before_anything_starts() -> None:
    with pytest.raises(Invalid, match="sound alike"):
        demo.heard_as("id", "ms")
