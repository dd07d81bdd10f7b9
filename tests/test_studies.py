"""Every study beyond regularisation, run by an engine and held to its stored runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dlsys_bench.report.plots import PLOTS
from dlsys_bench.studies import STUDIES, Case, Study, find
from dlsys_bench.studies.base import MOST_NETWORKS

OTHERS = [name for name in STUDIES if not name.startswith("regularization/")]


@pytest.mark.gate
@pytest.mark.study
@pytest.mark.dlsys_study(*OTHERS)
def test_a_study_gives_what_its_stored_runs_gave(dlsys_case: Any, dlsys_gate: Callable[[Any], Any]) -> None:
    dlsys_gate(dlsys_case)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_study_is_whole(study: Study) -> None:
    assert study.title
    assert set(study.plots) <= set(PLOTS)
    for arm in study.arms:
        assert set(arm.recipes) == {"quick", "full"}
        assert all(0 < count <= MOST_NETWORKS for count in arm.networks.values())
        assert len({arm.protocol(tier) for tier in arm.recipes}) >= 1


@pytest.mark.parametrize("case", find("all"), ids=lambda case: case.name)
def test_no_two_arms_share_a_protocol_unless_they_train_alike(case: Case) -> None:
    """A band is made of the runs of one arm and protocol; arms of one study that cannot be told apart are one arm."""
    for other in case.study.arms:
        if other.name != case.arm.name and other.protocol("full") == case.arm.protocol("full"):
            assert (other.model, other.recipe("full"), other.options) == (
                case.arm.model,
                case.arm.recipe("full"),
                case.arm.options,
            )
            assert other.dataset != case.arm.dataset or case.study.name == "perceptron"
