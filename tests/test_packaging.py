"""The distributions: their metadata, their contents, and their use in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import dlsys_bench

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LARGEST = 10e6
"""The size in bytes of the larger distribution, which CHANGELOG.md states more exactly."""


def test_the_metadata_are_complete() -> None:
    for field in ("description", "readme", "license", "authors", "keywords", "classifiers"):
        assert PROJECT[field], field
    statuses = [one for one in PROJECT["classifiers"] if "Development Status" in one]
    assert len(statuses) == 1
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {lowest}" in PROJECT["classifiers"]
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_the_citation_states_the_version() -> None:
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == dlsys_bench.__version__
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_group_all_has_every_part_and_every_engine() -> None:
    extras = PROJECT["optional-dependencies"]
    named = {
        name
        for group in ("parts", "engines")
        for text in extras[group]
        for name in text.partition("[")[2].rstrip("]").split(",")
    }
    apart = {"parts", "engines", "all", "dev", "test", "docs", "browser"}
    assert named == set(extras) - apart


def run(*command: str | Path, folder: Path, code: int = 0) -> str:
    # Neither the checkout nor the data of this process may stand in for what is installed.
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DLSYS_BENCH_DATA")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, env=env)
    assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def environment(folder: Path, *packages: str) -> Path:
    """Make an environment, and return its programs. Skips the test without a package index."""
    run(sys.executable, "-m", "venv", folder, folder=folder.parent)
    install: list[str | Path] = [folder / "bin/python", "-m", "pip", "install", "-q", *packages]
    done = subprocess.run(install, capture_output=True, text=True, timeout=900)
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("no package index: pip cannot install numpy")
    assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    build = environment(tmp_path / "build", "hatchling")
    dist = tmp_path / "dist"
    run(build / "python", "-m", "hatchling", "build", "-d", dist, folder=ROOT)
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    again = tmp_path / "again"
    unpacked = tmp_path / source.name.removesuffix(".tar.gz")
    run(build / "python", "-m", "hatchling", "build", "-t", "wheel", "-d", again, folder=unpacked)
    (second,) = again.glob("*.whl")
    names = [sorted(zipfile.ZipFile(path).namelist()) for path in (wheel, second)]
    assert names[0] == names[1], "the source distribution has all that the wheel is made of"
    for name in ("py.typed", "report/html/page.css", "report/html/page.html.jinja"):
        assert f"dlsys_bench/{name}" in names[0]
    assert any(name.startswith("dlsys_bench/reference/") for name in names[0])
    assert not any("mutants" in name or name.startswith("tests") for name in names[0])
    assert max(wheel.stat().st_size, source.stat().st_size) < LARGEST

    programs = environment(tmp_path / "empty", str(wheel))
    work = tmp_path / "work"
    work.mkdir()
    command = programs / "dlsys-bench"
    assert dlsys_bench.__version__ in run(command, "--version", folder=work)
    assert "numpy" in run(command, "list", "engines", folder=work)
    arm = "regularization/lenet5-tanh/bn+bn"
    assert "0.9865" in run(command, "power", arm, "--dataset", "digits", folder=work)
    missing = run(command, "gate", arm, "--html", "page.html", folder=work, code=2)
    assert "pip install 'dlsys-bench[report]'" in missing
    run(programs / "python", "-m", "pytest", "--version", folder=work)
