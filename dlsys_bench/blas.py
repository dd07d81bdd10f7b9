"""Which of its kernels OpenBLAS should run where it does not know the processor."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "OPENBLAS_CORETYPE"

WIDE = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}

ZEN_5 = 26


def core_type(processor: str | None = None) -> str | None:
    """The core type that OpenBLAS should be told, by what /proc/cpuinfo says; None where it finds the right one itself.

    Up to 0.3.31 at least it takes AMD's family 26 (Zen 5) for a Haswell, whose products are half as fast.
    """
    if processor is None:
        try:
            processor = Path("/proc/cpuinfo").read_text()
        except OSError:
            return None
    told = dict(line.split(":", 1) for line in processor.split("\n\n")[0].splitlines() if ":" in line)
    said = {name.strip(): value.strip() for name, value in told.items()}
    zen_5 = said.get("vendor_id") == "AuthenticAMD" and said.get("cpu family") == str(ZEN_5)
    return "SkylakeX" if zen_5 and set(said.get("flags", "").split()) >= WIDE else None


def tell() -> None:
    """Set the variable unless the user has, or numpy has read it: then nothing changes."""
    if "numpy" not in sys.modules and (name := core_type()):
        os.environ.setdefault(VARIABLE, name)
