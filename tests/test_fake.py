"""The fake engine is one: the official client works with it, it keeps its key, and it fails on demand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from gatewayrig import Rig, metric, wait_for


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("fake")
    (folder / "answers.json").write_text(json.dumps({"turn on the light": '{"intent":"HassTurnOn"}'}))
    (folder / "key").write_text("s3cret")
    rig = Rig(folder)
    flags = ["--base", "b.gguf", "--slots", "4", "--context", "4096", "--threads", "1"]
    yield rig.engine(
        "smart-home@1", *flags, "--answers", str(folder / "answers.json"), "--key-file", str(folder / "key")
    ).url
    rig.stop()


def ask(engine: str, text: str, **options: object) -> object:
    client = openai.OpenAI(base_url=f"{engine}/v1", api_key="s3cret", max_retries=0)
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}], **options)  # type: ignore[call-overload]


def test_it_answers_from_its_file_and_else_repeats(engine: str) -> None:
    assert ask(engine, "turn on the light").choices[0].message.content == '{"intent":"HassTurnOn"}'
    assert json.loads(ask(engine, "something else").choices[0].message.content) == {
        "intent": "echo",
        "text": "something else",
    }


def test_the_same_question_streams_to_the_same_answer(engine: str) -> None:
    stream = ask(engine, "turn on the light", stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == '{"intent":"HassTurnOn"}'


def test_health_is_open_and_the_rest_needs_the_key(engine: str) -> None:
    assert httpx.get(f"{engine}/health").json() == {"status": "ok"}
    assert httpx.get(f"{engine}/v1/models").status_code == 401
    assert (
        httpx.get(f"{engine}/v1/models", headers={"authorization": "Bearer s3cret"}).json()["data"][0]["id"]
        == "smart-home@1"
    )


@pytest.mark.parametrize(
    ("word", "error"), [("fake:429", openai.RateLimitError), ("fake:500", openai.InternalServerError)]
)
def test_it_fails_on_demand(engine: str, word: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(engine, word)


def test_it_notices_a_client_that_leaves(engine: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{engine}/v1/chat/completions", timeout=0.1, headers={"authorization": "Bearer s3cret"},
            json={"messages": [{"role": "user", "content": "fake:hang"}]},
        )  # fmt: skip
    wait_for(lambda: metric(engine, "fake_cancelled_total") == 1)


def test_a_wrong_file_of_answers_is_said(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (tmp_path / "answers.json").write_text("[1]")
    assert rig.engine("m", "--answers", str(tmp_path / "answers.json")).ended() == 2
    assert "cannot start" in (tmp_path / "ciranda.engines.fake-0.log").read_text()
