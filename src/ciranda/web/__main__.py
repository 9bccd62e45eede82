"""The control process: pages, REST API, and, when it leads, the loop. `ciranda up` starts it; so may a unit of your own.

It leads or it does not start: on one machine there is one control process. It ends at once on SIGTERM: live streams are closed
first, since a server waits for its connections, and running workflows resume at the next start.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
from pathlib import Path

import uvicorn

from ciranda import config, loop
from ciranda.errors import CirandaError, Conflict
from ciranda.jobs.durable import Leader
from ciranda.store import clock, files
from ciranda.web.app import create
from ciranda.web.stream import Hub

GRACE_S = 2


class Server(uvicorn.Server):
    """uvicorn that ends the live streams before it waits for its connections.

    Args:
        config: uvicorn's own.
        hub: The streams.
    """

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self.hub = hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.hub.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises Conflict when the port is taken."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # whoever comes between the ready file and the first answer waits, and is not refused
    except OSError as error:
        listener.close()
        raise Conflict(
            f"cannot listen on {host}:{port}: {error.strerror}",
            where="control_port",
            remedy="end what uses that port, or choose another: `CIRANDA_CONTROL_PORT=0 ciranda up` takes a free one",
        ) from None
    return listener


def main() -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m ciranda.web", description="Ciranda's control process.")
    parser.add_argument("--home", required=True)
    parser.add_argument("--ready-file", required=True, type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        serve(config.home(arguments.home), arguments.ready_file)
    except CirandaError as error:
        logging.getLogger("ciranda").error("%s", error)
        return error.exit_code
    return 0


def serve(home: config.Home, ready: Path) -> None:
    """Open the home, lead it, answer requests."""
    platform = loop.open(home)
    leader = Leader(home.run / "leader.lock")
    leader.take()
    listener = listen(platform.settings.host, platform.settings.control_port)
    keeper = loop.keep(platform)
    try:
        host, port = listener.getsockname()[:2]
        app = create(platform)
        chosen = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S, lifespan="on"
        )
        server = Server(chosen, app.state.site.hub)
        files.write_atomic(
            ready,
            json.dumps({"url": f"http://{host}:{port}", "pid": os.getpid(), "started_at": clock.iso()}),
        )
        server.run(sockets=[listener])
    finally:
        keeper.close()
        platform.close()
        leader.leave()


if __name__ == "__main__":
    raise SystemExit(main())
