"""The published numbers of parameters, as each framework counts them in the built networks."""

from __future__ import annotations

from typing import Any

import pytest

from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.zoo import MODELS
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.studies.registry import find, studies

COUNTS = [claim for claim in claims() if claim.get("metric", "").startswith("params_")]


def counted_by_torch(net: Any) -> dict[str, int]:
    trainable = sum(parameter.numel() for parameter in net.parameters())
    # torch's count of the batches is bookkeeping, not a statistic of the network.
    state = sum(
        buffer.numel()
        for name, buffer in net.named_buffers()
        if not name.endswith("num_batches_tracked")
    )
    return {
        "params_trainable": trainable,
        "params_non_trainable": state,
        "params_total": trainable + state,
    }


def counted_by_jax(net: Any) -> dict[str, int]:
    import jax

    trainable, state = (
        sum(leaf.size for leaf in jax.tree.leaves(part)) for part in (net.parameters, net.state)
    )
    return {
        "params_trainable": trainable,
        "params_non_trainable": state,
        "params_total": trainable + state,
    }


def counted_by_keras(net: Any) -> dict[str, int]:
    trainable = sum(
        int(variable.value.shape.num_elements()) for variable in net.network.trainable_variables
    )
    total = net.network.count_params()
    return {
        "params_trainable": trainable,
        "params_non_trainable": total - trainable,
        "params_total": total,
    }


@pytest.mark.parametrize(
    ("name", "count"),
    [("torch", counted_by_torch), ("jax", counted_by_jax), ("keras", counted_by_keras)],
)
def test_the_built_networks_have_the_published_counts(name: str, count: Any) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine, counted = create(name), {}
    assert len(COUNTS) == 48
    for claim in COUNTS:
        key = f"{claim['study'].removeprefix('regularization/')}/{claim['arm']}"
        if key not in counted:
            model = to_convention(engine.convention, MODELS[key])
            counted[key] = count(engine.build(model, Plan(1).weights(model)))
        assert counted[key][claim["metric"]] == claim["value"], claim["id"]


@pytest.mark.parametrize("case", find("regularization"), ids=lambda case: case.name)
def test_every_arm_has_reference_runs_on_its_dataset_and_on_digits(case: Any) -> None:
    from dlsys_bench.runs.store import find_reference, reference_runs

    for dataset in ("digits", studies()[case.study.name].dataset):
        path = find_reference(case.study.name, dataset, "quick")
        assert len(reference_runs(path, case.arm.name, case.arm.protocol("quick"))) >= 12, dataset
