"""What every test may need: the package on the path of child processes too."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from recorded import Recorded

SOURCE = str(Path(__file__).parent.parent / "src")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH", "")]))
# Hundreds of child processes are started here: each would compile the package anew where bytecode may not be kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

settings.register_profile(
    "ciranda", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no fault
settings.load_profile("ciranda")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-seconds", type=float, default=120.0, help="how long the chaos test kills")
    parser.addoption("--chaos-seed", type=int, default=1, help="of its dice; the same seed kills in the same order")


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> tuple[float, int]:
    """How long, and with which dice."""
    return request.config.getoption("--chaos-seconds"), request.config.getoption("--chaos-seed")


@pytest.fixture(scope="module", params=["embedded", "server"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """A home whose record is in the embedded engine, and one whose record is on a server."""
    from clickhouse import server
    from recorded import Recorded

    folder = tmp_path_factory.mktemp(request.param)
    with server(folder / "clickhouse") if request.param == "server" else nullcontext("") as url:
        world = Recorded(folder / "home", server=url)
        world.start()
        yield world
        world.close()
