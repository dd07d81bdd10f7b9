"""The C++ compiler of this machine, which an engine that writes C++ needs."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

COMPILERS = {"win32": ("cl",)}.get(sys.platform, ("g++", "clang++"))
"""The programs that are tried, in this order."""

INSTALL = {
    "darwin": "xcode-select --install",
    "win32": "winget install Microsoft.VisualStudio.2022.BuildTools",
}.get(sys.platform, "apt-get install g++")
"""The command that installs a compiler."""


def find_compiler() -> str | None:
    """Return the path of the compiler: the one that the variable CXX names, or else the first of
    COMPILERS; None if there is none."""
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else COMPILERS)), None)


def missing_compiler() -> str | None:
    """Return what is missing to compile an extension of Python, with the command that installs it;
    None if nothing is."""
    if find_compiler() is None:
        named = os.environ.get("CXX")
        found = f", and CXX={named} is no program" if named else ""
        return f"needs a C++ compiler ({' or '.join(COMPILERS)}){found}: {INSTALL}"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "needs the header files of Python for its C++ compiler: apt-get install python3-dev"
    return None
