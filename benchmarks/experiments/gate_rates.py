"""Simulate single gates: how they end, after how many seeds, and what one reference file means.

    python benchmarks/experiments/gate_rates.py    # writes reports/gates/rates.{md,json}

Every gate has alpha 1e-3, beta 1e-2, at most 12 seeds, one side, and the default shift. There are
three tables:

- Fresh reference runs: each gate has reference runs and new runs of its own. Those of distributions
  without ties are simulated with arrays, and some of them are compared with `SequentialGate`; those
  with ties are judged by it.
- Fixed reference runs: the false-alarm rate is that of all files. The rate of one file is computed
  exactly for the test of a shift, which is the same for every continuous distribution. A PASS that
  comes before is left out, so that it is an upper bound. With fresh seeds, each of 500 sessions
  fails at the rate of its file; with fixed seeds all of them repeat the first.
- Looks: the minimum detectable effect of the gate and of a test with one look at all 12 seeds.

Every cell is stored as it ends, and a second start continues where the first ended. Of figures with
ties, which `SequentialGate` judges one by one, there are fewer: 5,000 healthy ones and 1,000 of
each change, where a cell does not state more.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from session_verdicts import CHANGES, DISTRIBUTIONS, drawn, stored_cells

from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.verdicts import outliers
from dlsys_bench.verdicts.budget import SPREAD_SHARE, TAIL_SHARE
from dlsys_bench.verdicts.decision import EXACT
from dlsys_bench.verdicts.design import Design
from dlsys_bench.verdicts.rank_tests import spread_probabilities, spread_scores, tail_p_value
from dlsys_bench.verdicts.ranks import untied
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.simulation import power_of_one_look

REPORTS = Path(__file__).parents[2] / "reports" / "gates"
STORED = (5, 10, 20, 50)
GATES, FILES, SESSIONS = 20_000, 20_000, 500
TIED, COMPARED = {"none": 5_000}, 50
FEWEST_TIED = 1_000
FIRST_GATE = 1_000_000
"""The first number of the seeds of gates, apart from those of sessions."""

CHANGES_OF_GATES = {**CHANGES, "drop of 3": lambda _, new, std: new - 3 * std}
OUTCOMES = ("PASS", "FAIL", "INCONCLUSIVE")
TESTS = ("shift", "tail", "spread")
FRESH = ("distribution", "reference runs", "change")

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


def typical_stds(x: Values) -> Values:
    """Return the standard deviation without outliers of each row, as `typical_std` does."""
    n, kept = x.shape[1], np.sort(x, axis=1)
    found: Values = kept.std(axis=1, ddof=1)
    for left in range(n, n - n // 4 if n >= outliers.FEWEST else n, -1):
        mean, std = kept.mean(axis=1, keepdims=True), kept.std(axis=1, ddof=1)
        low = (mean[:, 0] - kept[:, 0]) >= (kept[:, -1] - mean[:, 0])
        farthest = np.where(low, mean[:, 0] - kept[:, 0], kept[:, -1] - mean[:, 0])
        kept = np.where(low[:, None], kept[:, 1:], kept[:, :-1])
        significant = farthest / std > outliers._critical(left)
        found = np.where(significant, kept.std(axis=1, ddof=1), found)
    return found


class Ends(NamedTuple):
    """How gates end: the place of the outcome in OUTCOMES, the number of seeds, and for those that
    FAIL the place in TESTS of the first test that does, else -1."""

    outcome: Values
    seeds: Values
    test: Values


def decides(design: Design) -> bool:
    """Return True if some outcome fails and some outcome passes."""
    return bool(design.fail_levels and design.pass_levels)


def undecided(gates: int) -> Ends:
    """Return the ends of gates that are INCONCLUSIVE at once."""
    return Ends(np.full(gates, 2), np.ones(gates, int), np.full(gates, -1))


def ends(x: Values, y: Values, design: Design) -> Ends:
    """Return how each gate ends. One that could not FAIL or not PASS is INCONCLUSIVE at once."""
    gates, n = x.shape
    if not decides(design):
        return undecided(gates)
    shift = (design.smallest_shift * typical_stds(x))[:, None]
    lowest = x.min(axis=1, keepdims=True)
    pairs = np.cumsum((y[:, :, None] > x[:, None, :]).sum(axis=2), axis=1)
    shifted = np.cumsum((y[:, :, None] + shift[:, :, None] > x[:, None, :]).sum(axis=2), axis=1)
    collapsed = np.cumsum(y < lowest - shift * EXACT, axis=1) > 0
    outcome, seeds = np.full(gates, 2), np.full(gates, design.seeds)
    test, open_ = np.full(gates, -1), np.ones(gates, bool)

    def close(which: Flags, place: int, look: int, by: int = -1) -> None:
        ended = open_ & which
        outcome[ended], seeds[ended], test[ended] = place, look, by
        open_[which] = False

    for look in design.looks:
        p = untied(n, look)
        level = design.pass_levels.get(look, 0.0) * EXACT
        passed = (p[n * look - shifted[:, look - 1]] <= level) & ~collapsed[:, look - 1]
        fail_level = design.fail_levels.get(look, 0.0) * EXACT
        close(~passed & (p[pairs[:, look - 1]] <= fail_level), 1, look, 0)
        if look == design.seeds:
            for by, departed in enumerate(departs(x, y, design.alpha), start=1):
                close(departed, 1, look, by)
        close(passed, 0, look)
    return Ends(outcome, seeds, test)


def departs(x: Values, y: Values, alpha: float) -> tuple[Flags, Flags]:
    """Return where the tail, and where the spread of the new runs fails."""
    (_, n), m = x.shape, y.shape[1]
    of_tail = np.array([tail_p_value(n, m, beyond) for beyond in range(m + 1)])
    beyond = (y < x.min(axis=1, keepdims=True)).sum(axis=1)
    ranks = np.concatenate([x, y], axis=1).argsort(axis=1).argsort(axis=1)[:, n:]
    table = spread_scores(2 * np.arange(1, n + m + 1))
    lower = np.where(2 * np.arange(n + m) + 1 < n + m, table, 0)
    heavy = lower[ranks].sum(axis=1) >= m * lower.mean() - 1e-9
    probabilities = spread_probabilities(tuple(sorted(table.tolist())), m)
    of_spread = np.cumsum(probabilities[::-1])[::-1][table[ranks].sum(axis=1)]
    tail: Flags = of_tail[beyond] <= TAIL_SHARE * alpha * EXACT
    return tail, heavy & (of_spread <= SPREAD_SHARE * alpha * EXACT)


WORDS = (": a shift", "every reference run", "a larger spread")
"""The words by which the reason of a FAIL names each of TESTS."""


def ends_of_gates(x: Values, y: Values, design: Design) -> Ends:
    """Return what `ends` does, from the gates themselves."""
    if not decides(design):
        return undecided(len(x))
    found = []
    for stored, new in zip(x.tolist(), y.tolist(), strict=True):
        gate = SequentialGate(stored, alpha=design.alpha, side=design.side)
        decision = gate.run(partial(_value, new))
        failed = decision.outcome == "FAIL"
        test = (
            next(n for n, words in enumerate(WORDS) if words in decision.reason) if failed else -1
        )
        found.append((OUTCOMES.index(decision.outcome), len(decision.values), test))
    return Ends(*np.array(found).T)


def _value(new: list[float], seed: int) -> float:
    return new[seed - 10_000]


def fresh(name: str, stored: int, change: str) -> dict[str, Any]:
    """Return the fractions of the outcomes, and the seeds, of gates with fresh reference runs."""
    design, tied = Design.of(stored, side="drop"), name == "discrete"
    gates, found = TIED.get(change, FEWEST_TIED) if tied else GATES, []
    for done in range(0, gates, 1000):
        size = min(1000, gates - done)
        place = list(CHANGES_OF_GATES).index(change)
        seed = [FIRST_GATE + done, stored, place, list(DISTRIBUTIONS).index(name)]
        shape = (size, stored + design.seeds)
        x, y = drawn(name, change, shape, design.seeds, seed, CHANGES_OF_GATES)
        ended = ends_of_gates(x, y, design) if tied else ends(x, y, design)
        judged = np.arange(design.seeds) < ended.seeds[:, None]
        collapsed = ((y < -25 * DISTRIBUTIONS[name][1]) & judged).any(axis=1)
        found.append((*ended, collapsed))
        if not tied and not done:
            expected = ends_of_gates(x[:COMPARED], y[:COMPARED], design)
            for each, other in zip(ended, expected, strict=True):
                assert (each[:COMPARED] == other).all()
    outcome, seeds, test, collapsed = (np.concatenate(each) for each in zip(*found, strict=True))
    cell: dict[str, Any] = dict(zip(FRESH, (name, stored, change), strict=True))
    rates = {kind: float((outcome == place).mean()) for place, kind in enumerate(OUTCOMES)}
    rates |= {f"by {name}": float((test == place).mean()) for place, name in enumerate(TESTS)}
    over_collapse = float(((outcome == 0) & collapsed).mean())
    cell |= {"gates": gates} | rates | {"PASS over a collapse": over_collapse}
    return cell | {"seeds": float(seeds.mean())}


def rates_of_files(stored: int, files: int = FILES) -> Values:
    """Return the false-alarm rate of each of many files, by the test of a shift at every look.

    A new run lies between two reference runs with a probability that is the distance between two
    uniform order statistics. The number of pairs is followed from look to look.
    """
    design = Design.of(stored, side="drop")
    generator = np.random.default_rng([stored, FILES])
    edges = np.sort(generator.random((files, stored)), axis=1)
    masses = np.diff(edges, axis=1, prepend=0.0, append=1.0)
    state, failed = np.ones((files, 1)), np.zeros(files)
    for run in range(1, design.seeds + 1):
        longer = np.zeros((files, state.shape[1] + stored))
        for place in range(stored + 1):
            longer[:, place : place + state.shape[1]] += state * masses[:, place : place + 1]
        state = longer
        if level := design.fail_levels.get(run):
            fails = untied(stored, run) <= level * EXACT
            failed += state[:, fails].sum(axis=1)
            state[:, fails] = 0.0
    return failed


def fixed(stored: int) -> dict[str, Any]:
    """Return how the false-alarm rates of files are distributed."""
    alpha, rates = Design.of(stored).alpha, rates_of_files(stored)
    return {
        "reference runs": stored,
        "files": len(rates),
        "mean rate": float(rates.mean()),
        "above alpha": float((rates > alpha).mean()),
        "above 10 alpha": float((rates > 10 * alpha).mean()),
        "99% of files below": float(np.quantile(rates, 0.99)),
        f"a FAIL in {SESSIONS} sessions, fresh seeds": float((1 - (1 - rates) ** SESSIONS).mean()),
        "fixed seeds": float(rates.mean()),
    }


def looks(stored: int) -> dict[str, Any]:
    """Return the minimum detectable effect of a gate, and of a test with one look at its end."""
    design = Design.of(stored, side="drop")
    once = replace(design, looks=(design.seeds,))
    low, high = 0.5, 20.0
    while high - low > 0.005:
        middle = sqrt(low * high)
        enough = power_of_one_look(once, middle) >= 1 - design.beta
        low, high = (low, middle) if enough else (middle, high)
    least = design.smallest_shift
    both = replace(design, side="both").smallest_shift
    return {
        "reference runs": stored,
        "MDE": least,
        "MDE, one look at 12 seeds": high,
        "ratio": least / high,
        "MDE, both sides": both,
        "mean seeds, healthy": design.operating(least).mean_seeds,
    }


def table_of(title: str, cells: list[dict[str, Any]]) -> str:
    """Return a table in Markdown with a row per cell."""
    heads = tuple(
        name if isinstance(value, str) else f">{name}" for name, value in cells[0].items()
    )
    rows = [
        tuple(f"{v:.4g}" if isinstance(v, float) else str(v) for v in cell.values())
        for cell in cells
    ]
    return Table(title, heads, rows).markdown()


def cells() -> list[tuple[str, int, str]]:
    """Return the cells; of figures with ties, the changed ones have 20 reference runs."""
    changed = list(CHANGES_OF_GATES)[1:]
    untied = [name for name in DISTRIBUTIONS if name != "discrete"]
    return [
        *product(DISTRIBUTIONS, STORED, ("none",)),
        *product(untied, STORED, changed),
        *product(("discrete",), (20,), changed),
    ]


def main() -> None:
    """Simulate every cell that is not stored, and write the tables."""
    path = REPORTS / "rates.json"
    known, wanted = stored_cells(path, FRESH), cells()
    text: dict[str, Any] = {"provenance": provenance()}
    text |= {"fixed": [fixed(n) for n in STORED], "looks": [looks(n) for n in STORED]}
    for cell in wanted:
        if "by shift" not in known.get(cell, {}):
            known[cell] = fresh(*cell)
        text["cells"] = [known[each] for each in wanted if "by shift" in known.get(each, {})]
        path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    tables = [
        table_of(
            "Fresh reference runs: fractions of gates, and the mean number of seeds", text["cells"]
        ),
        table_of("Fixed reference runs: the false-alarm rate of one file, at most", text["fixed"]),
        table_of("Looks: minimum detectable effect, in standard deviations", text["looks"]),
    ]
    (REPORTS / "rates.md").write_text("\n".join(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
