"""The identity of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

from dlsys_bench.errors import UserError
from dlsys_bench.runs.fields import LARGEST, Field, FieldError, Name, Whole

if TYPE_CHECKING:
    from dlsys_bench.data import Dataset
    from dlsys_bench.engines.base import Engine
    from dlsys_bench.studies.base import Case


CALLABLE = "callable"
"""The engine in the keys of the runs of a user's own training."""


@dataclass(frozen=True, order=True)
class Key:
    """The identity of a run: two runs with equal keys repeat one training on the same stack.

    `protocol` is a digest of the model and the recipe, the same in every convention: runs of one
    arm with different protocols are not comparable. A field that does not apply is empty, and
    `seed` is None where a record describes several seeds. JSON keeps the fields flat.
    """

    study: str = ""
    arm: str = ""
    dataset: str = ""
    tier: str = ""
    engine: str = ""
    device: str = ""
    dtype: str = ""
    seed: int | None = None
    protocol: str = ""

    @classmethod
    def of(cls, case: Case, engine: Engine, dataset: Dataset, tier: str, seed: int | None) -> Key:
        """Return the key of a run of this case.

        Raises UserError if the arm has no such tier, or if a name could not be read from a file of
        runs.
        """
        key = cls(
            case.study.name,
            case.arm.name,
            dataset.name,
            tier,
            engine.label,
            engine.device,
            engine.dtype,
            seed,
            case.arm.protocol(tier),
        )
        for name in NAMES:
            try:
                NAMES[name].read(getattr(key, name), name)
            except FieldError as error:
                raise UserError(f"a run of {case.name!r} could not be stored: {error}") from None
        return key

    def to_dict(self, *names: str) -> dict[str, Any]:
        """Return the named fields, or all of them, as JSON values."""
        return {name: getattr(self, name) for name in names or FIELDS}

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values in the order of FIELDS, as SQL parameters."""
        return astuple(self)

    @property
    def name(self) -> str:
        """The study and the arm, "study/arm"; of a user's own training its name alone."""
        return f"{self.study}/{self.arm}" if self.arm else self.study

    @property
    def label(self) -> str:
        """The name, with the dataset and the engine unless it is a user's own training."""
        return f"{self.name} on {self.dataset}, {self.engine}" if self.dataset else self.name

    @property
    def path(self) -> str:
        """The task as a path, "study/arm/dataset/tier", without empty fields."""
        return "/".join(filter(None, (self.study, self.arm, self.dataset, self.tier)))

    def task(self) -> Key:
        """Return only what is trained and on which data: study, arm, dataset and tier."""
        return Key(self.study, self.arm, self.dataset, self.tier)


FIELDS = tuple(field.name for field in fields(Key))
"""The names of the fields, in the order of the columns of a store."""

NAMES: Mapping[str, Field] = {name: Name() for name in FIELDS if name != "seed"}
TABLE: Mapping[str, Field] = {**NAMES, "seed": Whole(-LARGEST)}
"""The fields of the key of a run in a file."""
