"""The worker process of ProcessRunner: reads the name of a check per line, writes its result."""

from __future__ import annotations

import json
import os
import sys

from dlsys_bench.conformance import checks
from dlsys_bench.conformance.runner import (
    ASK_DTYPES,
    LocalRunner,
    engine_factory,
    replay_command,
)
from dlsys_bench.conformance.trial import Options

assert checks  # Importing them registers them.


def main() -> None:
    """Run checks until standard input ends."""
    target, device, *options = json.loads(sys.argv[1])
    # What the engine prints goes nowhere, because it must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    make, command = engine_factory(target, device), replay_command(target, device)
    runner = LocalRunner(make, Options(*options), command)
    for line in sys.stdin:
        asked = line.strip()
        answer = runner.dtypes() if asked == ASK_DTYPES else runner.run(asked).to_dict()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
