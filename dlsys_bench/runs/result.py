"""The result of one run, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from dlsys_bench.engines.history import Epoch, History
from dlsys_bench.runs.key import Key

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
        if self.status == "finished" and isinstance(self.figures.get(name), int | float):
            return float(self.figures[name])
        if self.status != "finished" or self.last is None:
            return None
        value: float | None = getattr(self.last, name)
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
    def from_dict(cls, values: dict[str, Any]) -> Result:
        """Return the result that `to_dict` wrote; unknown fields are dropped.

        Raises KeyError or TypeError if it is not a result.
        """
        known = {f.name for f in fields(cls)} - {"key"}
        kept = {name: value for name, value in values.items() if name in known}
        names = {f.name for f in fields(Epoch)}
        kept["history"] = [
            Epoch(**{k: v for k, v in epoch.items() if k in names}) for epoch in values["history"]
        ]
        return cls(key=Key.from_dict(values), **kept)
