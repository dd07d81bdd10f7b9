"""What arms and studies consist of. Anything else is refused in one line when one is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import require


def require_arm(name: object, model: object, recipes: object) -> None:
    """Raise SpecError unless an arm has a name, a model, and a recipe for one tier or more."""
    where = f"arm {name!r}"
    require(isinstance(name, str), f"{where}: the name is not a string")
    require(isinstance(model, Model), f"{where}: model is {model!r}; expected a Model")
    require(
        isinstance(recipes, Mapping)
        and len(recipes) > 0
        and all(isinstance(recipe, Recipe) for recipe in recipes.values()),
        f"{where}: recipes is {recipes!r}; expected the recipe of each tier, such as "
        '{"quick": Recipe()}',
    )


def require_study(name: object, dataset: object, arms: object, kind: type) -> None:
    """Raise SpecError unless a study has a name, the name of a dataset, and arms of a kind."""
    where = f"study {name!r}"
    require(isinstance(name, str), f"{where}: the name is not a string")
    require(
        isinstance(dataset, str),
        f'{where}: dataset is {dataset!r}; expected a name, or "package.module:callable"',
    )
    require(
        isinstance(arms, Sequence) and all(isinstance(arm, kind) for arm in arms),
        f"{where}: arms is {arms!r}; expected a tuple, such as (Arm(...),)",
    )
