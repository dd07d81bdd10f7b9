"""Examples that are made of what the engine under test has.

A check asks one question, on an example that also contains things that the question is not about:
an activation between two dense layers, an optimiser that moves the weights, a loss. An engine that
declares that it lacks one of these is still asked the question. `supported` replaces what is
missing by something that the engine has, or leaves it out; only the subject of a check remains as
it is, because the check `requires` it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from dlsys_bench.conformance.trial import Trial
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.graph import serial
from dlsys_bench.spec.initializers import INITIALIZERS, Fans, Initializer
from dlsys_bench.spec.layers import (
    FUNCTIONS,
    LAYERS,
    Activation,
    AveragePool,
    BatchNorm,
    Convolution,
    Dense,
    Flatten,
    GlobalAveragePool,
    Layer,
    MaxPool,
)
from dlsys_bench.spec.losses import LOSSES, Loss, MeanSquaredError, PerceptronCriterion
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, SGD, Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record

R = TypeVar("R", bound=Record)

Lacks = Collection[str]

SIMILAR: Mapping[str, type[Layer]] = {
    MaxPool.kind: AveragePool,
    AveragePool.kind: MaxPool,
    GlobalAveragePool.kind: Flatten,
}
"""The layer that may stand in the place of another: one with the same options, or one whose
outputs have the same number of axes."""

NEEDED = ("dense", "conv1d", "conv2d", "flatten", "embedding")
"""The kinds of layers that cannot be left out of a network, because the shapes depend on them.

Layers that merge cannot be left out either. The checks that contain one of these require it."""

LEFT_OUT = serial()
"""The identity, in the place of a layer that is left out."""

LOSS_ORDER = ("values", "labels", "binary", "signs")
"""The kinds of targets, those first that suit any number of outputs. Of the losses of one kind, the
perceptron criterion comes last, since it has no slope where a sample is right."""


def has(trial: Trial, *needed: str) -> bool:
    """Return whether the engine has everything that is named, in the terms of `Engine.lacks`."""
    return not trial.lacks.intersection(needed)


def supported(trial: Trial, record: R, *, convention: str | None = None) -> R:
    """Return a model, a recipe or another record, made of what the engine has.

    It follows a convention of the engine (default: the first).
    """
    lacks = trial.lacks
    changed = record.map(lambda inner: _supported(lacks, inner)) if lacks else record
    return to_convention(convention or trial.convention, changed)


def trainable(trial: Trial, model: Model, loss: Loss | None = None) -> Model:
    """Return a supported model whose outputs suit a loss (default: `example_loss`).

    A loss of signs takes one output.
    """
    axes = len(model.output_shape)
    model = supported(trial, model)
    if len(model.output_shape) != axes:
        raise NotApplicableError("the engine lacks the layers that make a vector of a sequence")
    *below, last = model.layers
    if (loss or example_loss(trial)).targets == "signs" and isinstance(last, Dense):
        model = replace(model, layers=(*below, replace(last, units=1)))
    return model


def example_loss(trial: Trial, wanted: Loss = MeanSquaredError()) -> Loss:  # noqa: B008
    """Return the loss if the engine has it, or else another one, of the same targets if there is
    one.

    Raises NotApplicableError, by way of the guard, if the engine has no loss.
    """
    return _loss(trial.lacks, wanted)


def require_slope(loss: Loss) -> None:
    """Raise NotApplicableError if samples that are right do not move a weight."""
    if isinstance(loss, PerceptronCriterion):
        raise NotApplicableError("the only loss has no slope where a sample is right")


def has_layers(trial: Trial, layers: Iterable[Layer]) -> bool:
    """Return whether the engine has layers with their options. One that lacks grouped convolutions
    may have dilated ones, with one group."""
    return has(trial, *(f"layer:{name}" for layer in layers for name in layer.needs))


def needed_layers(model: Model) -> list[str]:
    """Return what an engine must have for a model of which it need not have every layer."""
    kept = [layer for layer in model.layers if _is_needed(layer)]
    names = [name for x in kept for name in (x.needs if x.merges else (x.kind,))]
    layers = dict.fromkeys(f"layer:{name}" for name in names)
    return [*(["inputs"] if model.inputs else []), *layers]


def _supported(lacks: Lacks, record: Record) -> Record:
    """Return a record that contains nothing that is missing, given that those in it do not."""
    for base, change in CHANGES.items():
        if isinstance(record, base):
            return change(lacks, record)
    return record


def _initializer(lacks: Lacks, initializer: Initializer) -> Initializer:
    order = sorted(
        INITIALIZERS, key=lambda kind: _is_constant(INITIALIZERS[kind]) != _is_constant(initializer)
    )
    return _first_of(
        lacks, "initializer", initializer, {kind: INITIALIZERS[kind] for kind in order}
    )


def _is_constant(initializer: Initializer | type[Initializer]) -> bool:
    made = initializer() if isinstance(initializer, type) else initializer
    return made.distribution(Fans(1, 1)).family == "constant"


def _optimizer(lacks: Lacks, optimizer: Optimizer) -> Optimizer:
    found = _first_of(lacks, "optimizer", optimizer, OPTIMIZERS)
    decay = optimizer.decay
    kept = decay if decay and f"decay:{decay.coupling}" not in lacks else None
    return replace(found, learning_rate=optimizer.learning_rate, decay=kept)


def _loss(lacks: Lacks, loss: Loss) -> Loss:
    order = sorted(
        LOSSES.values(),
        key=lambda each: (
            each.targets != loss.targets,
            LOSS_ORDER.index(each.targets),
            each is PerceptronCriterion,
        ),
    )
    found = _first_of(lacks, "loss", loss, {each.kind: each for each in order})
    missing = {name for name in found.used_options if f"loss:{name}" in lacks}
    defaults = {option.name: option.default for option in fields(found) if option.name in missing}
    return replace(found, **defaults)


def _first_of(lacks: Lacks, what: str, record: R, table: Mapping[str, type[R]]) -> R:
    """Return the record, or the first of the table that is not missing, with its defaults."""
    if f"{what}:{record.kind}" not in lacks:
        return record
    others = (each.of() for kind, each in table.items() if f"{what}:{kind}" not in lacks)
    return next(others, record)


def _activation(lacks: Lacks, layer: Activation) -> Activation:
    if f"function:{layer.function}" not in lacks:
        return layer
    # The identity comes last, because it hides what is below.
    order = sorted(FUNCTIONS, key=lambda name: name == "linear")
    available = (name for name in order if f"function:{name}" not in lacks)
    return replace(layer, function=next(available, layer.function))


def _convolution(lacks: Lacks, layer: Convolution) -> Convolution:
    changes: dict[str, Any] = {}
    for option, variant in {"groups": "grouped", "dilation": "dilated"}.items():
        changes |= {option: 1} if f"layer:{variant}_{layer.kind}" in lacks else {}
    return replace(layer, **changes)


def _model(lacks: Lacks, model: Model) -> Model:
    kept: list[Layer] = []
    for row in model.table:
        found = layer = row.layer
        if _is_missing(lacks, layer) and not _is_needed(layer):
            other = SIMILAR.get(layer.kind)
            same = {f.name: getattr(layer, f.name) for f in fields(layer)}
            found = other.of(**same) if other and not _is_missing(lacks, other) else LEFT_OUT
        if isinstance(found, BatchNorm) and f"optimizer:{SGD.kind}" in lacks:
            _leave_out_bias(model, kept, row.sources[0])
        kept.append(found)
    if tuple(kept) == model.layers:
        # The nodes keep the names that they may have.
        return model
    return replace(model, layers=(replace(model.block, layers=tuple(kept)),), connections=None)


def _leave_out_bias(model: Model, kept: list[Layer], source: int) -> None:
    """Leave out the bias below a batch norm. It has a gradient of rounding errors, of which Adam
    makes whole steps."""
    places = {row.value: row.place for row in model.table}
    while source in places and kept[places[source]] == LEFT_OUT:
        source = model.table[places[source]].sources[0]
    if (place := places.get(source)) is not None and getattr(kept[place], "use_bias", False):
        kept[place] = replace(kept[place], use_bias=False)  # type: ignore[call-arg]


def _is_needed(layer: Layer) -> bool:
    """Return whether a layer cannot be left out of a network."""
    return layer.kind in NEEDED or layer.merges


def _is_missing(lacks: Lacks, layer: Layer | type[Layer]) -> bool:
    """Return whether the engine lacks a layer, or one of its initialisers, which a batch norm does
    not let choose."""
    starts = layer.initializers().values() if isinstance(layer, Layer) else ()
    names = layer.needs if isinstance(layer, Layer) else (layer.kind,)
    needed = (
        *(f"layer:{name}" for name in names),
        *(f"initializer:{start.kind}" for start in starts),
    )
    return any(need in lacks for need in needed)


def _recipe(lacks: Lacks, recipe: Recipe) -> Recipe:
    changes: dict[str, Any] = {}
    for option in ("schedule", "batch_sizes", "accumulate", "average"):
        changes |= {option: None} if option in lacks else {}
    changes |= {"augment": ()} if "augment" in lacks else {}
    changes |= {"products": None} if f"products:{recipe.products}" in lacks else {}
    if recipe.loss_scale is not None and any(x in lacks for x in recipe.loss_scale.needs):
        changes["loss_scale"] = None
    if recipe.clip is not None and f"clip:{recipe.clip.kind}" in lacks:
        changes["clip"] = None
    return replace(recipe, **changes)


CHANGES: Mapping[type[Record], Callable[[Lacks, Any], Record]] = {
    Initializer: _initializer,
    Optimizer: _optimizer,
    Loss: _loss,
    Activation: _activation,
    Convolution: _convolution,
    Model: _model,
    Recipe: _recipe,
}
"""The function that replaces what is missing in a record, by the base of the record."""

assert set(NEEDED) < set(LAYERS)
