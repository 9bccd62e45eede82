"""What the build brings for the browser: fresh is known by its inputs alone, and Node is asked for only when it is needed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def build(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / module.WEB / "vendor").mkdir(parents=True)
    shutil.copy(ROOT / "package-lock.json", tmp_path)
    monkeypatch.delenv("CIRANDA_SKIP_UI", raising=False)
    return module


def hook(build, root):
    return build.PagesHook(str(root), {}, None, None, "", "wheel")


def test_what_was_built_from_these_inputs_is_fresh(build, tmp_path):
    assert not build.is_fresh(tmp_path)
    (tmp_path / build.WEB / "vendor" / "STAMP").write_text(build.stamp_of(tmp_path))
    assert build.is_fresh(tmp_path)
    (tmp_path / build.WEB / "vendor" / "htmx.js").write_text("built files are no input")
    (tmp_path / "node_modules").mkdir()
    assert build.is_fresh(tmp_path)
    lock = json.loads((tmp_path / "package-lock.json").read_text())
    lock["packages"]["node_modules/uplot"]["version"] = "9.9.9"
    (tmp_path / "package-lock.json").write_text(json.dumps(lock))
    assert not build.is_fresh(tmp_path)


def test_node_comes_as_a_wheel_only_when_something_must_be_built_without_it(build, tmp_path, monkeypatch):
    monkeypatch.setattr(build.shutil, "which", lambda _name: None)
    assert build.NODE_WHEEL in hook(build, tmp_path).dependencies()
    monkeypatch.setenv("CIRANDA_SKIP_UI", "1")
    assert build.NODE_WHEEL not in hook(build, tmp_path).dependencies()
    monkeypatch.delenv("CIRANDA_SKIP_UI")
    (tmp_path / build.WEB / "vendor" / "STAMP").write_text(build.stamp_of(tmp_path))
    assert build.NODE_WHEEL not in hook(build, tmp_path).dependencies()


def test_the_lock_names_no_registry_and_verifies_every_package():
    lock = json.loads((ROOT / "package-lock.json").read_text())
    assert "omit-lockfile-registry-resolved=true" in (ROOT / ".npmrc").read_text()
    for name, package in lock["packages"].items():
        assert "resolved" not in package
        assert not name or package["integrity"].startswith("sha512-")
