"""The worker process of ProcessRunner: reads a request per line, and writes its answer.

A request is a token and the name of a check, or CREATE. The answer begins with the token.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any

from dlsys_bench.conformance import checks
from dlsys_bench.conformance.runner import (
    CREATE,
    LocalRunner,
    engine_factory,
)
from dlsys_bench.conformance.trial import EngineFactory, EngineTarget, Options
from dlsys_bench.errors import UserError
from dlsys_bench.text import one_line, printable

assert checks  # Importing them registers them.


def main() -> None:
    """Answer requests until standard input ends."""
    name, device, *options = json.loads(sys.argv[1])
    target = EngineTarget(name, device)
    # The engine gets no access to the two pipes, of which it could read a request, or print between
    # the answers.
    requests, answers = _moved(0, "r"), _moved(1, "w")
    make = engine_factory(*target)
    runner = LocalRunner(make, Options(*options), target)
    for line in requests:
        token, request = json.loads(line)
        answer = _created(make) if request == CREATE else runner.run(request).to_dict()
        # The engine may have left the beginning of a line in the pipe.
        answers.write(f"\n{token} {json.dumps(answer)}\n")
        answers.flush()
    os._exit(0)  # Threads of the engine may never end.


def _moved(descriptor: int, mode: str) -> IO[str]:
    """Return a file on a copy of a descriptor, which then leads nowhere."""
    file = os.fdopen(os.dup(descriptor), mode)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return file


def _created(make: EngineFactory) -> dict[str, Any]:
    """Create the engine and return its dtypes, or the error that the user can correct."""
    try:
        return {"dtypes": [one_line(dtype) for dtype in make("").dtypes]}
    except UserError as error:
        return {"error": printable(error)}
    except BaseException:
        return {}  # The first check reports it.
