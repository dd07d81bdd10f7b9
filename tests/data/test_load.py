"""Loading of datasets by name, from archives and from callables."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import datasets, is_available, load, prepare, verify
from dlsys_bench.errors import DataError

MODULE = """
import sys
import numpy as np
from dlsys_bench.data import Dataset
from dlsys_bench.errors import DataError

class Makers:
    @staticmethod
    def make():
        return mine()

def mine():
    x = np.zeros((4, 3))
    return Dataset("mine", x, x, x, x)

def nothing():
    pass

def broken():
    raise ZeroDivisionError("no rows")

def exits():
    sys.exit(0)

def missing():
    raise DataError("no file 'own.csv'")

number = 3
"""


@pytest.fixture(params=["mnist", "fashion_mnist"])
def real(request: pytest.FixtureRequest) -> str:
    # Missing files skip the test; wrong ones let it fail.
    if any(report.state == "missing" for report in verify(request.param)):
        pytest.skip(
            f"{request.param} not found: set DLSYS_BENCH_DATA to a folder that has it, "
            f"or fill the cache with dlsys_bench.data.fetch({request.param!r})"
        )
    return str(request.param)


def test_the_real_data(real: str) -> None:
    dataset = load(real, offline=True)
    assert (dataset.x_train.shape, dataset.x_test.shape) == (
        (60_000, 28, 28, 1),
        (10_000, 28, 28, 1),
    )
    assert dataset.x_train.dtype == np.uint8
    assert dataset.classes == datasets()[real].classes
    if real == "mnist":
        assert dataset.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
        assert dataset.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        assert np.bincount(dataset.y_train).tolist() == [
            5923,
            6742,
            5958,
            6131,
            5842,
            5421,
            5918,
            6265,
            5851,
            5949,
        ]
        mean, std = 0.1307, 0.3081
    else:
        assert dataset.y_train[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
        assert np.bincount(dataset.y_train).tolist() == [6000] * 10
        mean, std = 0.2860, 0.3530
    # The scalars that are commonly used for standardising.
    assert dataset.x_train.mean() / 255 == pytest.approx(mean, abs=5e-5)
    assert dataset.x_train.std() / 255 == pytest.approx(std, abs=5e-5)


@pytest.mark.slow
def test_loading_and_preparing_are_fast(real: str) -> None:
    def best(call: Any) -> float:
        seconds = []
        for _ in range(3):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
        return min(seconds)

    dataset = load(real, offline=True)
    # Three times the time on a slow machine: the test shall detect a slower implementation, not a
    # slower machine.
    assert best(lambda: load(real, offline=True)) < 1.5
    assert best(lambda: prepare(dataset, scaling="standard")) < 1.5


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    return {
        "x_train": np.zeros((5, 4, 4), np.uint8),
        "y_train": np.array([0, 1, 2, 3, 0]),
        "x_test": np.ones((2, 4, 4), np.uint8),
        "y_test": np.array([4, 0]),
    }


def test_an_archive_is_loaded(arrays: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    assert not is_available(str(path))
    np.savez(path, **arrays)
    assert is_available(str(path))
    dataset = load(str(path))
    assert (dataset.name, dataset.classes) == ("own", ("0", "1", "2", "3", "4"))
    assert dataset.x_train.shape == (5, 4, 4, 1)
    assert dataset.x_test.all()
    np.testing.assert_array_equal(dataset.y_train, arrays["y_train"])


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
def test_an_archive_with_classes(
    arrays: dict[str, np.ndarray], tmp_path: Path, compress: Any
) -> None:
    compress(tmp_path / "own.npz", **arrays, classes=np.array(list("abcdef")), other=np.ones(3))
    assert load(str(tmp_path / "own.npz")).classes == tuple("abcdef")


def test_an_archive_of_targets(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(
        tmp_path / "own.npz", **(arrays | {"y_train": np.zeros((5, 2)), "y_test": np.zeros((2, 2))})
    )
    assert load(str(tmp_path / "own.npz")).classes == ()


def test_a_home_folder_is_expanded(
    arrays: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    np.savez(tmp_path / "own.npz", **arrays)
    assert is_available("~/own.npz")
    assert load("~/own.npz").name == "own"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"y_test": None},
            "has no array 'y_test'.*; expected x_train, .* has x_train, y_train, x_test, classes",
        ),
        ({"y_train": np.array([0, 1, 2, 3, -1])}, r"y_train\[4\] is -1, but there are 5 classes"),
        (
            {"y_train": np.array([1, 2, 3, 4, 5]), "y_test": np.array([1, 2])},
            r"own\.npz: y_train and y_test: no label is 0, and the smallest is 1, but labels count "
            r"from 0: take y_train - 1 and y_test - 1$",
        ),
        ({"y_train": np.zeros(5, int)}, r"own\.npz: y_train has one class: all 5 labels are 0"),
        ({"y_test": np.array([0, 1, 2])}, r"own\.npz: x_test has 2 samples, but y_test has 3"),
        # A label this large must not create a tuple of as many names.
        (
            {"y_train": np.array([0, 1, 2, 3, 2**62])},
            r"y_train\[4\] is 4611686018427387904, but there are 65536 classes",
        ),
        (
            {"y_train": np.array([0, 1, 2, 3, None])},
            "cannot read .*own.npz: y_train: .*allow_pickle",
        ),
        ({"classes": np.array(["a"])}, "there are 1 classes"),
    ],
)
def test_an_invalid_archive_raises(
    arrays: dict[str, np.ndarray], tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    if "classes" in message and "y_test" in changed:
        arrays["classes"] = np.array(list("abcde"))
    np.savez(tmp_path / "own.npz", **{k: v for k, v in (arrays | changed).items() if v is not None})
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "own.npz"))


@pytest.mark.parametrize(
    ("content", "description"),
    [
        (b"<!DOCTYPE html><html>", "it is an HTML page saved in place of the file"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer"),
        (b"", "it is an empty file"),
        (b"PK\x03\x04" + bytes(99), "it is a truncated or damaged archive: "),
    ],
)
def test_a_file_that_is_no_archive_is_described(
    tmp_path: Path, content: bytes, description: str
) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(DataError, match=rf"^cannot read .*own\.npz: {description}"):
        load(str(tmp_path / "own.npz"))


@pytest.mark.parametrize("damage", ["missing", "text", "empty", "cut", "flipped", "array"])
def test_a_damaged_archive_raises(arrays: dict[str, Any], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "own.npz"
    np.savez_compressed(
        path,
        **(arrays | {"x_train": np.random.default_rng(0).integers(0, 256, (5, 4, 4), np.uint8)}),
    )
    content = bytearray(path.read_bytes())
    content[120] ^= 255
    damaged: dict[str, bytes | bytearray] = {
        "text": b"text",
        "empty": b"",
        "cut": content[:-100],
        "flipped": content,
    }
    if damage == "missing":
        path.unlink()
    elif damage == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=r"own\.npz"):
        load(str(path))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_data.py").write_text(MODULE)
    (tmp_path / "own_broken.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_data", "own_broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "own_data"


@pytest.mark.parametrize("maker", ["mine", "Makers.make"])
def test_a_callable_is_called(module: str, maker: str) -> None:
    assert is_available(f"{module}:{maker}")
    assert load(f"{module}:{maker}").name == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:mine", "cannot import 'no_such_module': No module named"),
        ("own_broken:mine", "cannot import 'own_broken': No module named 'no_such_module'"),
        (":mine", "cannot import ''"),
        ("own_data:mime", r'own_data has no \'mime\' \(did you mean "mine"\?\)'),
        ("own_data:number", "is an int; expected a callable"),
        ("own_data:", "has no ''"),
        ("own_data:nothing", "returned a NoneType; it has to return dlsys_bench.data.Dataset"),
    ],
)
def test_an_invalid_callable_raises(module: str, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(name)


@pytest.mark.parametrize(
    ("maker", "error"),
    [("broken", "ZeroDivisionError: no rows"), ("exits", "SystemExit: 0")],
)
def test_an_error_of_a_callable_is_described(module: str, maker: str, error: str) -> None:
    line = next(n for n, text in enumerate(MODULE.splitlines(), 1) if f"def {maker}" in text) + 1
    with pytest.raises(DataError) as caught:
        load(f"{module}:{maker}")
    text = f"dataset '{module}:{maker}' raised {error} at {module}.py:{line}"
    assert str(caught.value) == text


def test_an_error_with_its_correction_is_passed_on(module: str) -> None:
    with pytest.raises(DataError, match=r"^no file 'own\.csv'$"):
        load(f"{module}:missing")


@pytest.mark.parametrize("call", [load, is_available])
def test_an_unknown_name_raises_with_suggestions(call: Any) -> None:
    with pytest.raises(DataError) as caught:
        call("mnits")
    start = (
        "unknown dataset 'mnits' (did you mean \"mnist\"?); expected mnist, fashion_mnist, digits, "
    )
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(", the path of an .npz, or package.module:callable")
    assert all(f", {name}, " in str(caught.value) for name in ("half-plane", "cifar10"))
