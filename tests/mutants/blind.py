"""Mistakes that no check detects, each with the reason. They state what passing does not prove."""

from __future__ import annotations

from mutants.mutant import Mutant

_FEW = (
    "it starts after more steps than are compared with the oracle, and it changes the "
    "accuracies by less than their standard deviation"
)

MUTANTS = (
    Mutant(
        "dropout_wears_off",
        "Natively, a layer drops nothing after 100 steps.",
        None,
        "dropout",
        "np.greater_equal(drawn, np.float32(rate), out=kept)",
        'self.drawn = getattr(self, "drawn", 0) + 1\n'
        "            rate = rate if self.drawn <= 100 else 0.0\n"
        "            np.greater_equal(drawn, np.float32(rate), out=kept)",
        survives=_FEW,
    ),
    Mutant(
        "convolution_pieces_lost",
        "Of a batch whose windows are gathered in pieces of 256 MiB, the last piece alone gives "
        "the kernel's gradient.",
        None,
        "convolution",
        "d_kernel += _kernel_gradient(gathered, flat, self.out[0])",
        "d_kernel[...] = _kernel_gradient(gathered, flat, self.out[0])",
        survives="no check trains on such large batches, which would take minutes and gigabytes",
    ),
    Mutant(
        "seconds_of_a_thousandth",
        "The seconds of an epoch are a thousandth of the true ones.",
        None,
        "../epochs",
        "(time.perf_counter() - self.started) / len(recipes)",
        "(time.perf_counter() - self.started) / len(recipes) / 1000",
        survives="the ladder checks correctness; the benchmarks measure the time themselves",
    ),
)
