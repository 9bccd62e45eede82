"""What every section of a file is made of: closed shapes, durations, names, references to secrets."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
REFERENCE = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:\S.*)$"  # to a secret, never the secret


def seconds(value: Any) -> float:
    """`20m`, `1.5h`, `24h`, `90s`, `7d`, or a plain number of seconds."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a duration such as 90s, 20m, 24h or 7d")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", str(value))
    if not match:
        raise ValueError("a duration such as 90s, 20m, 24h or 7d")
    return float(match[1]) * UNITS_S[match[2] or "s"]


Duration = Annotated[float, BeforeValidator(seconds), Field(ge=0)]
Secret = Annotated[str, Field(pattern=REFERENCE)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
