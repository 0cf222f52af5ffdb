"""What a search space is made of: distributions, choices among options, and branches of further parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from retune.distributions import (
    Distribution,
    LogNormal,
    LogUniform,
    Normal,
    Number,
    QLogNormal,
    QLogUniform,
    QNormal,
    QUniform,
    RandInt,
    Uniform,
    UniformInt,
)

Scalar: TypeAlias = bool | int | float | str | None
Value: TypeAlias = Scalar | list[Scalar]


class _Choice(Distribution):
    options: list[Option] = Field(
        min_length=1, description="Values, distributions, or mappings of further parameters (a branch)."
    )

    def to_value(self, raw: Number) -> Number:
        return int(raw)


class Choice(_Choice):
    """One of the options, each equally likely."""

    type: Literal["choice"]


class PChoice(_Choice):
    """One of the options, with the given probabilities."""

    type: Literal["pchoice"]
    probabilities: list[Number] = Field(min_length=1, description="One for each option; they add up to 1.")

    @model_validator(mode="after")
    def _check_probabilities(self) -> PChoice:
        if len(self.probabilities) != len(self.options):
            raise ValueError(
                f"probabilities must be as many as options, but there are {len(self.probabilities)} "
                f"for {len(self.options)} options"
            )
        if min(self.probabilities) < 0 or not math.isclose(math.fsum(self.probabilities), 1.0, abs_tol=1e-6):
            raise ValueError(f"probabilities must not be negative and must add up to 1, but are {self.probabilities}")
        return self


Dimension: TypeAlias = Annotated[
    Uniform
    | LogUniform
    | QUniform
    | QLogUniform
    | Normal
    | LogNormal
    | QNormal
    | QLogNormal
    | UniformInt
    | RandInt
    | Choice
    | PChoice,
    Field(discriminator="type"),
]
Space: TypeAlias = dict[str, Dimension]


def _kind_of(value: object) -> str:
    if isinstance(value, Distribution) or (isinstance(value, Mapping) and "type" in value):
        return "dimension"
    return "branch" if isinstance(value, Mapping) else "value"


Entry: TypeAlias = Annotated[
    Annotated["Dimension", Tag("dimension")] | Annotated["Value", Tag("value")],
    Discriminator(_kind_of, custom_error_type="entry", custom_error_message="must be a value or a distribution"),
]
# What has a type is a distribution; a schema does not see that from `_kind_of`.
_NO_TYPE: dict[str, JsonValue] = {"not": {"required": ["type"]}}
Branch: TypeAlias = Annotated[dict[str, Entry], Field(min_length=1, json_schema_extra=_NO_TYPE)]
Option: TypeAlias = Annotated[
    Annotated["Dimension", Tag("dimension")] | Annotated[Branch, Tag("branch")] | Annotated["Value", Tag("value")],
    Discriminator(_kind_of),
]
for _model in (_Choice, Choice, PChoice):
    _model.model_rebuild()
