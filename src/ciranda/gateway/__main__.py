"""`python -m ciranda.gateway`: one worker of the gateway.

What it serves with is imported once `compiled` has decided in which form: as C, or as plain Python.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ciranda import config
from ciranda.errors import CirandaError
from ciranda.gateway import compiled


def main() -> int:
    """Read the arguments, serve, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ciranda.gateway", description="One worker of the gateway.")
    parser.add_argument("--home", help="home folder (else CIRANDA_HOME, else ./.ciranda)")
    parser.add_argument("--number", type=int, default=0, help="number of this worker; names its spool folder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7701, help="0 takes a free one")
    parser.add_argument("--ready-file", type=Path, help="written with the address once connections are taken")
    parser.add_argument("--drain", type=float, default=30.0, help="seconds that running answers get on SIGTERM")
    parser.add_argument("--linger", type=float, default=0.2, help="seconds of listening on after SIGTERM")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    home = config.home(given.home)
    try:
        home.make()
        settings = config.settings(home)
        compiled.load(settings.compiled)
        from ciranda.gateway.worker import Options, run

        shared = "" if settings.database_url.startswith("sqlite") else settings.database_url
        run(
            Options(
                home, given.number, given.host, given.port, given.ready_file, given.drain, given.linger, settings.proxies,
                shared, settings.url,
            )
        )  # fmt: skip
    except CirandaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
