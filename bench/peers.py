"""Other gateways, each doing the same small job in front of the same upstream, for `bench/gateway.py`.

Each peer is installed at a pinned version into a folder of its own (`build/peers/`, removed by `make clean`), never into the
environment of the project. One that does not install or start is named in the table with the reason, not hidden. They do
what they can of our job: one name for a model, a key check where there is one; none of them writes a durable record.
LiteLLM stays below 1.103, whose later wheels once carried somebody else's code.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import foreign

START_S = 90


@dataclass(frozen=True)
class Peer:
    """How to get, start and ask another gateway."""

    name: str
    version: str
    packages: tuple[str, ...]
    start: Callable[[Path, int, int], Sequence[str]]  # folder, own port, the upstream's port
    path: str = "/v1/chat/completions"
    model: str = "smart-home"
    headers: tuple[str, ...] = ()
    manager: str = "pip"
    environment: Mapping[str, str] = field(default_factory=dict)

    def folder(self, root: Path) -> Path:
        return root / f"{self.name}-{self.version}"

    def install(self, root: Path) -> str:
        """Why it cannot be installed; empty when it is."""
        return foreign.install(self.folder(root), self.packages, manager=self.manager)

    def run(self, root: Path, port: int, upstream: int, prefix: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
        """The running gateway and its port (its own choice when it writes a file `port`), once it answers.

        Raises:
            RuntimeError: It does not; with what it said.
        """
        folder = self.folder(root)
        announced = folder / "port"
        announced.unlink(missing_ok=True)
        log = (folder / "log.txt").open("wb")
        environment = {**os.environ, **self.environment}
        environment.pop("PYTHONPATH", None)
        command = [*prefix, *self.start(folder, port, upstream)]
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        deadline, why = time.monotonic() + START_S, ""
        while time.monotonic() < deadline and child.poll() is None:
            chosen = int(announced.read_text()) if announced.exists() else port
            why = self.asked(chosen)
            if not why:
                return child, chosen
            time.sleep(0.3)
        stop(child)
        said = (folder / "log.txt").read_text(errors="replace").strip().splitlines() or [""]
        raise RuntimeError(f"does not answer: {why or said[-1]}"[:200])

    def asked(self, port: int) -> str:
        """Ask once; what went wrong, or nothing."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "hello"}]}
        headers = dict(one.split(": ", 1) for one in self.headers)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{self.path}", json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": "Bearer sk-app", **headers},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return "" if b'"choices"' in answer.read() else "an answer without choices"
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read()[:120]!r}"
        except OSError as error:
            return str(error)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a peer and all that it started."""
    for number in (15, 9):
        try:
            os.killpg(child.pid, number)
            child.wait(5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _litellm(folder: Path, port: int, upstream: int) -> Sequence[str]:
    params = {"model": "openai/smart-home@1", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "sk-up"}
    config = {"model_list": [{"model_name": "smart-home", "litellm_params": params}],
              "general_settings": {"master_key": "sk-app"}}  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    return [str(folder / "venv/bin/litellm"), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port),
            "--num_workers", "1"]  # fmt: skip


def _mlflow(folder: Path, port: int, upstream: int) -> Sequence[str]:
    config = {"openai_api_key": "sk-up", "openai_api_base": f"http://127.0.0.1:{upstream}/v1"}
    endpoint = {"name": "smart-home", "endpoint_type": "llm/v1/chat",
                "model": {"provider": "openai", "name": "smart-home@1", "config": config}}  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps({"endpoints": [endpoint]}))
    return [str(folder / "venv/bin/mlflow"), "gateway", "start", "--config-path", "config.yaml", "--host", "127.0.0.1",
            "--port", str(port), "--workers", "1"]  # fmt: skip


def _portkey(folder: Path, port: int, upstream: int) -> Sequence[str]:
    script = folder / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return ["node", str(script), f"--port={port}", "--headless"]


TENSORZERO = """\
import os, time
from openai import OpenAI
from tensorzero import patch_openai_client

client = OpenAI(api_key="sk-up")
patch_openai_client(client, config_file="tensorzero.toml", async_setup=False)  # starts its gateway on a port of its own
with open("port.new", "w") as file:
    file.write(str(client.base_url.port))
os.rename("port.new", "port")
time.sleep(1e6)
"""


def _tensorzero(folder: Path, port: int, upstream: int) -> Sequence[str]:
    (folder / "tensorzero.toml").write_text(
        "[gateway]\nobservability.enabled = false\n"
        '[models.smart-home]\nrouting = ["mock"]\n[models.smart-home.providers.mock]\n'
        f'type = "openai"\nmodel_name = "smart-home@1"\napi_base = "http://127.0.0.1:{upstream}/v1/"\napi_key_location = "none"\n'
    )
    (folder / "start.py").write_text(TENSORZERO)
    return [str(folder / "venv/bin/python"), "start.py"]


def _vllm_router(folder: Path, port: int, upstream: int) -> Sequence[str]:
    return [str(folder / "venv/bin/vllm-router"), "--worker-urls", f"http://127.0.0.1:{upstream}", "--host", "127.0.0.1",
            "--port", str(port), "--policy", "round_robin"]  # fmt: skip


def peers(upstream: int) -> list[Peer]:
    """All of them, for an upstream on this port."""
    portkey = {"provider": "openai", "api_key": "sk-up", "custom_host": f"http://127.0.0.1:{upstream}/v1"}
    return [
        Peer("litellm", "1.101.6", ("litellm[proxy]==1.101.6",), _litellm,
             environment={"LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}),
        Peer("mlflow", "3.17.2", ("mlflow[genai]==3.17.2",), _mlflow, environment={"MLFLOW_DISABLE_TELEMETRY": "true"}),
        Peer("portkey", "1.15.2", ("@portkey-ai/gateway@1.15.2",), _portkey, manager="npm",
             headers=(f"x-portkey-config: {json.dumps(portkey)}",)),
        Peer("tensorzero", "2026.6.0", ("tensorzero==2026.6.0", "openai"), _tensorzero,
             path="/openai/v1/chat/completions", model="tensorzero::model_name::smart-home"),
        Peer("vllm-router", "0.1.17", ("vllm-router==0.1.17",), _vllm_router),
    ]  # fmt: skip
