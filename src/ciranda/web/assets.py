"""What the browser loads: read once at start, named by content, compressed once, cached for ever.

First-party scripts and styles are small files by subject; here they are joined into one each, so that a page is few
requests without any bundler. A file's name carries its SHA-256, so a new version is a new address and nothing goes stale.
Third-party files come from `vendor/`, which `hatch_build.py` fills; without them there are no pages (`Assets.complete`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OWN, VENDOR = HERE / "static", HERE / "vendor"
STYLES = ("tokens", "frame", "parts", "loop", "tables", "charts", "print")
SCRIPTS = ("trust", "formats", "prefs", "stream", "charts", "fresh", "dialogs", "lists", "palette", "keys")
TEXT = frozenset({".js", ".css", ".svg"})


@dataclass(frozen=True)
class Asset:
    """One file as it is sent."""

    name: str
    type: str
    content: bytes
    compressed: bytes | None


class Assets:
    """Every static file of this installation, by its hashed name.

    Args:
        own: Folder of first-party files.
        vendor: Folder of third-party files, maybe absent.
    """

    def __init__(self, own: Path = OWN, vendor: Path = VENDOR) -> None:
        self.complete = (vendor / "STAMP").is_file()
        self.third_party: list[dict[str, Any]] = (
            json.loads((vendor / "THIRD_PARTY.json").read_text()) if self.complete else []
        )
        self.names: dict[str, str] = {}
        self.files: dict[str, Asset] = {}
        if self.complete:
            for name, content in _sources(own, vendor):
                self._add(name, content)

    def _add(self, name: str, content: bytes) -> None:
        for known, hashed in self.names.items():  # a style names its font by the plain name
            if name.endswith(".css"):
                content = content.replace(f"url({known})".encode(), f"url({hashed})".encode())
        stem, _, suffix = name.rpartition(".")
        hashed = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{suffix}"
        kind = "text/javascript" if suffix == "js" else mimetypes.types_map.get(f".{suffix}", "font/woff2")
        text = f".{suffix}" in TEXT
        asset = Asset(hashed, f"{kind}; charset=utf-8" if text else kind, content, None)
        if text:
            asset = Asset(hashed, asset.type, content, gzip.compress(content, 9, mtime=0))
        self.names[name], self.files[hashed] = hashed, asset


def _sources(own: Path, vendor: Path) -> Iterator[tuple[str, bytes]]:
    yield "inter.woff2", (vendor / "inter.woff2").read_bytes()
    yield "icon.svg", (own / "icon.svg").read_bytes()
    yield "htmx.js", (vendor / "htmx.js").read_bytes()
    yield "uplot.js", (vendor / "uplot.js").read_bytes()
    yield "worker.js", (own / "js" / "worker.js").read_bytes()
    yield "app.js", b"".join(_wrapped(own / "js" / f"{name}.js") for name in SCRIPTS)
    sheets = [own / "css" / f"{name}.css" for name in STYLES]
    yield "app.css", b"\n".join(path.read_bytes() for path in (vendor / "uplot.css", *sheets))


def _wrapped(path: Path) -> bytes:
    """Each script in its own scope: what one shares with another hangs on `ciranda`, and nothing else does."""
    return b"(() => {\n'use strict';\n" + path.read_bytes() + b"})();\n"


def headers(asset: Asset, accepted: str) -> tuple[bytes, Mapping[str, str]]:
    """The body to send and its headers, for what the browser accepts."""
    base = {
        "content-type": asset.type,
        "cache-control": "public, max-age=31536000, immutable",
        "vary": "accept-encoding",
    }
    if asset.compressed is not None and "gzip" in accepted:
        return asset.compressed, {**base, "content-encoding": "gzip"}
    return asset.content, base
