"""Artefacts of runs, by MLflow's proxy protocol: files go up and come down in pieces, and never leave their run's folder.

`<experiment>/<run>/artifacts/<path>` is what clients make of a run's `artifact_uri`. The run decides whose folder it is; the rest
is a path of plain names below it. A file is written beside and renamed when it is whole, so a client that leaves, a bound or a full
disk leaves nothing. What is in a file is nobody's business here: nothing is ever unpickled or run.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ciranda.config import Home
from ciranda.errors import Invalid, NotFound, StorageFull, TooLarge
from ciranda.govern import audit
from ciranda.loop.platform import Platform
from ciranda.store import files, ids
from ciranda.train import logged, tracking
from ciranda.train.logged import Logged
from ciranda.train.tracking import Run
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.mlflow.door import Lenient, Nothing, tenant_of
from ciranda.web.openai.files import pieces

FILE_BYTES = 4 << 30
SPARED_BYTES = 1 << 30  # of the disk, for everything else
DEPTH, LONGEST = 32, 200
PLAIN = re.compile(r"[^/\\\x00-\x1f\x7f]+")
PLACE = re.compile(r"(\d{1,10})/(?:([0-9a-f]{32})|models/(m-[0-9a-f]{32}))(?:/artifacts(?:/(.*))?)?")


class Listed(Lenient):
    path: str = Field("", max_length=4000)


class OfRun(Listed):
    run_id: str = Field(max_length=64)


class Arrived(Lenient):
    """A file that has arrived whole, and waits for its name."""

    place: Path
    size: int


def folder_of(home: Home, run: str) -> Path:
    """Where the artefacts of a run, or of a logged model, are."""
    return home.tracked / run


def _where(call: Call[Any], path: str, *, to_write: bool = False) -> tuple[Path, str]:
    """The folder of the run or logged model that a path is about, and the way below it. Raises NotFound, Invalid."""
    match = PLACE.fullmatch(path.strip("/"))
    if match is None:
        raise Invalid(
            f"no path of an artefact: {path[:200]!r}", where="path", remedy="write <experiment>/<run>/artifacts/<file>"
        )
    owner: Run | Logged
    with call.platform.db.reading() as conn:
        if match[2]:
            owner = tracking.run(conn, tenant_of(call), match[2], to_write=to_write)
        else:
            owner = logged.get(conn, tenant_of(call), match[3], deleted=not to_write)
    if owner.experiment != int(match[1]):
        raise NotFound(f"{owner.id} is not of experiment {match[1]}", where="path", remedy="use its artifact_uri")
    return folder_of(call.platform.home, owner.id), below(match[4] or "")


def below(path: str) -> str:
    """A relative path of plain names, or an empty one. Raises Invalid."""
    names = path.split("/") if path else []
    odd = [one for one in names if one in ("", ".", "..") or len(one) > LONGEST or not PLAIN.fullmatch(one)]
    if odd or len(names) > DEPTH:
        raise Invalid(
            f"Invalid path: {path[:200]!r}", where="path", remedy="name the file by plain names below its run"
        )
    return path


async def receive(platform: Platform, request: Request) -> Arrived:
    """Read an artefact to its end. Raises TooLarge, StorageFull; nothing of it is left then."""
    declared = request.headers.get("content-length", "0")
    place, size = await run_in_threadpool(_room, platform.home, int(declared) if declared.isdecimal() else 0), 0
    try:
        with place.open("xb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > FILE_BYTES:
                    raise TooLarge(f"the artefact is over {FILE_BYTES:,} bytes", where="path", remedy="log it in parts")
                await run_in_threadpool(file.write, piece)
            await run_in_threadpool(_sync, file)
        return Arrived(place=place, size=size)
    except OSError as error:
        place.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(
            "the disk has no room for the artefact", where="artefacts", remedy="free some disk"
        ) from error
    except BaseException:
        place.unlink(missing_ok=True)
        raise


def _room(home: Home, size: int) -> Path:
    """Where to write a file of that size. Raises StorageFull before the disk is full for everybody."""
    home.tracked.mkdir(mode=0o700, parents=True, exist_ok=True)
    if shutil.disk_usage(home.tracked).free - size < SPARED_BYTES:
        raise StorageFull("the disk has no room for the artefact", where="artefacts", remedy="free some disk")
    return home.tracked / f".{ids.uuid7().hex}.part"


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def put(call: Call[Arrived]) -> Item:
    """Give the file its name, in place of one that was there."""
    arrived = call.asked
    try:
        folder, path = _where(call, call.path["path"], to_write=True)
        if not path:
            raise Invalid("an artefact needs a name", where="path", remedy="write <experiment>/<run>/artifacts/<file>")
        target = folder / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(arrived.place, target)
        files.sync_folder(target.parent)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise Invalid(
            f"{call.path['path'][:200]} is a file and a folder", where="path", remedy="choose another name"
        ) from error
    finally:
        arrived.place.unlink(missing_ok=True)
    with call.platform.db.writing() as conn:
        audit.record(
            conn,
            actor=call.actor,
            action="artefact.logged",
            subject=folder.name,
            detail={"path": path, "bytes": arrived.size},
        )
    return {}


def get(call: Call[Nothing]) -> Response:
    """The bytes of an artefact."""
    folder, path = _where(call, call.path["path"])
    target = folder / path
    if not path or not target.is_file():
        raise NotFound(f"No such artifact: {path[:200]!r}", where="path", remedy="list the artefacts of the run")
    headers = {
        "content-length": str(target.stat().st_size),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(pieces(target), media_type="application/octet-stream", headers=headers)


def delete(call: Call[Nothing]) -> Item:
    """Take a file or a folder away."""
    folder, path = _where(call, call.path["path"], to_write=True)
    target = folder / path
    if not target.exists():
        raise NotFound(f"No such artifact: {path[:200]!r}", where="path", remedy="list the artefacts of the run")
    if target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)
    with call.platform.db.writing() as conn:
        audit.record(conn, actor=call.actor, action="artefact.deleted", subject=folder.name, detail={"path": path})
    return {}


def listing(call: Call[Listed]) -> Item:
    """What lies in a folder, by its names alone."""
    folder, path = _where(call, call.asked.path)
    return {"files": _files(folder / path, "")}


def of_run(call: Call[OfRun]) -> Item:
    """The same, as the tracking API has it."""
    with call.platform.db.reading() as conn:
        run = tracking.run(conn, tenant_of(call), call.asked.run_id)
    path = below(call.asked.path.strip("/"))
    found = _files(folder_of(call.platform.home, run.id) / path, f"{path}/" if path else "")
    root = f"mlflow-artifacts:/{run.experiment}/{run.id}/artifacts"
    return {"root_uri": root, "files": found}


def _files(folder: Path, before: str) -> list[Item]:
    if not folder.is_dir():
        return []
    found = sorted(folder.iterdir(), key=lambda path: path.name)
    return [
        {
            "path": before + path.name,
            "is_dir": path.is_dir(),
            **({} if path.is_dir() else {"file_size": path.stat().st_size}),
        }
        for path in found
    ]
