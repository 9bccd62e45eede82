"""A person is forgotten, in the order in which their words travel: the record, the datasets, files, records of control, models.

    collect       what is theirs, while it is still there: ids, texts, rows; gateways drop the answers that they keep
    interactions  the collector takes them out of the record and of the spool
    datasets      every version is written anew without their rows
    files         staged rows, jobs, reports, logs, backups
    records       everything that control wrote down, from alerts to reports of checks
    models        versions that learnt from them are flagged, people are told, a turn may start
    proof         every file of the home is searched; the receipt is issued; the person's name goes

Each step may be killed anywhere and done again: it then finds less to do. No step gives anything of the person to the workflow's
own database. What cannot be taken back is named in the receipt: weights of models, and files that were exported.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ciranda.data import erasure as datasets
from ciranda.data import exports, uploads
from ciranda.data.erasure import Theirs
from ciranda.deploy import routing
from ciranda.errors import Conflict, Unavailable
from ciranda.evals import redaction
from ciranda.govern import audit, erasures, pseudonyms
from ciranda.govern.erasures import Erasure
from ciranda.loop import turns
from ciranda.loop.platform import Platform
from ciranda.monitor import alerts
from ciranda.registry import flags, models
from ciranda.store import clock, scrub
from ciranda.store.database import Database
from ciranda.store.scrub import Needles
from ciranda.train import studies
from ciranda.train.trials import searches

POLL_S = 0.2
PATIENCE_S = 5.0  # between looks at a collector that is away
UNREAD = (".gguf", ".safetensors", ".lance", ".manifest", ".txn", ".bin", ".idx")  # weights, and rows that Lance packed


class Erasing:
    """The steps of one erasure.

    Args:
        platform: The installation.
        identifier: The erasure's id; its row says who is meant.
    """

    def __init__(self, platform: Platform, identifier: str) -> None:
        self.platform, self.id = platform, identifier

    @property
    def row(self) -> Erasure:
        with self.platform.db.reading() as conn:
            return erasures.get(conn, self.id)

    def collect(self) -> None:
        """Write down what is theirs, before any of it goes; a second call finds the same or less, and keeps what was found."""
        row = self.row
        if row.step not in ("asked", "collect"):
            return
        self._go_on("collect")
        target = row.target or {}
        ids, said = self._record(str(target["subject"]), bool(target["mentions"]))
        theirs = self._theirs({**target, **ids})
        held = datasets.find(self.platform.db, self.platform.home, theirs)
        texts = {text for one in said for text in _words(one)} | held.texts
        found = {
            **ids,
            "texts": list(Needles.of((), texts).texts),
            "said": len(texts),
            "examples": sorted(held.examples),
            "versions": sorted(held.rows),
        }
        self._go_on("interactions", found=found, waits="the collector")
        routing.refresh(self.platform.db, self.platform.home)

    def interactions(self) -> None:
        """Wait for the collector, which alone writes the record."""
        while self.row.step == "interactions":
            time.sleep(POLL_S)

    def datasets(self) -> None:
        """Write every dataset version with rows of theirs anew."""
        if (row := self.row).step != "datasets":
            return
        removed = datasets.erase(self.platform.db, self.platform.home, self.id, self._theirs(row.target or {}))
        self._go_on("files", counts={"datasets": removed})

    def files(self) -> None:
        """Staged rows and finished runs go; what else lies in the home is searched for their words, which are written over."""
        if (row := self.row).step != "files":
            return
        staged = self._unstage([*row.counts.get("datasets", {}), *(row.target or {}).get("versions", ())])
        needles = self._needles(row)
        reports = redaction.redact(self.platform.db, self.platform.home, needles)
        asked = redaction.redact_suites(self.platform.db, self.platform.home, needles)
        blotted = sum(scrub.blot(path, needles) for path in self._written())
        uploads.resealed(self.platform.db, self.platform.home)
        self._go_on(
            "records",
            counts={"files": {"staged": staged, "reports": reports, "suites": asked, "written_over": blotted}},
        )

    def records(self) -> None:
        """What control wrote down, here and in the copies that migrations made."""
        if (row := self.row).step != "records":
            return
        needles = self._needles(row)
        changed: dict[str, int] = {}
        for database in self._databases():
            for table, count in scrub.database(database, needles, spared=frozenset({"erasures"})).items():
                changed[table] = changed.get(table, 0) + count
        self._go_on("models", counts={"records": changed})

    def models(self) -> None:
        """Flag the versions that learnt from them, tell people, and start a turn where the model's file says so."""
        if self.row.step != "models":
            return
        with self.platform.db.writing() as conn:
            refs = [f"{one['dataset']}@{one['number']}" for one in datasets.redactions(conn, self.id)]
            named = flags.flag(conn, self.id, flags.touched(conn, refs))
            for model in sorted({ref.rpartition("@")[0] for ref in named}):
                self._tell(conn, model, [ref for ref in named if ref.rpartition("@")[0] == model])
        self._go_on("proof", counts={"models": {"flagged": len(named)}})

    def proof(self) -> None:
        """Search every file, issue the receipt, forget the name, and leave nothing of it in the database's own files."""
        row = self.row
        if row.open:
            needles = self._needles(row)
            traces = [self._shown(path) for path in self._written() if needles.within(path)]
            with self.platform.db.writing() as conn:
                erasures.finish(conn, self.id, self._receipt(conn, row, traces))
        for database in self._databases():
            scrub.compact(database)

    # --- what is theirs -----------------------------------------------------------------------------------------------

    def _record(self, name: str, mentions: bool) -> tuple[dict[str, Any], list[dict[str, str]]]:
        """What the record holds of them; waits for a collector that is away."""
        while True:
            try:
                found, said = self.platform.interactions.theirs(name, mentions=mentions)
                break
            except Unavailable:
                self._go_on("collect", waits="the collector, which is not running")
                time.sleep(PATIENCE_S)
        put_right = [[one["interaction"], one["correction"].strip()] for one in said if one.get("correction")]
        return {"interactions": found["interactions"], "corrections": put_right}, said

    def _theirs(self, target: dict[str, Any]) -> Theirs:
        name = str(target["subject"])
        hashed = pseudonyms.hashed(pseudonyms.key_of(self.platform.home), "subject", name)
        return Theirs(
            frozenset({name, hashed}),
            frozenset(target.get("interactions", ())),
            frozenset((str(one), str(two)) for one, two in target.get("corrections", ())),
            frozenset((str(one), str(two)) for one, two in target.get("examples", ())),
            name if target.get("mentions") else "",
        )

    def _needles(self, row: Erasure) -> Needles:
        target = row.target or {}
        return Needles.of([str(target["subject"])], target.get("texts", ()))

    # --- where it lies ------------------------------------------------------------------------------------------------

    def _unstage(self, refs: Iterable[str]) -> int:
        """Remove what was written for training on these versions: the rows, and the folders of runs that have ended."""
        home, removed, asked = self.platform.home, 0, set(refs)
        for ref in asked:
            for path in (home.jobs / "rows").glob(f"{ref}-*"):
                path.unlink(missing_ok=True)
                removed += 1
        with self.platform.db.reading() as conn:
            ended = sa.select(searches.c.id).where(searches.c.dataset.in_(asked), searches.c.state != "running")
            known = [str(one) for one in conn.execute(ended).scalars()]
        for search in known:
            for folder in (*home.jobs.glob(f"train:{search}:*"), *home.jobs.glob(f"probe:{search}:*")):
                self.platform.jobs.forget(folder.name)
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        return removed

    def _written(self) -> Iterator[Path]:
        """Files of the home in which words may stand: not the bases, not the tables, not what Lance packs, not weights."""
        home = self.platform.home
        apart = (home.bases, home.interactions / "chdb", home.spool)
        databases = {f"{home.database}{end}" for end in ("", "-wal", "-shm")}
        for path in scrub.below(home.path):
            if any(path.is_relative_to(folder) for folder in apart) or path.suffix in UNREAD:
                continue
            if str(path) not in databases and not path.name.startswith(
                ("workflows.db", "studies.db", f"{home.database.name}.")
            ):
                yield path

    def _databases(self) -> Iterator[Database]:
        """Control's database, the workflows' (their errors may quote), and the copies made before migrations."""
        home = self.platform.home
        yield self.platform.db
        others = [
            home.path / "workflows.db",
            home.path / studies.FILE,
            *home.path.glob(f"{home.database.name}.*.backup"),
        ]
        for path in others:
            if path.exists():
                database = Database(f"sqlite:///{path}")
                try:
                    yield database
                finally:
                    database.close()

    def _packed(self) -> int:
        """How many artefacts that clients logged hold more than text, such as archives and pictures."""
        return sum(b"\0" in scrub.head(path) for path in scrub.below(self.platform.home.tracked))

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self.platform.home.path))

    # --- what follows -------------------------------------------------------------------------------------------------

    def _tell(self, conn: sa.Connection, model: str, refs: list[str]) -> None:
        spec = next((one.spec for one in models.every(conn) if one.name == model), None)
        if spec is None:
            return
        turn, why = "", "the model's file asks for no turn (`watch: on_erasure: retrain`)"
        if spec.watch.on_erasure == "retrain" and not (why := turns.barred(conn, spec)):
            try:
                turn = turns.ask(
                    conn, model, cause="erasure", event=self.id, reason=f"{', '.join(refs)} learnt from a person who was erased",
                    actor="loop", automatic=True,
                )  # fmt: skip
            except Conflict as error:
                why = error.message
        if why and not turn:
            audit.record(
                conn, actor="loop", action="turn.barred", subject=model, detail={"event": self.id, "reason": why}
            )
        alerts.raise_(
            conn, f"erasure:{self.id}:{model}", model=model, kind="erasure", severity="warning", actor="loop",
            title=f"{model}: {len(refs)} version{'s' if len(refs) > 1 else ''} learnt from a person who was erased",
            body={"erasure": self.id, "versions": refs, "turn": turn, "why_no_turn": "" if turn else why},
            targets=spec.alerts, turn=turn,
        )  # fmt: skip

    def _receipt(self, conn: sa.Connection, row: Erasure, traces: list[str]) -> dict[str, Any]:
        """What went where; nothing in it names the person."""
        written = [
            {name: one[name] for name in ("dataset", "number", "before", "after", "rows")}
            for one in datasets.redactions(conn, self.id)
        ]
        touched = [one for one in flags.of(conn, open_=False) if one["erasure"] == self.id]
        out = exports.of(conn, [f"{one['dataset']}@{one['number']}" for one in written])
        target = row.target or {}
        return {
            "id": self.id,
            "subject": row.mark,
            "asked_at": row.asked_at,
            "asked_by": row.asked_by,
            "ended_at": clock.iso(),
            "mentions": bool(target.get("mentions")),
            "counts": row.counts,
            "texts": {"found": int(target.get("said", 0)), "searched_for": len(target.get("texts", ()))},
            "datasets": written,
            "models": [{"version": one["ref"], "trained_on": one["dataset"]} for one in touched],
            "exports": [{name: one[name] for name in ("id", "what", "actor", "format", "at")} for one in out],
            "elsewhere": self._elsewhere(conn),
            "traces": traces,
        }

    def _elsewhere(self, conn: sa.Connection) -> list[str]:
        """Where copies may be that this platform cannot reach."""
        told = ["copies of this home that were made outside of it, such as backups of its disk"]
        if any(one["what"].startswith("interactions:") for one in exports.every(conn)):
            told.append("files of interactions that were exported: `ciranda exports` says by whom")
        settings = self.platform.settings
        if settings.datasets_url or settings.jobs_url.startswith("s3:"):
            told.append(
                "older versions and copies of objects that the object store itself keeps: look at the bucket's versioning"
            )
        if not self.platform.db.is_sqlite:
            told.append(
                "the write-ahead log, replicas and backups of the PostgreSQL server, for as long as it keeps them"
            )
        if settings.clickhouse_url:
            told.append("replicas, frozen parts and backups of the ClickHouse server")
        if packed := self._packed():
            told.append(f"{packed} packed files among artefacts of runs, which are not read: look at them by hand")
        if settings.otlp_endpoint and settings.otlp_content:
            told.append(f"spans with texts that went to {settings.otlp_endpoint}")
        return told

    def _go_on(self, step: str, **more: Any) -> None:
        with self.platform.db.writing() as conn:
            erasures.go_on(conn, self.id, step, **more)


def found(platform: Platform, name: str, *, mentions: bool) -> dict[str, Any]:
    """What is kept of a person, counted: nothing is changed. Raises Unavailable while the collector is away."""
    ids, said = platform.interactions.theirs(name, mentions=mentions)
    hashed = pseudonyms.hashed(pseudonyms.key_of(platform.home), "subject", name)
    put_right = frozenset((one["interaction"], one["correction"].strip()) for one in said if one.get("correction"))
    known = Theirs(
        frozenset({name, hashed}), frozenset(ids["interactions"]), put_right, mentioned=name if mentions else ""
    )
    held = datasets.find(platform.db, platform.home, known)
    with platform.db.reading() as conn:
        learnt = [one.ref for one in flags.touched(conn, held.rows)]
        out = exports.of(conn, sorted(held.rows))
    return {
        "subject": erasures.mark_of(platform.home, name),
        "record": {table: len(mine) for table, mine in ids.items()},
        "datasets": dict(sorted(held.rows.items())),
        "models": learnt,
        "exports": [{key: one[key] for key in ("what", "actor", "format", "at")} for one in out],
    }


def _words(said: dict[str, str]) -> set[str]:
    """What people and models said, out of one interaction or one feedback."""
    words = {said.get(name, "") for name in ("input_text", "output_text", "correction", "comment")}
    try:
        body = json.loads(said.get("request") or "{}")
    except ValueError:
        return words
    messages = body.get("messages") if isinstance(body, dict) else None
    for one in messages if isinstance(messages, list) else ():
        if isinstance(one, dict) and one.get("role") != "system" and isinstance(one.get("content"), str):
            words.add(one["content"])
    return words
