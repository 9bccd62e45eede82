"""What people point at the gateway besides the official clients, and all of it in front of a real model."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from tests import smallmodel

from gatewayrig import Rig, arm, model, wait_for

LITELLM_PYTHON = "LITELLM_PYTHON"  # an interpreter that has litellm, since it pins an openai older than ours
LITELLM = """
import json, sys, litellm
url, given = sys.argv[1], {"api_key": "sk-app", "max_tokens": 20, "messages": [{"role": "user", "content": "hello there"}]}
def text(answer): return answer.choices[0].message.content
def streamed(chunks): return "".join(one.choices[0].delta.content or "" for one in chunks)
def calls(answer): return [one.function.name for one in answer.choices[0].message.tool_calls]
tools = [{"type": "function", "function": {"name": "lamp", "parameters": {"type": "object", "properties": {}}}}]
asked = {**given, "messages": [{"role": "user", "content": "fake:tools"}], "tools": tools}
wrong = ""
try:
    litellm.completion(model="openai/nobody", api_base=url + "/v1", num_retries=0, **given)
except litellm.exceptions.NotFoundError:
    wrong = "NotFoundError"
print(json.dumps({
    "openai": text(litellm.completion(model="openai/smart-home", api_base=url + "/v1", **given)),
    "openai streamed": streamed(litellm.completion(model="openai/smart-home", api_base=url + "/v1", stream=True, **given)),
    "openai tools": calls(litellm.completion(model="openai/smart-home", api_base=url + "/v1", **asked)),
    "anthropic": text(litellm.completion(model="anthropic/smart-home", api_base=url, **given)),
    "anthropic streamed": streamed(litellm.completion(model="anthropic/smart-home", api_base=url, stream=True, **given)),
    "anthropic tools": calls(litellm.completion(model="anthropic/smart-home", api_base=url, **asked)),
    "wrong": wrong,
}))
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gateway before one fake engine."""
    rig = Rig(tmp_path_factory.mktemp("clients"))
    engine, worker = rig.engine("smart-home@1"), rig.gateway()
    rig.route({"smart-home": model(arm("live", "smart-home@1", engine.url))})
    wait_for(lambda: httpx.get(f"{worker.url}/readyz").status_code == 200)
    yield worker.url
    rig.stop()


@tool
def lamp(text: str) -> str:
    """Switches a lamp."""
    return f"switched by {text}"


class Echo(BaseModel):
    """What the fake engine answers with."""

    intent: str
    text: str


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_langchain_asks_streams_calls_tools_and_parses(url: str, responses: bool) -> None:
    given: Any = {"base_url": f"{url}/v1", "api_key": "sk-app", "use_responses_api": responses, "max_retries": 0}
    chat = ChatOpenAI(model="smart-home", stream_usage=True, **given)
    answer = chat.invoke("hello there")
    assert "hello there" in str(answer.text)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0
    whole: Any = None
    for chunk in chat.stream("hello there"):
        whole = chunk if whole is None else whole + chunk
    assert str(whole.text) == str(answer.text)
    assert whole.usage_metadata["output_tokens"] > 0
    armed = chat.bind_tools([lamp])
    asked = HumanMessage("fake:tools please")
    calling = armed.invoke([asked])
    assert [one["name"] for one in calling.tool_calls] == ["lamp"]
    told = ToolMessage(lamp.invoke(calling.tool_calls[0]["args"]), tool_call_id=calling.tool_calls[0]["id"])
    assert str(armed.invoke([asked, calling, told]).text) == "it said switched by fake:tools please"
    parsed = chat.with_structured_output(Echo, method="json_schema").invoke("hello")
    assert parsed == Echo(intent="echo", text="hello")


def test_langchain_embeds(url: str) -> None:
    given: Any = {"base_url": f"{url}/v1", "api_key": "sk-app", "check_embedding_ctx_length": False}
    assert OpenAIEmbeddings(model="smart-home", **given).embed_documents(["a", "bc"]) == [[1.0, 1.0], [2.0, 1.0]]


def test_litellms_client_asks_through_both_doors(url: str) -> None:
    here = sys.executable if importlib.util.find_spec("litellm") else ""
    python = os.environ.get(LITELLM_PYTHON, here)
    if not python:
        pytest.skip(f"litellm pins an older openai than ours: set {LITELLM_PYTHON} to an interpreter that has it")
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "ANTHROPIC_API_KEY": "sk-app"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([python, "-c", LITELLM, url], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert {told.pop("openai tools")[0], told.pop("anthropic tools")[0]} == {"lamp"}
    assert told.pop("wrong") == "NotFoundError"
    assert all("hello there" in text for text in told.values()), told


def test_every_door_leads_to_a_real_model(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    with smallmodel.serving(tmp_path, "--slots", "2", "--context", "1024") as served:
        (tmp_path / "run/engine.key").write_text(served.key)
        worker = rig.gateway()
        rig.route({"m": model(arm("live", "m@1", served.url, engine="llamacpp"), engine_key_file="run/engine.key")})
        wait_for(lambda: httpx.get(f"{worker.url}/readyz").status_code == 200)
        theirs = anthropic.Anthropic(base_url=worker.url, api_key="sk-app", max_retries=0)
        ours = openai.OpenAI(base_url=f"{worker.url}/v1", api_key="sk-app", max_retries=0)
        said: Any = [{"role": "user", "content": "Count to three."}]

        counted = theirs.messages.count_tokens(model="m", messages=said)
        message = theirs.messages.create(model="m", max_tokens=2, messages=said, extra_body={"temperature": 0})
        assert counted.input_tokens == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
        assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 2)
        with theirs.messages.stream(model="m", max_tokens=2, messages=said, extra_body={"temperature": 0}) as stream:
            assert stream.get_final_message().usage.output_tokens == 2

        schema = {
            "type": "object",
            "properties": {"on": {"type": "boolean"}},
            "required": ["on"],
            "additionalProperties": False,
        }
        form: Any = {"format": {"type": "json_schema", "name": "light", "schema": schema, "strict": True}}
        response = ours.responses.create(
            model="m", input="Is the light on?", text=form, max_output_tokens=30, temperature=0
        )
        assert isinstance(json.loads(response.output_text)["on"], bool)
        last = list(
            ours.responses.create(model="m", input="Count to three.", max_output_tokens=2, temperature=0, stream=True)
        )[-1]
        assert last.type == "response.incomplete"
        assert last.response.incomplete_details is not None
        assert last.response.incomplete_details.reason == "max_output_tokens"

        assert ours.completions.create(model="m", prompt="One, two,", max_tokens=4).usage.completion_tokens == 4  # type: ignore[union-attr]
        vectors = ours.embeddings.create(model="m", input=["light", "lamp"]).data
        assert len(vectors) == 2
        assert len(vectors[0].embedding) > 100
        records = rig.records()
        assert [one["status"] for one in records] == [200] * 6
        assert all(one["prompt_tokens"] and not one.get("counted") for one in records)
    rig.stop()
