"""The requirements of models and recipes, in the terms in which engines declare what they lack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dlsys_bench.errors import OtherEngineError
from dlsys_bench.spec.layers import Activation
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Optimizer
from dlsys_bench.spec.recipe import Recipe

if TYPE_CHECKING:
    from dlsys_bench.engines.base import Engine


def requirements(
    model: Model | None = None,
    loss: Loss | None = None,
    recipe: Recipe | None = None,
    *,
    parity: bool = False,
    drawn: bool = True,
) -> list[str]:
    """Return what an engine must have for a model, a loss and a recipe.

    A recipe that is trained without a plan (`parity` is False) requires a native training. A model
    whose weights are given (`drawn` is False) requires no initialisers.
    """
    needed: list[str] = []
    if model is not None:
        needed += [f"layer:{name}" for layer in model.layers for name in layer.needs]
        activations = [layer for layer in model.layers if isinstance(layer, Activation)]
        needed += [f"function:{layer.function}" for layer in activations]
        needed += ["inputs"] if model.inputs else []
        tensors = model.tensors if drawn else ()
        needed += [f"initializer:{tensor.initializer.kind}" for tensor in tensors]
    if loss is not None:
        needed += loss_requirements(loss)
        of_positions = model is not None and len(model.output_shape) == 2
        needed += ["loss:positions"] if of_positions else []
    if recipe is not None:
        needed += [] if parity else ["native"]
        needed += optimizer_requirements(recipe.optimizer)
        needed += ["schedule"] if recipe.schedule is not None else []
        needed += ["batch_sizes"] if recipe.batch_sizes is not None else []
        needed += ["augment"] if recipe.augment else []
        needed += [f"clip:{recipe.clip.kind}"] if recipe.clip is not None else []
        needed += ["accumulate"] if recipe.accumulate is not None else []
        needed += ["average"] if recipe.average is not None else []
        needed += _product_requirements(recipe)
        needed += recipe.loss_scale.needs if recipe.loss_scale is not None else []
    return needed


def loss_requirements(loss: Loss) -> list[str]:
    """Return what an engine must have for a loss with its options."""
    return [f"loss:{name}" for name in (loss.kind, *loss.used_options)]


def optimizer_requirements(optimizer: Optimizer) -> list[str]:
    """Return what an engine must have for an optimiser."""
    decay = optimizer.decay
    return [f"optimizer:{optimizer.kind}", *([f"decay:{decay.coupling}"] if decay else [])]


def require_of(engine: Engine, who: str, needed: Iterable[str]) -> None:
    """Raise OtherEngineError if an engine declares that it lacks something that is needed.

    `who` names what needs it.
    """
    if missing := lack(engine, needed):
        raise OtherEngineError(f'{who} needs what engine "{engine.label}" lacks, {missing}')


def require_products(engine: Engine, recipe: Recipe) -> None:
    """Raise OtherEngineError if a recipe rounds products, and the engine declares to lack that."""
    require_of(engine, f"a recipe of products={recipe.products!r}", _product_requirements(recipe))


def _product_requirements(recipe: Recipe) -> list[str]:
    return [f"products:{recipe.products}"] if recipe.products is not None else []


def lack(engine: Engine, needed: Iterable[str]) -> str | None:
    """Return the first requirement that an engine declares to lack, with the reason; None if it
    has all."""
    missing = (f"{need}: {engine.lacks[need]}" for need in needed if need in engine.lacks)
    return next(missing, None)
