"""Every study beyond regularisation, run by an engine and held to its stored runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dlsys_bench.report.plots.table import plots
from dlsys_bench.runs.store import find_reference, reference_runs
from dlsys_bench.studies.base import MOST_NETWORKS, Case, Study
from dlsys_bench.studies.registry import find, studies
from dlsys_bench.verdicts.bands import FEWEST_RUNS

OTHERS = [name for name in studies() if not name.startswith("regularization/")]


@pytest.mark.study
@pytest.mark.dlsys_study(*OTHERS)
def test_a_study_gives_what_its_stored_runs_gave(
    dlsys_case: Any, dlsys_gate: Callable[[Any], Any]
) -> None:
    dlsys_gate(dlsys_case)


@pytest.mark.parametrize("study", studies().values(), ids=studies())
def test_a_study_is_whole(study: Study) -> None:
    assert study.title
    assert set(study.plots) <= set(plots())
    for arm in study.arms:
        assert set(arm.recipes) == {"quick", "full"}
        assert all(0 < count <= MOST_NETWORKS for count in arm.networks.values())
        # Where only the grid differs by tier, the tier alone tells the runs apart: a file holds
        # those of one.
        alike = arm.recipe("quick") == arm.recipe("full") and arm.networks.get(
            "quick"
        ) == arm.networks.get("full")
        assert (arm.protocol("quick") == arm.protocol("full")) == alike


@pytest.mark.parametrize("case", find("all"), ids=lambda case: case.name)
def test_no_two_arms_share_a_protocol_unless_they_train_alike(case: Case) -> None:
    """A band is made of the runs of one arm and protocol; arms of one study that cannot be told
    apart are one arm."""
    for other in case.study.arms:
        if other.name != case.arm.name and other.protocol("full") == case.arm.protocol("full"):
            assert (other.model, other.recipe("full"), other.options) == (
                case.arm.model,
                case.arm.recipe("full"),
                case.arm.options,
            )
            assert other.dataset != case.arm.dataset or case.study.name == "perceptron"


IMAGES = {"mnist", "fashion_mnist"}


@pytest.mark.parametrize("case", find("all"), ids=lambda case: case.name)
def test_an_arm_that_is_judged_has_the_runs_to_judge_it_by(case: Case) -> None:
    """Without them its gate is inconclusive, and pytest skips it: nobody would see that it is not
    judged."""
    for dataset in [case.dataset, *(["digits"] if case.dataset in IMAGES else [])]:
        if case.arm.bound is None and case.arm.reason_unjudged(dataset, "quick") is None:
            if (
                case.study.name == "batch-size-sweep"
                and dataset == "digits"
                and int(case.arm.name) > 1437
            ):
                continue
            path = find_reference(case.study.name, dataset, "quick")
            known = reference_runs(path, case.arm.name, case.arm.protocol("quick"))
            assert (
                len([run for run in known if run.metric(case.study.metric.name) is not None])
                >= FEWEST_RUNS
            ), path
