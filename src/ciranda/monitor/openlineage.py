"""Lineage as OpenLineage events to an address or a file of the settings, after things happened. Off without one.

The control database is the queue, so nothing is kept in memory and nothing is lost: three rows of `exports` say how far ended
ingestions, the audit log (commits, registrations) and ended trials have been told, and are moved on after the receiver took them.
A kill between the two sends a batch again, under the same run ids. It begins with what comes after it was switched on. What ends is
told some seconds later, since a transaction may commit later than the moment that it wrote down.

A receiver that is away, busy or asks for another key is asked again, ever more slowly. An event that it calls bad (400, 413, 422)
is passed over, logged and counted. It refuses redirects: where names of data go is what the setting says.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import sqlalchemy as sa

from ciranda.config import Settings
from ciranda.data import descriptions, statistics, tags, versions
from ciranda.data.descriptions import Description
from ciranda.data.fields import FIELDS
from ciranda.data.sources import ingestions
from ciranda.errors import CirandaError, Invalid, Unavailable
from ciranda.govern.audit import audit_events
from ciranda.monitor import export, facets
from ciranda.monitor.facets import Event
from ciranda.registry import versions as registry
from ciranda.store import clock
from ciranda.store.database import Database
from ciranda.train.trials import searches, trials

log = logging.getLogger("ciranda.openlineage")
BATCH = 100
SETTLED_S = 5.0  # an end is told this much later
TIMEOUT_S = 10.0
WAITS = frozenset({401, 403, 404, 408, 429})
PARTS = ("ingestions", "audit", "trials")


class Lineage:
    """The events of one home. `tick` again and again, from one process at a time.

    Args:
        settings: `openlineage`, `openlineage_key_file` and `openlineage_namespace`.
    """

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db, self._settings = db, settings
        self._namespace = settings.openlineage_namespace

    def tick(self) -> int:
        """Tell what has come since the last look; says how many events that were.

        Raises Unavailable when the receiver takes nothing at present, Invalid when a setting is wrong.
        """
        return sum(self._part(name) for name in PARTS)

    def _part(self, name: str) -> int:
        done = export.position(self._db, f"openlineage:{name}")
        if done is None:
            export.move(self._db, f"openlineage:{name}", self._head(name))
            return 0
        look: Callable[[str], list[tuple[str, list[Event]]]] = getattr(self, f"_{name}")
        count = 0
        for cursor, events in look(done):
            taken = [self._send(event) for event in events]
            export.move(
                self._db, f"openlineage:{name}", cursor, sent=sum(taken), refused=len(taken) - sum(taken)
            )  # fmt: skip
            count += sum(taken)
        return count

    def _head(self, name: str) -> str:
        """Where a part begins when it is switched on."""
        if name != "audit":
            return self._until()
        with self._db.reading() as conn:
            return str(conn.execute(sa.select(sa.func.max(audit_events.c.number))).scalar() or 0)

    def _until(self) -> str:
        return clock.iso(clock.now() - timedelta(seconds=SETTLED_S))

    # --- what happened ------------------------------------------------------------------------------------------------

    def _ended(self, table: sa.Table, after: str) -> Iterator[tuple[str, list[sa.RowMapping]]]:
        """Rows that ended since, by the moment of their end."""
        window = (table.c.ended_at > after) & (table.c.ended_at <= self._until())
        query = sa.select(table).where(window).order_by(table.c.ended_at, table.c.id).limit(BATCH)
        with self._db.reading() as conn:
            found = list(conn.execute(query).mappings())
        groups: dict[str, list[sa.RowMapping]] = {}
        for row in found:
            groups.setdefault(row["ended_at"], []).append(row)
        if len(found) == BATCH and len(groups) > 1:
            groups.pop(found[-1]["ended_at"])  # it may have been cut
        yield from groups.items()

    def _ingestions(self, after: str) -> list[tuple[str, list[Event]]]:
        return [
            (moment, [event for row in rows for event in self._ingestion(row)])
            for moment, rows in self._ended(ingestions, after)
        ]

    def _ingestion(self, row: sa.RowMapping) -> list[Event]:
        error = "" if row["state"] == "done" else str((row["error"] or {}).get("message") or row["state"])
        output = facets.dataset(self._namespace, row["version"] or row["dataset"])
        return facets.pair(
            "ingestion", row["id"], f"ingest.{row['dataset']}", namespace=self._namespace, started_at=row["started_at"],
            ended_at=row["ended_at"], inputs=[facets.source(self._namespace, row["source"])], outputs=[output], error=error,
        )  # fmt: skip

    def _trials(self, after: str) -> list[tuple[str, list[Event]]]:
        found = []
        for moment, rows in self._ended(trials, after):
            found.append((moment, [event for row in rows for event in self._trial(row)]))
        return found

    def _trial(self, row: sa.RowMapping) -> list[Event]:
        with self._db.reading() as conn:
            search = conn.execute(sa.select(searches).where(searches.c.id == row["search"])).mappings().one()
        error = str(row["reason"] or "failed") if row["state"] == "failed" else ""
        data = [facets.dataset(self._namespace, search["dataset"])] if search["dataset"] else []
        return facets.pair(
            "training", row["id"], f"train.{search['model']}", namespace=self._namespace, started_at=row["started_at"],
            ended_at=row["ended_at"], inputs=data, error=error,
        )  # fmt: skip

    def _audit(self, after: str) -> list[tuple[str, list[Event]]]:
        told = audit_events.c.action.in_(("dataset.committed", "version.registered"))
        query = sa.select(audit_events).where(audit_events.c.number > int(after), told).order_by(audit_events.c.number)
        with self._db.reading() as conn:
            found = list(conn.execute(query.limit(BATCH)).mappings())
        make = {"dataset.committed": self._commit, "version.registered": self._registered}
        return [(str(row["number"]), make[row["action"]](row["subject"])) for row in found]

    def _commit(self, ref: str) -> list[Event]:
        try:
            made = versions.get(self._db, ref)
        except CirandaError:  # it was taken away in the meantime
            return []
        with self._db.reading() as conn:
            said = descriptions.of(conn, made.name).get("", Description())
            words = tags.of(conn, made.name)
            runs = conn.execute(sa.select(ingestions).where(ingestions.c.version == ref)).mappings().all()
        counted = statistics.of(self._db, ref)
        held = [one.name for one in counted if one.rows > one.empty] if counted else list(FIELDS)
        inputs = [facets.dataset(self._namespace, parent) for parent in made.parents]
        inputs += [facets.source(self._namespace, run["source"]) for run in runs]
        run = (facets.run_of("ingestion", runs[0]["id"]), f"ingest.{made.name}") if runs else None
        return facets.pair(
            "commit", ref, f"commit.{made.name}", namespace=self._namespace, started_at=made.created_at,
            ended_at=made.created_at, inputs=inputs, parent=run,
            outputs=[facets.version(self._namespace, made, said, words, held)],
        )  # fmt: skip

    def _registered(self, ref: str) -> list[Event]:
        try:
            with self._db.reading() as conn:
                made = registry.get(conn, ref)
        except CirandaError:
            return []
        run = (facets.run_of("training", made.trial), f"train.{made.model}") if made.trial else None
        return facets.pair(
            "register", ref, f"register.{made.model}", namespace=self._namespace, started_at=made.created_at,
            ended_at=made.created_at, inputs=[facets.dataset(self._namespace, made.dataset)] if made.dataset else [],
            outputs=[facets.model(self._namespace, ref, made.digest)], parent=run,
        )  # fmt: skip

    # --- where it goes ------------------------------------------------------------------------------------------------

    def _send(self, event: Event) -> bool:
        """Whether the receiver took it. Raises Unavailable when it takes nothing at present."""
        place = self._settings.openlineage
        if place.startswith("file:"):
            _append(Path(place.removeprefix("file:").removeprefix("//")).expanduser(), event)
            return True
        if urlsplit(place).scheme not in ("http", "https"):
            raise Invalid(
                f"{place[:100]!r} takes no events", where="setting openlineage",
                remedy="an address, https://host:5000/api/v1/lineage, or a file: file:/var/log/lineage.jsonl",
            )  # fmt: skip
        return self._post(place, event)

    def _post(self, place: str, event: Event) -> bool:
        url = place if urlsplit(place).path.strip("/") else f"{place.rstrip('/')}/api/v1/lineage"
        try:
            answer = httpx.post(url, json=event, headers=self._key(), timeout=TIMEOUT_S, follow_redirects=False)
        except httpx.HTTPError as error:
            raise _away(f"{type(error).__name__}: {error}") from error
        if answer.status_code < 300:
            return True
        if answer.status_code in WAITS or answer.status_code >= 500 or answer.status_code < 400:
            raise _away(f"it answered {answer.status_code}: {answer.text[:200]!r}")
        log.warning("%s does not take %s: %s", url, event["job"]["name"], answer.text[:200])
        return False

    def _key(self) -> dict[str, str]:
        file = self._settings.openlineage_key_file
        if not file:
            return {}
        try:
            return {"authorization": f"Bearer {Path(file).expanduser().read_text().strip()}"}
        except OSError as error:
            raise Invalid(
                f"the key cannot be read: {error}", where=file, remedy="correct openlineage_key_file"
            ) from error


def _append(path: Path, event: Event) -> None:
    """One line, whole and synced."""
    line = (json.dumps(event, ensure_ascii=False) + "\n").encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _away(f"{path}: {error.strerror}") from error


def _away(reason: str) -> Unavailable:
    return Unavailable(
        f"the receiver of lineage takes nothing: {reason}", where="setting openlineage",
        remedy="start it, or correct openlineage and openlineage_key_file; what waits is sent then",
    )  # fmt: skip
