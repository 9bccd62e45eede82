"""A home with one model, ready for versions: what tests of registry and rollouts begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ciranda.config import Home
from ciranda.config.model import ModelSpec
from ciranda.registry import models, verdicts, versions
from ciranda.registry.gates import Verdict
from ciranda.registry.versions import Draft, Version
from ciranda.store.database import Database, metadata

MODEL = "smart-home"
PASSED = Verdict("pass", ())


class World:
    """A home, its database, and one applied model with its bare base registered."""

    def __init__(self, path: Path, **spec: Any) -> None:
        self.home = Home(path / "home")
        self.home.make()
        self.db = Database(f"sqlite:///{self.home.database}")
        metadata.create_all(self.db.engine)
        self.apply(**spec)
        self.base = versions.register_base(
            self.db, self.home, model=MODEL, base="tiny", base_digest="sha256:base", actor="test"
        )

    def apply(self, **spec: Any) -> None:
        with self.db.writing() as conn:
            models.put(conn, ModelSpec.model_validate({"model": MODEL, **spec}), actor="test")

    def draft(self, seed: int) -> Draft:
        """Another trained adapter."""
        adapter = self.home.path / f"trained-{seed}" / "adapter"
        adapter.mkdir(parents=True, exist_ok=True)
        (adapter / "adapter_config.json").write_text(json.dumps({"r": 8, "seed": seed}))
        (adapter / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}" + bytes([seed]) * 64)
        gguf = adapter.parent / "adapter.gguf"
        gguf.write_bytes(b"GGUF" + bytes([seed]))
        return Draft(
            model=MODEL, base="tiny", base_digest="sha256:base", dataset=f"{MODEL}@1", dataset_digest="sha256:rows",
            recipe={"rank": 8, "seed": seed}, adapter=adapter, gguf=gguf, trial="trial_1", turn="turn_1",
        )  # fmt: skip

    def register(self, seed: int) -> Version:
        return versions.register(self.db, self.home, self.draft(seed), actor="test")

    def passed(self, seed: int) -> Version:
        """A version that passed its gates."""
        version = self.register(seed)
        with self.db.writing() as conn:
            verdicts.record(conn, version.ref, PASSED, champion=f"{MODEL}@0", actor="test")
        return version

    def version(self, ref: str) -> Version:
        with self.db.reading() as conn:
            return versions.get(conn, ref)
