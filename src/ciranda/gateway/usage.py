"""What of a bound is used, for who shows it: control reads the ledger of its own machine beside the gateways.

Money is shown in money. Without a ledger nobody with bounds has asked anything yet, so nothing is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ciranda.config import Home
from ciranda.gateway import quotas
from ciranda.gateway.ledger import Bucket, Ledger, Use
from ciranda.gateway.slots import FILE
from ciranda.gateway.snapshot import Bounds

Used = dict[str, dict[str, float]]


def folder(home: Home) -> Path:
    """Where the ledger of a home's machine is."""
    return home.run / "limits"


def of(home: Home, scopes: Mapping[str, Mapping[str, Any]]) -> dict[str, Used]:
    """For each scope (`key:key_1`, `tenant:acme`, `model:smart-home`) and each of its bounds."""
    buckets = {
        scope: quotas.of_bounds(scope, msgspec.convert(dict(bounds), Bounds)) for scope, bounds in scopes.items()
    }
    uses = _look(home, [bucket for mine in buckets.values() for bucket in mine])
    return {
        scope: {bucket.name.rpartition("/")[2]: _shown(bucket, uses.get(bucket.name)) for bucket in mine}
        for scope, mine in buckets.items()
    }


def _look(home: Home, buckets: list[Bucket]) -> dict[str, Use]:
    if not buckets or not (folder(home) / FILE).exists():
        return {}
    ledger = Ledger(folder(home), joins=False)
    try:
        return {use.bucket.name: use for use in ledger.look(buckets)}
    finally:
        ledger.close()


def _shown(bucket: Bucket, use: Use | None) -> dict[str, float]:
    scale = quotas.NANO if quotas.unit_of(bucket) == "cost" else 1
    used, again = (use.used, use.again_s) if use else (0, 0.0)
    return {"limit": bucket.limit / scale, "used": used / scale, "resets_s": round(again, 1)}
