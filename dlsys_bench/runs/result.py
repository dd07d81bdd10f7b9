"""What a training leaves behind, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from dlsys_bench.engines.epochs import Epoch, History

SCHEMA = 1


@dataclass(frozen=True)
class Result:
    """One run: what was trained, on what, by which engine, and how it went, epoch by epoch.

    `protocol` is a digest of the model and the recipe, the same in every convention: runs of one
    arm whose protocols differ are not comparable. Where a study trains many networks in a run,
    `replicas` says how many, and `figures` what they come to, by name. `status` is "finished", or
    "diverged": the loss was no longer finite, and `reason` says where.
    """

    study: str
    arm: str
    dataset: str
    tier: str
    engine: str
    device: str
    dtype: str
    convention: str
    seed: int
    protocol: str
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
    def last(self) -> Epoch | None:
        """The last epoch that was finished."""
        return self.history[-1] if self.history else None

    def metric(self, name: str) -> float | None:
        """A figure of a finished run: of all its networks, or of its last epoch."""
        if self.status == "finished" and isinstance(self.figures.get(name), int | float):
            return float(self.figures[name])
        if self.status != "finished" or self.last is None:
            return None
        value: float | None = getattr(self.last, name)
        return value

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values; figures that were not taken are left out."""
        values = asdict(self)
        values["history"] = [
            {k: v for k, v in epoch.items() if v is not None} for epoch in values["history"]
        ]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Result:
        """The result that `to_dict` wrote. KeyError or TypeError where it is not one; what is not
        known is dropped."""
        known = {f.name for f in fields(cls)}
        kept = {name: value for name, value in values.items() if name in known}
        names = {f.name for f in fields(Epoch)}
        kept["history"] = [
            Epoch(**{k: v for k, v in epoch.items() if k in names}) for epoch in values["history"]
        ]
        return cls(**kept)
