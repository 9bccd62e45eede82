"""The checks of a model's file: an action for each, with settings where a check has some.

    checks:
      pii: mask                                            # an action alone
      near_duplicates: {action: drop, threshold: 0.9}      # or with settings
      language: [pt, en]                                   # the languages there may be; of others it warns
      custom: {"mypackage.checks:no_prices": block}        # functions of your own

What a file does not name is off; a file without `checks` gets the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Plain = Literal["strict", "block", "drop", "warn", "off"]
Masking = Literal["strict", "block", "drop", "mask", "warn", "off"]
Whole = Literal["strict", "block", "warn", "off"]
Share = Annotated[float, Field(ge=0, le=1)]
PiiKind = Literal[
    "email", "pix", "cnpj", "cpf", "pis", "card", "iban", "rg", "birth", "ssn", "ip", "phone", "cep", "address", "name"
]  # those of govern.kinds; a test compares
FUNCTION = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


class Check(BaseModel):
    """What is done with a row that fails it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    action: Plain = Field("warn", description="What is done with a row that fails it.")


class Masked(BaseModel):
    """What is done with a row that fails it; `mask` puts the kind in the place of what was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    action: Masking = Field("warn", description="What is done with a row that fails it.")


class Pii(Masked):
    """Personal data, English and Brazilian."""

    names: Literal["introduced", "anywhere"] = Field(
        "introduced", description="Names after words that introduce one, or wherever a first name meets a surname."
    )
    kinds: tuple[PiiKind, ...] = Field((), description="Only these kinds; without it, all.")


class Language(Check):
    """The language that a text is in, against the languages there may be, or against what its row says."""

    only: tuple[str, ...] = Field((), description="The languages there may be, such as [pt, en].")


class Near(Check):
    """Rows that say nearly what an earlier one says."""

    threshold: Share = Field(0.85, ge=0.5, description="From this similarity of their runs of five letters (Jaccard).")


class Balance(BaseModel):
    """Shares of labels, where answers are classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    action: Whole = Field("warn", description="What is done when a label's share is out of bounds.")
    smallest: Share = Field(0.005, description="Least share of a label among the training rows.")
    largest: Share = Field(0.9, description="Largest share of a label among them.")


class Drift(BaseModel):
    """Length, language, labels and words, against the parent version."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    action: Whole = Field("warn", description="What is done when the rows differ from the parent's.")
    effect: Share = Field(0.1, description="The least difference that counts, from 0 to 1 (distance, or Cramér's V).")
    alpha: float = Field(0.01, gt=0, lt=1, description="Bound on a difference found where there is none.")


class Contamination(Check):
    """Test rows, and cases of every registered suite, among the training rows."""

    similarity: Share = Field(0.8, ge=0.5, description="From this similarity on, a long text counts as the same.")
    run: int = Field(13, ge=5, le=100, description="So many words in a row that both have count as the same.")


def _short(shape: type[BaseModel]) -> BeforeValidator:
    """A check may be written as its action alone, and that of languages as their list."""

    def long(value: Any) -> Any:
        if isinstance(value, str):
            return {"action": value}
        return {"only": value} if isinstance(value, list) and "only" in shape.model_fields else value

    return BeforeValidator(long)


class Checks(BaseModel):
    """What each check does with a row that fails it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Annotated[Check | None, _short(Check)] = Field(
        None, alias="schema", description="Prompt and answer are there; the conversation ends with a question."
    )
    length: Annotated[Check | None, _short(Check)] = Field(
        None, description="All texts of a row together stay within `max_characters`."
    )
    language: Annotated[Language | None, _short(Language)] = Field(
        None, description="The text is in a language that may be, or in the one that its row says."
    )
    pii: Annotated[Pii | None, _short(Pii)] = Field(None, description="Personal data, English and Brazilian.")
    secrets: Annotated[Masked | None, _short(Masked)] = Field(None, description="Keys and passwords.")
    toxicity: Annotated[Check | None, _short(Check)] = Field(None, description="Listed words, English and Portuguese.")
    custom: dict[Annotated[str, Field(pattern=FUNCTION)], Masking] = Field(
        {}, description="Functions of your own by `module:function`, each with its action."
    )
    conflicts: Annotated[Check | None, _short(Check)] = Field(None, description="Two answers to one prompt.")
    duplicates: Annotated[Check | None, _short(Check)] = Field(
        None, description="The same example twice, case and spaces aside."
    )
    near_duplicates: Annotated[Near | None, _short(Near)] = Field(
        None, description="Rows that say nearly what an earlier one says."
    )
    contamination: Annotated[Contamination | None, _short(Contamination)] = Field(
        None, description="Test rows, and cases of every registered suite, among the training rows."
    )
    balance: Annotated[Balance | None, _short(Balance)] = Field(
        None, description="Shares of labels, where answers are classes."
    )
    drift: Annotated[Drift | None, _short(Drift)] = Field(
        None, description="Length, language, labels and words, against the parent version."
    )

    @model_validator(mode="before")
    @classmethod
    def _emptiness(cls, value: Any) -> Any:
        """`emptiness` is another word for `schema`."""
        if isinstance(value, Mapping) and "emptiness" in value and "schema" not in value:
            return {("schema" if name == "emptiness" else name): one for name, one in value.items()}
        return value

    def policy(self) -> dict[str, str]:
        """Action by check, custom ones by `custom: module:function`; what is off is absent."""
        named = {
            name.rstrip("_"): one.action for name, one in self if isinstance(one, Check | Masked | Balance | Drift)
        }
        custom = {f"custom: {name}": action for name, action in self.custom.items()}
        return {name: str(action) for name, action in {**named, **custom}.items() if action != "off"}


DEFAULT = Checks.model_validate(
    {
        "schema": "strict",
        "length": "drop",
        "pii": "mask",
        "secrets": "mask",
        "duplicates": "drop",
        "near_duplicates": "warn",
        "contamination": "block",
    }
)
