"""What a study is: arms that are trained alike and compared."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from dlsys_bench.errors import UserError, nearest
from dlsys_bench.result import Epoch
from dlsys_bench.spec.convention import protocol
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

TIERS = ("quick", "full")
METRICS = tuple(field.name for field in fields(Epoch) if field.name.endswith(("_loss", "_accuracy")))


@dataclass(frozen=True)
class Arm:
    """One variant: a model and its recipe at each tier. `unjudged` says, by (dataset, tier) or tier alone, why a run of
    it there says nothing yet; it is still run and shown, never passed or failed."""

    name: str
    model: Model
    recipes: Mapping[str, Recipe]
    unjudged: Mapping[str | tuple[str, str], str] = field(default_factory=dict)

    def recipe(self, tier: str) -> Recipe:
        """The recipe of a tier; a UserError names those there are."""
        if tier not in self.recipes:
            raise UserError(f"arm {self.name!r} has no tier {tier!r}; it has {', '.join(self.recipes)}")
        return self.recipes[tier]

    def protocol(self, tier: str) -> str:
        """A digest of what is trained at a tier and how."""
        recipe = self.recipe(tier)
        return protocol(recipe.adapt(self.model), recipe)

    def reason_unjudged(self, dataset: str, tier: str) -> str | None:
        """Why this arm is not judged there; None where it is."""
        return self.unjudged.get((dataset, tier), self.unjudged.get(tier))


@dataclass(frozen=True)
class Study:
    """Arms on one dataset, judged by one metric of their last epoch. `source` is the notebook it reproduces; `plots`
    are keys of the report's table."""

    name: str
    title: str
    source: str
    dataset: str
    arms: tuple[Arm, ...]
    metric: str = "test_accuracy"
    plots: tuple[str, ...] = ("curves",)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UserError(f"study {self.name!r}: metric is {self.metric!r}{nearest(self.metric, METRICS)}; "
                            f"it takes {', '.join(METRICS)}")  # fmt: skip
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) < len(names):
            raise UserError(f"study {self.name!r} takes one arm at least, each of its own name, but has {names}")

    def arm(self, name: str) -> Arm:
        """An arm by name; a UserError names the nearest."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        names = [arm.name for arm in self.arms]
        raise UserError(f"study {self.name!r} has no arm {name!r}{nearest(name, names)}; it has {', '.join(names)}")


class Case(NamedTuple):
    """One arm of one study. `home` is what names a study that is not in the package, "package.module:STUDY"."""

    study: Study
    arm: Arm
    home: str | None = None

    @property
    def name(self) -> str:
        return f"{self.study.name}/{self.arm.name}"

    @property
    def target(self) -> str:
        """What finds this case again."""
        return f"{self.home or self.study.name}/{self.arm.name}"


def load_attribute(target: str, what: str) -> object:
    """The object that "package.module:attribute" names. Errors: UserError."""
    module, _, attribute = target.partition(":")
    try:
        found: object = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{what} {target!r} cannot be loaded: {error}") from error
    return found
