"""The worker process: a check's name a line comes in, an result a line goes out."""

from __future__ import annotations

import json
import os
import sys

from dlsys_bench.conformance import checks
from dlsys_bench.conformance.runner import LocalRunner, Options, engine_factory, replay_command


def main() -> None:
    target, device, *options = json.loads(sys.argv[1])
    # Whatever the engine or a library under it prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    assert checks
    here = LocalRunner(
        engine_factory(target, device), Options(*options), replay_command(target, device)
    )
    for line in sys.stdin:
        answers.write(json.dumps(here.run(line.strip()).to_dict()) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
