"""`doctor` finds each problem of a machine, with stand-ins for the parts that are broken."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import enter, invoke

from dlsys_bench.cli import examination
from dlsys_bench.cli.examination import Condition, Part
from dlsys_bench.extras import EXTRAS

SMI = """#!/bin/sh
echo "GPU 0: NVIDIA H200 (UUID: GPU-1)"
"""
TORCH = """
class version: cuda = {cuda!r}
class cuda:
    is_available = staticmethod(lambda: {usable})
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def wrong(examine: Callable[[], Iterator[Part]]) -> list[Part]:
    return [entry for entry in examine() if entry.state is Condition.WRONG]


def gpu_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cuda: str | None, usable: bool
) -> None:
    """Put a driver and a torch in place that answer as on a machine with a GPU."""
    (folder / "bin").mkdir()
    (folder / "bin/nvidia-smi").write_text(SMI)
    (folder / "bin/nvidia-smi").chmod(0o755)
    (folder / "torch.py").write_text(TORCH.format(cuda=cuda, usable=usable))
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(examination, "CUDA_OF", {"torch": examination.CUDA_OF["torch"]})


@pytest.mark.parametrize(
    ("cuda", "usable", "text"),
    [
        (None, False, "is built without CUDA and does not use the GPU"),
        ("12.8", False, "has CUDA 12.8 and does not use the GPU"),
        ("12.8", True, None),
    ],
)
def test_torch_without_cuda_on_a_machine_with_a_gpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cuda: str | None, usable: bool, text: str | None
) -> None:
    gpu_machine(folder, monkeypatch, cuda, usable)
    found = wrong(examination.gpus)
    assert [text in entry.found for entry in found if text] == [True] * bool(text)
    assert all("torch" in entry.remedy for entry in found)


def test_gpus_that_a_variable_hides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_machine(folder, monkeypatch, "12.8", usable=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [entry.remedy for entry in wrong(examination.gpus)] == ["unset CUDA_VISIBLE_DEVICES"]


@pytest.mark.parametrize(
    ("vendor", "device_class", "state"),
    [
        ("0x10de", "0x030200", Condition.WRONG),
        ("0x10de", "0x040300", Condition.MISSING),
        ("0x8086", "0x030000", Condition.MISSING),
    ],
)
def test_a_gpu_without_a_driver(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    vendor: str,
    device_class: str,
    state: Condition,
) -> None:
    device = folder / "devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{device_class}\n")
    monkeypatch.setattr(examination, "PCI_DEVICES", folder / "devices")
    monkeypatch.setenv("PATH", "")
    assert [entry.state for entry in examination.gpus()] == [state]


def test_a_machine_without_a_gpu_is_not_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(examination, "PCI_DEVICES", folder / "none")
    assert [entry.state for entry in examination.gpus()] == [Condition.MISSING]


@pytest.mark.parametrize(("threads", "cores", "states"), [(1, 8, 1), (1, 1, 0), (8, 8, 0)])
def test_a_single_blas_thread(
    monkeypatch: pytest.MonkeyPatch, threads: int, cores: int, states: int
) -> None:
    blas = {"user_api": "blas", "internal_api": "openblas", "num_threads": threads}
    monkeypatch.setattr(examination, "threadpool_info", lambda: [blas])
    monkeypatch.setattr(examination, "cores", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = wrong(examination.threads)
    assert len(found) == states
    assert all(entry.remedy == "unset OMP_NUM_THREADS" for entry in found)


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert [entry.part for entry in wrong(examination.folders)] == [
        "cache",
        "working directory",
        "temporary files",
    ]


def test_a_share_of_a_disk_without_space(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.EDQUOT, "Disk quota exceeded")
    monkeypatch.setattr(examination, "_cannot_write", lambda folder: error)
    assert {entry.remedy for entry in wrong(examination.folders)} == {"delete files there"}


def test_an_unwritable_cache(folder: Path) -> None:
    # A file in place of a folder: root may write into a folder without permission.
    (folder / "cache").write_text("")
    (entry,) = wrong(examination.folders)
    assert (entry.part, "not writable" in entry.found) == ("cache", True)
    assert "XDG_CACHE_HOME" in entry.remedy


def test_a_corrupted_cache(folder: Path) -> None:
    path = folder / "cache/dlsys_bench/mnist/t10k-labels-idx1-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"corrupted")
    (entry,) = wrong(examination.data)
    assert str(path) in entry.found
    assert "dlsys-bench data fetch mnist" in entry.remedy


def test_an_old_keras(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    information = folder / "keras-2.15.0.dist-info"
    information.mkdir()
    text = "Metadata-Version: 2.1\nName: keras\nVersion: 2.15.0\n"
    (information / "METADATA").write_text(text)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    found = wrong(examination.packages)
    assert {entry.found for entry in found} == {"keras 2.15.0 is installed; it needs >=3.9"}
    assert "pip install --upgrade 'dlsys-bench[tensorflow]'" in {entry.remedy for entry in found}


def test_an_examination_that_fails_is_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks() -> Iterator[Part]:
        raise RuntimeError("\x1b[31m no driver")

    monkeypatch.setattr(examination, "EXAMINATIONS", (breaks, examination.extras))
    first, *rest = examination.examine()
    assert first.state is Condition.WRONG
    assert "\x1b" not in first.found
    assert "no driver" in first.found
    assert len(rest) == len(EXTRAS)


@pytest.mark.parametrize("problem", [True, False])
def test_the_command_states_problems_first(monkeypatch: pytest.MonkeyPatch, problem: bool) -> None:
    entries = [Part("a", Condition.MISSING, "", "pip install a"), Part("b", Condition.OK, "fine")]
    entries += [Part("c", Condition.WRONG, "broken", "repair it")] * problem
    monkeypatch.setattr("dlsys_bench.cli.doctor.examine", lambda on_end: entries)
    ended = invoke("doctor", code=int(problem))
    assert ("1 problem found" if problem else "nothing is wrong") in ended.stderr
    words = ended.stdout.split()
    assert not problem or words.index("broken") < words.index("fine")
    found = json.loads(invoke("doctor", "--json", code=int(problem)).stdout)
    assert [entry["state"] for entry in found] == [str(entry.state) for entry in entries]
