"""Transformers: the parameters of GPT-2, their blocks, and delayed generalisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.registry import create
from dlsys_bench.runs.metrics import Figures
from dlsys_bench.runs.run import run
from dlsys_bench.spec.layers import LayerNorm, MultiHeadAttention
from dlsys_bench.studies.base import Case
from dlsys_bench.workloads import delay
from dlsys_bench.workloads.studies import STUDIES
from dlsys_bench.workloads.tasks import copying, small_modular_addition
from dlsys_bench.workloads.transformer import gpt2

ADDITION = STUDIES["transformer/addition"]
SEQUENCES = STUDIES["transformer/sequences"]


def test_gpt_2_has_the_published_number_of_parameters() -> None:
    model = gpt2()
    *_, head = model.tensors
    assert (head.name, head.shape) == ("dense_25.kernel", (768, 50_257))
    assert model.counts.total == 163_037_184
    # With the embeddings as the last kernel, as in GPT-2. Radford et al. 2019 print 117 million,
    # which their repository corrects to 124.
    assert model.counts.total - head.size == 124_439_808
    assert sum(isinstance(layer, MultiHeadAttention) for layer in model.layers) == 12


def test_norms_precede_attention_and_perceptron() -> None:
    for model in (gpt2(), *(arm.model for arm in SEQUENCES.arms)):
        rows = {row.name: row for row in model.table}
        for row in model.table:
            if isinstance(row.layer, MultiHeadAttention):
                assert row.layer.causal
                assert isinstance(rows[row.inputs[0]].layer, LayerNorm)
        assert isinstance(rows[model.table[-1].inputs[0]].layer, LayerNorm)


def short(name: str, steps: int) -> Case:
    study = next(each for each in (ADDITION, SEQUENCES) if name in {arm.name for arm in each.arms})
    arm = study.arm(name)
    recipe = replace(arm.recipe("quick"), steps=steps, schedule=None)
    return Case(study, replace(arm, recipes={"quick": recipe}))


def test_a_causal_transformer_learns() -> None:
    history = run(short("copying", 15), create("numpy"), copying(), seed=50_000).history
    assert history[-1].test_loss is not None
    # It is about log 11 = 2.40 before the training, and log 10 = 2.30 for a guess of a symbol.
    assert history[-1].test_loss < 2.3


@pytest.mark.parametrize(("limit", "steps"), [(8, 8), (120, 60)])
def test_the_curve_has_a_point_for_each_evaluation(
    limit: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rising = iter(range(10**6))

    def scripted(*_: Any) -> Figures:
        # In turn on the training and on the test set.
        number = next(rising)
        return Figures(1.0, min(1.0, (0.5, 0.3)[number % 2] + 0.1 * (number // 2)))

    def still(*_: Any) -> Iterator[Epoch]:
        yield from (Epoch(step, step, 0.0, 0.0, 0.0) for step in range(1, limit + 1))

    monkeypatch.setattr(delay, "evaluate", scripted)
    case, engine = short("small-no-decay", limit), create("numpy")
    monkeypatch.setattr(engine, "fit", still)
    monkeypatch.setattr(engine, "predict", lambda *_: None)
    figures = run(case, engine, small_modular_addition(), seed=50_000).figures
    every = limit // steps
    assert [point[0] for point in figures["curve"]] == list(range(every, limit + 1, every))
    assert (figures["fitted_at"], figures["generalized_at"]) == (6 * every, 8 * every)
    assert figures["step"] == limit


@pytest.mark.slow
def test_weight_decay_generalises_long_after_the_training_set_is_fitted() -> None:
    engine, data = create("numpy"), small_modular_addition(50_000)
    found = {
        name: run(Case(ADDITION, ADDITION.arm(name)), engine, data, seed=50_000).figures
        for name in ("small-decay", "small-no-decay")
    }
    assert found["small-decay"]["generalized_at"] > 3 * found["small-decay"]["fitted_at"]
    assert found["small-no-decay"]["generalized_at"] is None
    assert found["small-no-decay"]["train_accuracy"] == 1.0
