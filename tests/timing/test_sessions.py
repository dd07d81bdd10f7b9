"""The ratio of repeated sessions: its coverage, its verdicts, and its limits."""

from __future__ import annotations

import json
import math
from math import inf
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke
from scipy.stats import ttest_ind

from dlsys_bench.errors import UserError
from dlsys_bench.timing.comparison import Rules, compare_benchmarks
from dlsys_bench.timing.ratio import Ratio, Speed
from dlsys_bench.timing.sessions import session_ratio


def sessions(
    generator: np.random.Generator, count: int, rounds: int, spread: float, correlation: float = 0.0
) -> list[list[float]]:
    """Return sessions of rounds of about one second, whose noise may be autocorrelated."""
    noise = generator.normal(0, 0.05, (count, rounds))
    for number in range(1, rounds):
        rest = math.sqrt(1 - correlation**2)
        noise[:, number] = correlation * noise[:, number - 1] + rest * noise[:, number]
    between = generator.normal(0, spread, (count, 1)) if spread else 0.0
    found: list[list[float]] = np.exp(noise + between).tolist()
    return found


@pytest.mark.parametrize(
    ("count", "rounds", "spread", "correlation", "least"),
    [
        (1, 5, 0.0, 0.0, 0.95),
        (1, 30, 0.0, 0.0, 0.95),
        (1, 30, 0.0, 0.5, 0.91),
        (1, 120, 0.0, 0.9, 0.91),
        (1, 7, 0.02, 0.0, 0.95),
        (2, 7, 0.1, 0.0, 0.95),
        (5, 7, 0.02, 0.5, 0.95),
    ],
)
def test_the_coverage_of_the_interval(
    count: int, rounds: int, spread: float, correlation: float, least: float
) -> None:
    generator, trials = np.random.default_rng(rounds), 250
    found = []
    for _ in range(trials):
        a, b = (sessions(generator, count, rounds, spread, correlation) for _ in range(2))
        found.append(session_ratio(a, b, spread))
    missed = sum(not ratio.low <= 1 <= ratio.high for ratio in found)
    assert missed < trials * (1 - least) + 4.6 * math.sqrt(trials * least * (1 - least))


def test_single_sessions_have_the_assumed_spread() -> None:
    a, b = [[1.0] * 30], [[1.05] * 30]
    narrow, wide = session_ratio(a, b, 0.0), session_ratio(a, b, 0.05)
    assert (narrow.low, narrow.high) == pytest.approx((1 / 1.05, 1 / 1.05))
    assert math.log(wide.high / wide.median) == pytest.approx(1.96 * math.sqrt(2) * 0.05, rel=1e-3)


def test_the_interval_of_repeated_sessions_is_that_of_student() -> None:
    logarithms = [0.0, 0.1, 0.05, 0.2], [0.3, 0.1, 0.2]
    a, b = ([[math.exp(one)] * 5 for one in side] for side in logarithms)
    expected = ttest_ind(*logarithms).confidence_interval()
    found = session_ratio(a, b, 0.02)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx(tuple(expected))


def test_correlated_rounds_carry_less_information() -> None:
    rounds = [1.0, 1.2] * 6
    mixed, in_order = (session_ratio([side], [side], 0.0) for side in (rounds, sorted(rounds)))
    assert math.log(in_order.high) > 2 * math.log(mixed.high)


def test_repeated_sessions_do_not_use_the_assumption() -> None:
    a, b = [[1.0] * 5, [1.1] * 5], [[1.0] * 5]
    assert session_ratio(a, b, 0.0) == session_ratio(a, b, 0.5)
    # One degree of freedom is not enough to decide on a difference of 10%.
    assert session_ratio(a, b, 0.0).high > 2


def test_one_round_says_nothing() -> None:
    found = session_ratio([[1.0]], [[2.0]], 0.02)
    assert (found.low, found.median, found.high) == (0.0, 0.5, inf)
    assert found.within(0.1) is Speed.AMBIGUOUS


def test_drift_of_the_machine_widens_the_interval() -> None:
    a, b = [[1.2] * 12], [[1.0] * 12]
    for drift in (1.3, 1 / 1.3):
        found = session_ratio(a, b, 0.0, drift)
        assert (found.low, found.high) == pytest.approx((1.2 / 1.3, 1.2 * 1.3))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.99, 1.01, Speed.SAME),
        (0.92, 1.09, Speed.SAME),
        (0.90, 1.01, Speed.AMBIGUOUS),
        (0.99, 1.11, Speed.AMBIGUOUS),
        (1.02, 1.2, Speed.AMBIGUOUS),
        (1.11, 1.2, Speed.FASTER),
        (0.5, 0.9, Speed.SLOWER),
        (0.85, 0.95, Speed.AMBIGUOUS),
        (0.985, 0.995, Speed.SAME),
        (0.0, inf, Speed.AMBIGUOUS),
    ],
)
def test_a_verdict_is_relative_to_the_margin(low: float, high: float, verdict: Speed) -> None:
    assert Ratio(low, (low + min(high, 9)) / 2, high, 9).within(0.1) is verdict


def written(folder: Path, sides: dict[str, list[list[float]]]) -> list[str]:
    """Write the sessions of each side: a file for one session, a folder for several."""
    for name, found in sides.items():
        paths = [folder / name]
        if len(found) > 1:
            (folder / name).mkdir()
            paths = [folder / name / f"{number}.json" for number in range(len(found))]
        for path, rounds in zip(paths, found, strict=True):
            path.write_text(
                json.dumps({"benchmarks": [{"fullname": "t", "stats": {"data": rounds}}]})
            )
    return [str(folder / name) for name in sides]


TENFOLD = [[1.0, 1.1, 0.9, 1.02, 0.97]], [[10.0, 11.0, 9.0, 10.2, 9.7]]
ONE_PERCENT = [[1.0, 1.001] * 500], [[1.01, 1.011] * 500]


@pytest.mark.parametrize(
    ("a", "b", "verdict", "code"),
    [
        (*TENFOLD, "SLOWER", 1),
        (*TENFOLD[::-1], "FASTER", 0),
        (*ONE_PERCENT, "SAME", 0),
        (TENFOLD[0], TENFOLD[0], "AMBIGUOUS", 3),
        ([[1.0] * 5, [1.02] * 5, [0.99] * 5], [[1.0] * 5, [1.01] * 5, [0.98] * 5], "SAME", 0),
        ([[1.0] * 5, [1.3] * 5, [1.1] * 5], [[1.0] * 5, [1.2] * 5, [1.4] * 5], "AMBIGUOUS", 3),
    ],
)
def test_the_verdict_and_the_exit_code(
    a: list[list[float]], b: list[list[float]], verdict: str, code: int, tmp_path: Path
) -> None:
    paths = written(tmp_path, {"a": a, "b": b})
    done = invoke("bench", "compare", *paths, "--json", code=code)
    (change,) = json.loads(done.stdout)["changes"]
    assert change["speed"] == verdict
    assert (change["a_sessions"], change["b_sessions"]) == (len(a), len(b))
    assert ("assumed: sessions" in invoke("bench", "compare", *paths, code=code).stderr) == (
        len(a) == len(b) == 1
    )


def test_the_margin_and_the_assumption_are_options(tmp_path: Path) -> None:
    paths = written(tmp_path, {"a": ONE_PERCENT[0], "b": ONE_PERCENT[1]})
    strict = ["--margin", "0.005", "--session-spread", "0"]
    invoke("bench", "compare", *paths, *strict, code=1)
    invoke("bench", "compare", *paths, *strict[:2], code=3)


def test_a_folder_without_sessions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no files NAME.json"):
        compare_benchmarks(tmp_path, tmp_path)


def test_a_benchmark_has_to_be_in_every_session(tmp_path: Path) -> None:
    paths = written(tmp_path, {"a": [[1.0] * 5] * 2, "b": [[1.0] * 5]})
    more = {"fullname": "u", "stats": {"data": [1.0] * 5}}
    for path in (tmp_path / "a" / "0.json", tmp_path / "b"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({"benchmarks": [*content["benchmarks"], more]}))
    changes, left_out = compare_benchmarks(*map(Path, paths), rules=Rules(margin=0.2))
    assert [change.name for change in changes] == ["t"]
    assert left_out == ["u"]
