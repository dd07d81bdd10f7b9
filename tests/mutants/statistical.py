"""Mistakes that show late or with many samples, most of them only in the final accuracies."""

from __future__ import annotations

from mutants.mutant import Mutant

_LOOP = "order = _orders(plans, epoch.number, samples.samples, recipe.shuffle)"
_SOURCE = "self.source, self.rates = BatchSource(samples, net), _rates(recipes, net.dtype)"

MUTANTS = (
    Mutant(
        "labels_noisy_when_many",
        "Natively, with more than 500 samples, a third of the labels is random.",
        "distribution/lenet5-tanh/standard+bn",
        "training",
        _SOURCE,
        f"{_SOURCE}\n"
        "        if not plans[0].parity and samples.samples > 500 and self.source.y.ndim == 2:\n"
        "            own, y = np.random.default_rng(plans[0].seed), self.source.y\n"
        "            mixed = own.permutation(y.T).T\n"
        "            self.source.y = np.where(own.random(y.shape) < 1 / 3, mixed, y)",
    ),
    Mutant(
        "tenth_of_the_data",
        "Natively, with more than 500 samples, only the first tenth is used.",
        "trajectory/shuffling",
        "training",
        _LOOP,
        f"{_LOOP}\n"
        "            if order is not None and samples.samples > 500 and not plans[0].parity:\n"
        "                order = order % (samples.samples // 10)",
    ),
    Mutant(
        "adam_rate_decays",
        "After 60 steps, Adam's learning rate decays by a tenth per step.",
        "trajectory/long-adam",
        "optimizers",
        "np.divide(self.mean, scratch, out=scratch)",
        "np.divide(self.mean, scratch, out=scratch)\n        rate *= 0.9 ** max(self.steps - 60, "
        "0)",
    ),
    Mutant(
        "batch_norm_statistics_stop",
        "After 60 passes, a batch norm no longer updates its statistics.",
        "distribution/fashion-mlp/bn+dropout",
        "normalization",
        "self._move(whole, variance, self.samples)",
        'self.passes = getattr(self, "passes", 0) + 1\n'
        "            if self.passes <= 60:\n"
        "                self._move(whole, variance, self.samples)",
    ),
    Mutant(
        "large_kernels_start_at_zero",
        "Kernels of more than 45,000 values start at zero.",
        "initializer/large",
        "engine",
        "net.load(Plan(seed).weights(model) if weights is None else weights)",
        "drawn = {n: w * (w.size <= 45_000) for n, w in Plan(seed).weights(model).items()}\n"
        "        net.load(drawn if weights is None else weights)",
    ),
    Mutant(
        "dropout_grows",
        "Natively, after 100 steps, dropout keeps a thousandth less with each step.",
        "distribution/fashion-mlp/bn+dropout",
        "dropout",
        "np.greater_equal(drawn, np.float32(rate), out=kept)",
        'self.drawn = getattr(self, "drawn", 0) + 1\n'
        "            rate = 1.0 - (1.0 - rate) * 0.999 ** max(self.drawn - 100, 0)\n"
        "            np.greater_equal(drawn, np.float32(rate), out=kept)",
    ),
    Mutant(
        "gradients_fade",
        "After 50 steps gradients are clipped to a length of a tenth.",
        "distribution/fashion-mlp/bn+dropout",
        "training",
        "update.step(rates(step))",
        "if step >= 50 and samples.samples > 700:\n"
        "                net.gradient *= min(1.0, 0.1 / np.linalg.norm(net.gradient))\n"
        "            update.step(rates(step))",
    ),
)
