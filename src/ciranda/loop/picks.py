"""Which engine does what: the only place that chooses. Everything else knows the protocol, not who satisfies it.

Engines are imported when they are picked, since each brings a heavy or optional library along.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ciranda.config import Home
from ciranda.config.model import FAKE, ModelSpec, Serve
from ciranda.config.source import Source
from ciranda.data.sources import Sampler
from ciranda.deploy.apply import Deployment
from ciranda.engines import llamacpp
from ciranda.errors import Refused
from ciranda.jobs.placed import LOCAL
from ciranda.loop.platform import Platform
from ciranda.registry.versions import Version
from ciranda.train import bases
from ciranda.train.recipe import PREFERRING, Recipe
from ciranda.train.run import Away, Jobs, cores

PARROT = "lessons.json"  # all that a parrot learned


def sampler(sources: Sequence[Source]) -> Sampler | None:
    """Whoever knows the sentences of the home, when there is such a source. Raises Unavailable when not installed."""
    if not any(source.intents for source in sources):
        return None
    return cast(Sampler, importlib.import_module("ciranda.engines.hassil"))


def trainer(platform: Platform, spec: ModelSpec) -> Jobs:
    """Whoever trains this model, as jobs where its file says: what its engine serves, its trainer makes."""
    kept = spec.train.resources
    away = Away(spec.train.executor, kept.cpus, kept.memory_gb, kept.gpus, kept.timeout)
    return Jobs(platform.jobs, platform.home.jobs, entry=entry(spec), away=None if away.executor == LOCAL else away)


def entry(spec: ModelSpec) -> str:
    """The module that trains this model."""
    return "ciranda.engines.fake_job" if spec.base == FAKE else "ciranda.engines.peft_job"


@dataclass(frozen=True)
class Runtime:
    """Serves deployments as processes of this machine (`deploy.supervise.Runtime`)."""

    home: Home

    def command(self, deployment: Deployment, *, ready_file: Path) -> Sequence[str]:
        """The command of one replica."""
        return serving(self.home, deployment.engine, deployment.version, deployment.spec, ready_file=str(ready_file))


def serving(home: Home, engine: str, name: str, spec: Mapping[str, Any], *, ready_file: str) -> list[str]:
    """The command that serves one version.

    Args:
        engine: `llamacpp` or `fake`.
        spec: `base` (a base's name), `adapter` (a GGUF's path or None), `weights` (a GGUF that stands in for the base's, where
            whole weights were tuned) and `serve`, as a deployment holds them.
    """
    serve = Serve.model_validate(spec["serve"])
    argv = [
        sys.executable,
        "-m",
        f"ciranda.engines.{engine}",
        "--name",
        name,
        "--port",
        "0",
        "--ready-file",
        ready_file,
    ]
    argv += ["--key-file", str(home.engine_key), "--slots", str(serve.slots), "--context", str(serve.context)]
    adapter, weights = spec["adapter"], spec.get("weights")
    if engine == "llamacpp":
        argv += ["--base", str(weights or bases.need(home.bases, spec["base"]).gguf), "--threads", str(serve.threads)]
    else:
        adapter = adapter or weights  # a parrot is all that it learned
    return [*argv, "--adapter", str(adapter)] if adapter else argv


def servable(spec: ModelSpec, recipe: Recipe, config: Mapping[str, Any]) -> None:
    """Refuse, before anything is trained, what the model's engine could not serve."""
    if spec.serve.engine == "llamacpp":
        llamacpp.servable(recipe, dict(config))
        _trainable(recipe, spec.train.executor)


def _trainable(recipe: Recipe, executor: str) -> None:
    """Refuse a method whose library is not installed where the job will run, as far as we can see there."""
    if recipe.method in PREFERRING and executor == "local" and importlib.util.find_spec("trl") is None:
        raise Refused(
            f"{recipe.method} is trained by TRL, which is not installed",
            where="train.method",
            remedy='pip install "ciranda[preferences]"',
        )


def base_of(home: Home, spec: ModelSpec, version: Version) -> list[str]:
    """The command that serves a version's base alone, for the vectors that every version is compared by."""
    about = {"base": version.base, "adapter": None, "serve": spec.serve.model_dump(mode="json")}
    return serving(home, spec.engine_for(version.base), "base", about, ready_file="{ready}")


def marks(spec: ModelSpec) -> tuple[str, ...]:
    """The files without which a folder is no adapter for the model's engine."""
    return (PARROT,) if spec.base == FAKE else ("adapter_config.json", "adapter_model.safetensors")


def derive(spec: ModelSpec, adapter: Path, base: bases.Base, out: Path) -> None:
    """Write an adapter in the form that the model's engine serves. Raises Invalid, Refused for one that it cannot."""
    if spec.base == FAKE:
        shutil.copyfile(adapter / PARROT, out)
    else:
        importlib.import_module("ciranda.engines.gguf").adapter(adapter, base.config, out, name=spec.model)


def engine_of(home: Home, spec: ModelSpec, version: Version) -> list[str]:
    """The command that serves a version for an exam; `{ready}` stands for its ready file.

    Two versions sit their exams side by side, so each gets half of the processors where the model file leaves it open.
    """
    serve = spec.serve.model_dump(mode="json") | {"threads": spec.serve.threads or max(1, cores() // 2)}
    about = {
        "base": version.base,
        "adapter": str(version.gguf) if version.gguf else None,
        "weights": str(version.whole) if version.whole else None,
        "serve": serve,
    }
    return serving(home, spec.engine_for(version.base), version.ref, about, ready_file="{ready}")
