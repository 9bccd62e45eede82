"""The feedback widget as the gateway serves it: one script without dependencies, at an address that never changes its content.

`/widget/feedback-1.js` may be cached for ever and pinned by its digest (Subresource Integrity), so a released file is never
edited: a new one, `feedback-2.js`, stands beside it, and pages move when they want to. Any page may load it; it holds nothing
secret. It works under a page's strict CSP: no inline style, no `eval`, no HTML from text.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
NEWEST = "feedback-1.js"
_LINES = (
    b"content-type: text/javascript; charset=utf-8\r\ncache-control: public, max-age=31536000, immutable\r\n"
    b"access-control-allow-origin: *\r\ncross-origin-resource-policy: cross-origin\r\nx-content-type-options: nosniff\r\n"
    b"vary: accept-encoding\r\n"
)


@dataclass(frozen=True)
class Script:
    """One released file."""

    content: bytes
    compressed: bytes
    digest: bytes

    @property
    def integrity(self) -> str:
        """What a page's `integrity` attribute pins."""
        return "sha384-" + base64.b64encode(self.digest).decode()

    def answer(self, accepted: bytes, held: bytes) -> tuple[int, bytes, bytes]:
        """Status, header lines and body for what the browser accepts, and for the tags that it holds."""
        packed = b"gzip" in accepted
        tag = b'"%b%b"' % (self.digest.hex()[:32].encode(), b"-gz" if packed else b"")
        head = _LINES + b"etag: %b\r\n" % tag
        if tag in held or held.strip() == b"*":
            return 304, head, b""
        return (200, head + b"content-encoding: gzip\r\n", self.compressed) if packed else (200, head, self.content)


@cache
def scripts() -> dict[str, Script]:
    """Every released file by its name."""
    return {path.name: _script(path.read_bytes()) for path in sorted(FOLDER.glob("feedback-*.js"))}


def _script(content: bytes) -> Script:
    return Script(content, gzip.compress(content, 9, mtime=0), hashlib.sha384(content).digest())


def tag(gateway: str, key: str) -> str:
    """What a page carries: the script, pinned, and the element that stands beside an answer."""
    return (
        f'<script type="module" src="{gateway}/widget/{NEWEST}" integrity="{scripts()[NEWEST].integrity}" '
        f'crossorigin="anonymous"></script>\n'
        f'<ciranda-feedback key="{key}" interaction="…"></ciranda-feedback>'
    )
