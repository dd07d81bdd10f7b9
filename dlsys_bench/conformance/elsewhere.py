"""A native training in a process of its own, which shares nothing with the one that compares it.

`python -m dlsys_bench.conformance.elsewhere FILE JOB` creates the engine, trains, and writes the
tensors to the file FILE.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.runner import engine_factory, without_lack
from dlsys_bench.conformance.trial import EngineTarget, Options, Trial
from dlsys_bench.engines.plan import Weights
from dlsys_bench.text import describe, one_line

HASH_SEED = "PYTHONHASHSEED"
"""The variable that decides how Python hashes strings; by default, every process differs."""

PATIENCE = 10
"""A process that takes this multiple of the time limit of a check, which is CPU time, hangs."""


def train_elsewhere(target: EngineTarget, options: Options) -> Weights:
    """Return what a native training with seed 1 ends with in a process in which Python hashes
    strings differently.

    Raises BrokenError if that process fails or hangs.
    """
    hashes = "1" if os.environ.get(HASH_SEED) == "0" else "0"
    paths = [os.getcwd(), *filter(None, sys.path)]  # noqa: PTH109
    changed = {HASH_SEED: hashes, "PYTHONPATH": os.pathsep.join(paths)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "weights.npz")
        job = json.dumps([*target, *options])
        try:
            done = subprocess.run(
                [sys.executable, "-m", __name__, str(file), job],
                env={**os.environ, **changed},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE * options.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise broken(Fault.TIMEOUT, "a training in another process does not end") from None
        if done.returncode < 0:
            how = signal.Signals(-done.returncode).name
            raise broken(Fault.CRASHED, f"another process ended by {how} as it trained")
        if done.returncode or not file.exists():
            last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
            what = f"a training in another process ended with: {one_line(last, 200)}"
            raise broken(Fault.RAISED, what)
        with np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files}


def main() -> None:
    """Train as the arguments say, and write the tensors."""
    # It registers the checks, which import this module.
    from dlsys_bench.conformance.checks.seeds import train_all_draws

    file, job = sys.argv[1:]
    name, device, *options = json.loads(job)
    try:
        make = without_lack(engine_factory(name, device), "native")
        weights = train_all_draws(Trial(make, Options(*options), dtype=""))
    except BaseException as error:
        sys.stderr.write(f"\n{describe(error)}\n")
        sys.stderr.flush()
        os._exit(1)
    np.savez(file, allow_pickle=False, **weights)
    os._exit(0)  # Threads of the engine may never end.


if __name__ == "__main__":
    main()
