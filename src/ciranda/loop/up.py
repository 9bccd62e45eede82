"""`ciranda up`: every process of one machine, under one supervisor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ciranda.config import Home, Settings
from ciranda.deploy import supervise
from ciranda.deploy.child import ChildSpec
from ciranda.deploy.keeper import Seen
from ciranda.loop import picks
from ciranda.loop.platform import first_key, open
from ciranda.store import clock

Tell = Callable[[str], None]


def up(home: Home, *, tell: Tell = print) -> None:
    """Start everything and keep it running until SIGTERM or SIGINT.

    Raises:
        Conflict: This home is up already, or a port is in use; nothing was started.
    """
    platform = open(home)
    try:
        secret = first_key(platform)
        settings = platform.settings
        if secret:
            tell(f"Your admin key, shown this once: {secret}")
            tell(f"(the command line on this machine finds it in {home.admin_key})")
        supervise.run(home, children(home, settings), picks.Runtime(home), platform.db, tell=_teller(tell))
    finally:
        platform.close()


def children(home: Home, settings: Settings) -> list[ChildSpec]:
    """The processes besides the engines. Gateways stop first, so that nothing new arrives while the rest ends."""
    control = ChildSpec(
        "control", _module(home, "ciranda.web", home.run / "control.json"), ready_file=home.run / "control.json",
        health="/healthz", listens=(settings.host, settings.control_port), stop=60,
    )  # fmt: skip
    collector = ChildSpec(
        "collector", _module(home, "ciranda.interactions.collector", home.run / "collector-ready.json"),
        ready_file=home.run / "collector-ready.json", health="/ping", stop=80,
    )  # fmt: skip
    gateways = [_gateway(home, settings, number) for number in range(1, settings.gateway_workers + 1)]
    return [collector, control, *gateways]


def _gateway(home: Home, settings: Settings, number: int) -> ChildSpec:
    ready = home.run / f"gateway-{number}.json"
    argv = (
        *_module(home, "ciranda.gateway", ready),
        "--number", str(number), "--host", settings.host, "--port", str(settings.gateway_port),
    )  # fmt: skip
    port = settings.gateway_port if number == 1 else 0
    return ChildSpec(
        f"gateway-{number}",
        argv,
        ready_file=ready,
        health="/healthz",
        listens=(settings.host, port),
        stop=10,
        grace_s=30,
    )


def _module(home: Home, module: str, ready: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", module, "--home", str(home.path), "--ready-file", str(ready))


def _teller(tell: Tell) -> Callable[[Seen], None]:
    """Say in words what the supervisor saw; addresses when they are known."""
    purpose = {"control": "pages and REST API", "gateway-1": "OpenAI-compatible gateway"}

    def told(seen: Seen) -> None:
        where = f" at {seen.url}" if seen.url else ""
        what = f" ({purpose[seen.name]})" if seen.name in purpose else ""
        why = f": {seen.reason}" if seen.reason else ""
        tell(f"{clock.iso()[11:19]} {seen.name}{what} {seen.state}{where}{why}")

    return told
