"""Studies as others see them: Optuna's own dashboard on our database, on SQLite and on PostgreSQL, and no migration in its way."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import postgres
from ciranda.errors import CirandaError
from ciranda.store import schema
from ciranda.store.database import Database, metadata
from ciranda.train import studies, trials
from ciranda.train.studies import Studies
from test_search import Arithmetic, known, plan, searched

optuna = pytest.importorskip("optuna")
DASHBOARD = Path(sys.executable).with_name("optuna-dashboard")
NAMES = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A control database as migrations make it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/ciranda.db"
    else:
        url = postgres.fresh(request.getfixturevalue("server"), f"studies{next(NAMES)}")
    found = Database(url)
    schema.migrate(found)
    yield found
    found.close()


def asked(port: int, path: str) -> Any:
    """What the dashboard's own API says, once it listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return json.loads(answer.read())
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.skipif(not DASHBOARD.exists(), reason="pip install optuna-dashboard")
def test_the_real_dashboard_opens_our_studies(db: Database) -> None:
    best = searched(db, Arithmetic())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [str(DASHBOARD), studies.address(db), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        (study,) = asked(port, "/api/studies")["study_summaries"]
        assert (study["study_name"], study["directions"]) == ("search:m:1", ["maximize"])
        told = asked(port, f"/api/studies/{study['study_id']}")
        assert [one["state"] for one in told["trials"]] == ["Complete"] * 4
        assert told["trials"][best.number]["values"] == [best.objective]
        rates = [
            {p["name"]: p["param_internal_value"] for p in one["params"]}["learning_rate"] for one in told["trials"]
        ]
        assert rates[1:] == pytest.approx([one.recipe.learning_rate for one in known(db)][1:], rel=1e-2)
    finally:
        process.kill()
        process.wait()


def test_studies_and_migrations_do_not_see_each_other(db: Database) -> None:
    """Optuna's tables carry names of ours (`trials`, `alembic_version`); neither may take the other's for its own."""
    searched(db, Arithmetic())
    assert schema.migrate(db)  # finds its own revision, and nothing to do
    tables = set(sa.inspect(db.engine).get_table_names())
    assert "studies" not in tables
    assert set(metadata.tables) <= tables | {"alembic_version"}
    other = sa.create_engine(studies.address(db))
    assert {"studies", "trials", "trial_params", "alembic_version"} <= set(sa.inspect(other).get_table_names())
    with other.connect() as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM trials")).scalar() == 4
    other.dispose()
    again = Studies(db)
    assert [one.state.name for one in again.study(plan()).get_trials()] == ["COMPLETE"] * 4


def test_what_a_scientist_adds_to_the_study_is_learnt_from_and_disturbs_nothing(db: Database) -> None:
    asked_ = plan(limit=3)
    study = Studies(db).study(asked_)
    shapes = {"learning_rate": optuna.distributions.FloatDistribution(1e-3, 6e-3, log=True)}
    study.add_trial(optuna.trial.create_trial(params={"learning_rate": 3e-3}, distributions=shapes, value=0.99))
    searched(db, Arithmetic(), asked_)
    assert [one.number for one in known(db)] == [0, 1, 2]
    assert len(Studies(db).study(asked_).get_trials()) == 4


def test_of_several_that_open_the_studies_at_once_one_makes_the_tables(db: Database) -> None:
    wrong: list[BaseException] = []

    def open_() -> None:
        mine = Database(db.url)
        try:
            Studies(mine).study(plan())
        except (CirandaError, optuna.exceptions.OptunaError, sa.exc.SQLAlchemyError) as error:
            wrong.append(error)
        mine.close()

    threads = [threading.Thread(target=open_) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [one.study_name for one in optuna.get_all_study_summaries(Studies(db).storage)] == ["search:m:1"]


def test_a_study_that_was_lost_is_made_again_from_the_rows(db: Database) -> None:
    searched(db, Arithmetic())
    optuna.delete_study(study_name="search:m:1", storage=Studies(db).storage)
    Studies(db).follow(plan(), trials.of(db, "search:m:1"))
    found = Studies(db).study(plan()).get_trials()
    assert [one.value for one in found] == [one.objective for one in known(db)]


def test_the_password_of_the_database_stands_in_no_message() -> None:
    held = Database("postgresql+psycopg://ciranda:secret{}@localhost/ciranda?options=-cstatement_timeout%3D5000")
    assert "secret" in studies.address(held)
    assert "statement_timeout" in studies.address(held)
    assert "secret" not in Studies(held)._place
    held.close()
