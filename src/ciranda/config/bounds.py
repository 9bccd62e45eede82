"""What a key, a tenant or a model may use: one shape for all three, each field a bound or nothing.

Rates hold in every sixty seconds that one can pick, budgets in a calendar day or month (UTC). Money is in the currency of the
prices in the models' files. Zero is a bound too: it closes the door. What is not given is not bounded, and costs nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ciranda.config import faults

Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Tokens = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
Money = Annotated[float, Field(ge=0, le=1_000_000_000)]


class Bounds(BaseModel):
    """Bounds of use; an absent one does not bind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: Count | None = Field(None, description="Requests in any sixty seconds.")
    tokens_per_minute: Count | None = Field(None, description="Tokens, of prompts and answers, in any sixty seconds.")
    concurrent: Count | None = Field(None, description="Requests in progress at the same time.")
    tokens_per_day: Tokens | None = Field(None, description="Tokens in a day (UTC).")
    tokens_per_month: Tokens | None = Field(None, description="Tokens in a calendar month (UTC).")
    cost_per_day: Money | None = Field(None, description="Money in a day (UTC), by `serve.price`.")
    cost_per_month: Money | None = Field(None, description="Money in a calendar month (UTC), by `serve.price`.")

    def to_dict(self) -> dict[str, Any]:
        """Only what binds."""
        return self.model_dump(exclude_none=True)


NAMES = tuple(Bounds.model_fields)


def read(values: dict[str, Any], *, where: str) -> Bounds:
    """Bounds from outside. Raises Invalid with the name of what is wrong."""
    try:
        return Bounds.model_validate(values)
    except ValidationError as error:
        raise faults.invalid(error, what="limit", where=where, known=NAMES, of="limits") from None
