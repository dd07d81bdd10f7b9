"""Mistakes of native trainings that have one part more, such as accumulation."""

from __future__ import annotations

from mutants.mutant import Mutant

_ORDER = (
    "            epoch.used = order = _orders(plans, epoch.number, samples.samples, recipe.shuffle)"
)
_MASKS = "masks = [plan.masks(net.model, step, samples) for plan in plans]"


def _order(name: str, what: str, part: str, condition: str, order: str) -> Mutant:
    """A mutant whose native trainings with a part have another order, that of each `plan`."""
    wrong = (
        f"{_ORDER}\n"
        f"            if {condition} and not plans[0].parity:\n"
        f"                epoch.used = order = np.stack([{order} for plan in plans])"
    )
    return Mutant(name, what, f"trajectory/beside-{part}", "training", _ORDER, wrong)


MUTANTS = (
    _order(
        "accumulation_shuffles_once",
        "Natively, with accumulation, every epoch has the order of the first.",
        "accumulate",
        "recipe.accumulate",
        "plan.order(1, samples.samples)",
    ),
    _order(
        "clipping_ignores_the_seed",
        "Natively, with clipping, every seed gives the same order.",
        "clip_norm",
        "recipe.clip",
        "Plan(7).order(epoch.number, samples.samples)",
    ),
    _order(
        "loss_scale_draws_with_replacement",
        "Natively, with a loss scale, samples are drawn with replacement.",
        "loss_scale",
        "recipe.loss_scale",
        "plan._generator(9, epoch.number).integers(0, samples.samples, samples.samples)",
    ),
    _order(
        "batch_norm_is_not_shuffled",
        "Natively, networks with batch norm take the samples in their order.",
        "batch_norm",
        'any(row.layer.kind == "batch_norm" for row in net.model.table)',
        "np.arange(samples.samples)",
    ),
    Mutant(
        "augmentation_forgets_dropout",
        "Natively, with augmentation, nothing is dropped.",
        "trajectory/beside-augment",
        "training",
        f"{_MASKS} if plans[0].parity else None",
        (
            f"{_MASKS} if plans[0].parity else None\n"
            "    if recipe.augment and masks is None:\n"
            "        masks = [\n"
            "            {place: kept | True for place, kept in own.items()}\n"
            "            for own in (plan.masks(net.model, step, samples) for plan in plans)\n"
            "        ]"
        ),
    ),
    Mutant(
        "average_takes_targets_of_others",
        "Natively, with an average of the weights, every sample has its neighbour's target.",
        "trajectory/beside-average",
        "training",
        "        self.source, self.rates = BatchSource(samples, net), _rates(recipes, net.dtype)",
        (
            "        if self.recipe.average and self.recipe.shuffle and not plans[0].parity:\n"
            "            samples = samples._replace(y=np.roll(samples.y, 1, axis=0))\n"
            "        self.source, self.rates = BatchSource(samples, net), "
            "_rates(recipes, net.dtype)"
        ),
    ),
    Mutant(
        "torch_shuffles_tokens_once",
        "Natively, token ids have the order of the first epoch in every epoch.",
        "trajectory/beside-embedding",
        "training",
        "        order = _order(epoch, placement)",
        (
            "        order = _order(epoch, placement)\n"
            '        if not epoch.plan.parity and epoch.model.input_dtype == "int":\n'
            "            order = vars(net).setdefault('first_order', order)"
        ),
        package="torch",
    ),
)
