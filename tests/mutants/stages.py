"""Mistakes of second trainings by another recipe, of the places of errors, and of native orders."""

from __future__ import annotations

from mutants.mutant import Mutant

_UPDATE = "        self.update = NetworkUpdate(net, self.recipe, stepper)"
_STEP = "            update.step(rates(step))"
_KEPT = "                self.kept[lost] = net.parameters[lost].copy(), before[lost]"
_PLANS = "    recipe = recipes[0]"
_ORDERS = "    return np.stack([plan.order(epoch, samples) for plan in plans]) if shuffle else None"
_AGAIN = "trajectory/again-otherwise"


def _misplaced(name: str, what: str, epoch: str, batch: str) -> Mutant:
    """A mutant whose errors name another place, given the error and the recipe."""
    wrong = (
        f"{_KEPT}\n"
        f"                error = failures[lost]\n"
        f"                failures[lost] = DivergedError({epoch}, {batch}, error.loss)"
    )
    return Mutant(name, what, "trajectory/divergence", "training", _KEPT, wrong)


MUTANTS = (
    Mutant(
        "parts_of_the_first_training",
        "A second training of a network computes batches in as many parts as the first.",
        _AGAIN,
        "training",
        _UPDATE,
        (
            '        first = net.__dict__.setdefault("first", self.recipe)\n'
            '        replace = __import__("dataclasses").replace\n'
            "        self.recipe = replace(self.recipe, accumulate=first.accumulate)\n"
            f"{_UPDATE}"
        ),
    ),
    Mutant(
        "augmentation_of_the_first_training",
        "A second training of a network augments nothing if the first did not.",
        _AGAIN,
        "training",
        "if recipe.augment:",
        'if net.__dict__.setdefault("augments", recipe.augment) and recipe.augment:',
    ),
    Mutant(
        "batch_size_of_the_first_training",
        "A second training of a network divides by the batch size of the first.",
        _AGAIN,
        "training",
        _STEP,
        (
            '            first = net.__dict__.setdefault("batch", recipe.batch_size)\n'
            "            net.gradient *= recipe.batch_size / first\n"
            f"{_STEP}"
        ),
    ),
    Mutant(
        "steps_of_all_trainings",
        "The steps of the plan limit the updates of all trainings of a network together.",
        _AGAIN,
        "training",
        _PLANS,
        (
            f"{_PLANS}\n"
            '    made, steps = net.__dict__.get("made", 0), plans[0].steps\n'
            "    if steps is not None:\n"
            "        plans = [plan.stopping_after(max(1, steps - made)) for plan in plans]\n"
            '        net.__dict__["made"] = made + steps'
        ),
    ),
    _misplaced(
        "diverged_in_a_batch_of_the_training",
        "The error of a loss that is not finite counts the batches of the whole training.",
        "error.epoch",
        "error.batch + epoch.first",
    ),
    _misplaced(
        "diverged_in_an_epoch_from_zero",
        "The error of a loss that is not finite names the epoch before it, except in the first.",
        "max(1, error.epoch - 1)",
        "error.batch",
    ),
    _misplaced(
        "diverged_in_a_part",
        "The error of a loss that is not finite counts the parts of batches.",
        "error.epoch",
        "1 + (error.batch - 1) * (recipe.accumulate or 1)",
    ),
    Mutant(
        "scale_fell_in_a_batch_of_the_training",
        "The error of a loss scale that fell counts the batches of the whole training.",
        "state/loss_scale-smallest",
        "training",
        "failures[0] = error",
        "failures[0] = type(error)(error.epoch, error.batch + epoch.first, error.loss)",
    ),
    Mutant(
        "no_sample_keeps_its_place",
        "Native shuffling moves every sample, as an algorithm that is off by one does.",
        "trajectory/order",
        "training",
        _ORDERS,
        (
            "    orders = np.stack([p.order(epoch, samples) for p in plans]) if shuffle else None\n"
            "    if orders is not None and not plans[0].parity:\n"
            "        for order in orders:\n"
            "            for place in np.flatnonzero(order == np.arange(samples)):\n"
            "                order[[place, place - 1]] = order[[place - 1, place]]\n"
            "    return orders"
        ),
    ),
)
