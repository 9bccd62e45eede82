"""Reports and suites without a person: each that holds words of theirs is written anew, under the digest of what it is now.

A report is named by its content, so a changed one has another name, and every evaluation that named the old one names the new one.
Scores stay: they are figures about a version, and gates have decided by them.
"""

from __future__ import annotations

import json

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.errors import NotFound
from ciranda.evals import library, suites
from ciranda.evals.cases import Case
from ciranda.evals.library import SuiteVersion
from ciranda.evals.suites import Evaluation, evaluations
from ciranda.store.database import Database
from ciranda.store.scrub import Needles


def redact(db: Database, home: Home, needles: Needles) -> int:
    """Take them out of every report; returns how many changed. Doing it again changes nothing."""
    with db.reading() as conn:
        known = conn.execute(sa.select(evaluations.c.report).distinct()).scalars().all()
    return sum(_redacted(db, home, str(report), needles) for report in known)


def redact_suites(db: Database, home: Home, needles: Needles) -> int:
    """Take them out of every registered case; returns how many versions changed. Doing it again changes nothing."""
    with db.reading() as conn:
        known = [version for name in library.names(conn) for version in library.line(conn, name)]
    return sum(_redacted_suite(db, home, version, needles) for version in known)


def _redacted_suite(db: Database, home: Home, version: SuiteVersion, needles: Needles) -> bool:
    try:
        held = library.of(home, version).cases
    except NotFound:
        return False
    clean = tuple(Case.of(needles.value(json.loads(json.dumps(case.to_dict())))) for case in held)
    if clean == held:
        return False
    library.rewrite(db, home, version, clean)
    return True


def _redacted(db: Database, home: Home, report: str, needles: Needles) -> bool:
    try:
        held = suites.load(home, report)
    except NotFound:
        return False  # it went with what it was about, or lies on another machine
    clean = Evaluation.of(needles.value(json.loads(json.dumps(held.to_dict()))))
    if clean == held:
        return False
    renamed = suites.save(home, clean)
    with db.writing() as conn:
        conn.execute(evaluations.update().where(evaluations.c.report == report).values(report=renamed))
    suites.report_path(home, report).unlink(missing_ok=True)
    return True
