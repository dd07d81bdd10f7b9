"""The contents of files: unpacked, recognised, and described by what they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import contents, datasets, fetch, is_available, load, verify
from dlsys_bench.data.contents import unpack
from dlsys_bench.data.source import Source
from dlsys_bench.errors import DataError

PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 9912422\n"
ANNEX = b"/annex/objects/SHA256E-s9912422--440fcabf73cc"


def unpacked(content: bytes) -> bytes:
    return gzip.decompress(content)


def again(content: bytes) -> bytes:
    return gzip.compress(gzip.decompress(content), 1, mtime=1)


def in_two_members(content: bytes) -> bytes:
    whole = gzip.decompress(content)
    return gzip.compress(whole[:100]) + gzip.compress(whole[100:])


REPACKED: dict[str, tuple[Callable[[str], str], Callable[[bytes], bytes]]] = {
    "unpacked": (lambda name: name.removesuffix(".gz"), unpacked),
    "unpacked, dotted": (lambda name: name.removesuffix(".gz").replace("-idx", ".idx"), unpacked),
    "unpacked, with a .gz name": (lambda name: name, unpacked),
    "compressed again": (lambda name: name, again),
    "compressed in two members": (lambda name: name, in_two_members),
    "compressed, without a .gz name": (lambda name: name.removesuffix(".gz"), lambda body: body),
}


@pytest.fixture
def idx(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The dataset "tiny" with files that are named as those of MNIST."""

    def name(file: str) -> str:
        return f"{file.removesuffix('.gz')}-idx{3 if file[0] == 'x' else 1}-ubyte.gz"

    tiny.content = {name(file): body for file, body in tiny.content.items()}
    renamed = {
        field: {name(file): sha for file, sha in getattr(tiny.source, field).items()}
        for field in ("files", "contents")
    }
    tiny.source = replace(tiny.source, **renamed)
    monkeypatch.setitem(datasets(), "tiny", tiny.source)
    return tiny


@pytest.mark.parametrize("form", REPACKED)
@pytest.mark.parametrize("inside", ["tiny-folder", "."])
def test_a_dataset_is_recognised_by_its_content(
    idx: Any, tmp_path: Path, form: str, inside: str
) -> None:
    rename, pack = REPACKED[form]
    folder = tmp_path / inside
    folder.mkdir(exist_ok=True)
    for file, body in idx.content.items():
        (folder / rename(file)).write_bytes(pack(body))
    assert is_available("tiny", tmp_path)
    assert fetch("tiny", tmp_path) == [folder / rename(file) for file in idx.content]
    dataset = load("tiny", tmp_path)
    assert dataset.name == "tiny"
    for name, values in idx.arrays.items():
        np.testing.assert_array_equal(getattr(dataset, name).reshape(values.shape), values)


def test_the_right_one_of_two_files_is_used(idx: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-folder"
    file, body = next(iter(idx.content.items()))
    idx.write(folder, **{file: b"a damaged download"})
    (folder / file.removesuffix(".gz")).write_bytes(unpacked(body))
    assert fetch("tiny", tmp_path)[0] == folder / file.removesuffix(".gz")


def archive(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("train-images", content)
    return packed.getvalue()


def tape(content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        member = tarfile.TarInfo("train-images")
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def array(content: bytes) -> bytes:
    saved = io.BytesIO()
    np.save(saved, np.frombuffer(content, np.uint8))
    return saved.getvalue()


def flip(content: bytes) -> bytes:
    return content[:-12] + bytes([content[-12] ^ 1]) + content[-11:]


WRONG: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "an empty file"),
    "page": (lambda _: PAGE, "an HTML page saved in place of the file: download the file again"),
    "gzipped page": (lambda _: gzip.compress(PAGE), "an HTML page saved in place of the file"),
    "page with a mark": (lambda _: b"\xef\xbb\xbf<html>", "an HTML page"),
    "error": (lambda _: b"<?xml version='1.0'?><Error>NoSuchKey</Error>", "an XML document"),
    "json": (lambda _: b'{"message": "rate limit"}', "a JSON text"),
    "pointer": (lambda _: POINTER, "a Git LFS pointer in place of the data: run git lfs pull"),
    "annex": (lambda _: ANNEX, "a git-annex pointer in place of the data: run git annex get"),
    "text": (lambda _: b"label,1x1\n5,0", "a text that begins with 'label,1x1\\n5,0'"),
    "truncated": (lambda body: body[:-20], "a truncated gzip file, as of a download"),
    "damaged": (flip, "a damaged gzip file ("),
    "wrong checksum": (lambda body: body[:-8] + b"\0" * 8, "a damaged gzip file (CRC check failed"),
    "trailing": (lambda body: body + b"more", "a damaged gzip file (Not a gzipped file (b'mo'))"),
    "twice": (gzip.compress, "a file that was compressed twice: unpack it once"),
    "zip": (archive, "a zip archive: unpack it"),
    "xz": (lambda body: lzma.compress(unpacked(body)), "an xz file: unpack it"),
    "bzip2": (lambda body: bz2.compress(unpacked(body)), "a bzip2 file: unpack it"),
    "tar": (tape, "a tar archive: unpack it"),
    "npy": (array, "a numpy array (.npy)"),
    "zeros": (lambda body: bytes(len(body)), "a file of zeros, as of a download"),
    "noise": (lambda _: b"\xde\xad\xbe\xef" * 9, "a file that begins with the bytes deadbeef"),
    "cut": (
        lambda body: unpacked(body)[:-1],
        "an unpacked IDX file, uint8 of shape (40, 28, 28), which takes 31,376 bytes, "
        "but it has 31,375",
    ),
    "cut, gzipped": (
        lambda body: gzip.compress(unpacked(body)[:8]),
        "a gzipped IDX file, truncated in its header of 16 bytes",
    ),
    "other pixels": (
        lambda body: gzip.compress(flip(unpacked(body))),
        "a gzipped IDX file, uint8 of shape (40, 28, 28)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_described(tiny: Any, tmp_path: Path, case: str) -> None:
    damage, description = WRONG[case]
    folder = tiny.write(tmp_path / "tiny-folder")
    path = folder / "x_train.gz"
    path.write_bytes(damage(tiny.content["x_train.gz"]))
    assert not is_available("tiny", tmp_path)
    assert verify("tiny", tmp_path)[0].description.startswith(description)
    with pytest.raises(DataError) as caught:
        load("tiny", tmp_path)
    assert f"{path} is not the file it should be, but {description}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["as distributed", "unpacked", "compressed again"])
@pytest.mark.parametrize(
    ("file", "other", "description"),
    [
        ("x_train.gz", "x_train.gz", "x_train.gz of Other"),
        ("x_test.gz", "y_test.gz", "y_test.gz of Tiny; the files are swapped"),
        ("x_train.gz", "x_test.gz", "x_test.gz of Tiny; the files are swapped"),
    ],
)
def test_a_file_of_another_place_is_named(
    tiny: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    second_tiny: Any,
    form: str,
    file: str,
    other: str,
    description: str,
) -> None:
    source: Source = replace(second_tiny.source, name="other", title="Other")
    monkeypatch.setitem(datasets(), "other", source)
    pack = {"unpacked": unpacked, "compressed again": again}.get(form, bytes)
    body = (second_tiny if file == other else tiny).content[other]
    tiny.write(tmp_path / "tiny-folder", **{file: pack(body)})
    with pytest.raises(DataError) as caught:
        load("tiny", tmp_path)
    assert f"{file} is not the file it should be, but {description} (SHA-256" in str(caught.value)


def test_a_link_to_nowhere_is_named(tiny: Any, tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "tiny-folder") / "y_test.gz"
    path.unlink()
    try:
        path.symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("this user may not create links")
    with pytest.raises(DataError, match=r"y_test\.gz is a link to a file that does not exist"):
        load("tiny", tmp_path)


def test_a_content_that_fills_the_memory_is_not_unpacked(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "MOST", 1000)
    monkeypatch.setattr(contents, "BLOCK", 100)
    bomb = gzip.compress(bytes(5000))
    tiny.write(tmp_path / "tiny-folder", **{"x_train.gz": bomb})
    description = verify("tiny", tmp_path)[0].description
    assert description == "a file that unpacks to more than 1,000 bytes"


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b[:-8] + bytes([b[-8] ^ 1]) + b[-7:], lambda b: b + b"more"],
)
def test_a_damaged_file_cannot_be_unpacked(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(damage(gzip.compress(b"content")))
    with pytest.raises(DataError, match=r"file\.gz is not a whole gzip file"):
        unpack(path)


def test_a_missing_file_cannot_be_unpacked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none\.gz: No such file"):
        unpack(tmp_path / "none.gz")
