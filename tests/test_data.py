"""Rows, files, sources and versions, on real Lance folders and a real control database."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ciranda.config import Home
from ciranda.config.model import Source
from ciranda.data import catalog, checks, durable, entries, files, reading, sets, sources, versions
from ciranda.data.entries import Wanted
from ciranda.data.rows import SPLITS, Message, Row, parse, split_of
from ciranda.data.sources import Inputs, runs
from ciranda.engines import hassil
from ciranda.errors import CirandaError, Conflict, Invalid, NotFound, Refused, StorageFull
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


@pytest.fixture
def db(home: Home) -> Database:
    made = Database(f"sqlite:///{home.database}")
    metadata.create_all(made.engine)
    return made


def rows(*numbers: int, split: str = "train", **more: Any) -> list[Row]:
    return [Row.of(f"question {n}", f"answer {n}", split=split, language="en", **more) for n in numbers]


def commit(db: Database, home: Home, content: list[Row], **more: Any) -> versions.DatasetVersion:
    return versions.commit(db, home, "home", content, transformation={"kind": "test"}, actor="tester", **more)


# Rows


def test_a_row_is_named_by_its_content_alone() -> None:
    one = Row.of("turn on the light", "{}", system="short", language="en", origin="a.jsonl:1")
    other = Row((Message("system", "short"), Message("user", "turn on the light")), "{}", origin="b.jsonl:9")
    assert one.key == other.key
    assert one.key != one.with_(completion="{ }").key
    assert one.prompt == "turn on the light"


def test_a_row_has_one_of_four_shapes() -> None:
    asked = Row.of("which is better?", "this")
    assert [row.shape for row in (asked, asked.with_(thumb=-1), asked.with_(rejected="that"), Row((), "a text"))] == [
        "chat",
        "labelled",
        "preference",
        "text",
    ]
    assert asked.key != asked.with_(rejected="that").key
    assert asked.with_(tags=("b", "a", "b")) == asked.with_(tags=("a", "b"))


def test_facts_change_the_fingerprint_and_where_a_row_came_from_does_not() -> None:
    row = Row.of("a", "b")
    for changes in (
        {"split": "test"},
        {"tags": ("x",)},
        {"extra": {"region": "south"}},
        {"subject": "ana"},
        {"thumb": 1},
    ):
        assert row.with_(**changes).key == row.key
        assert row.with_(**changes).fingerprint != row.fingerprint
    assert row.with_(source="s", origin="o:1").fingerprint == row.fingerprint


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([], "must be an object"),
        ({"prompt": "a"}, "completion is missing"),
        ({"prompt": "a", "completion": 3}, "completion is a int"),
        ({"prompt": "a", "completion": "b", "label": 1}, "unknown key 'label'"),
        ({"prompt": "a", "completion": "b", "split": "dev"}, "split is 'dev'"),
        ({"prompt": "a", "completion": "b", "thumb": 7}, "thumb is 7"),
        ({"prompt": "a", "completion": "b", "tags": "x"}, "tags must be a list"),
        ({"prompt": "a", "completion": "b", "extra": {"tier": [1]}}, "extra.tier must be a text"),
        ({"prompt": "a", "completion": "b", "extra": {"tier": float("nan")}}, "extra.tier must be"),
        ({"prompt": "a", "completion": "\ud83d"}, "half of a surrogate"),
        ({"messages": [], "completion": "b"}, "non-empty list"),
        ({"messages": [{"role": "robot", "content": "a"}], "completion": "b"}, "role is 'robot'"),
        ({"messages": [{"role": "user"}], "completion": "b"}, "a content that is text"),
        (
            {"messages": [{"role": "user", "content": "a"}], "prompt": "a", "completion": "b"},
            "both messages and prompt",
        ),
    ],
)
def test_a_bad_record_says_what_is_wrong_and_where(record: object, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as error:
        parse(record, origin="a.jsonl:7")
    assert error.value.where == "a.jsonl:7"
    assert error.value.remedy


def test_a_conversation_that_ends_with_the_assistant_carries_its_own_completion() -> None:
    row = parse(
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}, origin="x:1"
    )
    assert (row.prompt, row.completion, len(row.messages)) == ("hi", "hello", 1)


def test_hashed_splits_are_stable_and_near_their_shares() -> None:
    found = [split_of(f"group {n}") for n in range(4000)]
    assert found == [split_of(f"group {n}") for n in range(4000)]
    assert 0.66 < found.count("train") / 4000 < 0.74
    assert 0.17 < found.count("test") / 4000 < 0.23


# Files


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    records = [{"prompt": f"q{n}", "completion": f"a{n}", "language": "en"} for n in range(5)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(record) for record in records) + "\n\n")
    (tmp_path / "b.json").write_text(json.dumps(records))
    (tmp_path / "c.csv").write_text("prompt,completion,language\n" + "".join(f"q{n},a{n},en\n" for n in range(5)))
    parquet.write_table(pa.Table.from_pylist(records), tmp_path / "d.parquet")
    digests = set()
    for name in ("a.jsonl", "b.json", "c.csv", "d.parquet"):
        found = [row for row in files.read(name, tmp_path) if isinstance(row, Row)]
        assert len(found) == 5
        digests.add(versions.digest_of(found))
    assert len(digests) == 1


def test_bad_rows_are_named_by_line_and_the_good_ones_still_read(tmp_path: Path) -> None:
    lines = [b'{"prompt": "a", "completion": "b"}', b"{oops", b'{"prompt": "\xff"}', b'{"prompt": "c"}', b"[" * 100_000]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join([*lines, b'"' + b"x" * files.LONGEST_ROW + b'"', lines[0]]))
    found = list(files.read("*.jsonl", tmp_path))
    bad = {error.where: error.message for error in found if isinstance(error, Invalid)}
    assert [isinstance(one, Row) for one in found] == [True, False, False, False, False, False, True]
    assert list(bad) == [f"rows.jsonl:{line}" for line in (2, 3, 4, 5, 6)]
    assert "no JSON" in bad["rows.jsonl:2"]
    assert "no UTF-8" in bad["rows.jsonl:3"]
    assert "completion is missing" in bad["rows.jsonl:4"]
    assert "longer than" in bad["rows.jsonl:6"]


@pytest.mark.parametrize(
    ("pattern", "content", "message"),
    [
        ("none/*.jsonl", b"", "no file matches"),
        ("../*.jsonl", b"", "climbs out"),
        ("a.xml", b"<a/>", "nobody reads .xml"),
        ("a.json", b'{"prompt": "a"}', "holds one list"),
        ("a.csv", b"prompt,completion\n\xff,b\n", "no readable CSV"),
        ("a.parquet", b"PAR1", "no readable Parquet"),
    ],
)
def test_a_source_that_cannot_be_read_is_an_error_with_a_remedy(
    tmp_path: Path, pattern: str, content: bytes, message: str
) -> None:
    if content:
        (tmp_path / pattern).write_bytes(content)
    with pytest.raises(CirandaError, match=message) as error:
        list(files.read(pattern, tmp_path))
    assert error.value.remedy


# Versions


def test_a_version_is_read_back_as_it_was_committed(db: Database, home: Home) -> None:
    facts: dict[str, Any] = {
        "group": "g'1",
        "subject": "ana",
        "thumb": -1,
        "source": "s",
        "origin": "o:1",
        "tags": ("b", "a"),
    }
    content = [*rows(1, 2), *rows(3, split="test", extra={"tier": 2, "vip": True, "region": None}, **facts)]
    version = commit(db, home, content)
    assert (version.ref, version.rows, version.parent, version.parents) == ("home@1", 3, "", ())
    assert version.counts["language_split"] == {"en": {"train": 2, "test": 1}}
    assert sorted(versions.read(home, "home@1"), key=lambda row: row.key) == sorted(content, key=lambda row: row.key)
    assert versions.read(home, "home@1", split="test") == content[2:]
    assert versions.read(home, "home@1", language="pt-BR") == []
    assert versions.get(db, "home") == versions.get(db, "home@1") == version
    assert [event.action for event in audit.page(db)] == ["dataset.committed"]


def test_older_versions_stay_as_they_were(db: Database, home: Home) -> None:
    commit(db, home, rows(1, 2, 3))
    commit(db, home, rows(2, 3, 4))
    commit(db, home, rows(1, 2, 3))
    contents = [{row.prompt[-1] for row in versions.read(home, f"home@{n}")} for n in (1, 2, 3)]
    assert contents == [set("123"), set("234"), set("123")]
    assert versions.get(db, "home@1").digest == versions.get(db, "home@3").digest
    assert [version.ref for version in catalog.ancestors(db, "home@3")] == ["home@3", "home@2", "home@1"]


def test_committing_what_is_already_there_makes_nothing_new(db: Database, home: Home) -> None:
    first = commit(db, home, rows(1, 2))
    second = commit(db, home, rows(1, 2, 3), parent="home@1")
    assert commit(db, home, list(reversed(rows(1, 2, 3))), parent="home@1") == second
    assert commit(db, home, rows(1, 2, 3)) == second
    assert (first.number, second.number) == (1, 2)


def test_a_parent_that_is_not_the_newest_is_a_conflict(db: Database, home: Home) -> None:
    commit(db, home, rows(1))
    commit(db, home, rows(1, 2), parent="home@1")
    with pytest.raises(Conflict, match="home@1 is not the newest") as error:
        commit(db, home, rows(1, 3), parent="home@1")
    assert "home@2" in error.value.message
    assert versions.newest_of(db, "home").number == 2  # type: ignore[union-attr]


def test_only_what_changed_costs_disk(db: Database, home: Home) -> None:
    dice = random.Random(1)
    texts = ["".join(dice.choices("abcdefghijklmnop ", k=300)) for _ in range(8000)]
    content = [Row.of(text, "ok", split=split_of(text)) for text in texts]
    commit(db, home, content[:-80])
    before = _size(home)
    commit(db, home, content)
    assert _size(home) - before < 0.03 * before


def test_no_rows_bad_names_and_unknown_versions_are_refused(db: Database, home: Home) -> None:
    with pytest.raises(Refused, match="would be empty"):
        commit(db, home, [])
    for name in ("../evil", "a/b", "", "A"):
        with pytest.raises(Invalid, match="no name for a dataset"):
            versions.commit(db, home, name, rows(1), transformation={}, actor="tester")
    commit(db, home, rows(1))
    for ref, error in (("home@2", NotFound), ("other@1", NotFound), ("home", Invalid), ("../home@1", Invalid)):
        with pytest.raises(error):
            versions.read(home, ref)
    with pytest.raises(NotFound):
        versions.get(db, "home@9")


def test_a_full_disk_leaves_the_version_before(db: Database, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(db, home, rows(1))

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync_all", full)
        with pytest.raises(StorageFull):
            commit(db, home, rows(1, 2))
    assert [row.prompt for row in versions.read(home, "home@1")] == ["question 1"]
    assert commit(db, home, rows(1, 3)).ref == "home@2"
    assert {row.prompt for row in versions.read(home, "home@2")} == {"question 1", "question 3"}


def test_export_is_what_a_training_job_reads(db: Database, home: Home, tmp_path: Path) -> None:
    commit(db, home, [*rows(1, 2), *rows(3, split="test")])
    trainer = reading.itself("training")
    assert reading.export(db, home, "home@1", tmp_path / "train.jsonl", trainer, split="train") == 2
    first = json.loads((tmp_path / "train.jsonl").read_text().splitlines()[0])
    assert first["messages"] == [{"role": "user", "content": "question 1"}]
    assert first["completion"] == "answer 1"
    assert os.listdir(tmp_path / "home" / "datasets")
    assert not list(tmp_path.glob(".train*"))


CONTENT = st.lists(
    st.builds(
        lambda n, split, group: Row.of(f"q{n}", f"a{n}", split=split, group=group),
        st.integers(0, 30),
        st.sampled_from(SPLITS),
        st.sampled_from(["", "g"]),
    ),
    min_size=1,
    max_size=20,
)


@given(CONTENT, st.randoms())
def test_the_digest_does_not_depend_on_order_or_doubles(content: list[Row], dice: random.Random) -> None:
    unique = list({row.key: row for row in content}.values())
    mixed = unique + dice.sample(unique, len(unique) // 2)
    dice.shuffle(mixed)
    assert versions.digest_of(mixed) == versions.digest_of(unique)
    moved = unique[0].with_(split="test" if unique[0].split == "train" else "train")
    assert versions.digest_of([moved, *unique[1:]]) != versions.digest_of(unique)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CONTENT, min_size=2, max_size=4))
def test_a_diff_applied_to_the_first_version_gives_the_second(tmp_path: Path, history: list[list[Row]]) -> None:
    home = Home(tmp_path / os.urandom(6).hex())
    home.make()
    db = Database(f"sqlite:///{home.database}")
    metadata.create_all(db.engine)
    refs = [commit(db, home, content).ref for content in history]
    for before, content, after in zip(refs, history[1:], refs[1:], strict=False):
        diff = versions.diff(home, before, after)
        result = {row.key: row for row in diff.apply(versions.read(home, before))}
        assert result == {row.key: row for row in versions.read(home, after)}
        assert versions.digest_of(result.values()) == versions.digest_of(content) == versions.get(db, after).digest
    assert versions.diff(home, refs[0], refs[0]).summary() == {"added": 0, "removed": 0, "changed": 0}
    db.close()


def test_two_committers_at_once_never_share_a_number(db: Database, home: Home) -> None:
    commit(db, home, rows(0))
    spawn = multiprocessing.get_context("spawn")
    done = spawn.Queue()
    writers = [spawn.Process(target=_commit_some, args=(home.path, start, done)) for start in (100, 200)]
    for writer in writers:
        writer.start()
    results = [done.get(timeout=60) for _ in range(6)]
    for writer in writers:
        writer.join(timeout=30)
    numbers = [number for number, _ in results if number]
    assert len(numbers) == len(set(numbers)) == len(versions.line(db, "home")) - 1
    for number, prompts in results:
        if number:
            assert {row.prompt for row in versions.read(home, f"home@{number}")} == prompts


def _commit_some(path: Path, start: int, done: Any) -> None:
    home = Home(path)
    db = Database(f"sqlite:///{home.database}")
    for number in range(start, start + 3):
        content = rows(number, number + 1)
        done.put((commit(db, home, content).number, {row.prompt for row in content}))


COMMITTER = """
import sys
from pathlib import Path
from ciranda.config import Home
from ciranda.data import versions
from ciranda.data.rows import Row
from ciranda.store.database import Database
home = Home(Path(sys.argv[1]))
db = Database(f"sqlite:///{home.database}")
rows = [Row.of(f"new {n} " + "x" * 300, "y") for n in range(6000)]
import lance, pyarrow
print("ready", flush=True)
sys.stdin.readline()
print(versions.commit(db, home, "home", rows, parent="home@1", transformation={}, actor="killed").ref, flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.06, 0.12, 0.25])
def test_kill_9_during_a_commit_leaves_the_old_version_and_a_retry_succeeds(
    db: Database, home: Home, delay_s: float
) -> None:
    old = commit(db, home, rows(1, 2, 3))
    command = [sys.executable, "-c", COMMITTER, str(home.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdin is not None
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        victim.stdin.write("\n")
        victim.stdin.flush()
        time.sleep(delay_s)
        os.kill(victim.pid, signal.SIGKILL)
    newest = versions.newest_of(db, "home")
    assert newest is not None
    assert {row.prompt for row in versions.read(home, "home@1")} == {"question 1", "question 2", "question 3"}
    again = subprocess.run(command, input="\n", capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[-1] == "home@2"
    assert len(versions.read(home, "home@2")) == 6000
    assert (old, audit.verify(db).ok) == (versions.get(db, "home@1"), True)
    if newest.number == 2:
        assert len(versions.read(home, "home@2")) == newest.rows


# Sources


def ingest(db: Database, home: Home, *wanted: Source, inputs: Inputs | None = None) -> versions.DatasetVersion:
    chosen = inputs or Inputs(sampler=hassil)
    with sources.ingest(db, home, dataset="home", model="home", sources=wanted, inputs=chosen) as batch:
        report = checks.run(batch.rows, {"schema": "strict", "duplicates": "drop", "contamination": "block"})
        return commit(db, home, list(report.kept), report=report.to_dict(), within=batch.finish)


def test_sentences_and_files_become_one_version(db: Database, home: Home, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"prompt": "open the pod bay doors", "completion": "{}", "language": "en"}\n')
    inputs = Inputs(root=tmp_path, sampler=hassil)
    version = ingest(db, home, Source(intents="en", count=200), Source(files="*.jsonl"), inputs=inputs)
    assert (version.rows, version.counts["source"]) == (201, {"intents": 200, "own.jsonl": 1})
    assert version.report["checks"]["contamination"]["found"] == 0
    runs = sources.history(db, "home")
    assert [(run["state"], run["version"], run["rows_in"]) for run in runs] == [
        ("done", "home@1", 1),
        ("done", "home@1", 200),
    ]
    groups: dict[str, set[str]] = {}
    for row in versions.read(home, version.ref):
        groups.setdefault(row.group or row.prompt, set()).add(row.split)
    assert all(len(splits) == 1 for splits in groups.values())


def test_ingesting_again_makes_nothing_new(db: Database, home: Home) -> None:
    first = ingest(db, home, Source(intents="pt-BR", count=50))
    assert ingest(db, home, Source(intents="pt-BR", count=50)).ref == first.ref
    assert len(sources.history(db, "home")) == 2


def test_bad_rows_stop_the_run_unless_policy_drops_them(db: Database, home: Home, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{oops\n{"prompt": "c"}\n')
    inputs = Inputs(root=tmp_path)
    with pytest.raises(Refused, match="2 bad rows") as error:
        ingest(db, home, Source(files="rows.jsonl", bad_rows="block"), inputs=inputs)
    assert "rows.jsonl:2: bad row: no JSON" in error.value.message
    assert "rows.jsonl:3: bad row: completion is missing" in error.value.message
    assert "bad_rows: quarantine" in error.value.remedy
    assert versions.newest_of(db, "home") is None
    assert ingest(db, home, Source(files="rows.jsonl", bad_rows="drop"), inputs=inputs).rows == 1
    runs = sources.history(db, "home")
    assert [(run["state"], run["rows_bad"]) for run in runs] == [("done", 2), ("failed", 2)]
    assert runs[0]["detail"]["bad"][0]["where"] == "rows.jsonl:2"


def test_a_run_that_died_is_shown_as_interrupted(db: Database, home: Home) -> None:
    runs.begin(
        db, "home", [runs.Opening("intents: en", "intents", "")], actor="t", window={}
    )  # and its process dies here
    ingest(db, home, Source(intents="en", count=5))
    assert [run["state"] for run in sources.history(db, "home")] == ["done", "interrupted"]


def test_a_source_is_due_when_its_time_has_passed_since_the_last_run(db: Database, home: Home) -> None:
    hourly = Source(intents="en", count=5, every="1h")
    assert sources.due(db, "home", [hourly], now=clock.now())
    ingest(db, home, hourly)
    assert not sources.due(db, "home", [hourly], now=clock.now())
    assert sources.due(db, "home", [hourly], now=clock.now() + timedelta(hours=1, seconds=1)) == [hourly]
    assert not sources.due(db, "home", [Source(intents="en")], now=clock.now())


def test_a_phrase_that_two_sources_share_is_in_one_split() -> None:
    shared = [
        Row.of("Pause the timer.", "a", group="en:1", split="test", source="intents"),
        Row.of("pause the timer", "b", group="nl:9", split="train", source="intents"),
    ]
    settled = list(sources.settle(shared))
    assert [(row.group, row.split) for row in settled] == [("en:1", "test")] * 2


def test_the_catalogue_lists_describes_and_knows_who_uses_a_version(db: Database, home: Home) -> None:
    ingest(db, home, Source(intents="en", count=60))
    versions.commit(db, home, "other", rows(1), transformation={}, actor="tester")
    found, following, total = entries.look(db, Wanted(), limit=1)
    assert [(one.name, one.versions) for one in found] == [("home", 1)]
    assert total == 2
    assert [one.name for one in entries.look(db, Wanted(), after=following)[0]] == ["other"]
    described = catalog.describe(db, home, "home@1", reading.itself("viewing"), samples=2)
    assert described["ingestions"][0]["source"] == "intents: en"
    assert all(len(found) <= 2 for found in described["samples"].values())
    assert catalog.used_by(db, "home@1") == []
    with pytest.raises(NotFound):
        versions.line(db, "none")


def _size(home: Home) -> int:
    return sum(path.stat().st_size for path in home.datasets.rglob("*") if path.is_file())


@pytest.mark.parametrize("size", [0, 1, 300])
def test_the_digest_of_a_change_is_that_of_the_whole(size: int) -> None:
    dice = np.random.default_rng(size)
    for share in (0, 0.1, 1):
        known = sets.ordered(np.frombuffer(dice.bytes(32 * size), "S32"))
        gone = np.flatnonzero(dice.random(len(known)) < share)
        come = np.frombuffer(dice.bytes(32 * 20), "S32")
        whole = sets.ordered(np.concatenate([np.delete(known, gone), come]))
        assert sets.digest_changed(known, gone, come) == sets.digest(whole)
