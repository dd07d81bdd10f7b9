"""What a study is: arms that are trained alike and compared, or measured in a way of the study's
own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from dlsys_bench.engines.epochs import Epoch
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.spec.convention import protocol
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlsys_bench.data import Dataset
    from dlsys_bench.engines.base import Engine
    from dlsys_bench.report.tables import Table
    from dlsys_bench.runs.result import Result

TIERS = ("quick", "full")
METRICS = tuple(
    field.name for field in fields(Epoch) if field.name.endswith(("_loss", "_accuracy"))
)


@dataclass(frozen=True)
class Arm:
    """One variant: a model and its recipe at each tier. `unjudged` says, by (dataset, tier) or tier
    alone, why a run of it there says nothing yet; it is still run and shown, never passed or
    failed. `dataset` replaces the study's own; `networks` says by tier how many networks a run of a
    study of many trains; `options` are what its measure reads, `engine` the only one that can run
    it, None for any; `bound` what the metric of an arm that follows from arithmetic may not exceed,
    in place of a band; `may_diverge` says that a run that diverges is none the worse for it."""

    name: str
    model: Model
    recipes: Mapping[str, Recipe]
    unjudged: Mapping[str | tuple[str, str], str] = field(default_factory=dict)
    dataset: str | None = None
    networks: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    engine: str | None = None
    bound: float | None = None
    may_diverge: bool = False

    def recipe(self, tier: str) -> Recipe:
        """The recipe of a tier; a UserError names those there are."""
        if tier not in self.recipes:
            raise UserError(
                f"arm {self.name!r} has no tier {tier!r}; it has {', '.join(self.recipes)}"
            )
        return self.recipes[tier]

    def protocol(self, tier: str) -> str:
        """A digest of what is trained at a tier and how."""
        recipe = self.recipe(tier)
        beside = (
            {"networks": self.networks.get(tier), **self.options}
            if self.networks or self.options
            else None
        )
        return protocol(recipe.adapt(self.model), recipe, beside=beside)

    def reason_unjudged(self, dataset: str, tier: str) -> str | None:
        """Why this arm is not judged there; None where it is."""
        return self.unjudged.get((dataset, tier), self.unjudged.get(tier))


class Trial(NamedTuple):
    """All that one run of one arm has: what a study with a measure of its own is handed. `model`
    and `recipe` are in the engine's convention, `dataset` is drawn by the seed where a formula
    makes it."""

    arm: Arm
    engine: Engine
    dataset: Dataset
    tier: str
    seed: int
    model: Model
    recipe: Recipe

    @property
    def networks(self) -> int:
        return self.arm.networks.get(self.tier, 1)

    @property
    def plans(self) -> list[Plan]:
        """A plan for each network; networks of different runs share none."""
        return [Plan(self.seed * MOST_NETWORKS + number) for number in range(self.networks)]


MOST_NETWORKS = 1_000_000

Measure = Callable[[Trial], Mapping[str, Any]]

Appendix = Callable[["Sequence[Result]"], Mapping[str, "Sequence[Table]"]]
"""Given all runs of a report, the tables that follow those of each study, by its name."""


@dataclass(frozen=True)
class Study:
    """Arms on one dataset, judged by one metric: of their last epoch, or of the figures that
    `measure` returns where a run is more than one training. `source` is the notebook it reproduces;
    `plots` are names of registered plots. `group` names the studies that `find` returns together;
    `appendix` is the "package.module:callable" of an `Appendix`, which adds tables to a report."""

    name: str
    title: str
    source: str
    dataset: str
    arms: tuple[Arm, ...]
    metric: str = "test_accuracy"
    plots: tuple[str, ...] = ("curves",)
    measure: Measure | None = None
    group: str = ""
    appendix: str = ""

    def __post_init__(self) -> None:
        if self.measure is None and self.metric not in METRICS:
            raise UserError(
                f"study {self.name!r}: metric is {self.metric!r}{nearest(self.metric, METRICS)}; "
                f"it takes {', '.join(METRICS)}"
            )
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) < len(names):
            raise UserError(
                f"study {self.name!r} takes one arm at least, each of its own name, but has {names}"
            )

    def arm(self, name: str) -> Arm:
        """An arm by name; a UserError names the nearest."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        names = [arm.name for arm in self.arms]
        raise UserError(
            f"study {self.name!r} has no arm {name!r}{nearest(name, names)}; it has {', '.join(names)}"
        )


class Case(NamedTuple):
    """One arm of one study. `home` is what names a study that is not in the package,
    "package.module:STUDY"."""

    study: Study
    arm: Arm
    home: str | None = None

    @property
    def name(self) -> str:
        return f"{self.study.name}/{self.arm.name}"

    @property
    def dataset(self) -> str:
        """The dataset that it is meant for."""
        return self.arm.dataset or self.study.dataset

    @property
    def target(self) -> str:
        """What finds this case again."""
        return f"{self.home or self.study.name}/{self.arm.name}"
