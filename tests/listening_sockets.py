"""The sockets of a process and of all that it has started."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
import pytest

ACCEPTS = 0x10000
"""The flag of a Unix socket that accepts connections (__SO_ACCEPTCON)."""


def listening(pid: int) -> list[str]:
    """Return the sockets of the process and its descendants that accept connections."""
    found = []
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found += [
                f"{process.pid}: {connection.laddr}"
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN or not connection.raddr
            ]
        inodes = _sockets(process.pid)
        found += [f"{process.pid}: unix {path}" for inode, path in _unix() if inode in inodes]
    return found


def _sockets(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process has open."""
    found = set()
    # The process may end, or close a file, at any moment.
    with suppress(FileNotFoundError, ProcessLookupError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                kind, _, inode = str(link.readlink()).partition(":")
                if kind == "socket":
                    found.add(inode.strip("[]"))
    return found


def _unix() -> list[tuple[str, str]]:
    """Return the inode and the path of each Unix socket that accepts connections."""
    table = Path("/proc/net/unix")
    if not table.exists():
        pytest.skip("sockets can only be listed where there is /proc/net/unix")
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    return [(row[6], " ".join(row[7:])) for row in rows if int(row[3], 16) & ACCEPTS]
