"""`init`, `up`, `down`, `base`: this machine's installation. These work on the home itself; every other command asks control."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import Failed, Invalid

if TYPE_CHECKING:
    from ciranda.jobs.local import Local

STARTERS = ("models/smart-home.yaml", "models/support-router.yaml", "evals/routing.yaml", "data/tickets/example.jsonl")
POLL_S = 0.1


@verb("init", examples=["ciranda init", "ciranda init my-platform", "ciranda --home /srv/ciranda init"])
@click.argument("folder", default=".", type=click.Path(file_okay=False))
def init(desk: Desk, folder: str) -> None:
    """Write example files to start from. Nothing that exists is touched."""
    place = Path(folder)
    made = [name for name in STARTERS if _write(place / name, _starter(name))]
    kept = [name for name in STARTERS if name not in made]
    desk.show({"folder": str(place), "written": made, "kept": kept}, lambda: _told(desk, place, made, kept))


def _starter(name: str) -> str:
    return (resources.files("ciranda.cli") / "starters" / Path(name).name).read_text()


def _write(path: Path, content: str) -> bool:
    """Create the file, whole; False when there is one."""
    from ciranda.store import files

    if path.exists():
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Invalid(f"{path.parent} is a file, not a folder", where=str(path), remedy="name another folder") from None
    files.write_atomic(path, content, mode=0o644)
    return True


def _told(desk: Desk, place: Path, made: list[str], kept: list[str]) -> None:
    for name in made:
        desk.screen.line(f"wrote {place / name}")
    for name in kept:
        desk.screen.line(f"kept  {place / name}")
    desk.tell(
        f"""
Next:
  ciranda up                                        start the platform; prints its address and, once, its key
  ciranda plan {place / "models"}                   see what these files would do
  ciranda apply {place / "models"}                  do it
  ciranda train smart-home --follow                 one run of the loop, live
  ciranda chat smart-home "turn on the kitchen light"
"""
    )


@verb("up", examples=["ciranda up", "ciranda up --home /srv/ciranda", "CIRANDA_CONTROL_PORT=0 ciranda up"])
def up(desk: Desk) -> None:
    """Start the platform here: control, collector, gateway, engines. Ctrl-C (or `ciranda down`) ends it cleanly."""
    from ciranda import loop

    loop.up(desk.home)


@verb("down", examples=["ciranda down", "ciranda down --home /srv/ciranda --wait 300"])
@click.option("--wait", default=150.0, show_default=True, metavar="SECONDS", help="How long running answers may take.")
def down(desk: Desk, wait: float) -> None:
    """End the platform of this home; answers that are under way are finished first."""
    pid = _supervisor(desk)
    if pid:
        os.kill(pid, signal.SIGTERM)
        with desk.screen.waiting("finishing what is under way"):
            _until_gone(desk, pid, wait)
    said = f"ended (process {pid})" if pid else "it was not up"
    desk.show({"home": str(desk.home.path), "ended": bool(pid)}, lambda: desk.screen.line(said))


def _supervisor(desk: Desk) -> int:
    """The process that holds this home's lock; 0 when nobody does. The lock, not the number in it, says that it lives."""
    try:
        with (desk.home.run / "supervisor.lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return 0
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return int((desk.home.run / "supervisor.lock").read_text() or 0)
    return 0


def _until_gone(desk: Desk, pid: int, wait: float) -> None:
    deadline = time.monotonic() + wait
    while _supervisor(desk) == pid:
        if time.monotonic() > deadline:
            raise Failed(
                f"process {pid} is still finishing answers after {wait:g} s",
                where=str(desk.home.path),
                remedy="wait longer with --wait, or run `ciranda down` again: a second signal does not wait",
            )
        time.sleep(POLL_S)


base = Noun(
    "base", examples=["ciranda base", "ciranda base prepare"], help="Base models: the weights that versions start from."
)


@verb("list", of=base, examples=["ciranda base list"])
def base_list(desk: Desk) -> None:
    """The bases that come as packages, and those that are prepared in this home."""
    from ciranda.train import bases

    folder = desk.home.bases
    names = sorted(
        {*bases.PACKAGED, *(path.name for path in folder.glob("[!.]*"))} if folder.exists() else bases.PACKAGED
    )
    found = [{"base": name, "prepared": (folder / name / "base.json").exists()} for name in names]
    rows = [(one["base"], one["prepared"]) for one in found]
    desk.show({"items": found}, lambda: desk.screen.table(("base", "prepared here"), rows))


@verb(
    "prepare",
    of=base,
    examples=["ciranda base prepare", "ciranda base prepare hf:org/name", "ciranda base prepare ./my-model"],
)
@click.argument("name", default="smollm2-135m-instruct")
def base_prepare(desk: Desk, name: str) -> None:
    """Make a base ready to train and serve: once per machine, kept in the cache that all homes share."""
    from ciranda.jobs.local import Local
    from ciranda.store import ids
    from ciranda.train import bases

    desk.home.make()
    known = bases.find(desk.home.bases, name)
    if known is None:
        key = f"base:{bases.slug(name)}:{ids.uuid7().hex[-8:]}"
        jobs = Local(desk.home.jobs)
        spec = bases.job(name, bases=desk.home.bases, cache=Path(desk.settings.cache), folder=desk.home.jobs / key)
        with desk.screen.waiting(f"preparing {name}"):
            jobs.submit(key, spec)
            _finish(jobs, key)
        known = bases.need(desk.home.bases, name)
    answer = {"base": name, "digest": known.digest, "folder": str(known.folder.resolve())}
    desk.show(answer, lambda: desk.screen.line(f"{name} is ready: {known.digest}"))


def _finish(jobs: Local, key: str) -> None:
    """Wait for a job; raises Failed with the end of its log when it did not succeed."""
    while jobs.status(key).state == "running":
        time.sleep(POLL_S)
    jobs.collect(key)
