"""The result of one run, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

from dlsys_bench.engines.history import Epoch, History
from dlsys_bench.runs.fields import (
    Field,
    FreeText,
    ListOf,
    Name,
    Object,
    OneOf,
    Optional,
    Plain,
    Real,
    Struct,
    Whole,
)
from dlsys_bench.runs.key import CALLABLE, FIELDS, TABLE, Key

SCHEMA = 1


@dataclass(frozen=True)
class Result:
    """One run: its identity, its recipe, and its figures epoch by epoch.

    Where a study trains several networks in one run, `replicas` is their number and `figures` holds
    the figures of all of them, by name. `status` is "diverged" if the loss became non-finite;
    `reason` then gives the epoch and the step.
    """

    key: Key
    convention: str
    recipe: dict[str, Any]
    history: History
    seconds: float
    status: Literal["finished", "diverged"] = "finished"
    reason: str | None = None
    parameters: int = 0
    replicas: int = 1
    figures: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def seed(self) -> int:
        """The seed: a run always has one, unlike a record of several runs."""
        assert self.key.seed is not None
        return self.key.seed

    @property
    def last(self) -> Epoch | None:
        """The last epoch that ended."""
        return self.history[-1] if self.history else None

    def metric(self, name: str) -> float | None:
        """Return a figure of the run or of its last epoch; None if it diverged or has none."""
        figure = self.figures.get(name)
        # A bool is an int in Python.
        number = isinstance(figure, int | float) and not isinstance(figure, bool)
        if self.status == "finished" and figure is not None and number:
            return float(figure)
        if self.status != "finished" or self.last is None:
            return None
        value: float | None = getattr(self.last, name, None)
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, without the figures that are None."""
        values: dict[str, Any] = {}
        for name, value in self.key.to_dict().items():
            if name == "seed":
                # Stored files have the convention in this place.
                values["convention"] = self.convention
            values[name] = value
        values |= {name: value for name, value in asdict(self).items() if name != "key"}
        values["history"] = [
            {k: v for k, v in epoch.items() if v is not None} for epoch in values["history"]
        ]
        return values

    @classmethod
    def from_dict(cls, values: Any) -> Result:
        """Return the result that `to_dict` wrote; names that are not in RUN are ignored.

        Raises ValueError, with the field and its value, if it is not a result.
        """
        found = RUN.read(_without_lost_losses(values), "")
        if found["engine"] == CALLABLE:
            found |= RUN_OF_CALLABLE.read(values, "")
        key = Key(*(found.pop(name) for name in FIELDS))
        history = [Epoch(**epoch) for epoch in found.pop("history")]
        return cls(key=key, history=history, **found)


def _without_lost_losses(values: Any) -> Any:
    """Return the values without the losses that are not finite, of a run that diverged.

    An epoch before the one that ended the run may have them, as its figures are evaluated on more
    samples than a batch has. Earlier versions wrote them as NaN.
    """
    if not isinstance(values, dict) or values.get("status") != "diverged":
        return values
    history = values.get("history")
    if not isinstance(history, list) or not all(isinstance(epoch, dict) for epoch in history):
        return values
    return values | {
        "history": [
            {
                name: value
                for name, value in epoch.items()
                if not (name in EVALUATED and isinstance(value, float) and not isfinite(value))
            }
            for epoch in history
        ]
    }


FRACTION = Optional(Real(0.0, 1.0))
EVALUATED: Mapping[str, Field] = {
    "train_loss": Optional(Real()),
    "train_accuracy": FRACTION,
    "validation_loss": Optional(Real()),
    "validation_accuracy": FRACTION,
    "test_loss": Optional(Real()),
    "test_accuracy": FRACTION,
}
"""The fields of an epoch in a file that are evaluated when it has ended."""

EPOCH = Struct(
    {
        "epoch": Whole(1),
        "steps": Whole(),
        "seconds": Real(0.0),
        "running_loss": Real(),
        "running_accuracy": FRACTION,
        **EVALUATED,
        "by_step": Optional(Object(ListOf(Real()))),
    },
    optional=frozenset({"running_accuracy", "by_step", *EVALUATED}),
)
"""The fields of an epoch in a file."""

PROVENANCE = Struct(
    {
        "time": Name(),
        "versions": Object(FreeText()),
        "machine": Object(Plain()),
        "training": Object(Object(FreeText())),
    },
    optional=frozenset({"time", "versions", "machine", "training"}),
    others=Plain(),
)
"""The fields of the provenance of a run that are used when it is read."""

RUN = Struct(
    {
        **TABLE,
        "convention": Name(),
        "recipe": Object(Plain()),
        "history": ListOf(EPOCH),
        "seconds": Real(0.0),
        "status": OneOf(("finished", "diverged")),
        "reason": Optional(FreeText()),
        "parameters": Whole(),
        "replicas": Whole(1),
        "figures": Object(Plain()),
        "provenance": PROVENANCE,
        "schema": Whole(1, SCHEMA),
    },
    optional=frozenset(
        {"status", "reason", "parameters", "replicas", "figures", "provenance", "schema"}
    ),
)
"""The fields of a run in a file: those of its key, and those of the result."""

LARGEST_FIGURE = 1e150
"""The largest figure of a user's own training. The square of a larger one is no float, so that it
has no standard deviation: a run with one has diverged."""

RUN_OF_CALLABLE = Struct(
    {"figures": Object(Real(-LARGEST_FIGURE, LARGEST_FIGURE))}, optional=frozenset({"figures"})
)
"""The figures of a user's own training, which are all numbers."""
