"""The layers that checks iterate over, and strategies for what the engine under test has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.checks.support import example_loss, has_layers
from dlsys_bench.conformance.drawing import first_choice, needs_flatten
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.convention import deviations, to_convention
from dlsys_bench.spec.layers import FUNCTIONS, VARIANTS, BatchNorm, Layer
from dlsys_bench.spec.losses import LOSSES, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.record import Choices, Record


class LayerSubject(NamedTuple):
    """A variant of a layer, or one activation function, with the options that are fixed for it."""

    name: str
    variant: str
    options: Mapping[str, Any]

    @property
    def layer(self) -> type[Layer]:
        """The record of the layer."""
        return VARIANTS[self.variant][0]

    @property
    def choices(self) -> Choices:
        """The values of the options that are not fixed."""
        return VARIANTS[self.variant][1]

    @property
    def requires(self) -> list[str]:
        """What an engine needs for a network of this layer and a dense one above it."""
        function = self.options.get("function")
        flatten = ("flatten",) if needs_flatten(self.variant) else ()
        used = first_choice(self.variant).needs
        names = dict.fromkeys((self.layer.kind, self.variant, *used, *flatten, "dense"))
        needed = [f"layer:{name}" for name in names]
        return [*needed, *([f"function:{function}"] if function else [])]


# A dense layer ends the network of every other subject, so it is checked first.
_NAMES = sorted(VARIANTS, key=lambda name: (name != "dense", name != "flatten"))

SUBJECTS: dict[str, LayerSubject] = {
    **{name: LayerSubject(name, name, {}) for name in _NAMES if name != "activation"},
    **{name: LayerSubject(name, "activation", {"function": name}) for name in FUNCTIONS},
}
"""Every variant of a layer and every activation function, by the name in its checks."""


def requires(subject: LayerSubject) -> list[str]:
    """Return what an engine must have for a subject."""
    return subject.requires


def single_layers(trial: Trial, subject: LayerSubject, **fixed: Any) -> st.SearchStrategy[Example]:
    """Return a strategy for a layer below a dense one, in a convention of the engine."""
    drawn = strategies.single_layers(
        subject.variant,
        images="flatten" in trial.kinds,
        functions=trial.functions if "activation" in trial.kinds else (),
        kinds=trial.kinds,
        loss=example_loss(trial),
        **subject.options,
        **fixed,
    )
    return in_conventions(trial, _of_engine(trial, drawn))


def networks(trial: Trial, input_counts: Sequence[int] = (1,)) -> st.SearchStrategy[Example]:
    """Return a strategy for networks of what the engine has, far enough from kinks."""
    drawn = strategies.examples(trial.kinds, trial.losses, trial.functions, input_counts)
    of_engine = in_conventions(trial, _of_engine(trial, drawn))
    return of_engine.filter(lambda example: is_smooth(trial, example))


def _of_engine(trial: Trial, examples: st.SearchStrategy[Example]) -> st.SearchStrategy[Example]:
    """Return a strategy for the examples whose layers have no option that the engine lacks."""
    return examples.filter(lambda example: has_layers(trial, example.model.layers))


def in_conventions(
    trial: Trial, examples: st.SearchStrategy[Example]
) -> st.SearchStrategy[Example]:
    """Return a strategy for the same examples in the conventions of the engine."""
    return st.builds(
        lambda example, way: example._replace(model=to_convention(way, example.model)),
        examples,
        st.sampled_from(trial.engine.conventions),
    )


def convention_of(trial: Trial, record: Record) -> str:
    """Return the convention of the engine that a record follows."""
    return next(way for way in trial.engine.conventions if not deviations(way, record))


def label_loss(trial: Trial) -> Loss:
    """Return a loss of labels that the engine has. Raises NotApplicableError if it has none."""
    for kind in trial.losses:
        if (loss := LOSSES[kind].of()).targets == "labels":
            return loss
    raise NotApplicableError("the engine lacks every loss of labels")


def without_last(model: Model) -> Model:
    """Return a model without its last layer."""
    connections = model.connections and model.connections[:-1]
    return replace(model, layers=model.layers[:-1], connections=connections)


def norm_if_available(trial: Trial, **options: Any) -> tuple[Layer, ...]:
    """Return a batch norm, or nothing if the engine has none."""
    return (BatchNorm(**options),) if "batch_norm" in trial.kinds else ()


KINK_MARGIN = {"float64": 1e-9, "float32": 1e-3}
"""The distance from a kink below which rounding errors may select the other side."""


def is_smooth(trial: Trial, example: Example) -> bool:
    """Return whether no relu and no max pool is so near a kink that rounding errors decide."""
    network = trial.oracle.build(example.model, example.weights)
    outputs = trial.oracle.trace(network, example.batch)
    distance = strategies.kink_distance(example.model, example.batch.x, outputs)
    return distance > KINK_MARGIN[trial.engine.dtype]
