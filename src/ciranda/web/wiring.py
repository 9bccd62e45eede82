"""The verbs behind the buttons, as the loop and its neighbours have them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ciranda import loop
from ciranda.config.bounds import Bounds
from ciranda.data import aliases, branches, descriptions, glossary
from ciranda.data.descriptions import Change
from ciranda.errors import NotFound
from ciranda.govern import access, tenants
from ciranda.govern.access import Principal
from ciranda.govern.public import Public
from ciranda.loop import calibrating, feeding, replaying, reproduce, reviews, runs, searching
from ciranda.loop.platform import Platform
from ciranda.monitor import alerts
from ciranda.registry import aliases as labels
from ciranda.registry import removal
from ciranda.train import search as searches
from ciranda.train import trials as rows
from ciranda.web.load.reviews import looked
from ciranda.web.views.reviews import Looked


class Wired:
    """The verbs of one platform."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def rollback(self, model: str, *, to: str, actor: str) -> dict[str, Any]:
        began = time.monotonic()
        done = loop.rollback(self.platform, model, actor, to=to)
        return {**done, "seconds": time.monotonic() - began}

    def promote(self, version: str, *, actor: str) -> None:
        loop.promote(self.platform, version, actor)

    def approve(self, model: str, *, note: str, actor: str) -> None:
        loop.approve(self.platform, model, actor, note=note)

    def say(self, version: str, *, yes: bool, note: str, actor: str) -> None:
        model = version.rpartition("@")[0]
        if yes:
            loop.approve(self.platform, model, actor, note=note, version=version)
        else:
            loop.decline(self.platform, model, actor, note, version=version)

    def override(self, version: str, *, reason: str, actor: str, role: str) -> None:
        loop.override(self.platform, version, actor=actor, role=role, note=reason)

    def remove_version(self, version: str, *, reason: str, actor: str) -> None:
        removal.remove(self.platform.db, self.platform.home, version, reason=reason, actor=actor)

    def alias(self, version: str, name: str, *, actor: str) -> None:
        with self.platform.db.writing() as conn:
            labels.put(conn, version, name, actor=actor)

    def unalias(self, version: str, name: str, *, actor: str) -> None:
        with self.platform.db.writing() as conn:
            held = labels.find(conn, version.rpartition("@")[0], name)
            if held is None or held.ref != version:
                raise NotFound(f"{version} is not called {name!r}", where="name", remedy="reload the page")
            labels.remove(conn, held.model, name, actor=actor)

    def turn(self, model: str, *, event: str, actor: str) -> str:
        return loop.start_turn(self.platform, model, cause="person", event=event, actor=actor)

    def cancel_run(self, run: str, *, actor: str) -> None:
        runs.cancel(self.platform, rows.find(self.platform.db, run), actor=actor)

    def reproduce(self, version: str, *, actor: str) -> str:
        return reproduce.ask(self.platform, version, actor=actor).id

    def search(self, model: str, *, event: str, trials: int | None, actor: str) -> str:
        bounds = {"limit": trials} if trials else {}
        return searching.start(self.platform, model, actor=actor, event=event, bounds=bounds)

    def search_stop(self, search: str, *, actor: str) -> None:
        searches.stop(self.platform.db, search, actor=actor)

    def search_resume(self, search: str, *, trials: int | None, actor: str) -> None:
        searches.resume(self.platform.db, search, actor=actor, bounds={"limit": trials} if trials else {})

    def search_workers(self, search: str, workers: int, *, actor: str) -> None:
        searches.staff(self.platform.db, search, workers, actor=actor)

    def search_release(self, search: str, *, actor: str) -> str:
        return searching.release(self.platform, search, actor=actor)

    def review_next(self, queue: str, who: Principal) -> Looked | None:
        found = reviews.ask(self.platform, queue, who)
        return looked(*found) if found else None

    def review_say(
        self, queue: str, item: str, who: Principal, *, verdict: str, correction: str, note: str, once: str
    ) -> None:
        reviews.say(self.platform, queue, item, who, verdict=verdict, correction=correction, note=note, once=once[:100])

    def review_undo(self, queue: str, who: Principal) -> None:
        reviews.undo(self.platform, queue, who)

    def review_fill(self, queue: str, who: Principal, *, count: int, of: str) -> dict[str, Any]:
        return reviews.fill(self.platform, queue, who, count=count, of=of)

    def review_commit(self, queue: str, who: Principal) -> dict[str, Any]:
        return reviews.commit(self.platform, queue, who)

    def calibrate(self, judge: str, who: Principal, *, queue: str, everything: bool) -> None:
        calibrating.calibrate(self.platform, judge, who, queue=queue, everything=everything)

    def replay(self, version: str, *, judge: str, actor: str) -> str:
        return replaying.begin(self.platform, version, by=judge, actor=actor).id

    def acknowledge(self, alert: str, *, actor: str) -> None:
        with self.platform.db.writing() as conn:
            alerts.acknowledge(conn, alert, actor=actor)

    def ingest(self, dataset: str, *, actor: str) -> None:
        feeding.ask(self.platform, dataset, actor)

    def bad_rows(self, dataset: str, *, rows: Sequence[str], retry: bool, actor: str) -> None:
        feeding.judge_bad_rows(self.platform, dataset, actor, names=rows, retry=retry)

    def revert(self, ref: str, *, parent: str, actor: str) -> str:
        made = branches.revert(self.platform.db, self.platform.home, ref, actor=actor, parent=parent or None)
        return made.ref

    def branch(self, ref: str, name: str, *, actor: str) -> str:
        return branches.branch(self.platform.db, self.platform.home, ref, name, actor=actor).ref

    def name_version(self, dataset: str, name: str, number: int, *, fixed: bool, actor: str) -> None:
        with self.platform.db.writing() as conn:
            aliases.put(conn, dataset, name, number, fixed=fixed, actor=actor)

    def create_key(
        self, name: str, *, role: str, models: Sequence[str], tenant: str, actor: str, public: Public | None = None
    ) -> str:
        with self.platform.db.writing() as conn:
            secret = access.create(conn, name, role=role, models=models, tenant=tenant, public=public, actor=actor)[1]
        loop.publish(self.platform)
        return secret

    def limit(self, scope: str, name: str, limits: Bounds, *, actor: str) -> None:
        change = access.limit if scope == "key" else tenants.limit
        with self.platform.db.writing() as conn:
            change(conn, name, limits, actor=actor)
        loop.publish(self.platform)

    def describe(self, dataset: str, field: str, change: Change, *, actor: str) -> None:
        with self.platform.db.writing() as conn:
            descriptions.change(conn, dataset, field, change, actor=actor)

    def define(self, term: str, *, definition: str, owner: str, synonyms: Sequence[str], actor: str) -> None:
        with self.platform.db.writing() as conn:
            glossary.put(conn, term, definition=definition, owner=owner, synonyms=synonyms, actor=actor)

    def undefine(self, term: str, *, actor: str) -> None:
        with self.platform.db.writing() as conn:
            glossary.remove(conn, term, actor=actor)

    def erase(self, subject: str, *, mentions: bool, actor: str) -> str:
        return loop.erase(self.platform, subject, mentions=mentions, actor=actor)

    def revoke_key(self, key: str, *, actor: str) -> None:
        with self.platform.db.writing() as conn:
            access.revoke(conn, key, actor=actor)
        loop.publish(self.platform)
