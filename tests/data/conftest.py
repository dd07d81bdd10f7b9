"""A small dataset, an empty cache, and a mirror on this machine that fails on request."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import stat
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Source, datasets
from dlsys_bench.data.idx import TYPES

CODES = {np.dtype(name): code for code, name in TYPES.items()}


def _encode(values: np.ndarray) -> bytes:
    """Return the IDX encoding of an array, implemented from the description of the format."""
    code = CODES[values.dtype.newbyteorder(">")]
    header = bytes([0, 0, code, values.ndim]) + b"".join(
        struct.pack(">I", size) for size in values.shape
    )
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


@pytest.fixture(scope="session")
def encode() -> Callable[[np.ndarray], bytes]:
    return _encode


@dataclass
class Tiny:
    """The dataset "tiny": its source, its files and its arrays."""

    source: Source
    content: dict[str, bytes]
    arrays: dict[str, np.ndarray]

    def write(self, folder: Path, **replaced: bytes) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in self.content.items():
            (folder / file).write_bytes(replaced.get(file, content))
        return folder


def make_tiny(mirrors: tuple[str, ...] = (), seed: int = 0) -> Tiny:
    draw = np.random.default_rng(seed)
    arrays = {
        "x_train": draw.integers(0, 256, (40, 28, 28), np.uint8),
        "y_train": draw.integers(0, 3, 40).astype(np.uint8),
        "x_test": draw.integers(0, 256, (8, 28, 28), np.uint8),
        "y_test": draw.integers(0, 3, 8).astype(np.uint8),
    }
    content = {
        f"{name}.gz": gzip.compress(_encode(values), mtime=0) for name, values in arrays.items()
    }
    source = Source(
        name="tiny",
        title="Tiny",
        folder="tiny-folder",
        classes=("a", "b", "c"),
        shape=(28, 28, 1),
        licence="",
        citation="",
        files={file: hashlib.sha256(body).hexdigest() for file, body in content.items()},
        contents={
            file: hashlib.sha256(gzip.decompress(body)).hexdigest()
            for file, body in content.items()
        },
        mirrors=mirrors,
    )
    return Tiny(source, content, arrays)


@pytest.fixture
def second_tiny() -> Tiny:
    """Return a dataset that differs from "tiny" in all values."""
    return make_tiny(seed=1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of "tiny" in an empty cache; it does not exist yet."""
    monkeypatch.delenv("DLSYS_BENCH_DATA", raising=False)
    monkeypatch.setattr(
        "platformdirs.user_cache_path", lambda project: tmp_path / "cache" / project
    )
    return tmp_path / "cache" / "dlsys_bench" / "tiny-folder"


@pytest.fixture
def tiny(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """Add the dataset "tiny" without mirrors to the table, and return it."""
    made = make_tiny()
    monkeypatch.setitem(datasets(), "tiny", made.source)
    return made


@dataclass
class Mirror:
    """A server whose behaviour is the first component of the path.

    `served` counts the requests by path.
    """

    address: str
    content: dict[str, bytes]
    served: Counter[str] = field(default_factory=Counter)
    stopped: threading.Event = field(default_factory=threading.Event)

    def url(self, behaviour: str) -> str:
        return f"{self.address}/{behaviour}/"


class _Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def do_GET(self) -> None:
        self.mirror.served[self.path] += 1
        _, behaviour, file = self.path.split("/")
        # A client that gave up is not an error of the server.
        with contextlib.suppress(ConnectionError):
            getattr(self, behaviour)(self.mirror.content[file])

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, body: bytes, length: int | None = None, status: int = 200) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def good(self, body: bytes) -> None:
        self.answer(body, len(body))

    def slow_halves(self, body: bytes) -> None:
        """So slow that several processes are in the middle at once."""
        self.answer(body[: len(body) // 2], len(body))
        time.sleep(0.1)
        self.wfile.write(body[len(body) // 2 :])

    def missing(self, body: bytes) -> None:
        self.answer(b"", 0, 404)

    def wrong(self, body: bytes) -> None:
        self.answer(body[:-1] + b"!", len(body))

    def cut(self, body: bytes) -> None:
        self.answer(body[: len(body) // 2], len(body))

    def cut_unannounced(self, body: bytes) -> None:
        self.answer(body[: len(body) // 2])

    def broken_once(self, body: bytes) -> None:
        """Unwell the first time that a file is asked for."""
        if self.mirror.served[self.path] == 1:
            self.answer(b"", 0, 503)
        else:
            self.good(body)

    def hang(self, body: bytes) -> None:
        """Takes the request and never answers."""
        self.mirror.stopped.wait(10)

    def stall(self, body: bytes) -> None:
        """Sends a half and falls silent."""
        self.answer(body[: len(body) // 2], len(body))
        self.mirror.stopped.wait(10)

    def trickle(self, body: bytes) -> None:
        """Never silent for long, and far from done after four seconds."""
        self.answer(b"", len(body))
        for byte in body[:200]:
            self.wfile.write(bytes([byte]))
            if self.mirror.stopped.wait(0.02):
                return


@pytest.fixture
def mirror(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    handler: Any = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.mirror = Mirror(f"http://127.0.0.1:{server.server_port}", tiny.content)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield handler.mirror
        handler.mirror.stopped.set()
        server.shutdown()
        thread.join()


def _snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder in `folder`, and itself, with its size and time of change."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[int, int]]]:
    return _snapshot


@pytest.fixture
def forbid() -> Iterator[Callable[[Path, int], None]]:
    """Sets the mode of a path and, as root, becomes a user whom modes hold back; all is undone at
    the end."""
    if not hasattr(os, "geteuid"):
        pytest.skip("modes hold nobody back here: no POSIX permissions")
    root = os.geteuid() == 0
    before: dict[Path, int] = {}

    def restrict(path: Path, mode: int) -> None:
        before[path] = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode)
        if root:
            os.seteuid(65534)

    yield restrict
    if root:
        os.seteuid(0)
    for path, mode in before.items():
        path.chmod(mode)


@pytest.fixture
def open_tmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary folder that every user may enter, which pytest's own are not."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
