"""The order of the data, and a loss that is not finite."""

from __future__ import annotations

from mutants.mutant import Mutant

_ORDER = "return np.stack([plan.order(epoch, samples) for plan in plans]) if shuffle else None"


def _natively(order: str) -> str:
    """`order` for a plan's order where the plan leaves it to the engine."""
    own = f"plan.order(epoch, samples) if plan.parity else {order}"
    return f"return np.stack([{own} for plan in plans]) if shuffle else None"


MUTANTS = (
    Mutant(
        "labels_shifted",
        "In shuffled batches every sample has its neighbour's target.",
        "trajectory/mlp",
        "batches",
        "self.y[0, order[:, here]]",
        "self.y[0, np.roll(order[:, here], 1)]",
    ),
    Mutant(
        "order_of_the_first_epoch",
        "With a plan too, every epoch has the order of the first.",
        "trajectory/mlp",
        "training",
        _ORDER,
        "return np.stack([plan.order(1, samples) for plan in plans]) if shuffle else None",
    ),
    Mutant(
        "shuffled_once",
        "Natively, the data are shuffled before the first epoch only.",
        "trajectory/order",
        "training",
        _ORDER,
        _natively("plan.order(1, samples)"),
    ),
    Mutant(
        "order_of_the_third_epoch",
        "Natively, the order of the third epoch is that of all later ones.",
        "trajectory/order",
        "training",
        _ORDER,
        _natively("plan.order(min(epoch, 3), samples)"),
    ),
    Mutant(
        "orders_in_turn",
        "Natively, five orders take turns.",
        "trajectory/order",
        "training",
        _ORDER,
        _natively("plan.order(1 + (epoch - 1) % 5, samples)"),
    ),
    Mutant(
        "shuffled_in_place_by_one_seed",
        "Natively, every epoch shuffles the order of the last one in place, with the same seed.",
        "trajectory/order",
        "training",
        _ORDER,
        _natively(
            "__import__('functools').reduce(lambda order, _: order[plan.order(1, samples)], "
            "range(epoch), np.arange(samples))"
        ),
    ),
    Mutant(
        "labels_shifted_natively",
        "Natively, in shuffled batches every sample has its neighbour's label.",
        "trajectory/aligned-vectors",
        "training",
        "        self.source, self.rates = BatchSource(samples, net), _rates(recipes, net.dtype)",
        "        self.source, self.rates = BatchSource(samples, net), _rates(recipes, net.dtype)\n"
        "        if not plans[0].parity and self.recipe.shuffle and samples.y.dtype.kind in 'iu':\n"
        "            right = self.source.targets\n"
        "            self.source.targets = lambda *a: np.roll(right(*a), 1, axis=-1)",
    ),
    Mutant(
        "shuffle_ignores_the_seed",
        "Natively, every seed gives the same order.",
        "trajectory/order",
        "training",
        _ORDER,
        _natively("Plan(0).order(epoch, samples)"),
    ),
    Mutant(
        "order_by_the_last_bits_of_the_seed",
        "Natively, the order depends on the last six bits of the seed.",
        "trajectory/order",
        "training",
        _ORDER,
        _natively("Plan(plan.seed % 64).order(epoch, samples)"),
    ),
    Mutant(
        "not_shuffled",
        "Natively, nothing is shuffled.",
        "trajectory/order",
        "training",
        _ORDER,
        _natively("np.arange(samples)"),
    ),
    Mutant(
        "drawn_with_replacement",
        "Natively, an epoch is drawn with replacement.",
        "trajectory/order",
        "training",
        _ORDER,
        _natively("np.random.default_rng((plan.seed, epoch)).integers(samples, size=samples)"),
    ),
    Mutant(
        "shuffled_nearby",
        "Natively, a sample moves by a few places, as with a small shuffle buffer.",
        "trajectory/shuffling",
        "training",
        _ORDER,
        _natively(
            "np.argsort(np.arange(samples) + np.random.default_rng((plan.seed, epoch)).uniform(0, "
            "40, samples))"
        ),
    ),
    Mutant(
        "batches_shuffled_not_samples",
        "Natively, the batches of the first epoch are reused in another order.",
        "trajectory/order",
        "training",
        "order = _orders(plans, epoch.number, samples.samples, recipe.shuffle)",
        "order = _orders(plans, epoch.number, samples.samples, recipe.shuffle)\n"
        "            if order is not None and not plans[0].parity:\n"
        "                first = _orders(plans, 1, samples.samples, True)\n"
        "                own = np.random.default_rng((plans[0].seed, epoch.number))\n"
        "                whole = samples.samples // epoch.sizes[0]\n"
        "                kept = whole * epoch.sizes[0]\n"
        "                parts = first[:, :kept].reshape(len(plans), whole, -1)\n"
        "                parts = parts[:, own.permutation(whole)].reshape(len(plans), -1)\n"
        "                order = np.hstack([parts, first[:, kept:]])",
    ),
    Mutant(
        "not_a_number_unnoticed",
        "A loss of NaN raises no error.",
        "trajectory/divergence",
        "../epochs",
        "np.flatnonzero(~np.isfinite(losses)).tolist()",
        "[]",
    ),
    Mutant(
        "infinity_unnoticed",
        "An infinite loss raises no error before it becomes NaN.",
        "trajectory/divergence",
        "../epochs",
        "~np.isfinite(losses)",
        "np.isnan(losses)",
    ),
    Mutant(
        "not_finite_unnoticed_natively",
        "Natively, a loss that is not finite raises no error.",
        "trajectory/divergence",
        "../epochs",
        "~np.isfinite(losses)",
        "~np.isfinite(losses) & self.plan.parity",
    ),
    Mutant(
        "divergence_a_batch_late",
        "The batch after the one that diverged is named.",
        "trajectory/divergence",
        "../epochs",
        "DivergedError(self.number, len(self.losses), float(losses[replica]))",
        "DivergedError(self.number, len(self.losses) + 1, float(losses[replica]))",
    ),
    Mutant(
        "shuffled_in_blocks",
        "Natively, the order is shuffled within blocks of 500 samples, as with a shuffle buffer.",
        "trajectory/shuffling",
        "training",
        "return np.stack([plan.order(epoch, samples) for plan in plans]) if shuffle else None",
        "keys = [plan.order(epoch, samples) + samples * (np.arange(samples) // 500) for plan in "
        "plans]\n"
        "    orders = [plan.order(epoch, samples) if plan.parity else np.argsort(key) "
        "for plan, key in zip(plans, keys, strict=True)]\n"
        "    return np.stack(orders) if shuffle else None",
    ),
)
