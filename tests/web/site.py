"""The app of the tests: a real home and database with real keys, and the showcase in place of a running loop.

python -m web.site            serves it, for looking at; prints the address and a key
"""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
from starlette.applications import Starlette

from ciranda.config import Home, Settings
from ciranda.config.bounds import Bounds
from ciranda.data.descriptions import Change
from ciranda.govern import access
from ciranda.govern import public as publics
from ciranda.govern.access import Principal
from ciranda.govern.public import Public
from ciranda.store.database import Database, metadata
from ciranda.web import __main__ as control
from ciranda.web.app import create
from ciranda.web.views.reviews import Looked
from web.showcase import HOME, LOOKED, Showcase


@dataclass
class Recorded:
    """Verbs that say what they were asked to do, and move the showcase accordingly."""

    reader: Showcase
    db: Database
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def rollback(self, model: str, *, to: str, actor: str) -> dict[str, Any]:
        self.asked.append(("rollback", model, to, actor))
        self.reader.running = False
        self.reader.live = to
        return {"seconds": 0.41}

    def promote(self, version: str, *, actor: str) -> None:
        self.asked.append(("promote", version, actor))
        self.reader.running = False
        self.reader.live = version

    def approve(self, model: str, *, note: str, actor: str) -> None:
        self.asked.append(("approve", model, note, actor))

    def say(self, version: str, *, yes: bool, note: str, actor: str) -> None:
        self.asked.append(("say", version, yes, note, actor))

    def turn(self, model: str, *, event: str, actor: str) -> str:
        self.asked.append(("turn", model, event, actor))
        return "turn_9"

    def override(self, version: str, *, reason: str, actor: str, role: str) -> None:
        self.asked.append(("override", version, reason, actor, role))

    def remove_version(self, version: str, *, reason: str, actor: str) -> None:
        self.asked.append(("remove", version, reason, actor))

    def alias(self, version: str, name: str, *, actor: str) -> None:
        self.asked.append(("alias", version, name, actor))

    def unalias(self, version: str, name: str, *, actor: str) -> None:
        self.asked.append(("unalias", version, name, actor))

    def calibrate(self, judge: str, who: Principal, *, queue: str, everything: bool) -> None:
        self.asked.append(("calibrate", judge, queue, everything))

    def replay(self, version: str, *, judge: str, actor: str) -> str:
        self.asked.append(("replay", version, judge, actor))
        return "replay_1"

    def cancel_run(self, run: str, *, actor: str) -> None:
        self.asked.append(("cancel_run", run, actor))

    def reproduce(self, version: str, *, actor: str) -> str:
        self.asked.append(("reproduce", version, actor))
        return "repro_1"

    def review_next(self, queue: str, who: Principal) -> Looked | None:
        return LOOKED if queue == HOME else None

    def review_say(
        self, queue: str, item: str, who: Principal, *, verdict: str, correction: str, note: str, once: str
    ) -> None:
        self.asked.append(("review", queue, item, verdict, correction, who.name))

    def review_undo(self, queue: str, who: Principal) -> None:
        self.asked.append(("undo", queue, who.name))

    def review_fill(self, queue: str, who: Principal, *, count: int, of: str) -> dict[str, Any]:
        self.asked.append(("fill", queue, count, of))
        return {"added": count}

    def review_commit(self, queue: str, who: Principal) -> dict[str, Any]:
        self.asked.append(("commit", queue))
        return {"dataset": f"{queue}@3"}

    def search(self, model: str, *, event: str, trials: int | None, actor: str) -> str:
        self.asked.append(("search", model, trials, actor))
        return "search:smart-home:nightly"

    def search_stop(self, search: str, *, actor: str) -> None:
        self.asked.append(("search_stop", search, actor))

    def search_resume(self, search: str, *, trials: int | None, actor: str) -> None:
        self.asked.append(("search_resume", search, trials, actor))

    def search_workers(self, search: str, workers: int, *, actor: str) -> None:
        self.asked.append(("search_workers", search, workers, actor))

    def search_release(self, search: str, *, actor: str) -> str:
        self.asked.append(("search_release", search, actor))
        return "turn_1"

    def acknowledge(self, alert: str, *, actor: str) -> None:
        self.asked.append(("acknowledge", alert, actor))
        self.reader.acknowledged.add(alert)

    def ingest(self, dataset: str, *, actor: str) -> None:
        self.asked.append(("ingest", dataset, actor))

    def bad_rows(self, dataset: str, *, rows: Sequence[str], retry: bool, actor: str) -> None:
        self.asked.append(("bad_rows", dataset, tuple(rows), retry, actor))

    def revert(self, ref: str, *, parent: str, actor: str) -> str:
        self.asked.append(("revert", ref, parent, actor))
        return "smart-home@3"

    def branch(self, ref: str, name: str, *, actor: str) -> str:
        self.asked.append(("branch", ref, name, actor))
        return f"{name}@1"

    def name_version(self, dataset: str, name: str, number: int, *, fixed: bool, actor: str) -> None:
        self.asked.append(("name", dataset, name, number, fixed, actor))

    def create_key(
        self, name: str, *, role: str, models: Sequence[str], tenant: str, actor: str, public: Public | None = None
    ) -> str:
        with self.db.writing() as conn:
            return access.create(conn, name, role=role, models=models, tenant=tenant, public=public, actor=actor)[1]

    def limit(self, scope: str, name: str, limits: Bounds, *, actor: str) -> None:
        self.asked.append(("limit", scope, name, limits.to_dict(), actor))

    def describe(self, dataset: str, field: str, change: Change, *, actor: str) -> None:
        self.asked.append(("describe", dataset, field, change.given(), actor))

    def define(self, term: str, *, definition: str, owner: str, synonyms: Sequence[str], actor: str) -> None:
        self.asked.append(("define", term, definition, owner, tuple(synonyms), actor))

    def undefine(self, term: str, *, actor: str) -> None:
        self.asked.append(("undefine", term, actor))

    def erase(self, subject: str, *, mentions: bool, actor: str) -> str:
        self.asked.append(("erase", subject, mentions, actor))
        return "erasure_1"

    def revoke_key(self, key: str, *, actor: str) -> None:
        self.asked.append(("revoke", key, actor))


@dataclass
class Site:
    """One served app, with a key for each role."""

    app: Starlette
    reader: Showcase
    verbs: Recorded
    db: Database
    keys: dict[str, str]
    url: str = ""


PEOPLE = tuple(role for role in access.ROLES if role != publics.ROLE)  # a public key signs nobody in


def make(folder: Path, *, empty: bool = False) -> Site:
    """The app of a fresh home in `folder`."""
    home = Home(folder)
    home.make()
    database = Database(f"sqlite:///{folder}/c.db")
    metadata.create_all(database.engine)
    with database.writing() as conn:
        keys = {role: access.create(conn, f"the {role}", role=role, actor="test")[1] for role in PEOPLE}
        keys["narrow"] = access.create(conn, "narrow", role="admin", models=[HOME], actor="test")[1]
    reader = Showcase(empty)
    verbs = Recorded(reader, database)
    platform = SimpleNamespace(home=home, settings=Settings(), db=database, interactions=None)
    app = create(platform, reader=reader, verbs=verbs)  # type: ignore[arg-type]
    return Site(app, reader, verbs, database, keys)


class Server(control.Server):
    """Control's server on a thread of the test."""

    def install_signal_handlers(self) -> None:
        pass


def serve(site: Site, port: int = 0) -> tuple[Server, threading.Thread]:
    """Serve on loopback; `site.url` says where."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    server = Server(uvicorn.Config(site.app, log_level="warning", timeout_graceful_shutdown=2), site.app.state.site.hub)
    site.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    return server, thread


if __name__ == "__main__":
    shown = make(Path(tempfile.mkdtemp()))
    _, running = serve(shown, 7790)
    print(shown.url, shown.keys["admin"], flush=True)
    running.join()
