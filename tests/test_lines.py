"""Lines of dataset versions: small changes, names, time, branches, reverts, garbage; and a kill in each phase of a commit."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ciranda.config import Home
from ciranda.data import (
    aliases,
    branches,
    checks,
    collect,
    columns,
    durable,
    movement,
    place,
    sets,
    shelf,
    stored,
    versions,
)
from ciranda.data.rows import SPLITS, Row
from ciranda.errors import CirandaError, Conflict, Invalid, NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    made = Database(f"sqlite:///{home.database}")
    metadata.create_all(made.engine)
    yield made
    made.close()


MADE: dict[str, Any] = {"transformation": {"kind": "test"}, "actor": "tester"}


def rows(*numbers: int, **more: Any) -> list[Row]:
    return [Row.of(f"question {n}", f"answer {n}", language="en", **more) for n in numbers]


def commit(db: Database, home: Home, content: columns.Rows, name: str = "home", **more: Any) -> versions.DatasetVersion:
    return versions.commit(db, home, name, content, **MADE, **more)


def prompts(home: Home, ref: str) -> set[str]:
    return {row.prompt.removeprefix("question ") for row in versions.read(home, ref)}


# Columns


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NUMBER = st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
ANY_ROW = st.builds(
    lambda n, text, **more: Row.of(f"q{n}{text}", f"a{text}", group=text, **more),
    st.integers(0, 6),
    st.sampled_from(["", "é", '"\\', "\n\x00", "日本"]),
    split=st.sampled_from(SPLITS),
    tags=st.lists(TEXT, max_size=2).map(tuple),
    extra=st.dictionaries(TEXT, st.none() | st.booleans() | NUMBER | TEXT, max_size=2),
    rejected=st.sampled_from(["", "other"]),
    thumb=st.sampled_from([-1, 0, 1]),
)


@settings(deadline=None)
@given(st.lists(ANY_ROW, min_size=1, max_size=12))
def test_rows_as_columns_are_the_same_rows_with_the_same_names(content: list[Row]) -> None:
    (batch,) = columns.batches_of(content)
    assert list(columns.rows_of(batch)) == content
    assert batch.column("key").to_pylist() == [row.key for row in content]
    assert [one.hex() for one in batch.column("fingerprint").to_pylist()] == [row.fingerprint for row in content]
    lies = batch.set_column(0, "key", pa.array(["0" * 64] * len(content)))
    assert columns.seal(lies).equals(batch)


@settings(deadline=None)
@given(st.lists(ANY_ROW, min_size=1, max_size=12), st.randoms(), st.integers(1, 5))
def test_the_digest_is_stable_under_order_chunks_and_doubles(
    content: list[Row], dice: random.Random, size: int
) -> None:
    mixed = content + dice.sample(content, len(content) // 2)
    dice.shuffle(mixed)
    (whole,) = columns.batches_of(mixed)
    chunks = [whole.slice(start, size) for start in range(0, len(mixed), size)]
    assert versions.digest_of(content) == versions.digest_of(mixed) == versions.digest_of(chunks)


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ({"completion": ["a"]}, "no column messages"),
        ({"messages": ["[1]"], "completion": ["a"]}, "no list of"),
        ({"messages": ["[]"], "completion": ["a"], "thumb": ["many"]}, "column thumb"),
        ({"messages": ["[]"], "completion": ["a"], "extra": ['{"x": [1]}']}, "extra is no object"),
        ({"messages": ["[]"], "completion": ["a"], "tags": ['{"x": 1}']}, "tags are no list"),
        ({"messages": ["[]"], "completion": ["a"], "extra": ['{"x": NaN}']}, "no number"),
    ],
)
def test_what_is_no_batch_of_rows_is_refused_and_nothing_is_kept(
    db: Database, home: Home, batch: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Invalid, match=reason):
        commit(db, home, [pa.RecordBatch.from_pydict(batch)])
    assert versions.newest_of(db, "home") is None


def test_an_error_of_the_rows_in_the_middle_of_writing_stays_what_it_is(db: Database, home: Home) -> None:
    def broken() -> Iterator[Row]:
        yield from rows(*range(20_000))
        raise Conflict("the source says no", where="source", remedy="ask again")

    commit(db, home, rows(1))
    with pytest.raises(Conflict, match="the source says no"):
        commit(db, home, broken())
    assert prompts(home, "home@1") == {"1"}


# Small changes


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_ROW, min_size=1, max_size=8), st.lists(ANY_ROW, max_size=6), st.randoms())
def test_amending_is_committing_what_comes_out(
    tmp_path: Path, old: list[Row], add: list[Row], dice: random.Random
) -> None:
    home = Home(tmp_path / f"{dice.random()}")
    home.make()
    db = Database(f"sqlite:///{home.database}")
    metadata.create_all(db.engine)
    commit(db, home, old)
    remove = [row.key for row in dice.sample(old, len(old) // 2)]
    came = {row.key for row in add}
    expected = [*(row for row in old if row.key not in {*came, *remove}), *add]
    if expected:
        made = versions.amend(db, home, "home", add=add, remove=remove, **MADE)
        assert (made.digest, made.rows) == (versions.digest_of(expected), len({row.key for row in expected}))
        again = commit(db, home, expected, name="other")
        assert {name: made.counts[name] for name in made.counts} == again.counts
        difference = versions.diff(home, "home@1", made.ref)
        assert versions.digest_of(difference.apply(versions.read(home, "home@1"))) == made.digest
    db.close()


@settings(deadline=None)
@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=20), st.randoms())
def test_keys_are_found_whatever_their_bytes_and_stored_as_such(keys: list[bytes], dice: random.Random) -> None:
    keys += [bytes(32), keys[0][:31] + b"\0", keys[0][:4] + keys[-1][4:]]
    batch = pa.record_batch({"key": pa.array([one.hex() for one in keys]), "split": pa.array(["test"] * len(keys))})
    wanted = dice.sample(keys, len(keys) // 2)
    found = columns.among(columns.digests(batch, "key"), sets.of_hex(one.hex() for one in wanted))
    assert found.tolist() == [one in wanted for one in keys]
    (packed,) = stored.packed([batch.slice(1)])
    assert packed.column("key").to_pylist() == keys[1:]
    assert list(stored.spelt([packed])) == [batch.slice(1)]


@pytest.mark.parametrize("halved", [sets.HALVED, 0])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=30), alike=st.integers(0, 32))
def test_values_that_begin_alike_are_put_in_order_too(
    values: list[bytes], alike: int, halved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sets, "HALVED", halved)  # as few values are ordered, or as many millions are
    given = np.array([values[0][:alike] + one[alike:] for one in values], dtype="S32")
    # numpy leaves out trailing zeros when it hands a value out
    stored = [one.ljust(32, b"\0") for one in given.tolist()]
    assert [one.ljust(32, b"\0") for one in sets.ordered(given).tolist()] == sorted(stored)


def test_amending_reads_and_writes_only_what_changes(db: Database, home: Home) -> None:
    dice = random.Random(3)
    content = [Row.of("".join(dice.choices("abcdefgh ", k=200)), f"{n}") for n in range(9000)]
    commit(db, home, content)
    before = _size(home)
    made = versions.amend(db, home, "home", add=rows(1, 2), remove=[content[0].key], parent="home@1", **MADE)
    assert (made.ref, made.rows, made.parents) == ("home@2", 9001, ("home@1",))
    assert _size(home) - before < 0.05 * before
    assert versions.diff(home, "home@1", "home@2").summary() == {"added": 2, "removed": 1, "changed": 0}
    assert versions.amend(db, home, "home", add=rows(1), **MADE) == made
    with pytest.raises(Conflict, match="home@1 is not the newest"):
        versions.amend(db, home, "home", add=rows(7), parent="home@1", **MADE)
    with pytest.raises(NotFound):
        versions.amend(db, home, "none", add=rows(7), **MADE)


def test_of_rows_that_are_there_already_nothing_stays_on_the_disk(db: Database, home: Home) -> None:
    commit(db, home, content := rows(*range(2000)))
    before = _files(home)
    versions.amend(db, home, "home", add=content[:1000], **MADE)
    assert _files(home) == before
    made = versions.amend(db, home, "home", add=[*content[500:1500], *rows(5000)], **MADE)
    (fresh,) = _files(home) - before
    assert made.rows == 2001
    assert fresh.stat().st_size < min(file.stat().st_size for file in before) / 2
    assert prompts(home, made.ref) == {*map(str, range(2000)), "5000"}


# Names and time


def test_a_tag_stays_and_an_alias_moves(db: Database, home: Home) -> None:
    for content in (rows(1), rows(1, 2)):
        commit(db, home, content)
    with db.writing() as conn:
        aliases.put(conn, "home", "golden", 1, fixed=True, actor="ana")
        aliases.put(conn, "home", "current", 1, fixed=False, actor="ana")
        aliases.put(conn, "home", "current", 2, fixed=False, actor="ana")
        with pytest.raises(Conflict, match="tags stay"):
            aliases.put(conn, "home", "golden", 2, fixed=True, actor="ana")
        for name, number, error in (("2x", 1, Invalid), ("x", 9, NotFound)):
            with pytest.raises(error):
                aliases.put(conn, "home", name, number, fixed=True, actor="ana")
    assert (versions.get(db, "home@golden").ref, versions.get(db, "home@current").ref) == ("home@1", "home@2")
    with db.writing() as conn:
        aliases.remove(conn, "home", "golden", actor="ana")
    with pytest.raises(NotFound):
        versions.get(db, "home@golden")
    actions = [event.action for event in audit.page(db)]
    assert (actions.count("dataset.named"), actions.count("dataset.unnamed")) == (3, 1)


def test_what_was_the_newest_at_a_moment(db: Database, home: Home) -> None:
    first = commit(db, home, rows(1))
    second = commit(db, home, rows(1, 2))
    assert versions.at(db, "home", first.created_at) == versions.get(db, f"home@{first.created_at}") == first
    assert versions.at(db, "home", clock.iso(clock.now() + timedelta(days=1))) == second
    with pytest.raises(NotFound, match="had no version at"):
        versions.at(db, "home", "2020-01-01T00:00:00Z")


# Branches and reverts


def test_a_branch_shares_the_rows_and_goes_its_own_way(db: Database, home: Home) -> None:
    dice = random.Random(4)
    content = [Row.of("".join(dice.choices("abcdefgh ", k=200)), f"{n}") for n in range(4000)]
    commit(db, home, content)
    before = _size(home)
    made = branches.branch(db, home, "home@1", "other", actor="ana")
    assert (made.ref, made.parents, made.digest) == ("other@1", ("home@1",), versions.get(db, "home@1").digest)
    assert branches.branch(db, home, "home@1", "other", actor="ana") == made
    commit(db, home, [*content, *rows(1)], name="other")
    commit(db, home, [*content, *rows(2)])
    assert _size(home) - before < 0.2 * before
    assert len(versions.read(home, "other@2")) == len(versions.read(home, "home@2")) == 4001
    assert versions.diff(home, "home@2", "other@2").summary() == {"added": 1, "removed": 1, "changed": 0}
    with pytest.raises(Conflict, match="there is a dataset home"):
        branches.branch(db, home, "other@1", "home", actor="ana")
    with pytest.raises(Invalid, match="no name for a dataset"):
        branches.branch(db, home, "other@1", "../evil", actor="ana")


def test_a_revert_is_a_version_with_two_parents(db: Database, home: Home) -> None:
    for content in (rows(1, 2), rows(3)):
        commit(db, home, content)
    made = branches.revert(db, home, "home@1", actor="ana")
    assert (made.ref, made.parents, prompts(home, made.ref)) == ("home@3", ("home@2", "home@1"), {"1", "2"})
    assert made.transformation == {"kind": "revert", "to": "home@1", "from": "home@2"}
    assert branches.revert(db, home, "home@1", actor="ana") == made
    assert commit(db, home, rows(1, 2, 4)).parent == "home@3"
    assert prompts(home, "home@4") == {"1", "2", "4"}
    with pytest.raises(Conflict, match="home@3 is not the newest"):
        branches.revert(db, home, "home@2", actor="ana", parent="home@3")


# What moved


def test_a_difference_tells_how_the_whole_moved(db: Database, home: Home) -> None:
    commit(db, home, [*rows(1, 2, 3, extra={"tier": "gold"}), *rows(4, split="test", tags=("vip",))])
    commit(db, home, [*rows(1, extra={"tier": "gold"}), *rows(2, 3, extra={"tier": "lead"}), *rows(4, split="test")])
    found = movement.between(home, "home@1", "home@2")
    shifts = {one.field: one for one in found.shifts}
    assert shifts["split"].distance == 0
    assert shifts["extra.tier"].values[0] == ("gold", 0.75, 0.25)
    assert shifts["extra.tier"].distance == 0.5
    assert shifts["tags"].distinct == (1, 0)
    assert found.lengths["prompt"] == ((10, 10, 10), (10, 10, 10))
    hidden = movement.between(home, "home@1", "home@2", hidden=["extra", "messages"])
    assert not {"extra.tier", "shape"} & {one.field for one in hidden.shifts}
    assert "prompt" not in hidden.lengths
    limited = versions.diff(home, "home@1", "home@2", most=1)
    assert (len(limited.changed), limited.summary()["changed"]) == (1, 3)


# What checks found


def test_every_finding_is_kept_beside_the_version(db: Database, home: Home) -> None:
    content = [Row.of("too long " * n, "x", origin=f"o:{n}") for n in range(1, 401)]
    with checks.judge(content, {"length": "drop"}, bounds=checks.Bounds(max_characters=901)) as judged:
        told = judged.report.to_dict()
        version = commit(db, home, judged.batches(), report=told, findings=judged.findings)
    assert (version.rows, told["checks"]["length"]["found"], len(told["checks"]["length"]["examples"])) == (
        100,
        300,
        100,
    )
    found = shelf.kept(place.of(home, "home"), 1, check="length", start=150, limit=500)
    assert (len(found), found[0]["origin"]) == (150, "o:251")
    assert shelf.kept(place.of(home, "home"), 1, check="none", start=0, limit=5) == []


# Garbage


def test_garbage_is_what_nobody_uses_named_or_committed_lately(db: Database, home: Home) -> None:
    dice = random.Random(5)
    for _ in range(6):
        commit(db, home, [Row.of("".join(dice.choices("abcdefgh ", k=200)), "x") for _ in range(800)])
    with db.writing() as conn:
        aliases.put(conn, "home", "golden", 1, fixed=True, actor="ana")
        conn.execute(sa.text("CREATE TABLE trials (id TEXT, dataset TEXT)")) if "trials" not in sa.inspect(
            conn
        ).get_table_names() else None
        conn.execute(sa.text("CREATE TABLE IF NOT EXISTS labels (dataset TEXT)"))
        conn.execute(sa.text("INSERT INTO labels (dataset) VALUES ('home@2')"))
    young = collect.collect(db, home, actor="ana")
    assert (young.collected, young.kept["home@3"]) == ((), "younger than 30 days")
    ask: dict[str, Any] = {"keep": 2, "age": timedelta(0), "actor": "ana"}
    plan = collect.collect(db, home, **ask)
    assert (plan.collected, plan.rows, plan.dry) == (("home@4", "home@3"), 1600, True)
    assert (plan.kept["home@1"], plan.kept["home@2"]) == ("named golden", "used by a review")
    assert len(versions.read(home, "home@3")) == 800
    before = _size(home)
    done = collect.collect(db, home, dry=False, **ask)
    assert done.collected == plan.collected
    assert before - _size(home) > 0.2 * before
    assert done.bytes > 0
    assert all(len(versions.read(home, f"home@{n}")) == 800 for n in (1, 2, 5, 6))
    assert versions.get(db, "home@3").collected_at
    with pytest.raises(NotFound):
        versions.read(home, "home@3")
    with pytest.raises(NotFound, match="were collected"):
        branches.revert(db, home, "home@3", actor="ana")
    assert collect.collect(db, home, dry=False, **ask).collected == ()
    assert commit(db, home, rows(1)).ref == "home@7"
    assert [event.action for event in audit.page(db)].count("dataset.collected") == 2


def test_garbage_of_a_branch_leaves_what_it_shares(db: Database, home: Home) -> None:
    for content in (rows(1), rows(2), rows(3)):
        commit(db, home, content)
    branches.branch(db, home, "home@1", "other", actor="ana")
    done = collect.collect(db, home, keep=1, age=timedelta(0), dry=False, actor="ana")
    assert done.collected == ("home@2", "home@1")
    assert (prompts(home, "other@1"), prompts(home, "home@3")) == ({"1"}, {"3"})


# Kill -9


KILLED = """
import os, signal, sys
from pathlib import Path
from ciranda.config import Home
from ciranda.data import durable, ledger, shelf, versions, writing
from ciranda.data.rows import Row
from ciranda.store.database import Database
def die(*_given, **_named):
    os.kill(os.getpid(), signal.SIGKILL)
def after(owner, name):
    whole = getattr(owner, name)
    def both(*given, **named):
        whole(*given, **named)
        die()
    setattr(owner, name, both)
phase = sys.argv[2]
if phase.startswith("after "):
    owner, name = phase.split()[1].rsplit(".", 1)
    after(eval(owner), name)
elif phase:
    owner, name = phase.rsplit(".", 1)
    setattr(eval(owner), name, die)
home = Home(Path(sys.argv[1]))
db = Database(f"sqlite:///{home.database}")
rows = [Row.of(f"question {n}", f"answer {n}", language="en") for n in range(2, 3000)]
print(versions.commit(db, home, "home", rows, parent="home@1", transformation={}, actor="killed").ref, flush=True)
"""
PHASES = (
    "writing.Writing.append", "after writing.Writing.append", "writing.Writing.change", "after writing.Writing.change",
    "durable.sync_all", "shelf.tag", "after shelf.tag", "ledger._write", "after ledger._write", "after ledger.register",
)  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
def test_a_kill_in_each_phase_leaves_the_version_before_and_a_retry_succeeds(
    db: Database, home: Home, phase: str
) -> None:
    old = commit(db, home, rows(*range(40)))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(home.path), phase], capture_output=True, text=True)
    registered = phase == "after ledger.register" and killed.returncode == 0
    assert killed.returncode == -signal.SIGKILL or registered, killed.stderr
    assert len(versions.read(home, "home@1")) == 40
    again = subprocess.run([sys.executable, "-c", KILLED, str(home.path), ""], capture_output=True, text=True)
    assert again.stdout.splitlines()[-1:] == ["home@2"], again.stderr
    assert (len(versions.read(home, "home@2")), versions.get(db, "home@1")) == (2998, old)
    assert versions.get(db, "home@2").digest == versions.digest_of(versions.read(home, "home@2"))
    assert audit.verify(db).ok
    collect.collect(db, home, keep=5, dry=False, actor="ana")
    assert (len(versions.read(home, "home@1")), len(versions.read(home, "home@2"))) == (40, 2998)


def test_a_full_disk_is_told_as_such_and_the_next_commit_succeeds(
    db: Database, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(db, home, rows(1))

    def full(*_given: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    for where, name in ((shelf, "tag"), (durable, "sync_all")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, full)
            with pytest.raises((CirandaError, OSError), match="o space left"):
                commit(db, home, rows(1, 2))
    assert commit(db, home, rows(1, 3)).ref == "home@2"
    assert prompts(home, "home@2") == {"1", "3"}


def _files(home: Home) -> set[Path]:
    return set(home.datasets.glob("*.lance/data/*"))


def _size(home: Home) -> int:
    return sum(path.stat().st_size for path in home.datasets.rglob("*") if path.is_file())
