"""The files of datasets in given folders and in the cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import datasets, fetch, is_available, load, verify
from dlsys_bench.errors import DataError

GIVEN = ["by argument", "by variable"]


@pytest.fixture(params=GIVEN)
def give(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Path | None]:
    """Return a function that passes a folder in one way, and returns the `data_dir` to use."""

    def given(folder: Path) -> Path | None:
        if request.param == "by argument":
            # The argument takes precedence over the variable.
            monkeypatch.setenv("DLSYS_BENCH_DATA", str(folder / "elsewhere"))
            return folder
        monkeypatch.setenv("DLSYS_BENCH_DATA", str(folder))
        return None

    return given


@pytest.mark.parametrize("inside", ["tiny-folder", "."])
def test_a_given_folder_is_read(tiny: Any, tmp_path: Path, give: Any, inside: str) -> None:
    tiny.write(tmp_path / "given" / inside)
    data_dir = give(tmp_path / "given")
    dataset = load("tiny", data_dir)
    for name, values in tiny.arrays.items():
        np.testing.assert_array_equal(getattr(dataset, name).reshape(values.shape), values)
    assert dataset.x_train.shape == (40, 28, 28, 1)
    assert dataset.y_train.dtype == np.int64
    assert (dataset.name, dataset.classes) == ("tiny", ("a", "b", "c"))
    assert is_available("tiny", data_dir)
    assert fetch("tiny", data_dir) == [tmp_path / "given" / inside / file for file in tiny.content]


def test_the_subfolder_of_the_dataset_takes_precedence(tiny: Any, tmp_path: Path) -> None:
    tiny.write(tmp_path, **{"y_test.gz": b"another dataset's"})
    tiny.write(tmp_path / "tiny-folder")
    assert is_available("tiny", tmp_path)


def test_files_are_reported(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "tiny-folder", **{"y_train.gz": b""})
    (folder / "x_test.gz").unlink()
    reports = verify("tiny", tmp_path)
    assert [report.file for report in reports] == list(tiny.content)
    assert [report.state for report in reports] == ["ok", "wrong", "missing", "ok"]
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    expected = tiny.source.files
    assert [report.found for report in reports] == [
        expected["x_train.gz"],
        empty,
        None,
        expected["y_test.gz"],
    ]
    assert [report.expected for report in reports] == list(expected.values())
    assert [report.path for report in reports] == [folder / file for file in tiny.content]
    assert not is_available("tiny", tmp_path)


def test_the_files_of_a_missing_folder_are_reported(tiny: Any, tmp_path: Path) -> None:
    reports = verify("tiny", tmp_path / "none")
    assert {report.state for report in reports} == {"missing"}


def test_a_missing_folder_raises(tiny: Any, tmp_path: Path, give: Any) -> None:
    with pytest.raises(DataError) as caught:
        load("tiny", give(tmp_path / "none"))
    assert f"is {tmp_path / 'none'}, which is not a folder" in str(caught.value)


def test_the_message_names_the_variable(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLSYS_BENCH_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"^DLSYS_BENCH_DATA is"):
        load("tiny")


def test_a_missing_file_raises(tiny: Any, tmp_path: Path, give: Any) -> None:
    (tiny.write(tmp_path / "tiny-folder") / "x_test.gz").unlink()
    with pytest.raises(DataError) as caught:
        load("tiny", give(tmp_path))
    path, sha = tmp_path / "tiny-folder" / "x_test.gz", tiny.source.files["x_test.gz"]
    assert f"{path} is missing (SHA-256 expected {sha})" in str(caught.value)


def test_an_empty_folder_raises_with_the_expected_files(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=rf"expected x_train\.gz, .* in .*{tmp_path.name} or in its folder tiny-folder",
    ):
        load("tiny", tmp_path)


def test_a_wrong_file_raises_with_both_hashes(tiny: Any, tmp_path: Path, give: Any) -> None:
    tiny.write(tmp_path / "tiny-folder", **{"y_train.gz": b""})
    with pytest.raises(DataError) as caught:
        load("tiny", give(tmp_path))
    assert str(tmp_path / "tiny-folder" / "y_train.gz") in str(caught.value)
    assert "SHA-256 found e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" in str(
        caught.value
    )
    assert f"expected {tiny.source.files['y_train.gz']}" in str(caught.value)


def test_a_file_of_another_dataset_is_recognised(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MNIST and Fashion-MNIST name their files alike, so a folder of the one is easily given for the
    # other.
    from dataclasses import replace

    other = replace(
        tiny.source,
        name="other",
        title="Other",
        files=dict.fromkeys(tiny.source.files, "0" * 64),
        contents={},
    )
    monkeypatch.setitem(datasets(), "other", other)
    with pytest.raises(DataError, match=r"should be, but x_train\.gz of Tiny \(SHA"):
        load("other", tiny.write(tmp_path / "tiny-folder"))


@pytest.mark.parametrize("call", [load, fetch, verify, is_available])
def test_a_given_folder_is_never_written_to(
    tiny: Any, mirror: Any, tmp_path: Path, snapshot: Any, call: Any
) -> None:
    from dataclasses import replace

    datasets()["tiny"] = replace(tiny.source, mirrors=(mirror.url("good"),))
    given = tmp_path / "given"
    (tiny.write(given / "tiny-folder", **{"y_train.gz": b""}) / "x_test.gz").unlink()
    for folder in (given, given / "tiny-folder", tmp_path / "none"):
        before = snapshot(tmp_path)
        try:
            call("tiny", folder)
        except DataError:
            assert call in (load, fetch)
        assert snapshot(tmp_path) == before
    assert not mirror.served


def test_an_unreadable_file_raises(tiny: Any, open_tmp: Path, forbid: Any) -> None:
    folder = tiny.write(open_tmp / "tiny-folder")
    forbid(folder / "x_train.gz", 0)
    with pytest.raises(DataError, match=r"^cannot read .*x_train\.gz: Permission denied"):
        load("tiny", open_tmp)
    assert not is_available("tiny", open_tmp)


@pytest.mark.parametrize("inside", [".", "tiny-folder"])
def test_an_unreadable_folder_raises(tiny: Any, open_tmp: Path, forbid: Any, inside: str) -> None:
    tiny.write(open_tmp / "given" / "tiny-folder")
    forbid(open_tmp / "given" / inside, 0)
    with pytest.raises(DataError, match=r"^cannot read .*x_train\.gz: Permission denied"):
        load("tiny", open_tmp / "given")
    assert not is_available("tiny", open_tmp / "given")


def test_a_file_is_hashed_once_until_it_changes(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    hashed = []
    digest = hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        hashed.append(file.name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    folder = tiny.write(tmp_path / "tiny-folder")
    for _ in range(3):
        assert is_available("tiny", tmp_path)
    assert len(hashed) == 4
    path = folder / "x_test.gz"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    # As `cp -p` and rsync do: the same size and the same time.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [report.state for report in verify("tiny", tmp_path)] == ["ok", "ok", "wrong", "ok"]


def test_the_cache_is_in_the_folder_of_the_platform(tiny: Any, cache: Path) -> None:
    tiny.write(cache)
    assert load("tiny", offline=True).x_test.shape == (8, 28, 28, 1)
    assert [report.path.parent for report in verify("tiny")] == [cache] * 4


def test_an_empty_variable_counts_as_unset(
    tiny: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLSYS_BENCH_DATA", "")
    tiny.write(cache)
    assert is_available("tiny")


def test_offline_raises_if_a_file_is_missing(tiny: Any, cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        load("tiny", offline=True)
    message = str(caught.value)
    assert f"{cache / 'x_train.gz'} is missing, and offline nothing is downloaded" in message
    assert all(word in message for word in ("--data-dir", "DLSYS_BENCH_DATA", '"digits"'))
    assert not cache.exists()


def test_offline_raises_if_a_file_is_wrong(tiny: Any, cache: Path) -> None:
    tiny.write(cache, **{"y_train.gz": b""})
    with pytest.raises(DataError, match=r"SHA-256 found e3b0c442.*--data-dir"):
        load("tiny", offline=True)


@pytest.mark.parametrize("call", [fetch, verify])
def test_an_unknown_name_raises_with_the_nearest(call: Any) -> None:
    with pytest.raises(
        DataError,
        match=r"unknown dataset 'fashion-mnist' \(did you mean \"fashion_mnist\"\?\); known: ",
    ):
        call("fashion-mnist")
