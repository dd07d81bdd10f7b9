"""A finding: what a check found wrong, where, by how much, and on which smallest example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from dlsys_bench.text import printable


class Fault(StrEnum):
    """The kind of a mistake."""

    WRONG_VALUE = "wrong value"
    WRONG_SHAPE = "wrong shape"
    WRONG_TYPE = "wrong type"
    """A result is not what the protocol of an engine states: its class, its dtype, its names."""
    NOT_FINITE = "not finite"
    WRONG_DISTRIBUTION = "wrong distribution"
    NOT_DETERMINISTIC = "not deterministic"
    SIDE_EFFECT = "side effect"
    """Something changed that should have stayed as it was: an argument, an earlier result, another
    network, standard output."""
    RAISED = "raised an error"
    NOT_RAISED = "raised no error"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Finding:
    """One mistake.

    `what` is the quantity or the event, `layer` a name of the model, `tensor` a full name, `step`
    an update, from 1. `actual` and `expected` are the values that differ; `difference` is the
    largest difference and `allowed` the tolerance, both absolute. `example` is the smallest example
    that shows the mistake.
    """

    what: str
    fault: Fault | None = None
    layer: str | None = None
    tensor: str | None = None
    step: int | None = None
    actual: str | None = None
    expected: str | None = None
    difference: float | None = None
    allowed: float | None = None
    example: str | None = None

    def __post_init__(self) -> None:
        # An engine chooses much of these texts: its messages, and the names that it returns.
        for name in ("what", "layer", "tensor", "actual", "expected", "example"):
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, printable(text))

    @property
    def summary(self) -> str:
        """The finding without its example."""
        parts = []
        if self.actual is not None:
            parts.append(f"actual {self.actual}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.difference is not None:
            parts.append(f"difference {self.difference:.3g}, tolerance {self.allowed:.2g}")
        where = "" if self.step is None else f"step {self.step}: "
        return where + ": ".join(filter(None, [self.what, ", ".join(parts)]))

    def __str__(self) -> str:
        return f"{self.summary} [{self.example}]" if self.example else self.summary

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the finding that `to_dict` wrote. Unknown fields are ignored."""
        known = {f.name: values.get(f.name) for f in fields(cls)}
        fault = known.pop("fault")
        return cls(**known, fault=fault and Fault(fault))  # type: ignore[arg-type]


class BrokenError(AssertionError):
    """A check failed; `finding` states how."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding

    def on(self, example: object) -> BrokenError:
        """Return this error with an example, unless it has one."""
        if self.finding.example:
            return self
        return BrokenError(replace(self.finding, example=" ".join(str(example).split())))


def broken(fault: Fault, what: str, **where: Any) -> BrokenError:
    """Return the error to raise for a finding; `where` gives the other fields."""
    return BrokenError(Finding(what, fault, **where))


def close(
    what: str,
    actual: ArrayLike,
    expected: ArrayLike,
    allowed: float,
    *,
    layer: str | None = None,
    tensor: str | None = None,
    step: int | None = None,
) -> None:
    """Raise BrokenError unless two arrays have one shape and differ by at most `allowed`.

    Values that are not finite have to be equal: the same infinity, or NaN in both.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    where: dict[str, Any] = {"layer": layer, "tensor": tensor, "step": step}
    if actual.shape != expected.shape:
        shapes = {"actual": str(actual.shape), "expected": str(expected.shape)}
        raise broken(Fault.WRONG_SHAPE, f"the shape of {what}", **shapes, **where)
    finite = np.isfinite(actual) & np.isfinite(expected)
    unlike = ~finite & ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))
    with np.errstate(invalid="ignore"):
        difference = np.nan_to_num(np.where(finite, np.abs(actual - expected), 0.0))
    if unlike.any():
        at = tuple(int(i) for i in np.argwhere(unlike)[0])
        fault, measured = Fault.NOT_FINITE, {}
    elif difference.max(initial=0.0) > allowed:
        at = tuple(int(i) for i in np.unravel_index(difference.argmax(), difference.shape))
        fault = Fault.WRONG_VALUE
        measured = {"difference": float(difference[at]), "allowed": float(allowed)}
    else:
        return
    place = f" at {at}" if at else ""
    values = {"actual": f"{actual[at]:.8g}", "expected": f"{expected[at]:.8g}"}
    raise broken(fault, f"{what}{place}", **values, **measured, **where)
