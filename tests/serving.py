"""A small serving process for tests: ready file, health, and the ways to misbehave that a supervisor must survive.

python tests/serving.py --ready-file F [--never-ready] [--stubborn] [--exit CODE] [--note FILE WORD]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--exit", type=int)
    parser.add_argument("--note", nargs=2)
    chosen = parser.parse_args()
    if chosen.exit is not None:
        sys.exit(chosen.exit)

    def leave(*_: object) -> None:
        if chosen.note:
            with open(chosen.note[0], "a") as file:
                file.write(chosen.note[1] + "\n")
        sys.exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if chosen.stubborn else leave)
    server = HTTPServer(("127.0.0.1", 0), Answer)
    print("serving", flush=True)
    if chosen.never_ready:
        time.sleep(600)
    if chosen.ready_file:
        said = json.dumps({"url": f"http://127.0.0.1:{server.server_port}", "pid": os.getpid()})
        beside = chosen.ready_file.with_suffix(f".{os.getpid()}")
        beside.write_text(said)
        os.replace(beside, chosen.ready_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
