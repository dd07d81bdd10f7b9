"""The conversion of arrays to NumPy, by stand-ins for frameworks and by the frameworks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.timing.arrays import named_arrays, to_numpy

VALUES = np.array([1.0, 2.5])


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class Tensor:
    """A tensor on a device, with a gradient, whose type NumPy does not have."""

    def __init__(self, state: str = "gradient") -> None:
        self.state = state

    def detach(self) -> Tensor:
        return Tensor("device")

    def cpu(self) -> Tensor:
        assert self.state == "device"
        return Tensor("bfloat16")

    def float(self) -> Tensor:
        assert self.state == "bfloat16"
        return Tensor("float32")

    def numpy(self) -> Any:
        if self.state != "float32":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return VALUES


class OldArray:
    """An array from before NumPy 2: `__array__` takes no argument `copy`."""

    def __array__(self, dtype: Any = None) -> Any:
        return VALUES


class CudaArray:
    """An array of CuPy, which is copied only explicitly."""

    __cuda_array_interface__ = SimpleNamespace()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def get(self) -> Any:
        return VALUES


class DLPack:
    """An array that offers DLPack alone, without the arguments of its newer version."""

    def __dlpack__(self, stream: Any = None) -> Any:
        return VALUES.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return VALUES.__dlpack_device__()


@pytest.mark.parametrize(
    "value",
    [
        VALUES,
        VALUES.astype("float16"),
        VALUES.astype(">f8"),
        Tensor(),
        OldArray(),
        CudaArray(),
        DLPack(),
        SimpleNamespace(numpy=lambda: VALUES),
        SimpleNamespace(value=Tensor()),
        SimpleNamespace(tolist=lambda: [1.0, 2.5]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_array_is_converted_by_its_own_means(value: Any) -> None:
    assert to_numpy(value).tolist() == [1.0, 2.5]
    assert named_arrays({"a": value})["a"].tolist() == [1.0, 2.5]


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), Decimal(3), np.array(3), Tensor])
def test_a_scalar_is_an_array_without_axes(value: Any) -> None:
    value = SimpleNamespace(item=lambda: 3.0) if value is Tensor else value
    assert to_numpy(value) == 3
    assert to_numpy(value).shape == ()


def test_the_copy_does_not_change_with_the_array() -> None:
    array = VALUES.copy()
    for value in (array, SimpleNamespace(item=array.view), SimpleNamespace(value=array)):
        copy = to_numpy(value)
        array += 1
        assert copy.tolist() != array.tolist()


@pytest.mark.parametrize("value", ["1.5", b"1", None, object(), [1.0], np.array(["a"]), print])
def test_an_object_without_numbers_raises(value: Any) -> None:
    with pytest.raises(TypeError, match="is not an array of numbers"):
        to_numpy(value)


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"kernel": VALUES, "bias": VALUES}, ["kernel", "bias"]),
        ([VALUES, VALUES], ["weights[0]", "weights[1]"]),
        ((VALUES,), ["weights[0]"]),
        (VALUES, ["weights"]),
        ([0.5, 1], ["weights"]),
        (0.5, ["weights"]),
        (iter([VALUES]), ["weights[0]"]),
        (iter([("a", VALUES), ("b", VALUES)]), ["a", "b"]),
        (
            {"dense": {"kernel": VALUES, "biases": [VALUES, VALUES]}, 3: (VALUES, None)},
            ["dense.kernel", "dense.biases[0]", "dense.biases[1]", "3[0]"],
        ),
        ([{"w": [[1.0, 2.0], [3.0]]}], ["weights[0].w[0]", "weights[0].w[1]"]),
        ({"empty": np.zeros(0), "full": VALUES}, ["full"]),
        ({"values": {}.values(), "full": VALUES}, ["full"]),
    ],
)
def test_arrays_are_named_by_their_path(tree: Any, names: list[str]) -> None:
    assert list(named_arrays(tree)) == names


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "returned no arrays"),
        ([None], "returned no arrays"),
        (None, "returned no arrays"),
        ({"kernel": "high"}, "returned a str as kernel, which is no array of numbers"),
        ([VALUES, object()], r"returned an object as weights\[1\]"),
        ({"a.b": VALUES, "a": {"b": VALUES}}, "two arrays of the name a.b"),
        (iter([("a", VALUES), ("a", VALUES)]), "two arrays of the name a"),
    ],
)
def test_a_tree_without_arrays_raises(tree: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        named_arrays(tree)


TORCH: dict[str, Callable[[Any], Any]] = {
    "bfloat16": lambda torch: torch.tensor([1.0, 2.5], dtype=torch.bfloat16),
    "float16": lambda torch: torch.tensor([1.0, 2.5], dtype=torch.float16),
    "float8": lambda torch: torch.tensor([1.0, 2.5]).to(torch.float8_e4m3fn),
    "with a gradient": lambda torch: torch.tensor([1.0, 2.5], requires_grad=True),
    "parameter": lambda torch: torch.nn.Parameter(torch.tensor([1.0, 2.5]).to(torch.bfloat16)),
    "strided": lambda torch: torch.tensor([1.0, 0.0, 2.5])[::2],
    "sparse": lambda torch: torch.tensor([1.0, 2.5]).to_sparse(),
    "conjugate": lambda torch: torch.tensor([1.0 + 0j, 2.5]).conj(),
}


@pytest.mark.xdist_group("torch")
@pytest.mark.parametrize("make", TORCH.values(), ids=TORCH)
def test_tensors_of_torch(make: Callable[[Any], Any]) -> None:
    tensor = make(pytest.importorskip("torch"))
    assert to_numpy(tensor).tolist() == [1.0, 2.5]


@pytest.mark.xdist_group("torch")
def test_the_parameters_of_a_module_of_torch() -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(2, 1, dtype=torch.bfloat16)
    assert list(named_arrays(net.named_parameters())) == ["weight", "bias"]
    assert list(named_arrays(net.state_dict())) == ["weight", "bias"]
    assert list(named_arrays(net.parameters())) == ["weights[0]", "weights[1]"]
    only_dlpack = SimpleNamespace(
        __dlpack__=net.bias.detach().__dlpack__, __dlpack_device__=net.bias.__dlpack_device__
    )
    assert to_numpy(only_dlpack) == net.bias.float().detach().numpy()


@pytest.mark.slow
@pytest.mark.xdist_group("jax")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32"])
def test_arrays_of_jax(dtype: str) -> None:
    jax = pytest.importorskip("jax")
    array = jax.numpy.array([1.0, 2.0], dtype=dtype)
    assert to_numpy(array).tolist() == [1.0, 2.0]
    assert list(named_arrays({"dense": {"kernel": array}})) == ["dense.kernel"]


@pytest.mark.slow
@pytest.mark.xdist_group("keras+tensorflow")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_variables_of_keras_and_tensorflow(dtype: str) -> None:
    warnings.simplefilter("ignore")
    keras, tensorflow = map(pytest.importorskip, ("keras", "tensorflow"))
    warnings.simplefilter("error")
    variables = [
        tensorflow.constant([1.0, 2.0], dtype=dtype),
        tensorflow.Variable([1.0, 2.0], dtype=dtype),
        keras.Variable([1.0, 2.0], dtype=dtype),
    ]
    for name, array in named_arrays(variables).items():
        assert array.tolist() == [1.0, 2.0], name
