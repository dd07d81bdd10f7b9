"""Test what the documentation states about error rates, by enumeration and by other simulations.

    python benchmarks/experiments/documented_claims.py    # writes reports/gates/documented.md

Each claim is compared with a value that no function of `dlsys_bench.verdicts` computes: p-values
are those of all choices of the new runs, or of scipy, and the critical values those of simulated
healthy runs. Small gates have large alphas, so that all of their orders can be enumerated. The
exact claims are in this file, the simulated ones in `documented_rates.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations, product
from math import comb, inf, nan
from pathlib import Path
from typing import NamedTuple

import numpy as np
from documented_rates import SIMULATED

from dlsys_bench.report.table import Table
from dlsys_bench.runs.key import Key
from dlsys_bench.verdicts.betting import EITHER, WORSE, capital, ranks_of
from dlsys_bench.verdicts.decision import Decision
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.rank_tests import beyond_all, spread_p_value, tail_p_value
from dlsys_bench.verdicts.ranks import doubled_ranks, p_values
from dlsys_bench.verdicts.repeats import probability_of_groups
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.session import judge_session, judge_sessions
from dlsys_bench.verdicts.stratum import Stratum
from dlsys_bench.verdicts.verdict import Outcome

REPORT = Path(__file__).parents[2] / "reports" / "gates" / "documented.md"
ROUNDING = 1e-12
STORED, NEW, RATE = 6, 3, 0.25
"""The runs of the gates that are enumerated, and their alpha and beta."""

FIGURES = {
    "distinct": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0],
    "tied": [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 7.0],
    "diverged": [1.0, 2.0, 4.0, 8.0, 16.0, -inf, -inf, 32.0, 64.0],
    "unknown": [1.0, 2.0, 4.0, 8.0, 16.0, nan, nan, 32.0, 64.0],
}
SIDES = ("both", "drop", "rise")


class Found(NamedTuple):
    """What a claim states, what was found, and if the claim holds."""

    stated: str
    found: str
    holds: bool


def at_most(rate: float) -> Found:
    """Return the claim that a rate is at most RATE."""
    return Found(f"at most {RATE:g}", f"{rate:.4g}", rate <= RATE + ROUNDING)


def orders(values: Sequence[float]) -> Iterator[tuple[list[float], list[float]]]:
    """Yield the reference runs and the new runs of all equally likely orders of some figures."""
    for places in permutations(range(len(values)), NEW):
        stored = [value for place, value in enumerate(values) if place not in places]
        yield stored, [values[place] for place in places]


def decided(stored: list[float], new: list[float], side: str, shift: float) -> Decision:
    """Return the decision of a gate."""
    gate = SequentialGate(stored, shift, RATE, RATE, NEW, side)
    found = (gate.decide(new[:look]) for look in gate.design.looks)
    return next(decision for decision in found if decision is not None)


def rate_of(outcome: Outcome, shifted: float, shift: float) -> float:
    """Return the largest rate of an outcome over figures and sides, if new runs are shifted."""
    rates = []
    for name, side in product(FIGURES, SIDES):
        away = shifted if side == "rise" else -shifted
        ends = [
            decided(stored, [value + away for value in new], side, shift).outcome
            for stored, new in orders(FIGURES[name])
        ]
        rates.append(ends.count(outcome) / len(ends))
    return max(rates)


def p_values_of_gates() -> Found:
    """Compare p-values with all choices of the new runs."""
    worst = 0.0
    for values in (FIGURES["tied"], FIGURES["diverged"], FIGURES["distinct"]):
        ranks = [sum(v > w for w in values) + sum(v == w for w in values) / 2 for v in values]
        sums = np.array([sum(each) for each in combinations(ranks, NEW)])
        for chosen in combinations(range(len(values)), NEW):
            new = [values[n] for n in chosen]
            stored = [value for n, value in enumerate(values) if n not in chosen]
            here = sum(ranks[n] for n in chosen)
            expected = (sums <= here + 1e-9).mean(), (sums >= here - 1e-9).mean()
            worst = max(worst, float(np.abs(np.subtract(p_values(stored, new), expected)).max()))
    return Found("equal to all choices", f"differ by {worst:.1g}", worst < ROUNDING)


def warnings() -> Found:
    """Count the warnings of healthy gates with one side."""
    rates = [
        np.mean([decided(*each, side, 3.0).warning is not None for each in orders(FIGURES[name])])
        for name, side in product(FIGURES, SIDES[1:])
    ]
    return at_most(float(max(rates)))


def collapses() -> Found:
    """Count PASS over a run beyond the worst reference run by more than the smallest shift."""
    passed = 0
    for name, shift in product(("distinct", "tied", "diverged"), (0.5, 3.0, 40.0)):
        for stored, new in orders(FIGURES[name]):
            found = decided(stored, new, "drop", shift)
            passed += found.outcome == "PASS" and min(found.values) < min(stored) - shift
    return Found("none", str(passed), passed == 0)


def mirrored() -> Found:
    """Compare gates on a drop with those on a rise of the figures with the other sign."""
    differ = 0
    for name in FIGURES:
        for stored, new in orders(FIGURES[name]):
            other = [-value for value in stored], [-value for value in new]
            one, two = decided(stored, new, "drop", 3.0), decided(*other, "rise", 3.0)
            differ += (one.outcome, one.p_value) != (two.outcome, two.p_value)
    return Found("as many as with the other sign", f"{differ} differ", differ == 0)


def divergence() -> Found:
    """Replace a new run by one that diverged: FAIL has to stay, and PASS may not come."""
    worse = 0
    for stored, new in orders(FIGURES["distinct"]):
        before = decided(stored, new, "drop", 3.0)
        if len(before.values) < NEW:
            continue
        after = decided(stored, [*new[:-1], -inf], "drop", 3.0)
        worse += after.outcome == "PASS" or (before.outcome == "FAIL" != after.outcome)
    return Found("none becomes better", str(worse), worse == 0)


def tail_rates() -> Found:
    """Compare the probabilities of the tail test with all choices."""
    values, worst, counts = np.array(FIGURES["distinct"]), 0.0, list[int]()
    for chosen in combinations(range(9), NEW):
        stored = np.delete(values, chosen)
        order = doubled_ranks(np.array([*stored, *values[list(chosen)]]))
        beyond = int((values[list(chosen)] < stored.min()).sum())
        worst = max(worst, abs(beyond - beyond_all(order, STORED, -1)))
        counts.append(beyond)
    for k in range(NEW + 1):
        share, stated = float(np.mean(np.array(counts) >= k)), comb(NEW, k) / comb(9, k)
        worst = max(worst, abs(share - stated), abs(share - tail_p_value(STORED, NEW, k)))
    return Found("C(m, k) / C(n + m, k)", f"differ by {worst:.1g}", worst < ROUNDING)


def excess(p: Sequence[float]) -> float:
    """Return the largest amount by which p-values are within a level more often than it states."""
    found = np.sort(np.asarray(p))
    return float((np.arange(1, len(found) + 1) / len(found) - found).max())


def spread_rates() -> Found:
    """Compare the level of the spread test with all choices."""
    worst = 0.0
    for name, sides in product(("distinct", "tied"), ((-1,), (-1, 1))):
        ranks = [doubled_ranks(np.array([*x, *y])) for x, y in orders(FIGURES[name])]
        worst = max(worst, excess([spread_p_value(each, STORED, sides) for each in ranks]))
    return Found("within its level", f"exceeded by {worst:.1g}", worst < ROUNDING)


ARMS = ([1.0, 2.0, 2.0, 3.0, 3.0], [1.0, 2.0, 4.0, 8.0, 16.0, 32.0], [5.0, 1.0, 1.0, 1.0])
NEW_RUNS = (2, 2, 1)


def session_rates() -> Found:
    """Judge all choices of the new runs in three independent arms, with ties."""
    choices = [combinations(range(len(a)), m) for a, m in zip(ARMS, NEW_RUNS, strict=True)]
    every, worst = list(product(*choices)), -inf
    for one_sided in (True, False):
        verdicts = []
        for chosen in every:
            strata = [
                Stratum.of(
                    JudgedRuns.of(
                        [v for n, v in enumerate(arm) if n not in new],
                        [arm[n] for n in new],
                        True,
                        one_sided,
                    )
                )
                for arm, new in zip(ARMS, chosen, strict=True)
            ]
            verdicts.append(judge_session(strata, RATE, RATE))
        for name in ("p_value", "tail_p_value", "spread_p_value"):
            worst = max(worst, excess([getattr(each, name) for each in verdicts]))
        failed = [one.outcome == "FAIL" for one in verdicts]
        worst = max(worst, float(np.mean(failed)) - RATE)
    return Found("within their levels", f"exceeded by {max(worst, 0):.1g}", worst < ROUNDING)


def shared_seeds() -> Found:
    """Judge all choices of the new seeds of arms that depend on each other by their seeds."""
    generator, rates = np.random.default_rng(3), []
    for _ in range(20):
        common = generator.standard_normal(8)
        arms = [common, common + generator.standard_normal(8), -(common**2), np.rint(common)]
        failed = []
        for new in combinations(range(8), 3):
            order = [*(n for n in range(8) if n not in new), *new]
            strata = []
            for n, arm in enumerate(arms):
                runs = arm[order].tolist()
                judged = JudgedRuns.of(runs[:5], runs[5:], True, True)
                key = Key(f"study {n}", "arm", "digits", "quick", "numpy")
                strata.append((key, Stratum.of(judged, order)))
            (verdict,) = judge_sessions(strata, 4 * RATE, RATE)
            failed.append(verdict.outcome == "FAIL")
        rates.append(np.mean(failed))
    return at_most(float(np.mean(rates)))


def fair_bets() -> Found:
    """Bet on all orders of five runs after three: no capital grows on average, and none reaches c
    more often than in 1 of c."""
    worst = -inf
    for alternatives in (WORSE, EITHER):
        logs = np.array(
            [
                capital(np.array(ranks), 3, alternatives).logs
                for ranks in product(*(range(1, n + 1) for n in range(4, 9)))
            ]
        )
        worst = max(worst, float(np.abs(np.exp(logs).mean(axis=0) - 1).max()))
        highest = np.exp(logs.max(axis=1))
        worst = max(worst, *((highest >= c).mean() - 1 / c for c in (1.2, 1.5, 2.0, 3.0, 5.0)))
    return Found("fair", f"exceeded by {worst:.1g}", worst < 1e-9)


def ties_of_bets() -> Found:
    """Rank an equal figure with all random numbers: every rank is as likely."""
    draws = (np.arange(600) + 0.5) / 600
    ranks = [int(ranks_of([1.0, 2.0, 2.0, 3.0], [2.0], [draw])[0]) for draw in draws]
    counts = [ranks.count(rank) for rank in (2, 3, 4)]
    return Found("equally likely", str(counts), counts == [200, 200, 200])


def equal_groups() -> Found:
    """Compare the probability of equal figures at folded seeds with all assignments."""
    counts, groups = (4, 2, 2), ((0, 1), (2, 3), (4, 5), (6, 7))
    values = [value for value, count in enumerate(counts) for _ in range(count)]
    every = set(permutations(values))
    share = np.mean([all(len({v[n] for n in group}) == 1 for group in groups) for v in every])
    found = probability_of_groups(counts, [len(group) for group in groups])
    return Found(f"{share:.6g}", f"{found:.6g}", bool(abs(share - found) < ROUNDING))


EXACT: dict[str, Callable[[], Found]] = {
    "The p-value of a shift is exact, with ties and diverged runs": p_values_of_gates,
    "A healthy gate fails with at most alpha, over all looks and tests": lambda: at_most(
        rate_of(Outcome.FAIL, 0.0, 1e-6)
    ),
    "A gate passes runs that lost the smallest shift with at most beta": lambda: at_most(
        rate_of(Outcome.PASS, 3.0, 3.0)
    ),
    "Healthy runs have a warning of a shift to the better with at most beta": warnings,
    "No PASS over a run beyond the worst reference run by more than the shift": collapses,
    "A rise of a loss fails as a drop of an accuracy does": mirrored,
    "A run that diverges counts as the worst": divergence,
    "The tail test has its stated probabilities": tail_rates,
    "The spread test keeps to its level, with ties": spread_rates,
    "The tests over all arms keep to their levels, with ties": session_rates,
    "So they do over arms that depend on each other by their seeds": shared_seeds,
    "The evidence of many sessions is a fair bet": fair_bets,
    "Ties are broken at random for the evidence": ties_of_bets,
    "Seeds without effect are found by an exact test": equal_groups,
}


def main() -> None:
    """Test every claim, and write the table. Exit with 1 if one does not hold."""
    rows, wrong = [], 0
    for claim, test in {**EXACT, **SIMULATED}.items():
        found = Found(*test())
        wrong += not found.holds
        rows.append((claim, found.stated, found.found, "yes" if found.holds else "NO"))
        print(" | ".join(rows[-1]), flush=True)
    heads = ("claim", "stated", "found", "holds")
    title = f"{len(rows)} claims of the documentation, tested by other means"
    REPORT.write_text(Table(title, heads, rows).markdown(), encoding="utf-8")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
