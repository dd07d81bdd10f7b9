"""The time to start: processes that run `import dlsys_bench` and `dlsys-bench --help`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest


@pytest.mark.parametrize(
    "arguments",
    [("-c", "pass"), ("-c", "import dlsys_bench"), ("-m", "dlsys_bench", "--help")],
    ids=["python alone", "import dlsys_bench", "dlsys-bench --help"],
)
def test_startup(benchmark: Any, arguments: tuple[str, ...]) -> None:
    def start() -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    benchmark.pedantic(start, rounds=10, warmup_rounds=2)
