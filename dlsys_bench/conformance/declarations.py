"""The declarations of an engine: what it may declare, and how loosely."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dlsys_bench.engines.base import Engine
from dlsys_bench.errors import EngineError, nearest
from dlsys_bench.spec.clipping import CLIPS
from dlsys_bench.spec.decay import COUPLINGS
from dlsys_bench.spec.initializers import INITIALIZERS
from dlsys_bench.spec.layers import FUNCTIONS, VARIANTS
from dlsys_bench.spec.losses import LOSS_OPTIONS, LOSSES
from dlsys_bench.spec.optimizers import OPTIMIZERS
from dlsys_bench.spec.recipe import PRODUCTS

DECLARABLE: Mapping[str, Collection[str]] = {
    "layer": VARIANTS,
    "function": FUNCTIONS,
    "loss": (*LOSSES, *LOSS_OPTIONS, "positions"),
    "optimizer": OPTIMIZERS,
    "decay": COUPLINGS,
    "clip": CLIPS,
    "initializer": INITIALIZERS,
    "loss_scale": ("factors",),
    "products": PRODUCTS,
    "dtype": ("float32", "float64"),
}
"""What an engine may declare that it lacks, besides SINGLE and the names of checks."""

SINGLE = (
    "inputs",
    "schedule",
    "batch_sizes",
    "augment",
    "accumulate",
    "average",
    "loss_scale",
    "native",
)
"""What an engine may declare that it lacks, and that has no kinds."""

LOOSEST = 0.01
"""The largest tolerance that an engine may declare. A larger one would hide common mistakes."""


def check_declarations(engine: Engine, checks: Mapping[str, str]) -> None:
    """Raise EngineError if an engine declares something unknown, or too large a tolerance.

    `checks` holds the rung of each check by name.
    """
    known = [f"{what}:{kind}" for what, kinds in DECLARABLE.items() for kind in kinds]
    known += [*SINGLE, *checks]
    for name in engine.lacks:
        if name not in known:
            raise EngineError(
                f"lacks has {name!r}{nearest(name, known)}: see dlsys_bench.engines.base.Engine"
            )
    places = [*dict.fromkeys(checks.values()), *checks]
    for name, declared in engine.loosens.items():
        if name not in places:
            raise EngineError(
                f"loosens has {name!r}{nearest(name, places)}, which is neither a rung nor a check"
            )
        if not isinstance(declared, tuple) or len(declared) != 2 or not 0 < declared[0] <= LOOSEST:
            raise EngineError(
                f"loosens[{name!r}] is {declared!r}; expected a tuple "
                f"(relative tolerance, at most {LOOSEST:g}, reason)"
            )
