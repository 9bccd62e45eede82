"""The record leaves as a file or goes on as a stream: all of it, once, in bounded memory, whatever comes meanwhile."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq
import pytest

from ciranda.errors import Failed, Invalid
from ciranda.interactions import export, query
from ciranda.interactions.client import Line
from ciranda.interactions.query import Score
from ciranda.store import clock
from recorded import Recorded, opinion, record, until

START = clock.now_ms() - 3_600_000
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def made(recorded: Recorded) -> list[str]:
    """Thirty answers over three days, oldest first, some at the same moment; votes and scores on some."""
    writer = recorded.writer()
    given = [
        record(writer, f"ask {number} ação", f"say {number}", model="x", user=f"u{number % 3}",
               ts_ms=START - (29 - number) // 10 * DAY_MS + number // 2, id=f"id-{number:02}")
        for number in range(30)
    ]  # fmt: skip
    for identifier in given[::7]:
        opinion(writer, identifier, thumb=-1, correction="better", reasons=["wrong"])
    until(lambda: recorded.interactions.count(model="x") == 30)
    until(lambda: len(recorded.interactions.feedback_since(None, model="x")) == 5)
    recorded.interactions.insert_scores([Score(given[0], "exact", 0.5, "x")])
    return given


@pytest.mark.parametrize("page", [500, 7, 1])
def test_everything_comes_once_and_in_order(
    recorded: Recorded, made: list[str], monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(query, "PAGE", page)
    assert [one.id for one in recorded.interactions.everything(model="x")] == made
    chosen = recorded.interactions.everything(model="x", user="u1", search='"ASK 1"', thumb=None)
    assert [one.id for one in chosen] == [
        one for number, one in enumerate(made) if number % 3 == 1 and "1" in str(number)[0]
    ]


def test_what_comes_meanwhile_is_left_for_the_next_one(recorded: Recorded, made: list[str]) -> None:
    found = recorded.interactions.everything(model="x")
    first = next(found)
    late = record(recorded.writer("late"), model="x", ts_ms=START + 5, id="late")
    until(lambda: recorded.interactions.get(late))
    assert [first.id, *(one.id for one in found)] == made
    assert late in [one.id for one in recorded.interactions.everything(model="x")]


def test_a_page_too_large_for_one_answer_is_asked_for_in_parts(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = recorded.writer("large")
    given = [record(writer, "x" * 300_000, model="large", id=f"l-{number:02}") for number in range(12)]
    until(lambda: recorded.interactions.count(model="large") == 12)
    asked = Line.rows

    def tight(self: Line, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        found = asked(self, sql, parameters)
        if sum(len(row.get("request", "")) for row in found) > 2_000_000:
            raise Failed("the result is too large", where="the test", remedy="ask for less")
        return found

    monkeypatch.setattr(Line, "rows", tight)
    assert [one.id for one in recorded.interactions.everything(model="large")] == given


def test_lines_hold_every_field_feedback_and_scores(recorded: Recorded, made: list[str]) -> None:
    pieces = export.written(recorded.interactions.everything(model="x", until=clock.now()), "jsonl")
    rows = [json.loads(line) for line in b"".join(pieces).splitlines() if b'"late"' not in line]
    assert [row["id"] for row in rows] == made
    assert rows[0]["input_text"] == "ask 0 ação"
    assert (rows[0]["thumb"], rows[0]["feedback"][0]["correction"], rows[0]["feedback"][0]["reasons"]) == (
        -1,
        "better",
        ["wrong"],
    )
    assert rows[0]["scores"][0]["value"] == 0.5
    assert clock.parse(rows[0]["at"]).timestamp() * 1000 == pytest.approx(rows[0]["ts_ms"], abs=1000)


def test_parquet_has_the_types_of_the_table_and_bounded_groups(
    recorded: Recorded, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "GROUP_ROWS", 8)
    pieces = list(export.written(recorded.interactions.everything(model="x", user="u0"), "parquet"))
    file = pq.ParquetFile(io.BytesIO(b"".join(pieces)))
    assert file.metadata.num_row_groups == 2
    assert len(pieces) >= 3
    rows = file.read().to_pylist()
    assert [row["id"] for row in rows] == made[::3]
    assert str(file.schema_arrow.field("ts").type) == "timestamp[ms, tz=UTC]"
    assert (rows[0]["thumb"], rows[0]["feedback"][0]["reasons"], rows[0]["scores"][0]["scorer"]) == (
        -1,
        ["wrong"],
        "exact",
    )
    assert rows[1]["feedback"] == []


def test_nothing_is_a_whole_file_too(recorded: Recorded) -> None:
    assert b"".join(export.written(recorded.interactions.everything(model="nobody"), "jsonl")) == b""
    none = b"".join(export.written(recorded.interactions.everything(model="nobody"), "parquet"))
    assert pq.read_table(io.BytesIO(none)).num_rows == 0
    with pytest.raises(Invalid, match="csv"):
        export.written([], "csv")


def test_a_place_holds_when_its_interaction_is_gone(recorded: Recorded, made: list[str]) -> None:
    first = recorded.interactions.page(model="x", limit=5, until=clock.now())
    rest = recorded.interactions.page(model="x", before=first[-1].place)
    assert rest == recorded.interactions.page(model="x", before=first[-1].id)
    gone = f"{first[-1].ts_ms}.{first[-1].id}x"
    assert [one.id for one in recorded.interactions.page(model="x", before=gone)][1:] == [one.id for one in rest]
