"""Commands name what they judge, and leave no empty files."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import enter, invoke

from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.registry import create
from dlsys_bench.runs.store import read

CODE = """
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.spec.layers import Dense, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies import Arm, Study

SMALL = Model("small", (28, 28, 1), (Flatten(), Dense(10)))
ARMS = Study("arms", "two", "mine", "digits", tuple(
    Arm(name, SMALL, {"quick": Recipe(SGD(rate), batch_size=64, steps=5)})
    for name, rate in (("b", 0.1), ("a", 0.2))))

class Inherits(NumpyEngine):
    pass

class Usurps(NumpyEngine):
    name = "numpy"

class Declares(NumpyEngine):
    name = "declares"

def train(seed):
    return 0.9 + seed * 7919 % 1009 / 1e5

def broken(seed):
    raise RuntimeError("no data")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    (tmp_path / "named.py").write_text(CODE)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("numpy", "numpy"),
        ("named:Inherits", "named:Inherits"),
        ("named:Usurps", "named:Usurps"),
        ("named:Declares", "declares"),
    ],
)
def test_engines_of_users_are_stored_under_names_of_their_own(name: str, label: str) -> None:
    engine = create(name)
    assert isinstance(engine, Engine)
    assert engine.label == label


def test_an_engine_that_inherits_its_name_is_another_engine() -> None:
    class Mine(NumpyEngine):
        pass

    assert Mine().label == f"{__name__}:{Mine.__qualname__}"
    assert NumpyEngine().label == "numpy"


def test_lines_of_verdicts_name_the_arm_and_the_engine(folder: Path) -> None:
    engines = ("numpy", "named:Inherits", "named:Declares")
    options = [text for engine in engines for text in ("--engine", engine)]
    invoke("calibrate", "named:ARMS", "--seeds", "8", "--workers", "1")
    said = invoke("gate", "named:ARMS", *options, "--max-seeds", "4", "--alpha", "0.5").stderr
    for engine in ("numpy", "named:Inherits", "declares"):
        for arm in "ab":
            assert f": arms/{arm} on digits, {engine}: " in said
    assert {run.key.engine for run in read(folder / "reports" / "runs.db")} == {
        "numpy",
        "named:Inherits",
        "declares",
    }


def test_a_training_is_gated_by_the_file_that_calibrate_writes(folder: Path) -> None:
    said = invoke("gate", "named:train", code=2).stderr
    assert "`dlsys-bench calibrate named:train --seeds 20` writes reports/reference/" in said
    assert len(said.splitlines()) == 1
    invoke("calibrate", "named:train", "--seeds", "20", "--workers", "1")
    assert "PASS: named:train: " in invoke("gate", "named:train").stderr


MISTAKES = (
    "run named:ARMZ --output {}",
    "run named:train --output {}",
    "run unknown --output {}",
    "run perceptron --engine nmupy --output {}",
    "gate unknown --output {}",
    "gate named:tarin --output {}",
    "gate named:train --output {} --junit {}",
    "gate named:broken --reference reference.jsonl --output {} --junit {}",
    "gate perceptron --dataset unknown --output {}",
    "calibrate unknown --store {}",
    "calibrate named:train --output notes.jsonl --store {}",
    "calibrate named:train --cluster nothing://x --store {}",
    "runs list --store {}",
    "runs show 1 --store {}",
    "runs export --store {}",
    "runs export {} --store empty.db",
    "runs import notes.jsonl --store {}",
    "runs release --store {}",
    "compare {} {}",
    "report {}",
    "claims --runs {}",
)


@pytest.mark.parametrize("name", ["new.db", "new.jsonl"])
@pytest.mark.parametrize("command", MISTAKES)
@pytest.mark.filterwarnings("ignore::dlsys_bench.errors.ClusterWarning")
def test_a_mistake_leaves_no_file(folder: Path, command: str, name: str) -> None:
    (folder / "notes.jsonl").write_text("notes\n")
    invoke("runs", "import", "reference.jsonl", "--store", "empty.db", code=2)
    with (folder / "reference.jsonl").open("w") as file:
        for seed in range(5):
            file.write(LINE.replace("SEED", str(seed)))
    before = {path.name for path in folder.rglob("*") if path.is_file()}
    said = invoke(*command.replace("{}", name).split(), code=2).stderr
    assert said
    after = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {found for found in after - before if not found.endswith(".pyc")} == set()


LINE = (
    '{"study": "named:broken", "arm": "", "dataset": "", "tier": "", "engine": "callable", '
    '"device": "", "dtype": "", "convention": "", "seed": SEED, "protocol": "", "recipe": {}, '
    '"history": [], "seconds": 1.0, "figures": {"metric": 0.5}}\n'
)
