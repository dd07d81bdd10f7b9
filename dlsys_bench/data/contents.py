"""The contents of files: unpacked and hashed, so that a file is recognised however it is
compressed, and described by what it is where it is not the expected one."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dlsys_bench.data.idx import describe_idx
from dlsys_bench.errors import DataError

GZIP = b"\x1f\x8b"
BLOCK = 1 << 20
HEAD = 1024
"""The number of bytes at the beginning of a content by which its kind is recognised."""

MOST = 1 << 30
"""The largest content that is unpacked, in bytes: no dataset comes near, but a file that is made to
fill the memory may exceed it."""

AGAIN = "download the file again"

MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer in place of the data: run git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer in place of the data: run git annex get"),
    (GZIP, "a file that was compressed twice: unpack it once"),
    (b"BZh", "a bzip2 file: unpack it"),
    (b"\xfd7zXZ", "an xz file: unpack it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file: unpack it"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\x93NUMPY", "a numpy array (.npy)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
)
"""The beginnings of files that lie in place of a dataset's, and what each of them is."""

MARKUP: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", f"an HTML page saved in place of the file: {AGAIN}"),
    (b"<html", f"an HTML page saved in place of the file: {AGAIN}"),
    (b"<?xml", f"an XML document, such as an error message of a server: {AGAIN}"),
    (b"<error", f"an XML document, such as an error message of a server: {AGAIN}"),
    (b"{", f"a JSON text, such as an error message of a server: {AGAIN}"),
)
"""The beginnings of texts, in lower case and without leading spaces."""


@dataclass(frozen=True)
class Content:
    """The content of a file, unpacked if the file is gzipped: its SHA-256, its size in bytes, and
    its first bytes. `problem` says why it could not be unpacked to the end, and is empty if it
    was."""

    sha256: str
    size: int
    head: bytes
    packed: bool
    problem: str = ""


def content_of(path: Path) -> Content | None:
    """Return the content of a file, or None if there is no file.

    A file that does not change is read once per process. Raises DataError if it cannot be read.
    """
    try:
        stat = path.stat()
        return _read(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def unpack(path: Path) -> bytes:
    """Return the content of a file, unpacked if it is gzipped.

    Raises DataError if it cannot be read or unpacked.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


@lru_cache(maxsize=256)
def _read(path: Path, *_version: int) -> Content:
    digest, size, head, problem = hashlib.sha256(), 0, b"", ""
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
        file.seek(0)
        stream: Any = gzip.GzipFile(fileobj=file) if packed else file
        try:
            while size <= MOST and (block := stream.read(BLOCK)):
                head = head or block[:HEAD]
                digest.update(block)
                size += len(block)
        except EOFError:
            problem = f"a truncated gzip file, as of a download that was interrupted: {AGAIN}"
        except (zlib.error, gzip.BadGzipFile) as error:
            problem = f"a damaged gzip file ({error}): {AGAIN}"
    if size > MOST:
        problem = f"a file that unpacks to more than {MOST:,} bytes"
    return Content(digest.hexdigest(), size, head, packed, problem)


def describe_content(content: Content) -> str:
    """Describe a content that no dataset has, with what to do about it where that is known."""
    head = content.head
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if content.problem:
        return content.problem
    if not content.size:
        return "an empty file"
    for table, beginning in ((MAGIC, head), (MARKUP, text)):
        for start, kind in table:
            if beginning.startswith(start):
                return kind
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it"
    if idx := describe_idx(head, content.size):
        return f"{'a gzipped' if content.packed else 'an unpacked'} IDX file, {idx}"
    if not any(head):
        return f"a file of zeros, as of a download that was interrupted: {AGAIN}"
    if all(0x20 <= byte < 0x7F or byte in b"\t\n\r" for byte in head):
        return f"a text that begins with {head[:40].decode('ascii')!r}"
    return f"a file that begins with the bytes {head[:4].hex()}"
