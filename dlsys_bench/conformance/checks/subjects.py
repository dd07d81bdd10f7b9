"""What the checks of layers loop over: every kind, the activations one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import Trial
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.engines.plan import Array
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import FUNCTIONS, LAYERS
from dlsys_bench.spec.losses import LOSSES, Loss

# A dense layer ends every network of the others, so it comes first.
SUBJECTS: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{
        kind: (kind, {})
        for kind in sorted(LAYERS, key=lambda kind: (kind != "dense", kind != "flatten"))
        if kind != "activation"
    },
    **{function: ("activation", {"function": function}) for function in FUNCTIONS},
}


def drawn(trial: Trial, subject: str) -> st.SearchStrategy[Example]:
    """A layer alone, in a convention of the engine's."""
    kind, fixed = SUBJECTS[subject]
    return followed(trial, strategies.single_layers(kind, images="flatten" in trial.kinds, **fixed))


def networks(trial: Trial) -> st.SearchStrategy[Example]:
    """A network of what the engine has, in a convention of its own, away from where rounding would
    choose a side."""
    return followed(trial, strategies.examples(trial.kinds, trial.losses, trial.functions)).filter(
        lambda example: clear(trial, example)
    )


def followed(trial: Trial, examples: st.SearchStrategy[Example]) -> st.SearchStrategy[Example]:
    return st.builds(
        lambda example, convention: example._replace(
            model=to_convention(convention, example.model)
        ),
        examples,
        trial.conventions(),
    )


def of_labels(trial: Trial) -> Loss:
    """A loss of labels that the engine has. Errors: NotApplicableError where it has none."""
    for kind in trial.losses:
        if (loss := LOSSES[kind].of()).targets == "labels":
            return loss
    raise NotApplicableError("no loss of labels is left: see lacks")


def clear(trial: Trial, example: Example, dtype: str | None = None) -> bool:
    """Whether no relu and no max pool stands so near a kink that rounding decides."""
    outputs = trial.oracle.trace(trial.oracle.build(example.model, example.weights), example.batch)
    return (
        strategies.kink_distance(example.model, example.batch.x, outputs)
        > NEAR[dtype or trial.engine.dtype]
    )


NEAR = {"float64": 1e-9, "float32": 1e-3}


def size(*arrays: Array) -> float:
    """The largest value in some arrays, from which a tolerance is taken; never nothing."""
    return max(1e-12, *(float(np.abs(array).max(initial=0.0)) for array in arrays))
