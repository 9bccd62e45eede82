"""Bases with transformers: written again as training reads them, and fetched from the hub when asked by name. Run in a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import torch
import transformers

from ciranda.errors import Invalid, Unavailable


def export(source: Path, out: Path) -> None:
    """Write a base as transformers reads it: float32 safetensors, tokenizer, chat template.

    Raises:
        Invalid: the source is no model that transformers can load, or has no chat template.
    """
    at: dict[str, Any] = {"gguf_file": source.name} if source.is_file() else {}
    folder = source.parent if source.is_file() else source
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **at)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **at)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise Invalid(
            f"the base cannot be loaded: {error}",
            where=str(source),
            remedy="give a model folder, a .gguf file or hf:org/name",
        ) from None
    if not tokenizer.chat_template:
        raise Invalid("the base has no chat template", where=str(source), remedy="choose an instruct or chat model")
    # Loaded from GGUF it counts as quantised, which save_pretrained refuses; the weights are plain float32 by now.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def download(repository: str, cache: Path) -> Path:
    """Fetch `org/name` or `org/name@revision` from the hub; only ever called for a base written as `hf:…`.

    Raises:
        Unavailable: the hub cannot be reached, or has no such repository.
    """
    name, _, revision = repository.partition("@")
    wanted = ["*.json", "*.safetensors", "*.jinja", "tokenizer*", "*q8_0.gguf"]
    try:
        return Path(
            huggingface_hub.snapshot_download(name, revision=revision or None, cache_dir=cache, allow_patterns=wanted)
        )
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"{repository} cannot be fetched: {error}",
            where="hf:",
            remedy="check the name and the network, or give a folder",
        ) from None
