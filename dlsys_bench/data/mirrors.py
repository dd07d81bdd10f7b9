"""Downloads from mirrors: each mirror in turn, in a bounded time, moved into place only when
complete."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPException
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import certifi
import pooch

from dlsys_bench.data.source import ADVICE, Source
from dlsys_bench.errors import DataError

SILENCE = 15.0
"""The longest time, in seconds, for which a mirror may send nothing."""

SLOWEST = 10_000.0
"""The lowest mean rate of a mirror, in bytes per second, once SILENCE seconds have passed."""

TURNS, PAUSE = 2, 1.0
"""How often a mirror is tried whose failure may be temporary, and the pause between, in seconds."""


class _Failure(Exception):
    """A failure of one mirror, `temporary` if another attempt may succeed."""

    def __init__(self, reason: str, *, temporary: bool) -> None:
        super().__init__(reason)
        self.temporary = temporary


def download(source: Source, file: str, folder: Path) -> None:
    """Download a file of a dataset into a folder, replacing a file of that name.

    The file is written under a temporary name and renamed once its SHA-256 matches, so that other
    processes that read or download it never see a part of it. Each mirror is tried up to TURNS
    times, and given up after SILENCE seconds without data or at a mean rate below SLOWEST. Raises
    DataError, which names the failure of every mirror.
    """
    failures: dict[str, _Failure] = {}
    mirrors = list(source.mirrors)
    for turn in range(TURNS):
        if turn and mirrors:
            time.sleep(PAUSE)
        for mirror in mirrors:
            try:
                pooch.retrieve(
                    mirror + file, source.files[file], fname=file, path=folder, downloader=_save
                )
            except _Failure as failure:
                failures[mirror] = failure
            except ValueError as error:
                # pooch raises it if the SHA-256 differs, and names both. A second attempt would
                # download the same bytes.
                failures[mirror] = _Failure(str(error), temporary=False)
            except OSError as error:
                raise DataError(
                    f"cannot write {file} to the cache {folder}: {error.strerror or error}; "
                    f"make room or set XDG_CACHE_HOME, or {ADVICE}"
                ) from error
            else:
                return
        mirrors = [mirror for mirror, failure in failures.items() if failure.temporary]
    raise DataError(
        f"cannot download {file} of {source.title}:\n"
        + "".join(f"  {mirror}: {failure}\n" for mirror, failure in failures.items())
        + ADVICE
    )


def is_too_slow(received: int, seconds: float) -> bool:
    """Return True if a download of `received` bytes in that time is too slow to wait for."""
    return seconds > SILENCE and received < SLOWEST * seconds


def _save(url: str, output_file: str, _pooch: Any) -> None:
    """Download a file; a downloader for pooch. The one of pooch limits only the silence, so that a
    server which sends a byte now and then would block it."""
    with _failures():
        response = urlopen(
            Request(url, headers={"User-Agent": "dlsys-bench"}), timeout=SILENCE, context=_trust()
        )
    expected, received, started = response.headers.get("Content-Length"), 0, time.monotonic()
    with response, Path(output_file).open("wb") as out:
        while True:
            with _failures():
                # read1 returns what has arrived, however little, so that the rate is checked.
                chunk = response.read1(1 << 16)
            if not chunk:
                break
            out.write(chunk)
            received += len(chunk)
            elapsed = time.monotonic() - started
            if is_too_slow(received, elapsed):
                raise _Failure(
                    f"sent {received} bytes in {elapsed:.0f} s, too slow to wait for",
                    temporary=False,
                )
    if expected is not None and received != int(expected):
        raise _Failure(f"sent {received} of {expected} bytes", temporary=True)


@contextmanager
def _failures() -> Iterator[None]:
    """Turn the errors of the network into a _Failure."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise _Failure(f"HTTP {error.code} {error.reason}", temporary=error.code >= 500) from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, TimeoutError):
            raise _Failure(f"no answer within {SILENCE:g} s", temporary=False) from error
        raise _Failure(f"{type(reason).__name__}: {reason}", temporary=True) from error


@cache
def _trust() -> SSLContext:
    """Return a context that trusts the certificates of the machine and of certifi: some
    installations of Python come without any."""
    context = create_default_context()
    context.load_verify_locations(certifi.where())
    return context
