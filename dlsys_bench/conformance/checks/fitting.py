"""Training, for which an engine may have a path of its own: every layer, optimiser and loss in
`fit`.

What `gradients` does right, `fit` may do otherwise: fused, compiled, or written twice. Natively
nothing is shuffled and nothing dropped here, so that nothing is left to chance.
"""

from __future__ import annotations

from hypothesis import assume

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.step import compare, trained
from dlsys_bench.conformance.checks.subjects import SUBJECTS, clear, drawn, size
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.data import Samples
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.convention import deviations, to_convention
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense
from dlsys_bench.spec.losses import LOSSES, Loss, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop
from dlsys_bench.spec.recipe import Recipe

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(0.05),
    "momentum": SGD(0.05, momentum=0.9),
    "nesterov": SGD(0.05, momentum=0.9, nesterov=True),
    "adam": Adam(0.01, beta_1=0.8, beta_2=0.99),
    "rmsprop": RMSprop(0.01, rho=0.8),
}


@check("trajectory", *(f"fit-{subject}" for subject in SUBJECTS))
def layers(trial: Trial, subject: str) -> None:
    """Two steps of a layer over a batch norm, so that what it passes down is seen too; by a plan,
    then natively."""

    def body(example: Example) -> None:
        norm = (BatchNorm(),) if "batch_norm" in trial.kinds else ()
        model = Model("drawn", example.model.input_shape, (*norm, *example.model.layers))
        # The layer was drawn in one of the engine's conventions; the rest of the recipe follows in
        # it.
        convention = next(
            way for way in trial.engine.conventions if not deviations(way, example.model)
        )
        model = to_convention(convention, model)
        weights = strategies.nonzero_weights(model, example.seed)
        batch = example.batch._replace(
            masks=Plan(example.seed).masks(model, 0, len(example.batch.x)), training=True
        )
        assume(clear(trial, example._replace(model=model, weights=weights, batch=batch)))
        recipe = Recipe(
            SGD(0.01), batch_size=len(batch.x), epochs=2, shuffle=False, loss=example.loss
        )
        for parity in (True, False) if subject != "fit-dropout" else (True,):
            plan = Plan(example.seed, parity=parity)
            compare(
                trial,
                model,
                weights,
                Samples(batch.x, batch.y),
                to_convention(convention, recipe),
                plan,
                2,
            )

    several = drawn(trial, subject.removeprefix("fit-")).filter(
        lambda example: len(example.batch.x) > 1
    )
    trial.search(several, body, examples=12)


@check("trajectory", *(f"native-{name}" for name in OPTIMIZERS))
def optimizers(trial: Trial, subject: str) -> None:
    """Each optimiser natively, with batches of one size and of several."""
    # A bias under a batch norm would have no gradient but rounding, and Adam or RMSprop make whole
    # steps of that.
    norm = (BatchNorm(moving_decay=0.7),) if "batch_norm" in trial.kinds else ()
    model = Model("drawn", (3,), (*norm, Dense(3), Activation("tanh"), Dense(2)))
    samples = Samples(
        trial.generator.standard_normal((10, 3)), trial.generator.standard_normal((10, 2))
    )
    for convention in trial.engine.conventions:
        here = to_convention(convention, model)
        for sizes in (None, CyclicalBatchSize(2, 4)):
            recipe = Recipe(
                OPTIMIZERS[subject.removeprefix("native-")],
                batch_size=4,
                epochs=3,
                shuffle=False,
                loss=MeanSquaredError(),
                batch_sizes=sizes,
            )
            weights = strategies.nonzero_weights(here, trial.seed)
            compare(trial, here, weights, samples, to_convention(convention, recipe), Plan(1), 6)


@check("trajectory", *(f"native-{kind}" for kind in LOSSES))
def losses(trial: Trial, subject: str) -> None:
    """Each loss natively."""
    loss: Loss = LOSSES[subject.removeprefix("native-")].of()
    outputs, convention = 1 if loss.targets == "signs" else 3, trial.engine.conventions[0]
    model = to_convention(
        convention, Model("drawn", (3,), (Dense(4), Activation("tanh"), Dense(outputs)))
    )
    recipe = to_convention(
        convention, Recipe(SGD(0.1), batch_size=4, epochs=2, shuffle=False, loss=loss)
    )
    y = strategies.targets(loss, outputs, 11, trial.generator)
    samples = Samples(trial.generator.standard_normal((11, 3)), y)
    compare(
        trial, model, strategies.nonzero_weights(model, trial.seed), samples, recipe, Plan(1), 6
    )


@check("trajectory", *(f"long-{name}" for name in ("momentum", "adam", "rmsprop")))
def long(trial: Trial, subject: str) -> None:
    """Eighty steps: what is counted, or remembered, only so far."""
    convention = trial.engine.conventions[0]
    model = to_convention(
        convention, Model("drawn", (3,), (Dense(3), Activation("tanh"), Dense(2)))
    )
    recipe = Recipe(
        OPTIMIZERS[subject.removeprefix("long-")],
        batch_size=4,
        epochs=40,
        shuffle=False,
        loss=MeanSquaredError(),
    )
    recipe = to_convention(convention, recipe)
    samples = Samples(
        trial.generator.standard_normal((8, 3)), trial.generator.standard_normal((8, 2))
    )
    weights, plan = strategies.nonzero_weights(model, trial.seed), Plan(0, parity=True)
    right = trained(trial.oracle, model, weights, samples, recipe, plan)
    found = trained(trial.engine, model, weights, samples, recipe, plan)
    for name, values in right.items():
        # Rounding grows with the steps, and more where the learning rate itself is rounded.
        allowed = 1000 * trial.tolerance * size(values)
        close(
            f"{name} after 80 steps",
            found[name],
            values,
            allowed,
            tensor=name,
            layer=name.partition(".")[0],
        )


@check("trajectory", *(f"float32-{name}" for name in OPTIMIZERS))
def single(trial: Trial, subject: str) -> None:
    """Ten steps of each optimiser in single precision, by a plan and natively: a thousandth of the
    way, no more."""
    engine, convention = trial.at("float32"), trial.engine.conventions[0]
    model = to_convention(
        convention, Model("drawn", (3,), (Dense(4), Activation("tanh"), Dense(2)))
    )
    recipe = Recipe(
        OPTIMIZERS[subject.removeprefix("float32-")],
        batch_size=5,
        epochs=5,
        shuffle=False,
        loss=MeanSquaredError(),
    )
    recipe = to_convention(convention, recipe)
    samples = Samples(
        trial.generator.standard_normal((10, 3)), trial.generator.standard_normal((10, 2))
    )
    weights = strategies.nonzero_weights(model, trial.seed)
    for plan in (Plan(0, parity=True), *([Plan(0)] if "native" not in trial.lacks else [])):
        right = trained(trial.oracle, model, weights, samples, recipe, plan)
        found = trained(engine, model, weights, samples, recipe, plan)
        allowed = max(1e-3, trial.loosens or 0.0) * size(
            *(right[name] - weights[name] for name in right)
        )
        for name, values in right.items():
            close(
                f"{name} after 10 steps",
                found[name],
                values,
                allowed,
                tensor=name,
                layer=name.partition(".")[0],
            )


@check("trajectory", "large-batch")
def large_batch(trial: Trial, subject: str) -> None:
    """Batches of 200, which an engine may take in parts: the mean is over all, and so are the
    statistics."""
    convention = trial.engine.conventions[0]
    norm = (BatchNorm(moving_decay=0.7),) if "batch_norm" in trial.kinds else ()
    model = to_convention(
        convention, Model("drawn", (3,), (*norm, Dense(3), Activation("tanh"), Dense(2)))
    )
    recipe = to_convention(
        convention,
        Recipe(SGD(0.1), batch_size=200, epochs=2, shuffle=False, loss=MeanSquaredError()),
    )
    samples = Samples(
        trial.generator.standard_normal((200, 3)), trial.generator.standard_normal((200, 2))
    )
    weights = strategies.nonzero_weights(model, trial.seed)
    for plan in (Plan(1, parity=True), *([Plan(1)] if "native" not in trial.lacks else [])):
        compare(trial, model, weights, samples, recipe, plan, 2)


@check("trajectory", "deep")
def deep(trial: Trial, subject: str) -> None:
    """Twelve layers of one kind: each by its own name."""
    convention = trial.engine.conventions[0]
    model = Model(
        "deep",
        (3,),
        (*(layer for _ in range(12) for layer in (Dense(3), Activation("tanh"))), Dense(2)),
    )
    model = to_convention(convention, model)
    recipe = to_convention(
        convention, Recipe(SGD(0.1), batch_size=6, epochs=2, shuffle=False, loss=MeanSquaredError())
    )
    samples = Samples(
        trial.generator.standard_normal((6, 3)), trial.generator.standard_normal((6, 2))
    )
    compare(
        trial,
        model,
        strategies.nonzero_weights(model, trial.seed),
        samples,
        recipe,
        Plan(1, parity=True),
        2,
    )
