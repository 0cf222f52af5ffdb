"""What all sections of an experiment file have in common."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

_LONGEST_S = 366 * 86400
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Section(BaseModel):
    """A mapping of the file: every key is known, every value of the very type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def parse_duration(value: object) -> object:
    """Turn "90s", "30m", "6h" or "1d" into seconds; anything else is left for pydantic to judge."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+)\s*([smhd])", value.strip())
        if not match:
            raise ValueError('must be a number followed by s, m, h or d, such as "30m"')
        seconds = int(match[1]) * _SECONDS[match[2]]
        if not 0 < seconds <= _LONGEST_S:
            raise ValueError(f"must be more than 0s and at most {_LONGEST_S // 86400}d")
        return seconds
    return value


Duration = Annotated[
    int,
    Field(gt=0, le=_LONGEST_S, json_schema_extra={"type": ["integer", "string"], "pattern": r"^\d+\s*[smhd]$"}),
    BeforeValidator(parse_duration),
]


def _check_import_path(value: str) -> str:
    if not re.match(_IMPORT_PATH, value):
        raise ValueError("must be an import path, package.module:function")
    return value


_IMPORT_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
ImportPath = Annotated[str, AfterValidator(_check_import_path), Field(json_schema_extra={"pattern": _IMPORT_PATH})]
"""A function by its import path, `package.module:function`."""


def cross_error(field: str, value: object, rule: str) -> PydanticCustomError:
    """Return the error of a rule between fields, told of the one field that can mend it."""
    return PydanticCustomError("cross_field", "{rule}", {"field": field, "value": value, "rule": rule})
