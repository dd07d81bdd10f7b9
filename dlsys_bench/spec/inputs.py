"""The inputs of a model: their names and shapes, and what they consist of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from dlsys_bench.spec.layers import Shape, ValueKind
from dlsys_bench.spec.record import Record, require, require_choice

VALUES: Mapping[str, str] = {"float": "floats", "int": "token ids"}
"""What each kind of value is called in messages."""

INPUTS: Mapping[str, tuple[tuple[int, ...], str]] = {
    "float": ((1, 2, 3), "(height, width, channels), (positions, channels) or (units,)"),
    "int": ((1,), "(positions,) for token ids"),
}
"""For each kind of value, how many axes an input has, and what they are."""


def require_input(where: str, prefix: str, shape: Shape, dtype: str) -> None:
    """Raise SpecError unless an input may have this shape and dtype.

    Messages begin with `where`, and the names of the options with the `prefix`.
    """
    require_choice(where, f"{prefix}dtype", dtype, tuple(INPUTS))
    axes, known = INPUTS[dtype]
    require(
        len(shape) in axes and all(type(n) is int and n >= 1 for n in shape),
        f"{where}: {prefix}shape is {shape}; expected {known}, each from 1",
    )


@dataclass(frozen=True)
class Input(Record):
    """A named input of a model: floats, or with the dtype "int" token ids.

    The shape leaves out the batch. Raises SpecError if it is no shape of an input.
    """

    name: str
    shape: Shape
    dtype: ValueKind = field(default="float", metadata={"omit_when": "float"})

    kind: ClassVar[str] = "input"

    def __post_init__(self) -> None:
        require(
            isinstance(self.name, str) and self.name != "" and "." not in self.name,
            f"an input has the name {self.name!r}; expected a string without a dot",
        )
        require(
            isinstance(self.shape, Sequence),
            f"input {self.name!r}: shape is {self.shape!r}; expected a tuple, such as (16,)",
        )
        object.__setattr__(self, "shape", tuple(self.shape))
        require_input(f"input {self.name!r}", "", self.shape, self.dtype)

    def __str__(self) -> str:
        return f"{self.shape}{' of token ids' if self.dtype == 'int' else ''}"
