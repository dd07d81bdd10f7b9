"""The process above a worker, which ends every process that the worker has started.

`python -m dlsys_bench.conformance.supervisor JOB` becomes two processes on Linux. The lower one is
the worker. The upper one adopts the orphans among its descendants, so that none can leave its tree,
not even by forking twice and creating a session. It ends all of them when the worker ends, or when
the process that has started it does.

Elsewhere there is the worker alone. Its process group and its children are ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import psutil

from dlsys_bench.conformance.clock import tree

try:
    import resource
except ImportError:  # On Windows, which writes no core files.
    resource = None  # type: ignore[assignment]

# Imported after the fork: the libraries that the worker needs start threads.
WORKER = "dlsys_bench.conformance.worker"

# Of <sys/prctl.h>: this process adopts its orphans; it gets a signal when its parent ends.
PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG = 36, 1
LOOK_SECONDS = 1.0
ROUNDS = 20


def main() -> None:
    """Run the worker, and end what it leaves."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if _set(PR_SET_CHILD_SUBREAPER, 1):
        parent = os.getppid()
        if worker := os.fork():
            _supervise(worker, parent)
        os.setsid()  # A signal that the worker sends to its group must not end the supervisor.
        _set(PR_SET_PDEATHSIG, signal.SIGKILL)
        _be_the_first_to_end()
    importlib.import_module(WORKER).main()


def end_tree(pid: int) -> None:
    """Kill the descendants of a process until there are none."""
    for _ in range(ROUNDS):
        alive = [process for process in tree(pid)[1:] if not _has_ended(process)]
        if not alive:
            return
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=1)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def _set(option: int, value: int) -> bool:
    """Set an attribute of this process, and return False where there is no such attribute."""
    if sys.platform != "linux" or not hasattr(os, "fork"):
        return False
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(option, value, 0, 0, 0) == 0


def _be_the_first_to_end() -> None:
    """Have the kernel end this process, and no other of the user, if the memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _supervise(worker: int, parent: int) -> NoReturn:
    """Wait until the worker or the parent ends, end all descendants, and end as the worker has."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    code = None
    while code is None and os.getppid() == parent:
        signal.sigtimedwait({signal.SIGCHLD}, LOOK_SECONDS)
        code = _reap(worker)
    end_tree(os.getpid())
    if code is not None and code < 0:
        with contextlib.suppress(OSError):  # Of SIGKILL.
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(1 if code is None else abs(code))


def _reap(worker: int) -> int | None:
    """Release the children that have ended; the exit code of the worker if it is one of them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitpid(-1, os.WNOHANG)[0:2]:
            pid, status = ended
            if pid == 0:
                break
            if pid == worker:
                code = os.waitstatus_to_exitcode(status)
    return code


if __name__ == "__main__":
    main()
