"""The lock on a GPU, across processes."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.runs.store.lock import descriptor_lock
from dlsys_bench.timing.device_lock import exclusive

HOLDER = """
import sys
from dlsys_bench.timing.device_lock import exclusive
print("asks", flush=True)
with exclusive(sys.argv[1]):
    print("has it", flush=True)
    sys.stdin.read()
"""

Start = Callable[..., "subprocess.Popen[bytes]"]

# A process that does not wait for the lock has it within milliseconds.
SHORT = 0.3


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a process, which holds a device until its stdin ends."""
    started: list[subprocess.Popen[bytes]] = []

    def one(device: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", HOLDER, device]
        # Unbuffered: what was read ahead, select does not see.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"asks\n"
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


def has_it(process: subprocess.Popen[bytes], within: float) -> bool:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], within)
    return bool(ready) and process.stdout.readline() == b"has it\n"


def test_a_process_waits_for_the_one_that_holds_the_gpu(
    nvml: Any, locks: Path, start: Start
) -> None:
    with exclusive("cuda"):
        other = start("cuda:0")
        assert not has_it(other, SHORT)
    assert has_it(other, 30)
    third = start("cuda")
    assert not has_it(third, SHORT)
    # The lock is released however the process ends.
    other.kill()
    assert has_it(third, 30)


def test_all_names_of_a_gpu_have_one_lock(
    nvml: Any, locks: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exclusive("cuda"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nvml.h100["nvmlDeviceGetUUID"])
        assert not has_it(start("cuda"), SHORT)


def test_the_lock_has_the_number_if_the_driver_does_not_answer(
    nvml: Any, locks: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.becomes("fails")
    with exclusive("cuda:1"):
        assert has_it(start("cuda"), 30)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        assert not has_it(start("cuda"), SHORT)


def test_the_lock_is_reentrant(nvml: Any, locks: Path, start: Start) -> None:
    with exclusive("cuda"):
        with exclusive("cuda"):
            pass
        other = start("cuda")
        assert not has_it(other, SHORT)
        other.kill()
    with pytest.raises(ZeroDivisionError), exclusive("cuda"):
        _ = 1 / 0
    with exclusive("cuda"):
        other = start("cuda")
        assert not has_it(other, SHORT)
    assert has_it(other, 30)


def test_a_child_that_outlives_its_parent_does_not_hold_the_lock(tmp_path: Path) -> None:
    """As workers that load data may: started while it was held, they have the lock's file open
    too."""
    path = tmp_path / "lock"
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    with descriptor_lock(descriptor):
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,)
        )
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        child.kill()
        child.communicate()


def test_a_cpu_has_no_lock(nvml: Any, locks: Path, start: Start) -> None:
    with exclusive("cpu"), exclusive("cpu:0"):
        assert has_it(start("cpu"), 30)
    assert not list(locks.iterdir())
    assert not nvml.asked


def test_a_lock_that_cannot_be_created_raises(nvml: Any, locks: Path) -> None:
    (locks / f"dlsys_bench-{nvml.h100['nvmlDeviceGetUUID']}.lock").symlink_to(
        locks / "nowhere" / "file"
    )
    with (
        pytest.raises(UserError, match="cannot wait for cuda at .*No such file"),
        exclusive("cuda"),
    ):
        pass
