"""From PEFT to llama.cpp: the derived file says the same as the artefact it came from, or is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests import smallmodel

from ciranda.engines import gguf
from ciranda.errors import Invalid, Refused
from ciranda.train import bases
from ciranda.train.recipe import TARGETS

PROMPTS = ("turn on the light in the kitchen", "what is the capital of Brazil", "set a timer for ten minutes")
CLOSE = 0.01  # mean distance of log probabilities: what is left is llama.cpp's rounding of activations (0.004 measured)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bridge")


@pytest.fixture(scope="module")
def model() -> Any:
    """The base with a strong random adapter on its four upper layers."""
    import torch
    from peft import LoraConfig, get_peft_model

    from ciranda.engines import peft_shape

    base = peft_shape.load(smallmodel.base().hf)
    shape = LoraConfig(r=8, lora_alpha=16, target_modules=list(TARGETS), layers_to_transform=[26, 27, 28, 29])
    adapted = get_peft_model(base, shape)
    torch.manual_seed(3)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.2)
    return adapted.eval()


@pytest.fixture(scope="module")
def adapter(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder / "adapter")
    count = gguf.adapter(folder / "adapter", smallmodel.base().config, folder / "adapter.gguf", name="m@1")
    assert count == 4 * 7 * 2
    return folder / "adapter.gguf"


@pytest.fixture(scope="module")
def exact(folder: Path) -> Iterator[Path]:
    """The base in 16 bits, which shows a wrong adapter that 8 bits might hide."""
    gguf.base(Path(bases.source(smallmodel.NAME).place), folder / "f16.gguf", bits=16)
    yield folder / "f16.gguf"
    (folder / "f16.gguf").unlink()


def messages(prompt: str) -> list[dict[str, str]]:
    return [smallmodel.SYSTEM, {"role": "user", "content": prompt}]


@cache
def tokenizer() -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(smallmodel.base().hf)


def by_torch(model: Any, prompt: str) -> Any:
    """Log probabilities of the first answer token."""
    import torch

    text = tokenizer().apply_chat_template(messages(prompt), add_generation_prompt=True, tokenize=False)
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer()(text, add_special_tokens=False)["input_ids"]])).logits[0, -1]
    return torch.log_softmax(logits, -1).numpy()


def distance(served: smallmodel.Served, model: Any) -> float:
    """Mean absolute distance of the ten likeliest first tokens' log probabilities between llama.cpp and torch."""
    gaps: list[float] = []
    for prompt in PROMPTS:
        expected = by_torch(model, prompt)
        answer = served.chat(messages(prompt), max_tokens=1, logprobs=True, top_logprobs=10)
        top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        gaps += [abs(one["logprob"] - expected[one["id"]]) for one in top]
    return float(np.mean(gaps))


def test_an_adapter_says_the_same_in_llamacpp_as_in_torch(
    model: Any, adapter: Path, exact: Path, tmp_path: Path
) -> None:
    with smallmodel.serving(tmp_path, "--adapter", str(adapter), gguf=exact) as served:
        assert distance(served, model) < CLOSE
        with model.disable_adapter():  # the control: the base alone says something else
            assert distance(served, model) > 20 * CLOSE


def test_whole_weights_say_the_same_in_llamacpp_as_in_torch(model: Any, exact: Path, tmp_path: Path) -> None:
    import copy

    whole = copy.deepcopy(model).merge_and_unload()
    whole.save_pretrained(tmp_path / "weights")
    count = gguf.model(tmp_path / "weights", exact, tmp_path / "model.gguf", bits=16)
    assert count == 272
    with smallmodel.serving(tmp_path, gguf=tmp_path / "model.gguf") as served:
        assert distance(served, model) < CLOSE
    with pytest.raises(Invalid, match="no weights"):
        gguf.model(tmp_path / "nowhere", exact, tmp_path / "out.gguf")
    config = json.loads((tmp_path / "weights/config.json").read_text())
    (tmp_path / "weights/config.json").write_text(json.dumps(config | {"model_type": "mamba"}))
    with pytest.raises(Refused, match="mamba"):
        gguf.model(tmp_path / "weights", exact, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_the_base_in_8_bits_says_nearly_the_same(model: Any, tmp_path: Path) -> None:
    with smallmodel.serving(tmp_path) as served, model.disable_adapter():
        assert distance(served, model) < 0.2


def test_a_trained_version_answers_through_http_as_validation_said(tmp_path: Path) -> None:
    """Teacher-forced exact match in torch and greedy answers of llama.cpp are one and the same measure."""
    spec = smallmodel.spec(tmp_path, steps=24, batch_size=4, layers=6, learning_rate=6e-3)
    smallmodel.write_rows(spec.validation, smallmodel.lights())
    result = smallmodel.trained(tmp_path, spec)
    assert result["validation"]["exact_match"] >= 0.8
    rows = smallmodel.lights()
    with smallmodel.serving(tmp_path, "--adapter", str(tmp_path / "output/adapter.gguf")) as served:
        answers = [served.chat(row["messages"])["choices"][0]["message"]["content"] for row in rows]
    right = sum(answer == row["completion"] for answer, row in zip(answers, rows, strict=True)) / len(rows)
    assert right == pytest.approx(result["validation"]["exact_match"], abs=1.5 / len(rows))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
)
def test_a_shape_that_llamacpp_cannot_serve_is_refused(
    adapter: Path, folder: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    settings = json.loads((folder / "adapter/adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | change))
    (tmp_path / "adapter_model.safetensors").symlink_to(folder / "adapter/adapter_model.safetensors")
    with pytest.raises(Refused, match=named):
        gguf.adapter(tmp_path, smallmodel.base().config, tmp_path / "out.gguf", name="m@1")
    assert not (tmp_path / "out.gguf").exists()


def test_other_tensors_other_models_and_no_adapter_are_refused(adapter: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="mamba"):
        gguf.adapter(folder / "adapter", {"model_type": "mamba"}, tmp_path / "out.gguf", name="m@1")
    with pytest.raises(Invalid, match="no PEFT adapter"):
        gguf.adapter(tmp_path, smallmodel.base().config, tmp_path / "out.gguf", name="m@1")
    (tmp_path / "adapter_config.json").write_text((folder / "adapter/adapter_config.json").read_text())
    tensors = load_file(folder / "adapter/adapter_model.safetensors")
    tensors["base_model.model.lm_head.lora_A.weight"] = np.zeros((8, 576), np.float32)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(Refused, match="lm_head"):
        gguf.adapter(tmp_path, smallmodel.base().config, tmp_path / "out.gguf", name="m@1")
    assert [path.name for path in tmp_path.glob("*out*")] == []


def test_a_file_that_is_no_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").write_text("<html>not found</html>" * 10)
    with pytest.raises(Invalid, match="no GGUF") as caught:
        gguf.base(tmp_path / "weights.gguf", tmp_path / "out.gguf")
    assert caught.value.where.endswith("weights.gguf")
