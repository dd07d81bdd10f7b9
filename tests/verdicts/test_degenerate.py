"""Degenerate figures and terms at their limits end in a verdict or in one line."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

import numpy as np
import pytest

from dlsys_bench.errors import StoreWarning, UserError
from dlsys_bench.report.tables import power_table
from dlsys_bench.runs.callables import Train, stored_figures, train_once
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import append, read
from dlsys_bench.timing.sessions import session_ratio
from dlsys_bench.verdicts.compare import compare
from dlsys_bench.verdicts.comparison import Relation
from dlsys_bench.verdicts.design import Design
from dlsys_bench.verdicts.evidence import accumulate
from dlsys_bench.verdicts.evidence_session import EvidenceSession
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.power import power_of_training
from dlsys_bench.verdicts.ranks import doubled_ranks
from dlsys_bench.verdicts.sample_size import describe_enough
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.terms import Terms

FIGURES = np.random.default_rng(1).normal(0.9, 0.01, 20).tolist()


def runs(train: Train) -> list[Result]:
    return [train_once(train, seed, "m:t") for seed in range(20)]


def test_equal_reference_runs_have_a_power_for_a_named_shift_only() -> None:
    stored = stored_figures([0.9] * 20)
    named, derived = (
        power_of_training("m:t", stored, None, Terms(smallest_shift=shift), "the.jsonl")
        for shift in (0.01, None)
    )
    assert named.healthy is not None
    assert named.healthy.median_seeds == 2
    assert derived.healthy is None
    assert power_table([derived]).rows[0][-1] == "no power: equal reference runs"


@pytest.mark.parametrize("shift", [1e-9, 0.0])
def test_no_number_of_runs_is_too_large_to_state(shift: float) -> None:
    assert "as many seeds" in describe_enough(shift, Design.of(20))


@pytest.mark.parametrize("side", ["both", "drop"])
def test_a_beta_that_asks_for_no_power_is_named(side: str) -> None:
    gate = SequentialGate(FIGURES, beta=0.9999, side=side, alpha=0.2)
    assert gate.design.smallest_shift == 0.0
    assert "a beta of 0.9999 asks for no power" in str(gate.obstacle)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        ([0.0, 5e-324, 1e-310], [4, 4, 4]),
        ([-inf, 1e300, 0.5, 0.9, 1.0, inf], [2, 11, 4, 6, 8, 11]),
        ([1e150, -1e150, 0.0], [6, 2, 4]),
    ],
)
def test_ranks_of_extreme_values(values: list[float], ranks: list[int]) -> None:
    assert doubled_ranks(np.array(values)).tolist() == ranks


@pytest.mark.filterwarnings("error")
def test_figures_whose_square_is_no_float_have_diverged(tmp_path: Path) -> None:
    assert train_once(lambda seed: -1e151, 0, "m:t").reason == "metric became -1e+151"
    large = train_once(lambda seed: 1e149, 0, "m:t")
    append(tmp_path / "runs.jsonl", large)
    line = json.loads((tmp_path / "runs.jsonl").read_text())
    (tmp_path / "edited.jsonl").write_text(json.dumps(line | {"figures": {"metric": 1e200}}))
    with pytest.warns(StoreWarning, match=r"metric is 1e\+200; expected a finite number from"):
        assert not read(tmp_path / "edited.jsonl")
    a, b = runs(lambda seed: 1e149 * (1 + seed % 7)), runs(lambda seed: -1e149 * (1 + seed % 5))
    assert compare(a, b)[0].relation is Relation.DIFFERS


@pytest.mark.parametrize("commit", ["x" * 1001, "a\nb"])
def test_evidence_that_could_not_be_read_is_not_written(tmp_path: Path, commit: str) -> None:
    path = tmp_path / "evidence.jsonl"
    with pytest.raises(UserError, match="--commit is"):
        EvidenceSession(path, commit=commit).check()
    arm = JudgedRuns.of(FIGURES, [0.9], True)
    accumulate(path, "first", [(Key("study", "arm"), "accuracy", [7], arm)])
    before = path.read_text()
    with pytest.raises(UserError, match="is unchanged"):
        accumulate(path, commit, [(Key("study", "arm"), "accuracy", [8], arm)])
    assert path.read_text() == before


def test_seeds_that_no_store_holds_are_refused_before_training() -> None:
    with pytest.raises(UserError, match=f"the first seed is {2**63}; expected at most"):
        Terms(first_seed=2**63)


def test_any_spread_between_sessions_gives_an_interval() -> None:
    ratio = session_ratio([[0.01, 0.011]], [[0.01, 0.011]], 1e300)
    assert ratio.low == 0.0
    assert ratio.high > 1e300
