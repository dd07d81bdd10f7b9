"""A batch norm that only an average pool separates from the next one gets no gradient on beta."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlsys_bench.data import load
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.runs.run import run
from dlsys_bench.spec.layers import BatchNorm
from dlsys_bench.studies.registry import find

(CASE,) = find("batchnorm-parameters")


@pytest.mark.parametrize(
    "name",
    [
        "numpy",
        pytest.param("torch", marks=pytest.mark.slow),
        pytest.param("keras", marks=pytest.mark.slow),
    ],
)
def test_the_first_batch_norm_keeps_its_initial_values(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    figures = run(CASE, create(name), load("digits"), seed=4).figures
    assert figures["max_abs_beta_first_hidden_bn"] < 1e-6
    assert figures["max_change_of_gamma"] < 1e-3
    assert figures["max_change_of_gamma_after_pool"] > 10 * figures["max_change_of_gamma"]
    assert figures["max_abs_beta_after_pool"] > 1e-4


def test_without_the_second_batch_norm_the_first_learns() -> None:
    """The counterexample: the first batch norm learns if no other one cancels it."""
    layers = list(CASE.arm.model.layers)
    norms = [place for place, layer in enumerate(layers) if isinstance(layer, BatchNorm)]
    del layers[norms[1]]
    case = CASE._replace(arm=replace(CASE.arm, model=replace(CASE.arm.model, layers=tuple(layers))))
    assert (
        run(case, create("numpy"), load("digits"), seed=4).figures["max_abs_beta_first_hidden_bn"]
        > 1e-3
    )
