"""The compiled hot path: it never runs in place of newer sources, and the gateway answers the same without it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx
import pytest

import ciranda
from ciranda import errors
from ciranda.gateway import compiled
from gatewayrig import Rig, arm, model, wait_for

ROOT = Path(__file__).parents[1]
PACKAGE = Path(ciranda.__file__).parent
BUILT = compiled.place()
WORKS = BUILT.is_dir() and not compiled.trouble(BUILT, PACKAGE)
compiled_here = pytest.mark.skipif(not WORKS, reason="not compiled here: no C compiler, or `make setup` did not run")
ESSENTIAL = "test_the_official_client_asks_and_every_field_of_the_record_is_there or stream or limits or dies or storage or leaves"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Two sources of a package, and what says that it was compiled from them."""
    folder = compiled.place(tmp_path)
    folder.mkdir(parents=True)
    (tmp_path / "store").mkdir()
    for name in ("gateway/relay.py", "store/ids.py"):
        (tmp_path / name).write_text(f"# {name}\n")
    sources = {name: compiled.digest_of(tmp_path / name) for name in ("gateway/relay.py", "store/ids.py")}
    (folder / "STAMP").write_text(json.dumps({"sources": sources}))
    return tmp_path


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_source_that_changed_is_never_shadowed_by_what_was_compiled_before(package: Path) -> None:
    assert compiled.trouble(compiled.place(package), package) == ""
    (package / "gateway/relay.py").write_text("# another line\n")
    assert compiled.trouble(compiled.place(package), package) == "gateway/relay.py changed since it was compiled"
    assert not compiled.load("auto", package)


def test_who_insists_on_compiled_code_is_told_why_there_is_none(package: Path) -> None:
    with pytest.raises(errors.Unavailable, match=r"cannot be loaded|imported already") as told:
        compiled.load("yes", package)
    assert "hatch_build.py" in told.value.remedy
    shutil.rmtree(compiled.place(package))
    with pytest.raises(errors.Unavailable, match="nothing was compiled"):
        compiled.load("yes", package)


def test_half_of_a_build_is_none(package: Path) -> None:
    (compiled.place(package) / "STAMP").unlink()
    assert "not compiled to the end" in compiled.trouble(compiled.place(package), package)
    assert not compiled.load("auto", package)


def test_where_a_module_is_imported_already_the_rest_stays_plain(package: Path) -> None:
    import ciranda.gateway.relay  # noqa: F401

    with pytest.raises(errors.Unavailable, match="imported already"):
        compiled.load("yes", package)
    assert not compiled.loaded()


def test_the_build_asks_for_a_compiler_only_where_one_is_there(build, monkeypatch) -> None:
    hook = build.PagesHook(str(ROOT), {}, None, None, "", "wheel")
    monkeypatch.delenv("CIRANDA_COMPILED", raising=False)
    monkeypatch.setattr(build, "is_compiled", lambda _root: False)
    monkeypatch.setattr(build, "uncompilable", lambda: "there is no C compiler")
    assert not set(build.MYPY_WHEELS) & set(hook.dependencies())
    monkeypatch.setenv("CIRANDA_COMPILED", "yes")
    assert set(build.MYPY_WHEELS) <= set(hook.dependencies())
    with pytest.raises(SystemExit, match="no C compiler"):
        build.compile_hot(ROOT)
    monkeypatch.setenv("CIRANDA_COMPILED", "no")
    assert not set(build.MYPY_WHEELS) & set(hook.dependencies())
    assert not build.compile_hot(ROOT)
    monkeypatch.setenv("CIRANDA_COMPILED", "perhaps")
    with pytest.raises(SystemExit, match="auto, yes or no"):
        build.compile_hot(ROOT)


def test_a_build_without_a_compiler_says_so_and_goes_on(build, monkeypatch, capsys) -> None:
    monkeypatch.delenv("CIRANDA_COMPILED", raising=False)
    monkeypatch.setattr(build, "is_compiled", lambda _root: False)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert not build.compile_hot(ROOT)
    assert "plain Python" in capsys.readouterr().err


def test_what_is_compiled_is_there_and_inherits_from_nobody_else(build) -> None:
    for name in build.HOT:
        assert (PACKAGE / name).is_file()
        assert "(asyncio.Protocol)" not in (PACKAGE / name).read_text()
    assert build.BUILT / str(sysconfig.get_config_var("SOABI")) == BUILT.relative_to(ROOT)


@pytest.mark.parametrize("wanted", [pytest.param("yes", marks=compiled_here), "no"])
def test_a_worker_says_which_form_it_runs(tmp_path: Path, monkeypatch, wanted: str) -> None:
    monkeypatch.setenv("CIRANDA_COMPILED", wanted)
    rig = Rig(tmp_path / "home")
    try:
        engine = rig.engine()
        rig.route({"smart-home": model(arm("live", "smart-home@1", engine.url))})
        url = rig.gateway().url
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        assert httpx.get(f"{url}/readyz").json()["compiled"] is (wanted == "yes")
        assert f"ciranda_gateway_compiled {1 if wanted == 'yes' else 0}\n" in httpx.get(f"{url}/metrics").text
    finally:
        rig.stop()


@compiled_here
def test_what_is_read_back_is_the_same_in_both_forms(tmp_path: Path) -> None:
    """The spool's reader, and an id, from the compiled modules."""
    code = (
        "import sys; from pathlib import Path; from ciranda.gateway import compiled; assert compiled.load('yes')\n"
        "from ciranda.interactions import spool; from ciranda.store import ids\n"
        "assert spool.__file__.endswith('.so') or 'built' in spool.__file__, spool.__file__\n"
        "writer = spool.SpoolWriter(Path(sys.argv[1])); writer.append(1, {'id': ids.text7()}, b'q', b'a'); writer.seal()\n"
        "[frame] = [f for p in Path(sys.argv[1]).glob('*.ready') for f in spool.read_frames(p)]\n"
        "assert (frame.kind, frame.request, frame.response) == (1, b'q', b'a'), frame\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "spool")], check=True, env=environment, timeout=60)


@compiled_here
@pytest.mark.slow
def test_the_gateway_answers_the_same_as_plain_python() -> None:
    """The suite runs what users get, which is compiled where it was; this is the other form."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "tests/test_gateway.py",
        "-k",
        ESSENTIAL,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "CIRANDA_COMPILED": "no"}, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-3000:]
