"""Claims of the documentation that are tested by simulation (see `documented_claims.py`).

Rates are compared with what is stated plus, or minus, three standard errors of the simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.runs.key import CALLABLE, Key
from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.all_arms import compare_engines
from dlsys_bench.verdicts.change_points import change_points
from dlsys_bench.verdicts.common_shift import detected_shift
from dlsys_bench.verdicts.compare import compare
from dlsys_bench.verdicts.design import Design
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.sample_size import numbers_needed
from dlsys_bench.verdicts.session import judge_sessions
from dlsys_bench.verdicts.stratum import Stratum

Values = NDArray[np.float64]
Claim = tuple[str, str, bool]

GATES, SESSIONS, COMPARISONS, SERIES, FILES = 20_000, 400, 400, 200, 4_000
MARGIN = 0.005


def at_most(found: float, stated: float, count: int) -> Claim:
    """Return the claim that a rate is no more than stated."""
    allowed = stated + 3 * sqrt(stated * (1 - stated) / count)
    return f"at most {stated:g}", f"{found:.4g} of {count}", found <= allowed


def at_least(found: float, stated: float, count: int) -> Claim:
    """Return the claim that a rate is no less than stated."""
    allowed = stated - 3 * sqrt(stated * (1 - stated) / count)
    return f"at least {stated:g}", f"{found:.4g} of {count}", found >= allowed


@cache
def below(n: int, m: int) -> Values:
    """Return P(U <= u) for the number of pairs in which a new run exceeds a stored one.

    The largest run of all is new in a fraction m / (n + m) of the orders (Mann & Whitney 1947).
    """
    counts: dict[tuple[int, int], Values] = {}
    for a in range(n + 1):
        for b in range(m + 1):
            every = np.zeros(a * b + 1)
            if not a * b:
                every[:] = 1.0
            else:
                every[a:] += counts[a, b - 1] * b / (a + b)
                every[: (a - 1) * b + 1] += counts[a - 1, b] * a / (a + b)
            counts[a, b] = every
    return np.cumsum(counts[n, m])


def pairs(x: Values, y: Values) -> NDArray[np.int64]:
    """Count the pairs in which a new run exceeds a stored one, after each new run."""
    return np.asarray(np.cumsum((y[:, :, None] > x[:, None, :]).sum(axis=2), axis=1), np.int64)


def ends(design: Design, shift: float, drop: float) -> tuple[Values, Values]:
    """Return which gates fail, and the numbers of seeds: `shift` is ruled out, `drop` is true."""
    generator, n = np.random.default_rng(17), design.stored
    x = generator.standard_normal((GATES, n))
    scale = x.std(axis=1, ddof=1, keepdims=True)
    y = generator.standard_normal((GATES, design.seeds)) - drop * scale
    lower, shifted = pairs(x, y), pairs(x, y + shift * scale)
    failed, seeds = np.zeros(GATES, bool), np.zeros(GATES)
    for look in design.looks:
        null = below(n, look)
        passes = null[n * look - shifted[:, look - 1]] <= design.pass_levels.get(look, 0) + 1e-12
        fails = null[lower[:, look - 1]] <= design.fail_levels.get(look, 0) + 1e-12
        undecided = seeds == 0
        failed |= undecided & fails & ~passes
        seeds[undecided & (passes | fails)] = look
    seeds[seeds == 0] = design.seeds
    return failed, seeds


def power_of_gate() -> Claim:
    """Return how often a gate of 20 reference runs fails at its MDE."""
    design = Design.of(20, side="drop")
    return at_least(float(ends(design, 2.91, 2.91)[0].mean()), 0.99, GATES)


def seeds_of_healthy_gate() -> Claim:
    """Return the seeds of healthy gates."""
    seeds = ends(Design.of(20, side="drop"), 2.91, 0.0)[1]
    found = np.median(seeds), seeds.mean()
    text = f"{found[0]:g} ({found[1]:.2f})"
    return "2 (3.2)", text, found[0] == 2 and abs(found[1] - 3.2) < 0.1


def numbers_that_suffice() -> Claim:
    """Return the smallest power of the numbers that an error message states."""
    found, design = [], Design.of(20, side="drop")
    for numbers in numbers_needed(2.0, design):
        longer = Design.of(numbers.runs, max_seeds=numbers.seeds, side="drop")
        found.append(float(ends(longer, 2.0, 2.0)[0].mean()))
    return at_least(min(found), 0.99, GATES)


def power_of_session(strata: int, stored: int, new: int) -> Claim:
    """Return how often the shift that a session verdict states fails."""
    level, generator = 0.75 * 2.5e-4, np.random.default_rng(23)
    shift, null = detected_shift(((stored, new),) * strata, level, 0.01), np.ones(1)
    total = np.zeros(GATES, np.int64)
    assert shift is not None
    for _ in range(strata):
        x, y = (generator.standard_normal((GATES, size)) for size in (stored, new))
        total += pairs(x, y - shift)[:, -1]
        null = np.convolve(null, np.diff(below(stored, new), prepend=0.0))
    return at_least(float((np.cumsum(null)[total] <= level * (1 + 1e-9)).mean()), 0.99, GATES)


def rates_of_files(stored: int, above: float) -> Claim:
    """Return the fraction of reference files that exceed a rate, by a walk over the new runs."""
    design = Design.of(stored, side="drop")
    generator, rates = np.random.default_rng(29), []
    for _ in range(FILES):
        gaps = np.diff(np.sort(generator.random(stored)), prepend=0.0, append=1.0)
        open_, rate = np.ones(1), 0.0
        for run in range(1, design.seeds + 1):
            open_ = np.convolve(open_, gaps)
            fails = below(stored, run) <= design.fail_levels.get(run, -1) + 1e-12
            rate += float(open_[fails].sum())
            open_ = np.where(fails, 0.0, open_)
        rates.append(rate)
    return at_most(float(np.mean(np.array(rates) > above)), FILE_RATES[stored, above], FILES)


FILE_RATES = {(20, 1e-3): 0.10, (20, 1e-2): 0.01, (50, 1e-3): 0.16, (50, 1e-2): 0.003}
"""The fractions of files with so many runs that exceed a rate, as documented."""


def results(values: Sequence[float], first: int, name: str = "training") -> list[Result]:
    """Return runs of a training with these figures."""
    return [
        Result(
            Key(name, engine=CALLABLE, seed=first + n), "", {}, [], 0.0, figures={"accuracy": value}
        )
        for n, value in enumerate(values)
    ]


def skewed(generator: np.random.Generator) -> tuple[Values, Values]:
    """Draw 5 and 20 runs."""
    return -generator.gamma(2, 0.001, 5), -generator.gamma(2, 0.001, 20)


def normal(generator: np.random.Generator) -> tuple[Values, Values]:
    """Draw 10 and 10 runs."""
    return generator.normal(0, 0.003, 10), generator.normal(0, 0.003, 10)


def paired(generator: np.random.Generator) -> tuple[Values, Values]:
    """Draw 10 pairs of runs with a correlation of 0.9."""
    common, (a, b) = generator.normal(0, 0.009, 10), normal(generator)
    return common + a, common + b


DRAWS = {
    "5 and 20 skewed runs": skewed,
    "10 and 10 normal runs": normal,
    "10 pairs": paired,
}


def comparisons(draw: str, gap: float, verdict: str) -> Claim:
    """Return how often runs whose means differ by `gap` get a verdict that is wrong."""
    generator, found = np.random.default_rng(31), 0
    for _ in range(COMPARISONS):
        a, b = DRAWS[draw](generator)
        (one,) = compare(results(a.tolist(), 0), results((b + gap).tolist(), 0), margin=MARGIN)
        found += one.relation == verdict
    return at_most(found / COMPARISONS, 0.05, COMPARISONS)


def all_arms_of_a_comparison() -> Claim:
    """Compare equal engines over ten arms whose runs correlate at equal seeds."""
    generator, found = np.random.default_rng(37), 0
    for _ in range(COMPARISONS // 4):
        sides = []
        for _ in "ab":
            common = generator.standard_normal(10)
            arms = [(2 * common + generator.standard_normal(10)).tolist() for _ in range(10)]
            sides.append([r for n, arm in enumerate(arms) for r in results(arm, 0, f"arm {n}")])
        found += any(one.differs for one in compare_engines(sides[0], sides[1], 0.2))
    return at_most(found / (COMPARISONS // 4), 0.05, COMPARISONS // 4)


def trainings_of_a_session() -> Claim:
    """Judge ten healthy trainings whose figures at equal seeds have a correlation of 0.6."""
    generator, failed = np.random.default_rng(41), 0
    for _ in range(SESSIONS):
        common, strata = generator.standard_normal(22), []
        for n in range(10):
            runs = (sqrt(0.6) * common + sqrt(0.4) * generator.standard_normal(22)).tolist()
            judged = JudgedRuns.of(runs[:20], runs[20:], True, True)
            strata.append((Key(f"training {n}", engine=CALLABLE), Stratum.of(judged, range(22))))
        failed += any(one.outcome == "FAIL" for one in judge_sessions(strata, 1e-3, 0.01))
    return at_most(failed / SESSIONS, 2.5e-4, SESSIONS)


def series(step: float, after: int, most: int) -> float:
    """Return the fraction of series of 28 figures in which a change is found near a place."""
    generator, found = np.random.default_rng(43), 0
    for _ in range(SERIES):
        values = generator.standard_normal(28)
        values[after:] -= step
        found += bool(change_points(values.tolist(), 0.01))
    return found / most


SIMULATED: dict[str, Callable[[], Any]] = {
    "A gate of 20 reference runs finds 2.91 standard deviations": power_of_gate,
    "Seeds of a healthy gate with 20 reference runs, median (mean)": seeds_of_healthy_gate,
    "Reference runs and seeds that suffice, as an error states them": numbers_that_suffice,
    **{
        f"The common shift that a verdict over {k} strata states ({n} and {m} runs)": partial(
            power_of_session, k, n, m
        )
        for k, n, m in ((20, 20, 2), (4, 20, 2), (2, 20, 2), (1, 20, 5))
    },
    **{
        f"Files of {n} runs whose own rate exceeds {above:g}": partial(rates_of_files, n, above)
        for n, above in FILE_RATES
    },
    **{
        f"compare: DIFFERS of equal runs, {draw}": partial(comparisons, draw, 0.0, "DIFFERS")
        for draw in DRAWS
    },
    **{
        f"compare: SAME at the margin, {draw}": partial(comparisons, draw, MARGIN, "SAME")
        for draw in DRAWS
    },
    "compare: equal engines over ten arms DIFFER": all_arms_of_a_comparison,
    "Ten trainings with common seeds fail the verdict over all": trainings_of_a_session,
    "history: changes in series without any": lambda: at_most(series(0, 0, SERIES), 0.01, SERIES),
    "history: a step of three found eight commits later": lambda: at_least(
        series(3.0, 20, SERIES), 0.95, SERIES
    ),
}
