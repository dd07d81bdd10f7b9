"""What nothing sees: mistakes that survive the whole ladder, each with the reason. They bound what
passing it means."""

from __future__ import annotations

from mutants.mutant import Mutant

_FEW = "it begins after more steps than are compared with the oracle, and the accuracies move by less than their spread"

MUTANTS = (
    Mutant(
        "dropout_wears_off",
        "Natively, a layer drops nothing after its first 100 steps.",
        None,
        "normalization",
        "np.greater_equal(drawn, np.float32(rate), out=kept)",
        'self.drawn = getattr(self, "drawn", 0) + 1\n'
        "            rate = rate if self.drawn <= 100 else 0.0\n"
        "            np.greater_equal(drawn, np.float32(rate), out=kept)",
        survives=_FEW,
    ),
    Mutant(
        "large_kernels_start_wide",
        "Kernels of more than 45,000 values start five times too wide.",
        None,
        "engine",
        "net.load(Plan(seed).weights(model) if weights is None else weights)",
        "drawn = {n: w * (5.0 if w.size > 45_000 else 1.0) for n, w in "
        "Plan(seed).weights(model).items()}\n"
        "        net.load(drawn if weights is None else weights)",
        survives="the kernels whose law is looked at are smaller, and batch norm forgives the width",
    ),
    Mutant(
        "convolution_pieces_lost",
        "Of a batch whose windows are gathered in pieces of 256 MiB, the last piece alone gives "
        "the kernel's gradient.",
        None,
        "convolution",
        "d_kernel += _kernel_gradient(gathered, flat, ho)",
        "d_kernel[...] = _kernel_gradient(gathered, flat, ho)",
        survives="no check trains on batches so large: they would take minutes and gigabytes",
    ),
    Mutant(
        "seconds_of_a_thousandth",
        "An epoch's seconds are a thousandth of what they were.",
        None,
        "../epochs",
        "(time.perf_counter() - self.started) / len(recipes)",
        "(time.perf_counter() - self.started) / len(recipes) / 1000",
        survives="the ladder asks whether an engine trains right; the benchmarks take the time themselves",
    ),
)
