"""What a recipe trains of a model, and what it leaves: a LoRA adapter beside frozen weights, or the weights themselves.

    fresh adapter            on the upper layers of the base
    adapter to go on from    in its own shape; before full fine-tuning it is merged into the base
    weights to go on from    as they are, or with a fresh adapter on them, which is merged at the end

A full fine-tuning of some upper layers leaves the others, the embeddings and the head as they are; of all layers it trains
everything. It refuses a recipe that asks for more layers than there are, and an adapter of another shape.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import safetensors
import torch
import transformers

from ciranda.errors import Invalid
from ciranda.store import files
from ciranda.train.recipe import Spec


def shaped(spec: Spec) -> Any:
    """The model, ready to be trained: what shall learn requires a gradient, nothing else does.

    Raises:
        Invalid: recipe, base and what to start from do not fit each other.
    """
    torch.manual_seed(spec.recipe.seed)
    model = load(spec.init_weights or spec.base / "hf")
    upper = upper_layers(spec, model.config.num_hidden_layers)
    if spec.recipe.tuning == "full":
        return _opened(_merged(model, spec.init_adapter), upper)
    wanted = peft.LoraConfig(
        r=spec.recipe.rank,
        lora_alpha=spec.recipe.alpha,
        target_modules=list(spec.recipe.targets),
        layers_to_transform=upper,
        lora_dropout=0.0,
        bias="none",
        use_rslora=spec.recipe.rslora,
        use_dora=spec.recipe.dora,
        task_type="CAUSAL_LM",
    )
    if spec.init_adapter is None:
        return peft.get_peft_model(model, wanted)
    _same_shape(spec.init_adapter, wanted)
    going_on = peft.PeftModel.from_pretrained(model, spec.init_adapter, is_trainable=True)
    going_on.peft_config[going_on.active_adapter].base_model_name_or_path = str(
        spec.base / "hf"
    )  # else it asks the hub
    return going_on


def upper_layers(spec: Spec, count: int) -> list[int]:
    """The layers that the recipe trains, by number; 0 in the recipe is all of them."""
    if spec.recipe.layers > count:
        raise Invalid(
            f"the recipe trains {spec.recipe.layers} layers, the base has {count}",
            where=str(spec.base),
            remedy=f"set layers to {count} or fewer",
        )
    return list(range(count - (spec.recipe.layers or count), count))


def _opened(model: Any, upper: list[int]) -> Any:
    """The model with its upper layers open to change; all of it when these are all layers."""
    everything = len(upper) == model.config.num_hidden_layers
    model.requires_grad_(everything)
    for number in upper:
        model.model.layers[number].requires_grad_(True)
    return model


def _merged(model: Any, adapter: Path | None) -> Any:
    return model if adapter is None else peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()


def load(folder: Path) -> Any:
    """A folder's weights in float32.

    Raises:
        Invalid: the folder holds no model that transformers can load.
    """
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa"
        )
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise Invalid(
            f"the base cannot be loaded: {error}",
            where=str(folder),
            remedy="delete the folder and prepare the base again",
        ) from None


def _same_shape(folder: Path, wanted: Any) -> None:
    """An adapter goes on only in its own shape; another rank or depth means other tensors."""
    try:
        held = peft.LoraConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise Invalid(f"no adapter to start from: {error}", where=str(folder), remedy="start afresh") from None
    for name in ("r", "lora_alpha", "layers_to_transform", "use_rslora", "use_dora", "target_modules"):
        mine, theirs = getattr(held, name), getattr(wanted, name)
        if mine != theirs:
            raise Invalid(
                f"the adapter to start from has {name} {_plain(mine)}, the recipe asks for {_plain(theirs)}",
                where=str(folder),
                remedy="keep rank, alpha, layers, targets, rslora and dora of the version to start from, or start afresh",
            )


def _plain(value: Any) -> Any:
    return ", ".join(sorted(value)) if isinstance(value, set) else value


def save(model: Any, tokenizer: Any, spec: Spec) -> str:
    """Leave the standard artefact in `spec.output`, with the tokenizer and the chat template, whole or absent; says which.

    Returns:
        `lora`: PEFT's folder under `adapter/`. `full`: whole weights as transformers writes them under `weights/`.
    """
    folder = spec.output / ("weights" if spec.whole else "adapter")
    if spec.whole and isinstance(model, peft.PeftModel):
        model = model.merge_and_unload()
    beside = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(beside, ignore_errors=True)
    if isinstance(
        model, peft.PeftModel
    ):  # PEFT looks there while it saves, and an adapter that was gone on from names no path
        model.peft_config[model.active_adapter].base_model_name_or_path = str(spec.base / "hf")
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    _everywhere(beside / "adapter_config.json", spec)
    (beside / "README.md").unlink(missing_ok=True)  # a card of blanks; the registry writes the real one
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)
    files.sync_folder(folder.parent)
    return "full" if spec.whole else "lora"


def _everywhere(config: Path, spec: Spec) -> None:
    """What PEFT notes beside an adapter, the same wherever it was trained: the base by its name and not by its path on this
    machine, sets in order. So the same work has the same digest in every home and on every cluster.
    """
    if not config.exists():
        return
    held = json.loads(config.read_text())
    name = str(json.loads((spec.base / "base.json").read_text())["name"])
    held["base_model_name_or_path"] = Path(name).name if name.startswith(("/", ".", "~")) else name.removeprefix("hf:")
    held = {
        key: sorted(value) if key == "target_modules" and isinstance(value, list) else value
        for key, value in held.items()
    }
    config.write_text(json.dumps(held, indent=2, sort_keys=True))
