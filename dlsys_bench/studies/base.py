"""Studies, their arms, and the cases that are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf, nan
from typing import TYPE_CHECKING, Any, NamedTuple

from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.spec.convention import protocol
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.requirements import require_arm, require_study

if TYPE_CHECKING:
    from dlsys_bench.data import Dataset, Scaling
    from dlsys_bench.engines.base import Engine

TIERS = ("quick", "full")


@dataclass(frozen=True)
class Metric:
    """A figure that runs are judged by, with its direction and its resolution.

    `is_fraction` states that it is a fraction of the evaluated samples, or of the networks of a
    run, and so changes in steps of one over their number. `split` names the split that a figure of
    an epoch is evaluated on; it is None for a figure that needs no evaluation. `higher_is_better`
    is None if the direction is unknown, as for a figure that a user's own training returns.
    """

    name: str
    higher_is_better: bool | None
    is_fraction: bool = False
    split: str | None = None

    @property
    def worst(self) -> float:
        """The value of a run that diverged: infinite, in the worse direction, or nan if the
        direction is unknown."""
        return {True: -inf, False: inf, None: nan}[self.higher_is_better]

    def resolution(self, count: int) -> float:
        """Return the smallest step of the figure for `count` samples or networks; 0 for none."""
        return 1.0 / count if self.is_fraction else 0.0

    def __str__(self) -> str:
        return self.name


EPOCH_METRICS = {
    metric.name: metric
    for name, split in (
        ("running", None),
        ("train", "train"),
        ("validation", "validation"),
        ("test", "test"),
    )
    for metric in (
        Metric(f"{name}_loss", higher_is_better=False, split=split),
        Metric(f"{name}_accuracy", higher_is_better=True, is_fraction=True, split=split),
    )
}
"""The losses and accuracies of an epoch, by name."""


@dataclass(frozen=True)
class Arm:
    """One variant of a study: a model and its recipe at each tier.

    `unjudged` gives, by (dataset, tier) or by tier alone, the reason why runs there are shown but
    never passed or failed. `dataset` replaces the dataset of the study. `networks` is the number of
    networks that one run trains, by tier, and `options` holds the parameters of the study's
    measure; both are part of the protocol. `engine` is the only engine that can run the arm, None
    for any. `bound` is the limit that the metric may not exceed, for an arm whose result follows
    from arithmetic; it replaces the reference band. `may_diverge` states that divergence is an
    expected outcome.
    """

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

    def __post_init__(self) -> None:
        require_arm(self.name, self.model, self.recipes)

    def recipe(self, tier: str) -> Recipe:
        """The recipe of a tier. Raises UserError with the tiers that the arm has."""
        if tier not in self.recipes:
            raise UserError(
                f"arm {self.name!r} has no tier {tier!r}; it has {', '.join(self.recipes)}"
            )
        return self.recipes[tier]

    def protocol(self, tier: str) -> str:
        """The digest of the model, recipe and options at a tier."""
        recipe = self.recipe(tier)
        beside = (
            {"networks": self.networks.get(tier), **self.options}
            if self.networks or self.options
            else None
        )
        return protocol(recipe.adapt(self.model), recipe, beside=beside)

    def reason_unjudged(self, dataset: str, tier: str) -> str | None:
        """The reason why the arm is not judged on a dataset and tier; None if it is judged."""
        return self.unjudged.get((dataset, tier), self.unjudged.get(tier))


class Published(NamedTuple):
    """A published figure of an arm at tier full: the metric, the value, and where it is printed."""

    arm: str
    metric: str
    value: float
    source: str


class ArmRun(NamedTuple):
    """The arguments of a study's measure: one run of one arm. `model` and `recipe` are in the
    engine's convention, and a dataset that is computed is drawn anew for the seed."""

    arm: Arm
    engine: Engine
    dataset: Dataset
    tier: str
    seed: int
    model: Model
    recipe: Recipe

    @property
    def networks(self) -> int:
        """The number of networks that the run trains."""
        return self.arm.networks.get(self.tier, 1)

    @property
    def plans(self) -> list[Plan]:
        """One plan per network; networks of different runs share no plan."""
        return [Plan(self.seed * MOST_NETWORKS + number) for number in range(self.networks)]


MOST_NETWORKS = 1_000_000

Measure = Callable[[ArmRun], Mapping[str, Any]]


class BenchmarkSize(NamedTuple):
    """An arm whose training speed is a benchmark, its batch size, and the updates of a round."""

    arm: str
    batch_size: int
    steps: int


@dataclass(frozen=True)
class Superseded:
    """Arms of a study as they were until a correction. Runs of them that were stored before are
    recognised by their protocols, and are not comparable with today's. `reason` says what was
    corrected."""

    name: str
    reason: str
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Study:
    """Arms that are trained on one dataset and judged by one metric.

    The metric is a field of the last epoch or, if a run is more than one training, one of the
    figures that `measure` returns. `source` cites the work that is reproduced. `plots` are names of
    registered plots. `group` names the studies that `find` returns together. `appendix` is the
    "package.module:callable" of a `dlsys_bench.report.sections.Appendix`, which adds tables to
    reports. `default` states that commands take the study, or its group, unless one is named.
    `benchmarks` are its workloads for benchmarks of speed. `distribution_checks` names the arms by
    which the conformance ladder compares an engine with reference runs: tier quick, on scanned
    digits. `superseded` holds the arms as they were before each correction of the study.
    `published` is the "package.module:callable" that returns the Published figures of a study,
    given its name. `claims` is the "package.module:NAME" of a
    `dlsys_bench.verdicts.claims.claim_set.ClaimSet` with claims on the study.
    """

    name: str
    title: str
    source: str
    dataset: str
    arms: tuple[Arm, ...]
    metric: Metric = EPOCH_METRICS["test_accuracy"]
    plots: tuple[str, ...] = ("curves",)
    measure: Measure | None = None
    group: str = ""
    appendix: str = ""
    default: bool = False
    benchmarks: tuple[BenchmarkSize, ...] = ()
    distribution_checks: tuple[str, ...] = ()
    superseded: tuple[Superseded, ...] = ()
    published: str = ""
    claims: str = ""

    def __post_init__(self) -> None:
        require_study(self.name, self.dataset, self.arms, Arm)
        self._find_metric()
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) < len(names):
            raise UserError(
                f"study {self.name!r} takes at least one arm and no two of one name; it has {names}"
            )
        for name in (*self.distribution_checks, *(size.arm for size in self.benchmarks)):
            self.arm(name)

    @property
    def short_name(self) -> str:
        """The name without the group."""
        return self.name.rpartition("/")[2]

    def _find_metric(self) -> None:
        """Replace the name of a metric, which is accepted too, by its record."""
        name: object = self.metric
        known = EPOCH_METRICS
        if isinstance(name, str) and name in known:
            object.__setattr__(self, "metric", known[name])
        elif isinstance(name, str) and self.measure is not None:
            raise UserError(
                f"study {self.name!r} measures {name!r} itself, so it has to state its direction: "
                f"metric=Metric({name!r}, higher_is_better=...)"
            )
        elif self.measure is None and name not in known.values():
            raise UserError(
                f"study {self.name!r}: metric is {str(name)!r}{nearest(str(name), known)}; "
                f"expected one of {', '.join(known)}"
            )

    def superseded_by(self, protocol: str) -> Superseded | None:
        """The correction that replaced an arm with this protocol; None if there was none."""
        return next(
            (
                one
                for one in self.superseded
                for arm in one.arms
                if protocol in map(arm.protocol, arm.recipes)
            ),
            None,
        )

    def arm(self, name: str) -> Arm:
        """The arm of a name. Raises UserError with the nearest name."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        names = [arm.name for arm in self.arms]
        raise UserError(
            f"study {self.name!r} has no arm {name!r}{nearest(name, names)}; "
            f"it has {', '.join(names)}"
        )


class Case(NamedTuple):
    """One arm of one study. `home` is the "package.module:STUDY" of a study that is not registered,
    and `scaling` the scaling of the data that replaces that of the recipes, None for their own."""

    study: Study
    arm: Arm
    home: str | None = None
    scaling: Scaling | None = None

    def scaled(self, scaling: Scaling | None) -> Case:
        """Return the case with another scaling of the data, which changes the protocol. None leaves
        the recipes as they are."""
        if scaling is None:
            return self
        recipes = {
            tier: replace(recipe, scaling=scaling) for tier, recipe in self.arm.recipes.items()
        }
        return self._replace(arm=replace(self.arm, recipes=recipes), scaling=scaling)

    @property
    def name(self) -> str:
        """The name for people: "study/arm"."""
        return f"{self.study.name}/{self.arm.name}"

    @property
    def dataset(self) -> str:
        """The dataset that the case is meant for."""
        return self.arm.dataset or self.study.dataset

    @property
    def target(self) -> str:
        """The argument of `find` that gives this case."""
        return f"{self.home or self.study.name}/{self.arm.name}"
