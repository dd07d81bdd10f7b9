"""Downloads: every mirror in turn, within a bounded time, into place only when whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPException
from pathlib import Path
from ssl import SSLContext
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from dlsys_bench.data.source import ADVICE, Source
from dlsys_bench.errors import DataError

# A mirror may be silent for so many seconds; after them it may not have been slower than so many
# bytes a second.
SILENCE, SLOWEST = 15.0, 10_000.0
# A mirror whose failure may pass gets another turn, after a pause in seconds.
TURNS, PAUSE = 2, 1.0


class _Failure(Exception):
    """What a mirror did wrong; `passing` where it may do better next time."""

    def __init__(self, reason: str, *, passing: bool) -> None:
        super().__init__(reason)
        self.passing = passing


def download(source: Source, file: str, folder: Path) -> None:
    """Put a file of `source` into `folder`, replacing what is there, or raise a DataError that says
    why not.

    The file is written beside its place and renamed once its SHA-256 is right, so other processes
    that do the same at the same time, or read, never see a part of it. Time: at most `SILENCE`
    seconds of silence and a mean rate of no less than `SLOWEST` from each mirror, `TURNS` times.
    """
    import pooch  # type: ignore[import-untyped]

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
                # So pooch reports another SHA-256, naming both. The same bytes would come again.
                failures[mirror] = _Failure(str(error), passing=False)
            except OSError as error:
                raise DataError(
                    f"cannot write {file} to the cache {folder}: {error.strerror or error}; "
                    f"make room or set XDG_CACHE_HOME, or {ADVICE}"
                ) from error
            else:
                return
        mirrors = [mirror for mirror, failure in failures.items() if failure.passing]
    raise DataError(
        f"cannot download {file} of {source.title}:\n"
        + "".join(f"  {mirror}: {failure}\n" for mirror, failure in failures.items())
        + ADVICE
    )


def _save(url: str, output_file: str, _pooch: Any) -> None:
    """A downloader for pooch. Its own bounds only the silence: a server that sends a byte now and
    then holds it."""
    with _failures():
        response = urlopen(
            Request(url, headers={"User-Agent": "dlsys-bench"}), timeout=SILENCE, context=_trust()
        )
    expected, received, started = response.headers.get("Content-Length"), 0, time.monotonic()
    with response, Path(output_file).open("wb") as out:
        while True:
            with _failures():
                # read1 returns with whatever has arrived, so that the rate is looked at even when
                # little does.
                chunk = response.read1(1 << 16)
            if not chunk:
                break
            out.write(chunk)
            received += len(chunk)
            elapsed = time.monotonic() - started
            if elapsed > SILENCE and received < SLOWEST * elapsed:
                raise _Failure(
                    f"sent {received} bytes in {elapsed:.0f} s, too slow to wait for", passing=False
                )
    if expected is not None and received != int(expected):
        raise _Failure(f"sent {received} of {expected} bytes", passing=True)


@contextmanager
def _failures() -> Iterator[None]:
    """Turns what the network raises into a _Failure."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise _Failure(f"HTTP {error.code} {error.reason}", passing=error.code >= 500) from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, TimeoutError):
            raise _Failure(f"no answer within {SILENCE:g} s", passing=False) from error
        raise _Failure(f"{type(reason).__name__}: {reason}", passing=True) from error


@cache
def _trust() -> SSLContext:
    """The machine's certificates and certifi's: some installations of Python come without any."""
    import ssl

    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
