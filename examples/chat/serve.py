"""A chat page of an app of yours, with feedback on each answer. Python's standard library alone.

    ciranda keys create my-app --role client --model smart-home
    ciranda keys create my-page --role feedback --model smart-home --origin http://127.0.0.1:8000
    python examples/chat/serve.py --model smart-home --key cir_… --public-key cirp_…

Two keys: the secret one stays in this server, which asks the gateway; the public one stands in the page, and can do nothing but
say what somebody thinks of an answer. The page's Content-Security-Policy lets the gateway's one script in, and nothing inline.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import urllib.error
import urllib.request
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
FILES = {"/chat.js": "text/javascript", "/chat.css": "text/css"}
MOST_BYTES = 64_000


class Chat(BaseHTTPRequestHandler):
    """The page, its two files, and `POST /ask`."""

    def __init__(self, given: argparse.Namespace, *rest: object) -> None:
        self.given = given
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(200, "text/html; charset=utf-8", page(self.given).encode())
        elif path in FILES:
            self._send(200, f"{FILES[path]}; charset=utf-8", (HERE / path[1:]).read_bytes())
        else:
            self._send(404, "text/plain", b"not found")

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if self.path != "/ask" or length > MOST_BYTES:
            self._send(404, "text/plain", b"not found")
            return
        text = str(json.loads(self.rfile.read(length))["text"])
        self._send(200, "application/json", json.dumps(ask(self.given, text)).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-security-policy", policy(self.given.gateway))
        self.send_header("x-content-type-options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def policy(gateway: str) -> str:
    """What the page may load: its own files, and the widget; no inline style, no inline script, no HTML made from text."""
    return (
        f"default-src 'none'; script-src 'self' {gateway}; style-src 'self'; connect-src 'self' {gateway}; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def page(given: argparse.Namespace) -> str:
    """The page with its address of the gateway and its public key."""
    text = (HERE / "index.html").read_text()
    values = {
        "gateway": given.gateway,
        "public_key": given.public_key,
        "integrity": given.integrity,
        "lang": given.lang,
    }
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def ask(given: argparse.Namespace, text: str) -> dict[str, str]:
    """One question to the gateway: its answer, and the id that feedback speaks of."""
    body = {"model": given.model, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(
        f"{given.gateway}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {given.key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            told = json.load(answer)["choices"][0]["message"]["content"]
            return {"text": told, "interaction": answer.headers["x-ciranda-interaction"]}
    except urllib.error.HTTPError as error:
        return {"text": f"That did not work ({error.code}).", "interaction": ""}


def integrity_of(gateway: str) -> str:
    """The digest that the page pins the widget with, read from the gateway once, at the start."""
    with urllib.request.urlopen(f"{gateway}/widget/feedback-1.js", timeout=10) as answer:
        return "sha384-" + base64.b64encode(hashlib.sha384(answer.read()).digest()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat page with feedback.")
    parser.add_argument("--gateway", default="http://127.0.0.1:7701")
    parser.add_argument("--model", default="smart-home")
    parser.add_argument("--key", required=True, help="secret key of the role client; stays in this server")
    parser.add_argument("--public-key", required=True, help="public key of the role feedback; stands in the page")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--lang", default="en", help="language of the page: en or pt-BR")
    given = parser.parse_args()
    given.integrity = integrity_of(given.gateway)
    with ThreadingHTTPServer((given.host, given.port), partial(Chat, given)) as server:
        print(f"http://{given.host}:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
