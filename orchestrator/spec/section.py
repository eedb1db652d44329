"""What all sections of a job file are made of."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

ENTRY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def _whole(value: Any) -> Any:
    """Literals compare by value, so that `true` and `1.0` would pass for 1."""
    if isinstance(value, bool | float):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


def _range(value: Any) -> Any:
    """Literals of YAML come as lists, those of the plan as tuples."""
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("range_type", "must be a range")
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in value)
    if len(value) != 2 or not whole or not 1 <= value[0] <= value[1]:  # noqa: PLR2004 -- the least and the most
        raise ValueError(f"{list(value)} is no range of whole numbers; [1, 4] would be one")
    return tuple(value)


def _names_a_function(value: str) -> str:
    if not ENTRY.fullmatch(value):
        raise ValueError('must be module:function, such as "my_package.my_module:my_function"')
    return value


Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]
CountRange = Annotated[tuple[Count, Count], BeforeValidator(_range)]
"""The least and the most."""
Channels = Annotated[Literal[1, 3], BeforeValidator(_whole)]
FunctionName = Annotated[str, AfterValidator(_names_a_function)]

AUTO: Literal["auto"] = "auto"
"""Written where the plan decides, from the data and the cluster."""


class Section(BaseModel):
    """What every part of a job file shares: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
