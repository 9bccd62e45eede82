"""Model versions: names, history, what waits for people; their cards, bills of materials and archives."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from pydantic import Field
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from ciranda.errors import NotFound, StorageFull, TooLarge
from ciranda.govern import signatures
from ciranda.loop import archives, gatekeeping
from ciranda.loop.platform import Platform
from ciranda.registry import aliases, folders, models, removal, versions
from ciranda.registry import bom as boms
from ciranda.registry import card as cards
from ciranda.registry import history as stages
from ciranda.store import clock, ids
from ciranda.web.api import rows
from ciranda.web.api.asked import Asked, Moment, Nothing, Page, Reason, Reference
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item

LARGEST = 64 << 30  # bytes of an archive


class Alias(Asked):
    """A name for a version."""

    version: Reference
    name: str = Field(max_length=63, description="The name, such as champion; it leaves the version it stood for.")


class Brought(Asked):
    """An archive: the body is the file itself."""

    signer: str = Field(
        "", pattern=r"^(ed25519:[0-9a-f]{64})?$", description="Who must have signed it; without it, this installation."
    )
    arrived: str = Field("", exclude=True, description="Where the body was written; not for callers.")


class Unnamed(Asked):
    """A name to take away."""

    name: str = Field(max_length=63, description="The name.")


class At(Asked):
    """A moment."""

    at: Moment | None = Field(None, description="A time, or how long ago (`15m`, `24h`, `7d`); without it, now.")


def waiting(call: Call[Page]) -> Item:
    """What waits for people, the oldest first."""
    found = [one.to_dict() for one in gatekeeping.waiting(call.platform, call.reaches)]
    mark = tuple(map(str, rows.place(call.asked.cursor, 2))) if call.asked.cursor else ("", "")
    later = [one for one in found if (one["since"], one["version"]) > mark]
    shown = later[: call.asked.limit]
    last = shown[-1] if len(later) > len(shown) else None
    return rows.listed(shown, rows.cursor([last["since"], last["version"]]) if last else None)


def named(call: Call[Nothing]) -> Item:
    """The names of a model's versions."""
    with call.platform.db.reading() as conn:
        models.get(conn, call.path["model"])
        return {"items": [one.to_dict() for one in aliases.of(conn, call.path["model"])], "next": None}


def which(call: Call[Nothing]) -> Item:
    """The version that a name means."""
    with call.platform.db.reading() as conn:
        ref = aliases.resolve(conn, f"{call.path['model']}@{call.path['name']}")
        return versions.get(conn, ref).to_dict()


def name(call: Call[Alias]) -> Item:
    """Let a name stand for a version. It sends no traffic."""
    with call.platform.db.writing() as conn:
        ref = aliases.resolve(conn, call.asked.version)
        if versions.split(ref)[0] != call.path["model"]:
            raise NotFound(f"{ref} is no version of {call.path['model']}", where="body: version",
                           remedy=f"name a version {call.path['model']}@<n>")  # fmt: skip
        return aliases.put(conn, ref, call.asked.name, actor=call.actor).to_dict()


def unname(call: Call[Unnamed]) -> Item:
    """Take a name away."""
    with call.platform.db.writing() as conn:
        return aliases.remove(conn, call.path["model"], call.asked.name, actor=call.actor).to_dict()


def history(call: Call[Page]) -> Item:
    """Every change of stage of a model's versions, newest first: an append-only table."""
    model = call.path["model"]
    with call.platform.db.reading() as conn:
        models.get(conn, model)
    return rows.page(call.platform.db, "version_stages", call.asked, order="sequence", model=model)


def live_at(call: Call[At]) -> Item:
    """What was live at a moment, of every model that the key reaches."""
    at = call.asked.at or clock.iso()
    with call.platform.db.reading() as conn:
        names = [one.name for one in models.every(conn) if call.reaches(one.name)]
        lives = {name: stages.live_at(conn, name, clock.parse(at)) for name in names}
    return {"at": at, "models": lives}


def live_of(call: Call[At]) -> Item:
    """What was live of one model at a moment."""
    at, model = call.asked.at or clock.iso(), call.path["model"]
    with call.platform.db.reading() as conn:
        models.get(conn, model)
        ref = stages.live_at(conn, model, clock.parse(at))
        found = versions.get(conn, ref) if ref else None
    return {"model": model, "at": at, "version": ref, "digest": found.digest if found else None}


def card(call: Call[Nothing]) -> Response:
    """The model card as it stands now, in Markdown."""
    with call.platform.db.reading() as conn:
        text = cards.write(versions.known(conn, versions.get(conn, _ref(call))))
    return Response(text, media_type="text/markdown; charset=utf-8", headers=_named(call, "md"))


def bom(call: Call[Nothing]) -> Response:
    """The bill of materials, CycloneDX."""
    with call.platform.db.reading() as conn:
        found = versions.get(conn, _ref(call))
        record = versions.known(conn, found)
    told = boms.write(record, folders.listed(Path(found.folder)))
    content = json.dumps(told, indent=1, ensure_ascii=False)
    return Response(content, media_type="application/vnd.cyclonedx+json; version=1.6", headers=_named(call, "cdx.json"))


def verify(call: Call[Nothing]) -> Item:
    """Whether every file of a version is what its signed manifest says."""
    with call.platform.db.reading() as conn:
        found = versions.get(conn, _ref(call))
    signer = signatures.signer(call.platform.home)
    problems = folders.verify(Path(found.folder), signer=signer.fingerprint)
    return {"version": found.ref, "ok": not problems, "problems": problems, "signer": signer.fingerprint}


def signer(call: Call[Nothing]) -> Item:
    """Who signs here: what others are told by another way than the archive."""
    return dict(signatures.signer(call.platform.home).to_dict())


def taken(call: Call[Nothing]) -> Response:
    """A version as one file."""
    path, digest = archives.take(call.platform, _ref(call), call.actor)
    headers = {**_named(call, "zip"), "x-archive-sha256": digest}
    return FileResponse(path, media_type="application/zip", headers=headers, background=BackgroundTask(path.unlink))


async def arrive(platform: Platform, request: Request) -> dict[str, str]:
    """Write the body to a file, counted while it comes; a full disk, or one that sends too much, leaves nothing behind."""
    path, size = (await run_in_threadpool(archives.arrivals, platform)) / f"{ids.new('arrived')}.zip", 0
    try:
        with path.open("xb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > LARGEST:
                    raise TooLarge(
                        f"the archive is over {LARGEST} bytes", where="body", remedy="export a smaller version"
                    )
                await run_in_threadpool(file.write, piece)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("no room for the archive", where=str(path.parent), remedy="free some disk") from None
        raise
    return {"signer": request.query_params.get("signer", ""), "arrived": str(path)}


def brought(call: Call[Brought]) -> Item:
    """Make a candidate of an archive. Its gates are judged here, whatever they said elsewhere."""
    path = Path(call.asked.arrived)
    try:
        found = archives.bring(call.platform, call.path["model"], path, signer=call.asked.signer, actor=call.actor)
    finally:
        path.unlink(missing_ok=True)
    return found.to_dict()


def remove(call: Call[Reason]) -> Item:
    """Take a version's weights away for good; what is said of it stays."""
    found = removal.remove(call.platform.db, call.platform.home, _ref(call), reason=call.asked.reason, actor=call.actor)
    return found.to_dict()


def _ref(call: Call[Any]) -> str:
    return f"{call.path['model']}@{call.path['number']}"


def _named(call: Call[Any], ending: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{_ref(call)}.{ending}"', "cache-control": "no-store"}
