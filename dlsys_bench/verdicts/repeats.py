"""Seeds without effect: a training that returns the figures of one seed for several.

Runs that repeat each other are not independent, so that a gate would count one of them as many.
Three rules find them among the finished runs of a training. Equal figures alone prove nothing,
since an accuracy on few samples has few values. If the seeds have an effect, however, every
assignment of the figures to the runs is equally probable, whatever their distribution. The first
two rules are exact permutation tests, each of which rejects a training whose seeds have an effect
with probability at most ERROR.

- *Folded seeds*, such as `seed % 10` or `seed // 2`: all runs whose seeds fall together are equal.
  The levels of the folds by k are proportional to 1 / (k (k - 1)), which sums to 1.
- *New runs that are equal* to each other, while the reference runs are not.
- *Reference runs that are all equal*. No test can tell these from a figure that hardly varies. They
  are rejected if their value is not a fraction k / N with N up to LARGEST_COUNT, as an accuracy on
  N samples is, or if there are at least CONSTANT_RUNS of them. So many runs have the same accuracy
  with probability below 1e-3 if its standard deviation is at least half of its step. An accuracy
  that varies less is not rejected if another figure of the runs, such as a loss, differs. A
  constant 0, 1 or 100 is a saturated accuracy, and is not rejected.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from itertools import product
from math import comb, factorial, prod
from operator import mul, sub

from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.text import DIGITS

ERROR = 1e-4
"""The error rate of each of the two exact rules."""

CONSTANT_RUNS = 19
LARGEST_COUNT = 1000
DIVISORS = (*range(2, 65), 100, 128, 256, 500, 512, 1000, 1024)
SATURATED = {0.0, 1.0, 100.0}

RunFigures = tuple[tuple[str, float], ...]


def repeated_seeds(runs: Sequence[Result], metric: str | None = None) -> str | None:
    """Describe which seeds have the same figures although they should not; None if none have.

    All figures of a run are compared, or only one `metric`. Runs without a seed, which are given as
    figures, and runs that diverged do not count.
    """
    values = {run.seed: _figures_of(run, metric) for run in runs if run.status == "finished"}
    values = {seed: value for seed, value in values.items() if seed >= 0}
    if len(values) < 3:
        return None
    if len(set(values.values())) == 1:
        differ = len({_figures_of(run, None) for run in runs if run.seed in values}) > 1
        return _constant_by_no_chance(len(values), next(iter(values.values())), differ)
    counts = list(Counter(values.values()).values())
    found = []
    for level, text, fold in _folds(sorted(values)):
        groups = _groups(values, fold)
        if any(len(set(group)) > 1 for group in groups):
            continue
        probability = probability_of_groups(counts, [len(group) for group in groups])
        if probability <= level:
            found.append((probability, text))
    return f"runs whose seeds have the same {min(found)[1]} are equal" if found else None


def repeated_runs(
    new: Sequence[Result], reference: Sequence[Result], metric: str | None = None
) -> str | None:
    """Describe which new runs repeat each other, or a reference run of another seed."""
    equal = runs_that_are_equal(new, metric)
    if equal and probability_of_equal_runs(new, reference, metric) <= ERROR:
        return equal
    return repeated_seeds([*reference, *new], metric)


def runs_that_are_equal(new: Sequence[Result], metric: str | None = None) -> str | None:
    """Describe the runs if there are several, and all are equal but not saturated."""
    values = {_figures_of(run, metric) for run in new if run.status == "finished"}
    if len(new) < 2 or len(values) != 1 or any(run.status != "finished" for run in new):
        return None
    (figures,) = values
    return None if _is_saturated(figures) else _constant(len(new), figures)


def probability_of_equal_runs(
    new: Sequence[Result], reference: Sequence[Result], metric: str | None = None
) -> float:
    """Return the probability that new runs, which are all equal, are drawn from the runs that have
    this value, among all runs."""
    value = _figures_of(new[0], metric)
    same = sum(_figures_of(run, metric) == value for run in reference)
    return comb(len(new) + same, len(new)) / comb(len(new) + len(reference), len(new))


def _figures_of(run: Result, metric: str | None) -> RunFigures:
    """The figures of a run that are numbers, by name, with the precision of stored files."""
    names = run.figures if metric is None else (metric,)
    numbers = {k: v for k in names if isinstance(v := run.figures.get(k), int | float)}
    return tuple(sorted((k, float(f"{v:.{DIGITS}g}")) for k, v in numbers.items()))


def _constant(runs: int, figures: RunFigures) -> str:
    shown = ", ".join(f"{name} {value:.7g}" for name, value in figures[:3])
    return f"all {runs} runs are equal ({shown})"


def _constant_by_no_chance(runs: int, figures: RunFigures, differ: bool) -> str | None:
    """Describe equal figures that are no coincidence. `differ` states if the runs differ in
    others."""
    if _is_saturated(figures):
        return None
    if not _is_fraction(figures):
        return _constant(runs, figures)
    if differ or runs < CONSTANT_RUNS:
        return None
    return (
        f"{_constant(runs, figures)}, and no finer figure, such as a loss, shows that the seeds "
        "have an effect"
    )


def _is_saturated(figures: RunFigures) -> bool:
    return all(value in SATURATED for _, value in figures)


def _is_fraction(figures: RunFigures) -> bool:
    """Return True if each figure may be a share, or a percentage, of at most LARGEST_COUNT."""
    return all(_near_fraction(value) or _near_fraction(value / 100) for _, value in figures)


def _near_fraction(value: float) -> bool:
    nearest = Fraction(value).limit_denominator(LARGEST_COUNT)
    return abs(float(nearest) - value) <= 10.0**-DIGITS * abs(value)


def _folds(seeds: Sequence[int]) -> Iterator[tuple[float, str, Callable[[int], Hashable]]]:
    """Yield the ways in which seeds may fall together, by remainder or by quotient, with the level
    of each."""
    span = seeds[-1] - seeds[0] + 1
    for k in (k for k in DIVISORS if k < span):
        level = ERROR / 2 / (k * (k - 1))
        yield level, f"remainder by {k}", partial(_remainder, k)
        yield level, f"quotient by {k}", partial(_quotient, k)


def _remainder(k: int, seed: int) -> int:
    return seed % k


def _quotient(k: int, seed: int) -> int:
    return seed // k


def _groups(
    values: Mapping[int, RunFigures], fold: Callable[[int], Hashable]
) -> list[list[RunFigures]]:
    """Group the figures by what the seeds fall together to."""
    groups: dict[Hashable, list[RunFigures]] = defaultdict(list)
    for seed, figures in values.items():
        groups[fold(seed)].append(figures)
    return list(groups.values())


def probability_of_groups(counts: Sequence[int], sizes: Sequence[int]) -> float:
    """Return the probability that all runs of each group are equal, for groups of these sizes.

    `counts` holds the number of runs with each value, which are assigned to the runs at random.
    """
    kinds = Counter(sizes)
    ways = _ways(
        tuple(sorted(counts)), tuple(sorted(kinds)), tuple(kinds[k] for k in sorted(kinds))
    )
    orders = Fraction(factorial(sum(counts)), prod(map(factorial, counts)))
    return float(ways / orders)


@lru_cache(maxsize=4096)
def _ways(counts: tuple[int, ...], sizes: tuple[int, ...], left: tuple[int, ...]) -> int:
    """Count the ways to give each group one value so that every value has its number of runs.

    There are `left[i]` groups of size `sizes[i]`.
    """
    if not counts:
        return not any(left)
    choices = (
        range(min(number, counts[0] // size) + 1) for size, number in zip(sizes, left, strict=True)
    )
    return sum(
        prod(map(comb, left, chosen)) * _ways(counts[1:], sizes, tuple(map(sub, left, chosen)))
        for chosen in product(*choices)
        if sum(map(mul, sizes, chosen)) == counts[0]
    )
