"""The examples that a check draws."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import strategies as st

from dlsys_bench.conformance.runner import engine_factory
from dlsys_bench.conformance.trial import LEAST, LEAST_NATIVE, Options, Trial


def draws() -> list[tuple[int, str]]:
    """Return what a trial draws with one seed."""
    drawn: list[tuple[int, str]] = []
    trial = Trial(engine_factory("numpy", "cpu"), Options(seed=3, examples=60))
    kinds = [f"kind {number}" for number in range(40)]
    trial.search(st.tuples(st.integers(0, 2**16), st.sampled_from(kinds)), drawn.append)
    return drawn


def test_a_seed_draws_the_same_whatever_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hypothesis draws constants of imported modules: a replay imports others than a session."""
    before = draws()
    assert len(before) >= 60
    (tmp_path / "module_with_constants.py").write_text(f"NUMBERS = {[*range(500, 900)]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("module_with_constants")
    assert draws() == before


def test_a_slow_engine_trains_natively_on_the_first_examples_alone() -> None:
    trial = Trial(engine_factory("numpy", "cpu"), Options(budget=0.0))
    found: list[bool] = []
    trial.search(st.integers(), lambda _: found.append(trial.has_time))
    assert found == [True] * LEAST_NATIVE + [False] * (LEAST - LEAST_NATIVE)


def test_an_engine_with_time_trains_natively_on_every_example() -> None:
    trial = Trial(engine_factory("numpy", "cpu"), Options(budget=600.0, examples=9))
    found: list[bool] = []
    trial.search(st.integers(), lambda _: found.append(trial.has_time))
    assert found == [True] * 9
