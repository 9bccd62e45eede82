"""The serving process: ready when it says so, closed to strangers, gone when told or orphaned, and never in mid-answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests import smallmodel

from ciranda.engines import llamacpp
from ciranda.errors import Conflict, Invalid, Refused
from ciranda.train.recipe import Recipe

COUNT = [{"role": "user", "content": "Count from one to fifty in words."}]


def stream(served: smallmodel.Served, tokens: int) -> tuple[http.client.HTTPResponse, bytes]:
    """Begin a streamed answer; returns the response and its first line."""
    body = {"model": "m@1", "messages": COUNT, "stream": True, "max_tokens": tokens, "ignore_eos": True}
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=60)
    headers = {"authorization": f"Bearer {served.key}", "connection": "close"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    return answer, answer.readline()


def test_it_serves_under_its_name_with_a_key_and_figures(tmp_path: Path) -> None:
    with smallmodel.serving(tmp_path, "--slots", "2", "--context", "1024") as served:
        assert served.url.startswith("http://127.0.0.1:")
        assert served.request("GET", "/health", key="")[0] == 200
        for key in ("", "wrong"):
            assert served.request("POST", "/v1/chat/completions", {"messages": COUNT}, key=key)[0] == 401
        assert served.request("GET", "/v1/models")[1]["data"][0]["id"] == "m@1"
        answer = served.chat(COUNT, max_tokens=5)
        assert answer["usage"]["completion_tokens"] == 5
        assert served.chat(COUNT, max_tokens=5)["choices"][0]["message"] == answer["choices"][0]["message"]
        assert "llamacpp:requests_processing" in served.request("GET", "/metrics")[1]


def test_sigterm_lets_a_running_answer_end(tmp_path: Path) -> None:
    with smallmodel.serving(tmp_path) as served:
        answer, _ = stream(served, 60)
        served.process.terminate()
        lines = answer.read().decode().splitlines()
        assert lines[-2:] == ["data: [DONE]", ""] or "data: [DONE]" in lines
        assert served.process.wait(20) == 0
        assert not (tmp_path / "ready.json").exists()


def test_a_second_sigterm_does_not_wait(tmp_path: Path) -> None:
    with smallmodel.serving(tmp_path, "--drain-s", "120", "--context", "8192", "--slots", "1") as served:
        answer, _ = stream(served, 4000)
        reader = threading.Thread(target=lambda: cut_short(answer))
        reader.start()
        served.process.terminate()
        smallmodel.await_(lambda: "drains" in (tmp_path / "engine.log").read_text())
        served.process.terminate()
        assert served.process.wait(20) == 0
        reader.join(20)


def cut_short(answer: http.client.HTTPResponse) -> None:
    with contextlib.suppress(http.client.HTTPException, OSError):  # which is what the second signal asks for
        answer.read()


def test_it_goes_when_its_parent_dies(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    argv = [sys.executable, "-m", "ciranda.engines.llamacpp", "--base", str(smallmodel.base().gguf)]
    argv += ["--name", "m@1", "--threads", "1", "--ready-file", str(ready)]
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({argv!r})"], env=smallmodel.environment()
    )
    smallmodel.await_(ready.exists)
    child = json.loads(ready.read_text())["pid"]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    smallmodel.await_(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    base = smallmodel.base().gguf
    (tmp_path / "adapter.gguf").write_bytes(b"no")
    with pytest.raises(Invalid, match=r"adapter\.gguf"):
        llamacpp.check(llamacpp.Serve(base=base, name="m@1", adapter=tmp_path / "adapter.gguf"))
    with pytest.raises(Invalid, match="key file"):
        llamacpp.check(llamacpp.Serve(base=base, name="m@1", key_file=tmp_path / "absent"))
    done = subprocess.run(
        [sys.executable, "-m", "ciranda.engines.llamacpp", "--base", str(tmp_path / "no.gguf"), "--name", "m@1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == Invalid.exit_code
    assert "no.gguf is missing" in done.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind((llamacpp.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=str(port)):
            llamacpp.check(llamacpp.Serve(base=smallmodel.base().gguf, name="m@1", port=port))


def test_weights_that_llamacpp_refuses_end_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(smallmodel.base().gguf.read_bytes()[:100_000])
    done = subprocess.run(
        [sys.executable, "-m", "ciranda.engines.llamacpp", "--base", str(tmp_path / "cut.gguf"), "--name", "m@1"],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
    )
    assert done.returncode != 0
    assert "llama.cpp cannot serve m@1" in done.stderr


def test_what_could_not_be_served_is_refused_before_it_is_trained() -> None:
    llama = {"model_type": "llama", "num_hidden_layers": 30}
    llamacpp.servable(Recipe(layers=12), llama)
    with pytest.raises(Refused, match="31 layers"):
        llamacpp.servable(Recipe(layers=31), llama)
    with pytest.raises(Refused, match="mamba"):
        llamacpp.servable(Recipe(layers=12), {"model_type": "mamba", "num_hidden_layers": 30})
