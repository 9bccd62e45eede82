"""The packaged base, prepared once for this machine, and small training jobs on it: what tests with a real model share."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ciranda import config
from ciranda.train import bases
from ciranda.train.bases import Base
from ciranda.train.recipe import Recipe, Spec

NAME = "smollm2-135m-instruct"
SYSTEM = {"role": "system", "content": "Answer with one line of JSON."}
ROOMS = ("kitchen", "bedroom", "garage", "office", "attic", "hallway", "studio", "garden")


@cache
def base() -> Base:
    """The prepared base; some 30 seconds once for a machine, then at once."""
    folder = Path(tempfile.mkdtemp(prefix="ciranda-base-"))
    spec = bases.job(NAME, bases=folder / "bases", cache=cache_folder(), folder=folder / "job")
    subprocess.run(spec.argv, check=True, capture_output=True, timeout=280)
    return bases.need(folder / "bases", NAME)


CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@cache
def tiny() -> Base:
    """A base of the same family with some hundred words and random weights, small enough that a step takes a moment."""
    import torch
    import transformers
    from gguf import GGUFWriter
    from tokenizers import ByteLevelBPETokenizer

    from ciranda.engines import gguf

    folder = Path(tempfile.mkdtemp(prefix="ciranda-tiny-"))
    words = ByteLevelBPETokenizer()
    words.train_from_iterator(
        [json.dumps(lights())], vocab_size=400, special_tokens=["<|im_start|>", "<|im_end|>"], show_progress=False
    )
    marks = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, chat_template=CHAT, **marks)
    tokenizer.save_pretrained(folder / "hf")
    torch.manual_seed(7)
    shape = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    transformers.LlamaForCausalLM(shape).save_pretrained(folder / "hf")
    about = {"format": bases.FORMAT, "name": "tiny", "digest": "sha256:tiny"}
    (folder / "base.json").write_text(json.dumps(about))
    names = [f"blk.{n}.{name}" for n in range(3) for name in (*gguf.NAMES.values(), *gguf.PLAIN.values())]
    writer = GGUFWriter(str(folder / "base.q8_0.gguf"), "llama")
    for name in ("token_embd", "output_norm", *names):
        writer.add_tensor(f"{name}.weight", np.zeros((1, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Base("tiny", folder, "sha256:tiny", about)


def cache_folder() -> Path:
    """Where this machine keeps prepared bases."""
    return Path(config.settings(config.home(tempfile.gettempdir())).cache).expanduser()


def row(prompt: str, completion: str) -> dict[str, Any]:
    return {"messages": [SYSTEM, {"role": "user", "content": prompt}], "completion": completion}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def lights() -> list[dict[str, Any]]:
    """Sixteen rows of one pattern: enough to see a loss fall in a few steps."""
    return [
        row(f"turn {state} the light in the {room}", json.dumps({"intent": f"Turn{state.title()}", "area": room}))
        for room in ROOMS
        for state in ("on", "off")
    ]


def spec(
    folder: Path, *, on: Base | None = None, rows: Sequence[Mapping[str, Any]] | None = None, **recipe: Any
) -> Spec:
    """A training job of a few steps in `folder`, on the packaged base or another; a quarter of the rows judges."""
    rows = lights() if rows is None else rows
    bound = len(rows) * 3 // 4
    values = {"steps": 6, "batch_size": 2, "layers": 2, "learning_rate": 3e-3, "warmup_steps": 1} | recipe
    return Spec(
        base=(on or base()).folder,
        rows=write_rows(folder / "rows.jsonl", rows[:bound]),
        validation=write_rows(folder / "validation.jsonl", rows[bound:]),
        output=folder / "output",
        recipe=Recipe(**values),
        threads=1,
    )


def job(folder: Path, of: Spec) -> list[str]:
    """Write a job's spec; returns its command."""
    (folder / "spec.json").write_text(json.dumps(of.to_dict()))
    return [sys.executable, "-m", "ciranda.engines.peft_job", str(folder)]


def run(folder: Path, of: Spec) -> int:
    """Do a job here, in this process, and return its exit code: loading torch costs more than a few steps do."""
    from ciranda.engines import peft_job

    return peft_job.main(job(folder, of)[-1:])


def trained(folder: Path, of: Spec) -> dict[str, Any]:
    """Do a job here to its end and read its result."""
    assert run(folder, of) == 0, (folder / "error.json").read_text()
    result: dict[str, Any] = json.loads((of.output / "result.json").read_text())
    return result


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def steps_done(folder: Path) -> list[int]:
    """The steps that a job has reported so far."""
    path = folder / "progress.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line["step"] for line in map(json.loads, lines) if "step" in line]


def await_(condition: Any, *, within_s: float = 60.0) -> Any:
    """Wait until `condition()` is true; returns its value."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Served:
    """A running engine."""

    url: str
    key: str
    process: subprocess.Popen[str]

    def request(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        headers = {"authorization": f"Bearer {self.key if key is None else key}", "connection": "close"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    def chat(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Any:
        body = {"model": "m", "messages": list(messages), "temperature": 0, "max_tokens": 32, **options}
        status, answer = self.request("POST", "/v1/chat/completions", body)
        assert status == 200, answer
        return answer


@contextmanager
def serving(folder: Path, *options: str, gguf: Path | None = None) -> Iterator[Served]:
    """Start the engine's process on the base and end it afterwards."""
    key, ready = folder / "engine.key", folder / "ready.json"
    key.write_text("k-secret")
    ready.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "ciranda.engines.llamacpp", "--base", str(gguf or base().gguf), "--name", "m@1"]
    argv += ["--ready-file", str(ready), "--key-file", str(key), "--threads", "1", *options]
    with (folder / "engine.log").open("w") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, text=True, env=environment())
    try:
        await_(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "engine.log").read_text()[-2000:]
        said = json.loads(ready.read_text())
        assert said["pid"] == process.pid
        yield Served(said["url"], "k-secret", process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


__all__ = [
    "Served", "await_", "base", "cache_folder", "environment", "job", "lights", "replace", "row", "run", "serving", "spec",
    "steps_done", "tiny", "trained", "write_rows",
]  # fmt: skip
