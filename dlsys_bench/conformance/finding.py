"""What a check found wrong, in one piece: what, where, by how much, on which smallest example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np

from dlsys_bench.engines.plan import Array


@dataclass(frozen=True)
class Finding:
    """`layer` is named as in the model, `tensor` in full; `step` counts updates from 1.
    `difference` is the largest one, `allowed` what rounding may make of it. `example` is the
    smallest that was found."""

    what: str
    layer: str | None = None
    tensor: str | None = None
    step: int | None = None
    difference: float | None = None
    allowed: float | None = None
    example: str | None = None

    def __str__(self) -> str:
        parts = [self.what]
        if self.difference is not None:
            parts.append(f"by {self.difference:.3g}, where {self.allowed:.2g} is allowed")
        line = " ".join(parts)
        if self.step is not None:
            line = f"step {self.step}: {line}"
        return f"{line} [{self.example}]" if self.example else line

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; what was not said is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The finding that `to_dict` wrote; what is not known is dropped."""
        return cls(**{f.name: values.get(f.name) for f in fields(cls)})  # type: ignore[arg-type]


class BrokenError(AssertionError):
    """A check that failed."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding

    def on(self, example: object) -> BrokenError:
        """The same, with the example that shows it, unless it names one."""
        known = self.finding.example
        return (
            self
            if known
            else BrokenError(replace(self.finding, example=" ".join(str(example).split())))
        )


def broken(what: str, **where: Any) -> BrokenError:
    """To be raised."""
    return BrokenError(Finding(what, **where))


def close(
    what: str,
    found: Array,
    expected: Array,
    allowed: float,
    *,
    layer: str | None = None,
    tensor: str | None = None,
    step: int | None = None,
) -> None:
    """Raise unless two arrays of one shape differ by at most `allowed` everywhere."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    where: dict[str, Any] = {"layer": layer, "tensor": tensor, "step": step}
    if found.shape != expected.shape:
        raise broken(f"{what} has the shape {found.shape}, not {expected.shape}", **where)
    # What is not finite has to be the same: no infinity of the other sign, no NaN in its place.
    finite = np.isfinite(found) & np.isfinite(expected)
    unlike = ~finite & ~((found == expected) | (np.isnan(found) & np.isnan(expected)))
    if unlike.any():
        at = tuple(int(i) for i in np.argwhere(unlike)[0])
        raise broken(f"{what} is {found[at]} at {at}, where {expected[at]:.6g} is right", **where)
    with np.errstate(invalid="ignore"):
        difference = np.abs(found - expected)
    worst = float(np.nan_to_num(difference).max(initial=0.0))
    if worst > allowed:
        at = tuple(
            int(i) for i in np.unravel_index(np.nan_to_num(difference).argmax(), difference.shape)
        )
        place = f" at {at}" if at else ""
        raise broken(
            f"{what} is {found[at]:.8g}{place}, where {expected[at]:.8g} is right: it differs",
            difference=worst,
            allowed=allowed,
            **where,
        )
