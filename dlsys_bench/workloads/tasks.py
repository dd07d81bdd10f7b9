"""Tasks on sequences of token ids, computed from a seed: no data are needed.

The tasks with an answer are meant for causal networks: the input is a sequence, SEPARATOR and the
answer without its last token, and the label of each position from the separator on is the next
token of the answer. The label of every earlier position is the separator, which the loss ignores.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Dataset, Source

Tokens = NDArray[np.uint8]

MODULUS = 97
SMALL_MODULUS = 31
SYMBOLS = 10
LENGTH = 8
SEPARATOR = SYMBOLS
BITS = 16
SEQUENCES, FRESH = 4000, 1000
"""The numbers of training and test sequences of the tasks that draw them."""


def _generator(name: str, seed: int) -> np.random.Generator:
    # The name enters the seed, so that two tasks of one seed share no draw.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *name.encode()))))


def _names(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _addition(name: str, modulus: int, seed: int) -> Dataset:
    """Return every sum a + b modulo a prime, one half for training: x (N, 3) of a, b and "=", whose
    id is the modulus, and y (N,) of the sum."""
    a, b = np.divmod(np.arange(modulus**2), modulus)
    order = _generator(name, seed).permutation(modulus**2)
    x = np.stack([a, b, np.full_like(a, modulus)], axis=1)[order].astype(np.uint8)
    y = ((a + b) % modulus)[order]
    half = len(x) // 2
    return Dataset(
        name,
        x[:half],
        y[:half],
        x[half:],
        y[half:],
        _names(modulus),
        redraw=lambda other: _addition(name, modulus, other),
    )


def modular_addition(seed: int = 0) -> Dataset:
    """Return addition modulo 97, one half for training. Power et al. 2022."""
    return _addition("modular-addition", MODULUS, seed)


def small_modular_addition(seed: int = 0) -> Dataset:
    """Return addition modulo 31, one half for training."""
    return _addition("small-modular-addition", SMALL_MODULUS, seed)


def _answering(name: str, answer: Callable[[Tokens], Tokens], seed: int) -> Dataset:
    """Return sequences of LENGTH symbols that are different, and their answers: x (N, 2 LENGTH) of
    a sequence, the separator and the answer without its last token, y of the same shape."""
    generator = _generator(name, seed)
    drawn = generator.integers(0, SYMBOLS, (2 * (SEQUENCES + FRESH), LENGTH))
    sequences = generator.permutation(np.unique(drawn, axis=0))[: SEQUENCES + FRESH]
    sequences = sequences.astype(np.uint8)
    answers = answer(sequences)
    separator = np.full((len(sequences), 1), SEPARATOR, np.uint8)
    x = np.concatenate([sequences, separator, answers[:, :-1]], axis=1)
    y = np.concatenate([np.repeat(separator, LENGTH, axis=1), answers], axis=1)
    return Dataset(
        name,
        x[:SEQUENCES],
        y[:SEQUENCES],
        x[SEQUENCES:],
        y[SEQUENCES:],
        _names(SYMBOLS + 1),
        redraw=lambda other: _answering(name, answer, other),
    )


def copying(seed: int = 0) -> Dataset:
    """Return sequences of 8 symbols, which the answer repeats."""
    return _answering("copying", lambda sequences: sequences, seed)


def sorting(seed: int = 0) -> Dataset:
    """Return sequences of 8 symbols, which the answer sorts."""
    return _answering("sorting", lambda sequences: np.sort(sequences, axis=1), seed)


def parity(seed: int = 0) -> Dataset:
    """Return sequences of 16 different bits: x (N, 16), and y (N, 16), the parity of the bits up to
    each position."""
    chosen = _generator("parity", seed).permutation(2**BITS)[: SEQUENCES + FRESH]
    x = (chosen[:, np.newaxis] >> np.arange(BITS) & 1).astype(np.uint8)
    y = np.cumsum(x, axis=1) % 2
    return Dataset(
        "parity",
        x[:SEQUENCES],
        y[:SEQUENCES],
        x[SEQUENCES:],
        y[SEQUENCES:],
        _names(2),
        redraw=parity,
    )


def _task(name: str, title: str, positions: int, classes: int, citation: str) -> Source:
    factory = f"{__name__}:{name.replace('-', '_')}"
    shape = (positions,)
    return Source(
        name, title, name, _names(classes), shape, "none: computed", citation, factory=factory
    )


POWER_2022 = (
    "Power, Burda, Edwards, Babuschkin, Misra: Grokking: generalization beyond overfitting on "
    "small algorithmic datasets. arXiv:2201.02177, 2022"
)
OWN = "computed from a seed"

TASKS = (
    _task("modular-addition", "Addition modulo 97", 3, MODULUS, POWER_2022),
    _task("small-modular-addition", "Addition modulo 31", 3, SMALL_MODULUS, POWER_2022),
    _task("copying", "Repeat 8 symbols", 2 * LENGTH, SYMBOLS + 1, OWN),
    _task("sorting", "Sort 8 symbols", 2 * LENGTH, SYMBOLS + 1, OWN),
    _task("parity", "The parity of the bits up to each position", BITS, 2, OWN),
)
"""Every task."""
