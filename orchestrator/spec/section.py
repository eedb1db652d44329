"""What all sections of a job file are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _whole(value: Any) -> Any:
    """Literals compare by value, so that `true` and `1.0` would pass for 1."""
    if isinstance(value, bool | float):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]
Channels = Annotated[Literal[1, 3], BeforeValidator(_whole)]


class Section(BaseModel):
    """What every part of a job file shares: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
