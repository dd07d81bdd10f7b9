"""A finding: what a check found wrong, where, by how much, and on which smallest example."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    STUCK = "weight that cannot move"
    CONSTANT_RATIO = "constant ratio"
    """Every update, or every gradient of a tensor, is the expected one times a constant."""
    PARTIAL_BATCH = "partial batch"
    """The smaller last batch of an epoch is dropped, or filled up with samples used before."""
    SKIPPED_BATCH = "skipped batch"
    REPEATED_BATCH = "repeated batch"
    WRONG_STOP = "wrong end"
    """The training ends before the last update that was requested, or after it."""
    WRONG_RATE = "wrong learning rate"
    """An update has the learning rate of another step, or the one without the schedule."""
    WRONG_ORDER = "wrong order"
    SEED_ZERO = "seed 0 treated as no seed"
    STALE_STATE = "stale state"
    """A training goes on with the state of an optimiser of an earlier one."""
    STALE_REPORT = "stale report"
    """An epoch's figures are the best so far, those of another epoch, or a mean over epochs."""
    STALE_DECLARATION = "stale declaration"
    """The engine declares that it lacks something that works."""


TEXTS = ("what", "layer", "tensor", "actual", "expected", "example", "diagnosis", "snippet")
"""The fields of a finding that are printed."""


@dataclass(frozen=True)
class Finding:
    """One mistake.

    `what` is the quantity or the event, `layer` a name of the model, `tensor` a full name, `step`
    an update, from 1. `actual` and `expected` are the values that differ; `difference` is the
    largest difference and `allowed` the tolerance, both absolute. `ratio` is the factor, if the
    actual values, or what they have changed by, are the expected ones times a constant. `diagnosis`
    names the probable mistake. `example` is the smallest example that shows it, and `snippet` the
    same as Python code that needs no engine: arrays in, expected values out.
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
    ratio: float | None = None
    diagnosis: str | None = None
    snippet: str | None = None

    def __post_init__(self) -> None:
        # An engine chooses much of these texts: its messages, and the names that it returns.
        for name in TEXTS:
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
        if self.ratio is not None and self.diagnosis is None:
            parts.append(f"every value {self.ratio:.6g} times the expected one")
        where = "" if self.step is None else f"step {self.step}: "
        found = where + ": ".join(filter(None, [self.what, ", ".join(parts)]))
        return f"{self.diagnosis}: {found}" if self.diagnosis else found

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


Refinement = Callable[[Finding], Finding]
"""Adds to a finding what takes time to find: a diagnosis, a snippet."""


class BrokenError(AssertionError):
    """A check failed; `finding` states how.

    `refinements` are applied by `refined` to the one finding that is reported, and not to every
    example that fails in a search.
    """

    def __init__(self, finding: Finding, refinements: Sequence[Refinement] = ()) -> None:
        super().__init__(str(finding))
        self.finding, self.refinements = finding, tuple(refinements)

    def on(self, example: object) -> BrokenError:
        """Return this error with an example, unless it has one."""
        if self.finding.example:
            return self
        text = " ".join(str(example).split())
        return BrokenError(replace(self.finding, example=text), self.refinements)

    def refined(self) -> Finding:
        """Return the finding with all that can be found out about it."""
        finding = self.finding
        for refine in self.refinements:
            # The finding counts, even if nothing more can be found out about a broken engine.
            with contextlib.suppress(Exception):
                finding = refine(finding)
        return finding


@contextlib.contextmanager
def refining(refine: Refinement) -> Iterator[None]:
    """Add a refinement to an error that is raised in the block."""
    try:
        yield
    except BrokenError as error:
        raise BrokenError(error.finding, (*error.refinements, refine)) from None


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
    origin: ArrayLike = 0.0,
) -> None:
    """Raise BrokenError unless two arrays have one shape and differ by at most `allowed`.

    Values that are not finite have to be equal: the same infinity, or NaN in both. `origin` is what
    the values have changed from; the finding has the ratio of the changes if that is constant.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    where: dict[str, Any] = {"layer": layer, "tensor": tensor, "step": step}
    measured: dict[str, float | None] = {}
    if actual.shape != expected.shape:
        shapes = {"actual": str(actual.shape), "expected": str(expected.shape)}
        raise broken(Fault.WRONG_SHAPE, f"the shape of {what}", **shapes, **where)
    finite = np.isfinite(actual) & np.isfinite(expected)
    unlike = ~finite & ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))
    with np.errstate(invalid="ignore"):
        difference = np.nan_to_num(np.where(finite, np.abs(actual - expected), 0.0))
    if unlike.any():
        at = tuple(int(i) for i in np.argwhere(unlike)[0])
        fault = Fault.NOT_FINITE
    elif difference.max(initial=0.0) > allowed:
        at = tuple(int(i) for i in np.unravel_index(difference.argmax(), difference.shape))
        fault = Fault.WRONG_VALUE
        ratio = constant_ratio(actual - origin, expected - origin, allowed)
        measured = {
            "difference": float(difference[at]),
            "allowed": float(allowed),
            "ratio": ratio,
        }
    else:
        return
    place = f" at {at}" if at else ""
    values = {"actual": f"{actual[at]:.8g}", "expected": f"{expected[at]:.8g}"}
    raise broken(fault, f"{what}{place}", **values, **measured, **where)


def constant_ratio(actual: ArrayLike, expected: ArrayLike, allowed: float) -> float | None:
    """Return the factor if one array is the other times a constant, within a tolerance.

    Returns None if it is not, or if fewer than two values are large enough to tell.
    """
    actual, expected = np.ravel(actual), np.ravel(expected)
    scale = float(np.abs(expected).max(initial=0.0))
    if (np.abs(expected) > max(100 * allowed, 1e-3 * scale)).sum() < 2:
        return None
    ratio = float(actual @ expected / (expected @ expected))
    near = np.abs(actual - ratio * expected).max() <= max(1.0, abs(ratio)) * allowed
    return ratio if near and np.isfinite(ratio) else None
