"""The table of datasets."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from dlsys_bench.data import Source, datasets


@pytest.mark.parametrize("source", datasets().values(), ids=datasets())
def test_a_source_is_complete(source: Source) -> None:
    assert datasets()[source.name] is source
    assert source.title
    assert source.licence
    assert source.citation
    assert len(set(source.classes)) == len(source.classes)
    if len(source.shape) == 3:
        assert len(source.classes) == 10
        assert source.shape in {(28, 28, 1), (32, 32, 3)}
    assert bool(source.files) != bool(source.factory)
    assert bool(source.files) or not source.reader


@pytest.mark.parametrize(
    "source", [source for source in datasets().values() if source.files], ids=lambda s: s.name
)
def test_files_have_checksums_and_mirrors(source: Source) -> None:
    if not source.reader:
        kinds = [re.sub("-idx.*", "", file) for file in source.files]
        assert kinds == ["train-images", "train-labels", "t10k-images", "t10k-labels"]
        assert source.contents.keys() == source.files.keys()
    hashes = (*source.files.values(), *source.contents.values())
    assert all(re.fullmatch("[0-9a-f]{64}", sha) for sha in hashes)
    assert len(source.mirrors) >= 2
    assert source.mirrors[0].startswith("https://")
    assert all(re.fullmatch(r"https?://.*/", mirror) for mirror in source.mirrors)


def test_no_file_is_in_two_datasets() -> None:
    hashes = [
        sha
        for source in datasets().values()
        for sha in (*source.files.values(), *source.contents.values())
    ]
    assert len(set(hashes)) == len(hashes)


def test_importing_loads_few_modules() -> None:
    heavy = {"pooch", "requests", "sklearn", "scipy", "ssl", "urllib.request", "certifi"}
    code = "import sys, dlsys_bench.data; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "dlsys_bench.data.files" in loaded
    assert not heavy & set(loaded)
    ours = [
        name
        for name in loaded
        if name.startswith("dlsys_bench.") and not name.startswith("dlsys_bench.data")
    ]
    light = ("attributes", "entry_points", "errors", "extras", "text")
    assert set(ours) <= {f"dlsys_bench.{name}" for name in light}
