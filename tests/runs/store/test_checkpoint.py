"""Checkpoints: every engine loads them, and damaged files raise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import StoreError
from dlsys_bench.runs import checkpoint
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, BatchNorm, Conv2D, Dense, Flatten
from dlsys_bench.spec.model import Model

MODEL = Model(
    "small",
    (8, 8, 2),
    (Conv2D(3, (3, 2), (2, 1), "same"), BatchNorm(), Activation("tanh"), Flatten(), Dense(4)),
)
ENGINES = [name for name in ("numpy", "torch", "keras") if unavailable(name) is None]


@pytest.mark.parametrize("writer", ENGINES)
def test_every_engine_predicts_the_same_from_a_checkpoint(tmp_path: Path, writer: str) -> None:
    x = np.random.default_rng(0).standard_normal((5, 8, 8, 2))
    engine = create(writer, dtype="float64")
    net = engine.build(to_convention(engine.convention, MODEL), seed=4)
    path = tmp_path / "weights.npz"
    checkpoint.save(path, MODEL, engine.weights(net))
    for reader in ENGINES:
        model, weights = checkpoint.load(path)
        other = create(reader, dtype="float64")
        found = other.predict(other.build(to_convention(other.convention, model), weights), x)
        np.testing.assert_allclose(
            found, engine.predict(net, x), rtol=1e-12, atol=1e-12, err_msg=reader
        )


def test_damaged_and_foreign_files_raise(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    weights = Plan(0).weights(MODEL)
    checkpoint.save(path, MODEL, weights)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], b"not a file of weights", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"weights\.npz"):
            checkpoint.load(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(StoreError, match="holds no model"):
        checkpoint.load(path)
    pickled = {"model.json": np.array([{"a": 1}], dtype=object)}
    np.savez(path, allow_pickle=True, **pickled)
    with pytest.raises(StoreError, match="holds no model"):
        checkpoint.load(path)


@pytest.mark.parametrize("change", ["missing", "shape", "extra"])
def test_weights_of_another_model_raise(tmp_path: Path, change: str) -> None:
    weights = Plan(0).weights(MODEL)
    if change == "missing":
        del weights["dense_1.bias"]
    else:
        weights["dense_1.bias" if change == "shape" else "dense_2.bias"] = np.zeros(9)
    with pytest.raises(StoreError, match=r"dense_[12]\.bias"):
        checkpoint.save(tmp_path / "weights.npz", MODEL, weights)
    assert not list(tmp_path.iterdir())
