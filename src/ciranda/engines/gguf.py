"""Weights in llama.cpp's file format: a PEFT adapter as a LoRA file, tuned weights and bases as 8-bit blocks. The one file that
names `gguf`.

All are derived: they can be made again from the standard artefact at any time, and hold nothing of their own. Only numpy is
needed, so neither torch nor a converter script comes near the serving side.

What cannot be carried over exactly is refused, never approximated: other architectures than Llama (other tensor names and
another order of rows), DoRA, rank or alpha by layer, trained biases or whole modules.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from safetensors.numpy import load_file

from ciranda.errors import Invalid, Refused, StorageFull
from ciranda.store import files

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
DERIVED = "rope_"  # tensors of llama.cpp's own that follow from the configuration
PLAIN = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
OUTSIDE = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm", "lm_head.weight": "output"}
WEIGHT = re.compile(r"model\.layers\.(\d+)\.([\w.]+)\.weight")
TENSOR = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.(\w+\.\w+)\.lora_([AB])\.weight")
WITHOUT: Mapping[str, Any] = {
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "bias": "none",
}
OWN_KEYS = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")


def adapter(folder: Path, config: Mapping[str, Any], out: Path, *, name: str) -> int:
    """Write a PEFT folder as a LoRA GGUF in place; returns the number of tensors.

    Args:
        config: The base's `config.json`, for its architecture and heads.

    Raises:
        Invalid: the folder holds no PEFT adapter.
        Refused: the adapter has a shape that llama.cpp cannot serve.
        StorageFull: the disk is full; nothing is left behind.
    """
    settings, tensors = _peft(folder)
    _servable(settings, config, folder)
    alpha = settings["lora_alpha"] * (settings["r"] ** 0.5 if settings.get("use_rslora") else 1)
    with _whole(out) as beside:
        writer = gguf.GGUFWriter(str(beside), "llama")
        writer.add_type("adapter")
        writer.add_name(name)
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(alpha))
        for key, values in tensors.items():
            writer.add_tensor(*_renamed(key, values, config, folder))
        _write(writer)
    return len(tensors)


def _peft(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        settings = json.loads((folder / "adapter_config.json").read_text())
        return settings, load_file(folder / "adapter_model.safetensors")
    except (FileNotFoundError, ValueError) as error:
        raise Invalid(
            f"no PEFT adapter: {error}", where=str(folder), remedy="give the folder that PEFT's save_pretrained wrote"
        ) from None


def _servable(settings: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> None:
    if config.get("model_type") != "llama":
        raise Refused(
            f"the base is a {config.get('model_type')!r} model; adapters are carried over for Llama models only",
            where=str(folder),
            remedy="choose a base of the Llama family, or serve this one with another engine",
        )
    for key, plain in WITHOUT.items():
        if (found := settings.get(key) or plain) != plain:
            raise Refused(
                f"the adapter has {key} {found!r}, which llama.cpp cannot serve",
                where=str(folder / "adapter_config.json"),
                remedy=f"train with {key} {plain!r}",
            )


def _renamed(key: str, values: Any, config: Mapping[str, Any], folder: Path) -> tuple[str, Any]:
    """A tensor under llama.cpp's name, and the rows of query and key in the order of its rotary embedding."""
    match = TENSOR.fullmatch(key)
    if match is None or match[2] not in NAMES:
        raise Refused(
            f"the adapter trains {key}, which llama.cpp cannot serve",
            where=str(folder),
            remedy=f"train {', '.join(NAMES)} only",
        )
    layer, module, side = match.groups()
    values = _rotary(values.astype(np.float32), module, config) if side == "B" else values.astype(np.float32)
    return f"blk.{layer}.{NAMES[module]}.weight.lora_{side.lower()}", np.ascontiguousarray(values)


def _rotary(values: Any, module: str, config: Mapping[str, Any]) -> Any:
    """Rows of query and key in the order of llama.cpp's rotary embedding; other matrices as they are."""
    heads = config["num_attention_heads"]
    by_rows = {"self_attn.q_proj": heads, "self_attn.k_proj": config.get("num_key_value_heads") or heads}
    if (count := by_rows.get(module)) is None:
        return values
    rows, width = values.shape
    return values.reshape(count, 2, rows // count // 2, width).swapaxes(1, 2).reshape(rows, width)


def model(folder: Path, like: Path, out: Path, *, bits: Literal[8, 16] = 8) -> int:
    """Write whole weights, as transformers left them, as a GGUF of their own; returns the number of tensors.

    Args:
        folder: Weights in safetensors with their `config.json`.
        like: The base's GGUF: vocabulary, chat template and every other key are taken from there.

    Raises:
        Invalid: the folder holds no weights, or not those of this base.
        Refused: it is no Llama model.
        StorageFull: the disk is full; nothing is left behind.
    """
    config, weights = _weights(folder)
    reader = _reader(like)
    found = dict(_named(key, values, config, folder) for key, values in weights.items())
    found.setdefault("output.weight", found.get("token_embd.weight"))  # tied: one matrix for both
    tensors = [tensor for tensor in reader.tensors if not tensor.name.startswith(DERIVED)]
    missing = sorted(tensor.name for tensor in tensors if found.get(tensor.name) is None)
    if missing:
        raise Invalid(
            f"the weights lack {missing[0]}, which the base has", where=str(folder), remedy="train again on this base"
        )
    with _whole(out) as beside:
        writer = _like(reader, beside, bits)
        for tensor in reader.tensors:
            values, kind = _blocks(found[tensor.name], bits) if tensor in tensors else (tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, values, raw_dtype=kind)
        _write(writer)
    return len(reader.tensors)


def _weights(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        config = json.loads((folder / "config.json").read_text())
        tensors: dict[str, Any] = {}
        for part in sorted(folder.glob("*.safetensors")):
            tensors |= load_file(part)
    except (FileNotFoundError, ValueError) as error:
        raise Invalid(
            f"no weights: {error}", where=str(folder), remedy="give the folder that save_pretrained wrote"
        ) from None
    _servable({}, config, folder)
    return config, tensors


def _named(key: str, values: Any, config: Mapping[str, Any], folder: Path) -> tuple[str, Any]:
    """A tensor of transformers under llama.cpp's name."""
    if key in OUTSIDE:
        return f"{OUTSIDE[key]}.weight", values
    match = WEIGHT.fullmatch(key)
    name = (PLAIN | NAMES).get(match[2]) if match else None
    if match is None or name is None:
        raise Refused(
            f"llama.cpp has no place for {key}", where=str(folder), remedy="choose a base of the Llama family"
        )
    return f"blk.{match[1]}.{name}.weight", _rotary(values, match[2], config)


def base(source: Path, out: Path, *, bits: Literal[8, 16] = 8) -> None:
    """Write a base again in 8-bit blocks, the fastest form on a CPU and close to what was trained; in 16 bits to compare exactly.

    Raises:
        Invalid: the source is no GGUF file.
        StorageFull: the disk is full; nothing is left behind.
    """
    reader = _reader(source)
    with _whole(out) as beside:
        writer = _like(reader, beside, bits)
        for tensor in reader.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            values, kind = _blocks(values, bits)
            writer.add_tensor(tensor.name, values, raw_dtype=kind)
        _write(writer)


def _like(reader: Any, out: Path, bits: int) -> Any:
    """A writer that has all keys of another file: vocabulary, template, sizes."""
    architecture = str(reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(str(out), architecture, use_temp_file=False)
    for field in reader.fields.values():
        if not field.name.startswith(OWN_KEYS):
            part = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], part)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if bits == 8 else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    return writer


def _reader(source: Path) -> Any:
    try:
        return gguf.GGUFReader(source)
    except (ValueError, OSError, KeyError, IndexError) as error:
        raise Invalid(
            f"no GGUF file that can be read: {error}",
            where=str(source),
            remedy="fetch the file again; it may be cut short",
        ) from None


def _blocks(values: Any, bits: int) -> tuple[Any, Any]:
    """A matrix in 8-bit blocks or in halves; vectors (norms) and rows that do not fill blocks stay float32."""
    values = np.ascontiguousarray(values.astype(np.float32))
    if values.ndim < 2 or values.shape[-1] % 32:
        return values, gguf.GGMLQuantizationType.F32
    kind = gguf.GGMLQuantizationType.Q8_0 if bits == 8 else gguf.GGMLQuantizationType.F16
    return gguf.quants.quantize(values, kind), kind


def _write(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A name beside `out` that becomes it when all is written, and goes away when not."""
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(out)
        files.sync_folder(out.parent)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(
            f"no room to write {out.name}", where=str(out.parent), remedy="free some disk, then start it again"
        ) from error
    finally:
        beside.unlink(missing_ok=True)
