"""What an engine reports of its epochs, second trainings, seed 0, and rates that come late."""

from __future__ import annotations

from mutants.mutant import Mutant

_YIELD = "for (epoch,) in training: assert epoch is not None yield epoch"
_ORDER = "return np.stack([plan.order(epoch, samples) for plan in plans]) if shuffle else None"
_STEPPER = (
    "stepper = net.rule_set.steppers[type(recipe.optimizer)](recipe.optimizer, net.parameters)"
)


def _reporting(figure: str, value: str) -> str:
    """Return the loop over the epochs with another value of a figure; `seen` has the figures of the
    epochs so far."""
    return (
        "seen = []\n"
        "            for (epoch,) in training:\n"
        "                assert epoch is not None\n"
        f"                seen.append(epoch.{figure})\n"
        f"                vars(epoch)[{figure!r}] = None if seen[-1] is None else {value}\n"
        "                yield epoch"
    )


MUTANTS = (
    Mutant(
        "reports_the_best_loss_so_far",
        "The running loss of an epoch is the smallest so far.",
        "evaluation/epochs-categorical_crossentropy",
        "engine",
        _YIELD,
        _reporting("running_loss", "min(seen)"),
    ),
    Mutant(
        "reports_the_best_accuracy_so_far",
        "The running accuracy of an epoch is the largest so far.",
        "evaluation/epochs-categorical_crossentropy",
        "engine",
        _YIELD,
        _reporting("running_accuracy", "max(seen)"),
    ),
    Mutant(
        "reports_the_epoch_before",
        "The running loss is that of the epoch before.",
        "trajectory/again-sgd",
        "engine",
        _YIELD,
        _reporting("running_loss", "seen[-2:][0]"),
    ),
    Mutant(
        "reports_the_mean_of_the_epochs",
        "The running loss is a mean over all epochs so far.",
        "trajectory/again-sgd",
        "engine",
        _YIELD,
        _reporting("running_loss", "sum(seen) / len(seen)"),
    ),
    Mutant(
        "optimizer_remembers_natively",
        "Natively, a second training continues with the optimiser of the first.",
        "trajectory/again-momentum",
        "training",
        _STEPPER,
        f"{_STEPPER}\n"
        "    if not plans[0].parity:\n"
        '        stepper = net.__dict__.setdefault("stepper", stepper)',
    ),
    Mutant(
        "seed_zero_is_no_seed",
        "Natively, the order of seed 0 is random.",
        "trajectory/order",
        "training",
        _ORDER,
        "orders = [\n"
        "        plan.order(epoch, samples) if plan.parity or plan.seed\n"
        "        else np.random.default_rng().permutation(samples) for plan in plans\n"
        "    ]\n"
        "    return np.stack(orders) if shuffle else None",
    ),
    Mutant(
        "rate_a_step_late",
        "Every update has the learning rate of the one before.",
        "schedule/triangular",
        "training",
        "rates(step))",
        "rates(max(step - 1, 0)))",
    ),
)
