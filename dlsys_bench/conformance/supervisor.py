"""The process above a worker, which ends every process that the worker has started.

`python -m dlsys_bench.conformance.supervisor JOB` becomes two processes on Linux. The lower one is
the worker. The upper one adopts the orphans among its descendants, so that none can leave its tree,
not even by forking twice and creating a session. It ends all of them when the worker ends, or when
the process that has started it does.

Elsewhere there is the worker alone. Its process group and its children are ended.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from pathlib import Path
from typing import NoReturn

from dlsys_bench.process_tree import adopt_orphans, end_descendants, set_attribute

try:
    import resource
except ImportError:  # On Windows, which writes no core files.
    resource = None  # type: ignore[assignment]

# Imported after the fork: the libraries that the worker needs start threads.
WORKER = "dlsys_bench.conformance.worker"

# Of <sys/prctl.h>: this process gets a signal when its parent ends.
PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 1.0


def main() -> None:
    """Run the worker, and end what it leaves."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if adopt_orphans():
        parent = os.getppid()
        if worker := os.fork():
            _supervise(worker, parent)
        os.setsid()  # A signal that the worker sends to its group must not end the supervisor.
        set_attribute(PR_SET_PDEATHSIG, signal.SIGKILL)
        _be_the_first_to_end()
    importlib.import_module(WORKER).main()


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
    end_descendants(os.getpid())
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
