"""One gateway process: socket, timers, signals.

Each worker has its own listener on the same port (SO_REUSEPORT): a shared accept queue wakes the same worker again and again. On
SIGTERM it says so at `/readyz`, goes on answering what it has, with `connection: close`, listens for a short while more, and
leaves when nothing is owed or `drain` seconds are over; what is cut then is told so. Nothing waits for control: without routing
it answers 503 and looks again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from ciranda.config import Home
from ciranda.errors import Conflict
from ciranda.gateway import limits
from ciranda.gateway.app import Gateway
from ciranda.gateway.quotas import Quotas
from ciranda.gateway.snapshot import Snapshots
from ciranda.gateway.strangers import networks
from ciranda.interactions.spool import SpoolWriter
from ciranda.store import clock, files

if TYPE_CHECKING:
    from ciranda.gateway.leases import Leaser

BACKLOG = 1024
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Options:
    """How a worker is started.

    Args:
        home: The home whose routing it reads and whose spool it writes.
        number: Which worker it is; names its spool folder.
        host: Address to listen at, with `port` (0: any free one).
        ready_file: Written with the real address once connections are taken.
        drain: Seconds that running answers get on SIGTERM.
        linger: Seconds that it goes on listening on SIGTERM, until balancers have noticed.
        database: URL of a control database that other machines use too; limits then hold over all of them.
        proxies: Addresses of reverse proxies, with commas, whose word for the client's address is taken.
        control: Address of control, for the paths that are passed on to it; empty: the one of this home.
    """

    home: Home
    number: int
    host: str
    port: int
    ready_file: Path | None = None
    drain: float = 30.0
    linger: float = 0.2
    proxies: str = ""
    database: str = ""
    control: str = ""


def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT."""
    listener = listen(options.host, options.port)
    uvloop.run(serve(options, listener))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that other workers may share the port of. Raises Conflict when a stranger has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        remedy = f"find what listens with `ss -ltnp 'sport = :{port}'`, or choose another port with --port"
        raise Conflict(f"cannot listen at {host}:{port}: {error.strerror}", where="gateway", remedy=remedy) from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


async def serve(options: Options, listener: socket.socket) -> None:
    """The life of a worker."""
    home, stop = options.home, asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    spool = SpoolWriter(home.spool / f"gateway-{options.number}")
    quotas = Quotas(home.run / "limits", leased=bool(options.database))
    gateway = Gateway(Snapshots(home.routing, home.path), spool, quotas, networks(options.proxies), options.control)
    gateway.poll()
    leaser = lease(gateway, options.database) if options.database else None
    timers: list[asyncio.Future[Any]] = [
        every(limits.SNAPSHOT_SECONDS, gateway.poll),
        every(limits.SWEEP_SECONDS, gateway.sweep),
    ]
    server = await loop.create_server(gateway.server.protocol, sock=listener)
    own = await loop.create_server(gateway.server.protocol, "127.0.0.1", 0)
    gc.collect()
    gc.freeze()  # what lives as long as the process need not be looked at again
    announce(options, listener, f"http://127.0.0.1:{own.sockets[0].getsockname()[1]}")
    asked: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait([asked, *timers], return_when=asyncio.FIRST_COMPLETED)
    for timer in done - {asked}:
        timer.result()  # a clock that stopped is a bug: die of it, aloud, and be started again
    gateway.drain()
    await asyncio.sleep(options.linger)
    server.close()
    own.close()
    await settle(gateway, options.drain)
    gateway.stop()
    if leaser is not None:
        leaser.stop()
    await asyncio.sleep(POLL_SECONDS)  # the last words leave the buffers
    for timer in timers:
        timer.cancel()


def lease(gateway: Gateway, database: str) -> Leaser:
    """Share limits with other machines. The database's client is loaded by those alone who have one."""
    from ciranda.gateway.leases import Leaser
    from ciranda.store.database import Database

    leaser = Leaser(gateway.quotas.folder, Database(database), lambda: gateway.snapshots.current)
    leaser.start()
    return leaser


def every(seconds: float, act: Callable[[], None]) -> asyncio.Task[None]:
    """Call `act` again and again."""

    async def repeat() -> None:
        while True:
            await asyncio.sleep(seconds)
            act()

    return asyncio.get_running_loop().create_task(repeat())


async def settle(gateway: Gateway, seconds: float) -> None:
    """Wait until every answer is out and read, but not longer than this."""
    deadline = asyncio.get_running_loop().time() + seconds
    while (gateway.relays or gateway.server.connections) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(POLL_SECONDS)
        gateway.drain()


def announce(options: Options, listener: socket.socket, own_url: str) -> None:
    """Say where we are, for whoever started us. `own_url` reaches this worker and no other, for a look at its figures."""
    if options.ready_file is None:
        return
    host = f"[{options.host}]" if ":" in options.host else options.host
    told = {"url": f"http://{host}:{listener.getsockname()[1]}", "pid": os.getpid(), "started_at": clock.iso(),
            "own_url": own_url}  # fmt: skip
    files.write_atomic(options.ready_file, msgspec.json.encode(told))
