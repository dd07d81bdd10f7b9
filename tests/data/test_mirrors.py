"""Downloading of datasets from mirrors that fail in many ways."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import FileReport, datasets, fetch, is_available, load, mirrors, verify
from dlsys_bench.errors import DataError


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "SILENCE", 0.3)
    monkeypatch.setattr(mirrors, "PAUSE", 0.01)


@pytest.fixture
def serve(tiny: Any, mirror: Any) -> Callable[..., None]:
    """Return a function that sets the mirrors of "tiny"."""

    def given(*behaviours: str) -> None:
        datasets()["tiny"] = replace(
            tiny.source, mirrors=tuple(mirror.url(behaviour) for behaviour in behaviours)
        )

    return given


def failure() -> str:
    with pytest.raises(DataError) as caught:
        load("tiny")
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_files_are_downloaded_to_the_cache(tiny: Any, mirror: Any, serve: Any, cache: Path) -> None:
    serve("good")
    assert not is_available("tiny")
    dataset = load("tiny")
    np.testing.assert_array_equal(dataset.x_train[..., 0], tiny.arrays["x_train"])
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == tiny.content
    load("tiny", offline=True)
    assert set(mirror.served.values()) == {1}
    assert is_available("tiny")


def test_every_downloaded_file_is_logged(tiny: Any, serve: Any, cache: Path) -> None:
    serve("good")
    cache.mkdir(parents=True)
    (cache / "y_train.gz").write_bytes(tiny.content["y_train.gz"])
    reports: list[FileReport] = []

    def keep(report: FileReport) -> None:
        reports.append(report)
        assert report.path.read_bytes()

    paths = fetch("tiny", on_file=keep)
    assert paths == [report.path for report in reports] == [cache / file for file in tiny.content]
    assert reports == verify("tiny")


def test_the_next_mirror_is_tried(mirror: Any, serve: Any) -> None:
    serve("missing", "wrong", "good")
    assert load("tiny").name == "tiny"
    assert len(mirror.served) == 12
    assert set(mirror.served.values()) == {1}


@pytest.mark.parametrize("seconds", [0.31, 1.0, 60.0])
def test_the_rate_of_a_mirror_is_limited_once_it_had_time(seconds: float) -> None:
    least = int(mirrors.SLOWEST * seconds)
    assert mirrors.is_too_slow(least - 1, seconds)
    assert not mirrors.is_too_slow(least + 1, seconds)
    assert not mirrors.is_too_slow(0, 0.3)


@pytest.mark.parametrize(
    ("behaviour", "reason", "requests"),
    [
        ("missing", "HTTP 404 Not Found", 1),
        ("wrong", "does not match the known hash: expected {expected} but got ", 1),
        ("cut", "sent {half} of {whole} bytes", 2),
        ("cut_unannounced", "does not match the known hash", 1),
        ("hang", "no answer within 0.3 s", 1),
        ("stall", "no answer within 0.3 s", 1),
        ("trickle", "too slow to wait for", 1),
    ],
)
def test_a_failing_mirror(
    tiny: Any, mirror: Any, serve: Any, cache: Path, behaviour: str, reason: str, requests: int
) -> None:
    serve(behaviour)
    start = time.monotonic()
    message = failure()
    assert time.monotonic() - start < 3
    body = tiny.content["x_train.gz"]
    reason = reason.format(
        expected=tiny.source.files["x_train.gz"], half=len(body) // 2, whole=len(body)
    )
    assert f"  {mirror.url(behaviour)}: " in message
    assert reason in message
    assert "x_train.gz of Tiny" in message
    assert all(word in message for word in ("--data-dir", "DLSYS_BENCH_DATA", '"digits"'))
    assert mirror.served == {f"/{behaviour}/x_train.gz": requests}
    assert names(cache) == []


def test_the_message_names_all_mirrors(mirror: Any, serve: Any) -> None:
    serve("missing", "wrong", "hang")
    lines = failure().splitlines()
    for behaviour, reason in {
        "missing": "HTTP 404",
        "wrong": "known hash",
        "hang": "no answer",
    }.items():
        assert any(
            line.startswith(f"  {mirror.url(behaviour)}: ") and reason in line for line in lines
        )


def test_a_temporary_failure_is_retried(mirror: Any, serve: Any) -> None:
    serve("missing", "broken_once")
    assert load("tiny").name == "tiny"
    served = {path: count for path, count in mirror.served.items() if "x_train" in path}
    assert served == {"/missing/x_train.gz": 1, "/broken_once/x_train.gz": 2}


def test_no_mirror_answers(tiny: Any, mirror: Any) -> None:
    import socket

    with socket.socket() as unused:
        # Bound but not listening, so nobody else takes the port and nobody answers at it.
        unused.bind(("127.0.0.1", 0))
        datasets()["tiny"] = replace(
            tiny.source, mirrors=(f"http://127.0.0.1:{unused.getsockname()[1]}/",)
        )
        assert "ConnectionRefusedError: " in failure()


@pytest.mark.parametrize("damaged", [b"", b"not it", None])
def test_a_damaged_file_in_the_cache_is_replaced(
    tiny: Any,
    mirror: Any,
    serve: Any,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    damaged: bytes | None,
) -> None:
    import hashlib

    serve("good")
    damaged = tiny.content["x_train.gz"][:-1] if damaged is None else damaged
    tiny.write(cache, **{"x_train.gz": damaged})
    with caplog.at_level(logging.WARNING, "dlsys_bench"):
        dataset = load("tiny")
    np.testing.assert_array_equal(dataset.x_train[..., 0], tiny.arrays["x_train"])
    assert mirror.served == {"/good/x_train.gz": 1}
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    for word in (
        str(cache / "x_train.gz"),
        hashlib.sha256(damaged).hexdigest(),
        tiny.source.files["x_train.gz"],
    ):
        assert word in record.getMessage()
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == tiny.content


def test_a_damaged_file_that_cannot_be_replaced_is_not_used(
    tiny: Any, serve: Any, cache: Path
) -> None:
    serve("missing")
    tiny.write(cache, **{"x_train.gz": tiny.content["x_test.gz"]})
    assert "HTTP 404" in failure()
    assert names(cache) == sorted(tiny.content)


CHILD = """
import sys, time, pathlib
sys.path[:0] = sys.argv[3:]
import platformdirs
from conftest import make_tiny
from dlsys_bench.data import datasets, load
root, url = pathlib.Path(sys.argv[1]), sys.argv[2]
platformdirs.user_cache_path = lambda project: root / "cache" / project
tiny = make_tiny((url,))
datasets()["tiny"] = tiny.source
(root / f"ready-{time.monotonic_ns()}").touch()
while not (root / "go").exists():
    time.sleep(0.002)
dataset = load("tiny")
assert (dataset.x_train[..., 0] == tiny.arrays["x_train"]).all()
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["nothing there", "damaged"])
def test_processes_share_the_cache(
    tiny: Any, mirror: Any, cache: Path, tmp_path: Path, state: str
) -> None:
    if state == "damaged":
        tiny.write(cache, **{"x_train.gz": b"damaged"})
    here = Path(__file__).parent
    command = [
        sys.executable,
        "-c",
        CHILD,
        str(tmp_path),
        mirror.url("slow_halves"),
        str(here),
        str(here.parents[1]),
    ]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("ready-*"))) < len(children) and time.monotonic() < deadline:
            assert all(child.poll() is None for child in children), children[0].communicate()
            time.sleep(0.01)
        (tmp_path / "go").touch()
        errors = [child.communicate(timeout=900)[1] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [child.returncode for child in children] == [0] * 4, errors
    assert mirror.served["/slow_halves/x_train.gz"] > 1, (
        "the processes did not download at the same time"
    )
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == tiny.content


def test_a_cache_that_cannot_be_created_raises(serve: Any, cache: Path) -> None:
    serve("good")
    cache.parents[1].write_text("a file where a folder should be")
    message = failure()
    assert message.startswith(f"cannot write x_train.gz to the cache {cache}: ")
    assert all(word in message for word in ("XDG_CACHE_HOME", "--data-dir"))


def test_a_read_only_cache_raises(
    tiny: Any, serve: Any, open_tmp: Path, forbid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("good")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda project: open_tmp)
    cache = tiny.write(open_tmp / "tiny-folder", **{"y_train.gz": b""})
    forbid(cache, 0o555)
    assert f"cannot write y_train.gz to the cache {cache}: " in failure()
    assert "Permission denied" in failure()


def test_a_complete_read_only_cache_is_used(
    tiny: Any, open_tmp: Path, forbid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda project: open_tmp)
    forbid(tiny.write(open_tmp / "tiny-folder"), 0o555)
    assert load("tiny").name == "tiny"


def test_a_full_disk_raises(serve: Any, cache: Path, mirror: Any) -> None:
    resource = pytest.importorskip(
        "resource", reason="no limit on the size of files here, so no disk is full"
    )
    serve("good", "good")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so a write beyond the limit fails as on a full disk, with an OSError.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        message = failure()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"cannot write x_train.gz to the cache {cache}: File too large" in message
    assert mirror.served == {"/good/x_train.gz": 1}
    assert names(cache) == []
