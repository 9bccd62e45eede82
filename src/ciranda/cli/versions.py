"""`versions`: model versions, their names, what was live when; their cards, bills of materials and archives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.release import model_of
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import Refused

Told = dict[str, Any]
versions = Noun(
    "versions",
    examples=["ciranda versions list smart-home", "ciranda versions show smart-home@live"],
    help="Model versions: what they are made of, what they are called, what was live when.",
)


@verb("list", of=versions, examples=["ciranda versions list smart-home"])
@click.argument("model", default="")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
def listing(desk: Desk, model: str, **asked: Any) -> None:
    """The versions of a model, newest first; without a model, what is live of each."""
    if not model:
        _lives(desk, desk.control.get("/live"))
        return
    told = desk.control.get(f"/models/{part(model)}/versions", **asked)
    names: dict[int, list[str]] = {}
    for one in desk.control.get(f"/models/{part(model)}/aliases")["items"]:
        names.setdefault(one["number"], []).append(one["name"])
    rows = [
        (one["ref"], one["stage"], ", ".join(names.get(one["number"], ())), one["dataset"], one["base"], one["digest"][:19],
         one["created_by"], ago(one["created_at"]))
        for one in told["items"]
    ]  # fmt: skip
    titles = ("version", "stage", "names", "data", "base", "digest", "by", "age")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="no version yet"))


@verb("show", of=versions, examples=["ciranda versions show smart-home@2", "ciranda versions show smart-home@champion"])
@click.argument("version")
def show(desk: Desk, version: str) -> None:
    """One version: what it is made of, its verdicts, what people said, where it has been."""
    told = desk.control.get(f"/versions/{exact(desk, version)}")
    desk.show(told, lambda: _draw(desk, told))


def exact(desk: Desk, version: str) -> str:
    """A version by its number, whatever it was called."""
    model, name = model_of(version), version.rpartition("@")[2]
    if name.isdecimal():
        return f"{part(model)}@{name}"
    return str(desk.control.get(f"/models/{part(model)}/versions/{part(name)}")["ref"])


def _draw(desk: Desk, told: Told) -> None:
    shown = ("ref", "stage", "digest", "base", "dataset", "adapter_digest", "trial", "turn", "created_at", "created_by")
    desk.screen.facts((name, told[name]) for name in shown if told[name])
    desk.screen.facts([("names", ", ".join(told["names"])), ("gate", told["admission"]["barrier"] or "open")])
    said = [(one["kind"], one["outcome"], one["actor"], ago(one["at"]), one["note"]) for one in told["verdicts"]]
    desk.screen.table(("verdict", "outcome", "by", "age", "why"), said, empty="never judged")
    words = [(one["said"], one["actor"], ago(one["at"]), one["note"]) for one in told["words"]]
    if words:
        desk.screen.table(("said", "by", "age", "note"), words)
    been = [(one["stage"], one["at"], one["actor"], one["reason"]) for one in told["history"]]
    desk.screen.table(("stage", "at", "by", "why"), been, empty="no history")


@verb("name", of=versions, examples=["ciranda versions name smart-home@2 champion"])
@click.argument("version")
@click.argument("name")
def name(desk: Desk, version: str, name: str) -> None:
    """Let a name stand for a version; it leaves the version it stood for. It sends no traffic."""
    told = desk.control.post(f"/models/{part(model_of(version))}/name", {"version": version, "name": name})
    desk.show(told, lambda: desk.screen.line(f"{told['model']}@{told['name']} is {told['ref']}", "green"))


@verb("unname", of=versions, examples=["ciranda versions unname smart-home champion"])
@click.argument("model")
@click.argument("name")
def unname(desk: Desk, model: str, name: str) -> None:
    """Take a name away."""
    told = desk.control.post(f"/models/{part(model)}/unname", {"name": name})
    desk.show(told, lambda: desk.screen.line(f"{told['ref']} is not called {told['name']} any more"))


@verb(
    "live",
    of=versions,
    examples=[
        "ciranda versions live",
        "ciranda versions live smart-home --at 2026-11-23T14:18:00Z",
        "ciranda versions live --at 7d",
    ],
)
@click.argument("model", default="")
@click.option("--at", default="", help="A time, or how long ago (15m, 24h, 7d); without it, now.")
def live(desk: Desk, model: str, at: str) -> None:
    """What was live at a moment: from the append-only history of stages."""
    asked = {"at": at} if at else {}
    if not model:
        _lives(desk, desk.control.get("/live", **asked))
        return
    told = desk.control.get(f"/models/{part(model)}/live", **asked)
    desk.show(told, lambda: desk.screen.facts((name, value or "nothing") for name, value in told.items()))


def _lives(desk: Desk, told: Told) -> None:
    rows = [(model, ref or "nothing") for model, ref in told["models"].items()]
    desk.show(told, lambda: desk.screen.table(("model", f"live at {told['at']}"), rows, empty="no model yet"))


@verb("history", of=versions, examples=["ciranda versions history smart-home"])
@click.argument("model")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
def history(desk: Desk, model: str, **asked: Any) -> None:
    """Every change of stage of a model's versions, newest first."""
    told = desk.control.get(f"/models/{part(model)}/history", **asked)
    rows = [(one["at"], f"{model}@{one['number']}", one["stage"], one["actor"], one["reason"]) for one in told["items"]]
    desk.show(told, lambda: desk.screen.table(("at", "version", "stage", "by", "why"), rows, empty="no change yet"))


@verb(
    "card", of=versions, examples=["ciranda versions card smart-home@2", "ciranda versions card smart-home@2 card.md"]
)
@click.argument("version")
@click.argument("file", default="-", type=click.Path(dir_okay=False))
def card(desk: Desk, version: str, file: str) -> None:
    """The model card of a version, in the manner of Hugging Face, as it stands now."""
    written(desk, desk.control.download(f"/versions/{exact(desk, version)}/card"), file)


@verb("bom", of=versions, examples=["ciranda versions bom smart-home@2 bom.cdx.json"])
@click.argument("version")
@click.argument("file", default="-", type=click.Path(dir_okay=False))
def bom(desk: Desk, version: str, file: str) -> None:
    """The bill of materials of a version: CycloneDX 1.6 with its machine-learning profile."""
    written(desk, desk.control.download(f"/versions/{exact(desk, version)}/bom"), file)


def written(desk: Desk, pieces: Iterator[bytes], file: str) -> int:
    """Write a download to a file, whole or not at all, or to the terminal."""
    if file == "-":
        for piece in pieces:
            click.echo(piece, nl=False)
        return 0
    target, size = Path(file), 0
    beside = target.with_name(f".{target.name}.part")
    try:
        with beside.open("wb") as into:
            for piece in pieces:
                size += into.write(piece)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    desk.tell(f"{file}: {size:,} bytes")
    return size


@verb("export", of=versions, examples=["ciranda versions export smart-home@2 smart-home-2.zip"])
@click.argument("version")
@click.argument("file", type=click.Path(dir_okay=False))
def export(desk: Desk, version: str, file: str) -> None:
    """A version as one signed archive, to be brought into another installation."""
    ref = exact(desk, version)
    size = written(desk, desk.control.download(f"/versions/{ref}/archive"), file)
    told = {"version": ref, "file": file, "bytes": size, "signer": desk.control.get("/signer")["fingerprint"]}
    desk.show(told, lambda: desk.screen.facts(told.items()))


@verb(
    "import",
    of=versions,
    examples=["ciranda versions import smart-home smart-home-2.zip --signer ed25519:9c1f0c7e…"],
)
@click.argument("model")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--signer", default="", help="Who must have signed it; without it, this installation itself.")
def import_(desk: Desk, model: str, file: str, signer: str) -> None:
    """Bring a version in from an archive: it begins as a candidate, and its gates are judged here (`ciranda evaluate`)."""
    with Path(file).open("rb") as source:
        size = Path(file).stat().st_size
        told = desk.control.upload(f"/models/{part(model)}/versions", source, size, signer=signer)
    shown = [(name, told[name]) for name in ("ref", "stage", "digest", "base")]
    desk.show(told, lambda: desk.screen.facts([*shown, ("came as", told["origin"].get("ref", "our own"))]))


@verb("signer", of=versions, examples=["ciranda versions signer"])
def signer(desk: Desk) -> None:
    """Who signs here: the fingerprint to tell others by another way than the archive, and the public key."""
    told = desk.control.get("/signer")
    desk.show(told, lambda: click.echo(f"{told['fingerprint']}\n{told['public_key'].strip()}"))


@verb(
    "verify",
    of=versions,
    examples=[
        "ciranda versions verify smart-home@2",
        "ciranda versions verify smart-home-2.zip --signer ed25519:9c1f0c7e…",
    ],
)
@click.argument("what", metavar="VERSION|ARCHIVE")
@click.option("--signer", default="", help="Who must have signed the archive; without it, this installation.")
def verify(desk: Desk, what: str, signer: str) -> None:
    """Whether every file of a version, or of an archive (which needs nobody to be up), is what its signed manifest says."""
    path = Path(what)
    told = _opened(desk, path, signer) if path.is_file() else desk.control.get(f"/versions/{exact(desk, what)}/verify")
    if told["ok"]:
        desk.show(told, lambda: desk.screen.line(f"{told['version']} is whole, signed by {told['signer']}", "green"))
        return
    if desk.json:
        desk.show(told, lambda: None)
    raise Refused(
        f"{told['version']} is not whole: {told['problems'][0]}", where="manifest",
        remedy="bring the file back from a backup, or import the version again",
    )  # fmt: skip


def _opened(desk: Desk, path: Path, signer: str) -> Told:
    import tempfile

    from ciranda.govern import signatures
    from ciranda.registry import archive

    who = signer or signatures.signer(desk.home).fingerprint
    with tempfile.TemporaryDirectory(prefix="ciranda-") as folder:
        found = archive.unpack(path, Path(folder), signer=who)
    return {"version": found.manifest.ref, "ok": True, "problems": [], "signer": found.signer}


@verb("remove", of=versions, examples=['ciranda versions remove smart-home@3 --reason "its data was withdrawn"'])
@click.argument("version")
@click.option("--reason", required=True, help="Why; kept in the audit log.")
def remove(desk: Desk, version: str, reason: str) -> None:
    """Take a version's weights away for good (admins). What is said of it stays: row, card, verdicts, lineage."""
    told = desk.control.post(f"/versions/{exact(desk, version)}/remove", {"reason": reason})
    desk.show(told, lambda: desk.screen.line(f"the weights of {told['ref']} are gone since {told['removed_at']}"))
