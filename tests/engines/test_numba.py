"""The kernels of the numba engine compute as numpy does, and its dropout draws as it should."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.numpy import shards
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.spec.graph import Node
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GroupNorm,
    Layer,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    RMSNorm,
)
from dlsys_bench.spec.losses import SparseCategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop
from dlsys_bench.spec.recipe import Recipe

if reason := unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

from numba.core.caching import IndexDataCacheFile

from dlsys_bench.engines.numba import activation
from dlsys_bench.engines.numba.cache import SOURCES, PackageIndex, digest_of
from dlsys_bench.engines.numba.program import functions

pads = st.sampled_from(["same", "valid"])


@given(
    filters=st.integers(1, 4),
    channels=st.integers(1, 3),
    tall=st.integers(1, 5),
    wide=st.sampled_from([1, 3, 5]),
    padding=pads,
    strides=st.sampled_from([(1, 1), (1, 2), (2, 1)]),
    bias=st.booleans(),
    below=st.booleans(),
    samples=st.integers(1, 9),
    pool=st.sampled_from([((2, 2), None), ((2, 3), (1, 2)), ((1, 2), (2, 3))]),
    seed=st.integers(0, 9),
)
def test_a_convolution_and_a_pool_equal_those_of_numpy(
    filters: int,
    channels: int,
    tall: int,
    wide: int,
    padding: Literal["valid", "same"],
    strides: Any,
    bias: bool,
    below: bool,
    samples: int,
    pool: Any,
    seed: int,
) -> None:
    """The engine convolves through windows or directly, with and without a layer below."""
    layers = (
        *((BatchNorm(),) if below else ()),
        Conv2D(filters, (tall, wide), strides, padding, use_bias=bias),
        Activation("tanh"),
        AveragePool(*pool),
        Flatten(),
        Dense(3),
    )
    model = Model("m", (9, 11, channels), layers)
    rng = np.random.default_rng(seed)
    batch = Batch(
        rng.standard_normal((samples, 9, 11, channels)),
        rng.integers(0, 3, samples),
        {},
        training=True,
    )
    expected, actual = (
        engine.gradients(engine.build(model, seed=seed), batch, SparseCategoricalCrossEntropy())
        for engine in (create("numpy", dtype="float64"), create("numba", dtype="float64"))
    )
    assert actual.loss == pytest.approx(expected.loss, rel=1e-12)
    scale = max(float(np.abs(values).max()) for values in expected.weights.values())
    for name, values in expected.weights.items():
        np.testing.assert_allclose(
            actual.weights[name], values, rtol=0, atol=1e-11 * scale, err_msg=name
        )
    assert actual.x is not None
    assert expected.x is not None
    np.testing.assert_allclose(
        actual.x, expected.x, rtol=0, atol=1e-11 * max(scale, float(np.abs(expected.x).max()))
    )


SEQUENCE, IMAGE = (7, 6), (9, 8, 6)
COMPILED: dict[str, tuple[tuple[int, ...], tuple[Layer | Node, ...]]] = {
    "attention": (SEQUENCE, (MultiHeadAttention(2), MultiHeadAttention(3, causal=True))),
    "dropped attention": (SEQUENCE, (MultiHeadAttention(2, 5, causal=True, drop_rate=0.4),)),
    "attention over many positions": ((70, 2), (MultiHeadAttention(1),)),
    "attention to a context": (
        SEQUENCE,
        (
            Node("memory", Conv1D(4, 3), ("input",)),
            Node("attend", MultiHeadAttention(2, 5, context=True), ("conv1d_1", "memory")),
            Node(
                "drop", MultiHeadAttention(3, 2, drop_rate=0.4, context=True), ("memory", "attend")
            ),
            Node("same", MultiHeadAttention(2, causal=True, context=True), ("drop", "drop")),
        ),
    ),
    "norms of sequences": (SEQUENCE, (LayerNorm(), RMSNorm(), GroupNorm(groups=3))),
    "norms of images": (IMAGE, (LayerNorm(), RMSNorm(), GroupNorm(groups=3))),
    "smooth functions": (
        SEQUENCE,
        tuple(Activation(function) for function in ("elu", "silu", "gelu", "gelu_tanh")),
    ),
    "strided": (IMAGE, (Conv2D(5, (3, 2), (2, 3), "same"),)),
    "dilated": (IMAGE, (Conv2D(5, (2, 3), padding="same", dilation=(3, 2)),)),
    "depthwise": (
        IMAGE,
        (Conv2D(12, (3, 3), (2, 2), "same", use_bias=False, groups=6), Activation("relu")),
    ),
    "pointwise": (IMAGE, (Conv2D(4, (1, 1), groups=2), Conv2D(4, (1, 1), (2, 2)))),
    "wide": (IMAGE, (Conv2D(19, (3, 3), padding="same"),)),
    "causal": (SEQUENCE, (Conv1D(4, 3, 2, "causal"), Conv1D(6, 2, dilation=2, groups=2))),
    "max pools": (IMAGE, (MaxPool((3, 2), (1, 2)), MaxPool((2, 2), (3, 1)))),
    "norms and activations": (
        IMAGE,
        (BatchNorm(), Activation("relu"), BatchNorm(), Activation("leaky_relu", 0.25)),
    ),
}
"""Layers whose rules are compiled, and the shape of what they take."""


def compiled_model(name: str) -> Model:
    shape, layers = COMPILED[name]
    # A first layer, so that the gradient in the inputs of the others is computed in training.
    first = Conv1D(shape[-1], 1) if len(shape) == 2 else Conv2D(shape[-1], (1, 1))
    return Model("m", shape, (first, *layers, Flatten(), Dense(3)))


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_rules_compute_as_those_of_numpy(name: str) -> None:
    """17 samples are a whole vector and a remainder. A network uses its memory again for a batch of
    another size."""
    model, rng = compiled_model(name), np.random.default_rng(0)
    weights: Weights = {t.name: rng.uniform(-0.5, 0.5, t.shape) for t in model.tensors}
    engines = [create(engine, dtype="float64") for engine in ("numpy", "numba")]
    nets = [engine.build(model, weights) for engine in engines]
    for samples in (17, 2, 20):
        x, y = rng.standard_normal((samples, *model.input_shape)), rng.integers(0, 3, samples)
        batch = Batch(x, y, Plan(1).masks(model, 0, samples), training=True)
        expected, actual = (
            engine.gradients(net, batch, SparseCategoricalCrossEntropy())
            for engine, net in zip(engines, nets, strict=True)
        )
        assert actual.loss == pytest.approx(expected.loss, rel=1e-12)
        assert expected.x is not None
        assert actual.x is not None
        arrays = {"x": expected.x, **expected.weights}
        for tensor, values in {"x": actual.x, **actual.weights}.items():
            np.testing.assert_allclose(
                values, arrays[tensor], rtol=1e-9, atol=1e-12, err_msg=f"{tensor} of {samples}"
            )


@pytest.mark.parametrize(
    "name", ["attention to a context", "norms of images", "strided", "depthwise"]
)
def test_the_bits_of_compiled_rules_do_not_depend_on_the_threads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MIN_SHARD_SAMPLES", 4)
    monkeypatch.setattr(shards, "MIN_SHARD_VALUES", 1)
    model, rng, found = compiled_model(name), np.random.default_rng(0), []
    samples = Samples(rng.standard_normal((45, *model.input_shape)), rng.integers(0, 3, 45))
    for threads in ("1", "2", "3", "8"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        engine = create("numba", dtype="float64")
        net = engine.build(model, seed=1)
        train(engine, net, samples, Recipe(Adam(0.01), batch_size=19, epochs=2), Plan(1))
        found.append(engine.weights(net))
    for weights in found[1:]:
        for tensor, values in weights.items():
            np.testing.assert_array_equal(values, found[0][tensor], err_msg=tensor)


@pytest.mark.parametrize(
    ("pool", "fused"),
    [
        (AveragePool((2, 2)), True),
        (AveragePool((4, 2)), True),
        (AveragePool((3, 2)), False),
        (AveragePool((2, 2), (1, 2)), False),
        (AveragePool((2, 2), (4, 2)), False),
    ],
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_batch_norm_and_a_pool_are_fused_only_where_the_result_is_the_same(
    pool: AveragePool, fused: bool, training: bool, first: bool
) -> None:
    layers = (BatchNorm(epsilon=0.1), pool, BatchNorm(), pool, Flatten(), Dense(3))
    model = Model(
        "m", (16, 8, 2), layers if first else (Conv2D(3, (3, 3), padding="same"), *layers)
    )
    rng = np.random.default_rng(0)
    weights: Weights = {t.name: rng.uniform(0.5, 1.5, t.shape) for t in model.tensors}
    batch = Batch(rng.standard_normal((7, 16, 8, 2)), rng.integers(0, 3, 7), {}, training)
    found = []
    for name in ("numpy", "numba"):
        engine = create(name, dtype="float64")
        net: Any = engine.build(model, weights)
        found.append(
            (
                engine.gradients(net, batch, SparseCategoricalCrossEntropy()),
                net,
                engine.trace(net, batch),
            )
        )
    (expected, _, outputs), (ours, net, ours_outputs) = found
    place = 0 if first else 1
    assert set(net.fused) == ({place, place + 2} if fused else set())
    assert ours.loss == pytest.approx(expected.loss, rel=1e-12)
    assert ours.x is not None
    assert expected.x is not None
    arrays = {"x": ours.x, **ours.weights}
    for name, values in {"x": expected.x, **expected.weights}.items():
        np.testing.assert_allclose(arrays[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
    for actual, output in zip(ours_outputs, outputs, strict=True):
        np.testing.assert_allclose(actual, output, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_norm_and_a_pool_train_as_in_numpy(replicas: int, shuffle: bool) -> None:
    """One replica is trained in shards; several replicas share their samples."""
    model = Model(
        "m",
        (32, 32, 1),
        (
            BatchNorm(),
            AveragePool((2, 2)),
            Conv2D(64, (3, 3)),
            BatchNorm(),
            AveragePool((7, 7)),
            Flatten(),
            Dense(3),
        ),
    )
    rng = np.random.default_rng(1)
    samples = Samples(rng.standard_normal((300, 32, 32, 1)), rng.integers(0, 3, 300))
    recipe = Recipe(SGD(0.1), batch_size=150, epochs=2, shuffle=shuffle)
    plans = [Plan(seed, parity=True) for seed in range(replicas)]
    numpys, numbas = (
        create(name, dtype="float64").replicate(model, plans) for name in ("numpy", "numba")
    )
    for many in (numpys, numbas):
        train_replicas(many, samples, recipe, plans)
    for replica in range(replicas):
        for name, values in numpys.weights(replica).items():
            np.testing.assert_allclose(
                numbas.weights(replica)[name], values, rtol=1e-8, atol=1e-10, err_msg=name
            )


def kept(rate: float, units: int, samples: int, seed: int) -> Array:
    """Return the output of a dropout for ones, (1, units, samples)."""
    engine = create("numba")
    net: Any = engine.build(Model("d", (units,), (Dropout(rate),)), seed=seed)
    left: Array = net.forward([np.ones((1, units, samples), "float32")], training=True)[0].copy()
    return left


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("units", [1000, 1001])
def test_dropout_keeps_the_right_number_of_units_independently(rate: float, units: int) -> None:
    left = kept(rate, units, 101, seed=3)
    stays = left > 0
    np.testing.assert_allclose(left[stays], np.float32(1 / (1 - rate)))
    # One in a million healthy runs fails each of these; the seed is fixed.
    assert stats.binomtest(int(stays.sum()), stays.size, 1 - rate).pvalue > 1e-6
    flat = stays.ravel()
    half = flat.size // 2
    # One state of the generator gives two numbers, and neighbouring states are alike: none of the
    # pairs may be correlated.
    for one, other in (
        (flat[:half], flat[-half:]),
        (flat[:-1:2], flat[1::2]),
        (flat[:-7], flat[7:]),
    ):
        assert abs(stats.pearsonr(one, other).statistic) < 5 / np.sqrt(len(one))


def test_every_pass_and_every_seed_draws_other_masks() -> None:
    engine = create("numba")
    net: Any = engine.build(Model("d", (100,), (Dropout(0.5), Dropout(0.5))), seed=1)
    x = np.ones((1, 100, 8), "float32")
    drawn = [net.forward([x], training=True).copy() for _ in range(2)]
    assert not np.array_equal(*drawn)
    first, second = (rule.stays.copy() for rule in net.rules)
    assert not np.array_equal(first, second)
    assert not np.array_equal(kept(0.5, 100, 8, 1), kept(0.5, 100, 8, 2))
    np.testing.assert_array_equal(kept(0.5, 100, 8, 1), kept(0.5, 100, 8, 1))


def test_nan_is_propagated() -> None:
    """Compilation with fast arithmetic must not hide a loss that is not finite."""
    engine = create("numba")
    layers = (
        Conv2D(2, (5, 5)),
        BatchNorm(),
        Activation("tanh"),
        AveragePool(),
        Flatten(),
        Dense(2),
    )
    x = np.ones((4, 8, 8, 1))
    x[2, 3, 3, 0] = np.nan
    net = engine.build(Model("m", (8, 8, 1), layers), seed=1)
    found = engine.gradients(
        net, Batch(x, np.zeros(4, int), {}, training=True), SparseCategoricalCrossEntropy()
    )
    assert np.isnan(found.loss)
    assert np.isnan(found.weights["conv2d_1.kernel"]).all()


def test_without_numba_the_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert (
        unavailable("numba")
        == "engine \"numba\" is not installed: pip install 'dlsys-bench[numba]'"
    )


@pytest.mark.parametrize("optimizer", [SGD(1, momentum=0.9), RMSprop(1), Adam(1)])
def test_a_learning_rate_may_be_an_integer(optimizer: Optimizer) -> None:
    model, recipe = Model("m", (3,), (Dense(2),)), Recipe(optimizer, batch_size=4, epochs=2)
    samples = Samples(np.random.default_rng(0).standard_normal((8, 3)), np.array([0, 1] * 4))
    weights = []
    for name in ("numpy", "numba"):
        engine = create(name, dtype="float64")
        net = engine.build(model, seed=1)
        train(engine, net, samples, recipe, Plan(1, parity=True))
        weights.append(engine.weights(net))
    for name, values in weights[0].items():
        np.testing.assert_allclose(weights[1][name], values, rtol=1e-10, atol=1e-10, err_msg=name)


def test_a_drop_rate_close_to_one_keeps_nothing() -> None:
    assert not kept(1 - 2**-34, 1000, 8, seed=1).any()


def test_an_index_of_the_cache_that_names_a_missing_module_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("renamed_since")
    module.Key = type("Key", (), {"__module__": "renamed_since"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "renamed_since", module)
    index = PackageIndex(str(tmp_path), "function", "digest")
    index.save(module.Key(), "code")
    assert len(index._load_index()) == 1
    monkeypatch.delitem(sys.modules, "renamed_since")
    with pytest.raises(ModuleNotFoundError):
        IndexDataCacheFile(str(tmp_path), "function", "digest").load("key")
    assert index.load("key") is None
    index.save("key", "new code")
    assert index.load("key") == "new code"
    assert PackageIndex(str(tmp_path), "function", "another digest").load("key") is None


def test_cached_code_depends_on_every_source_of_the_package(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "a.py").write_text("1")
    first = digest_of(tmp_path)
    (folder / "a.py").write_text("2")
    second = digest_of(tmp_path)
    (folder / "a.py").rename(folder / "b.py")
    assert len({first, second, digest_of(tmp_path)}) == 3
    kernels: tuple[Any, ...] = activation.d_tanh, functions.tanh
    for kernel in kernels:
        assert isinstance(kernel._cache._cache_file, PackageIndex)
        assert kernel._cache._cache_file._source_stamp == SOURCES
