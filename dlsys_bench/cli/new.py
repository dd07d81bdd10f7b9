"""Write the files of a first gated training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from dlsys_bench.cli.terminal import say
from dlsys_bench.errors import UserError
from dlsys_bench.options.command import receives

TRAIN = '''"""A training to start from: softmax regression on the digits of dlsys-bench."""

import numpy as np

from dlsys_bench.data import load


def train(seed):
    """Train with a seed, and return the accuracy on the test set."""
    random = np.random.default_rng(seed)  # Everything that is random depends on the seed.
    data = load("digits")
    x = data.x_train.reshape(len(data.x_train), -1) / data.x_train.max()
    x_test = data.x_test.reshape(len(data.x_test), -1) / data.x_train.max()
    weights = 0.01 * random.standard_normal((x.shape[1], 10))
    for _ in range(5):
        for batch in np.array_split(random.permutation(len(x)), len(x) // 32):
            scores = x[batch] @ weights
            probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
            probabilities /= probabilities.sum(axis=1, keepdims=True)
            probabilities[np.arange(len(batch)), data.y_train[batch]] -= 1
            weights -= 0.1 * x[batch].T @ probabilities / len(batch)
    return {"accuracy": float(np.mean((x_test @ weights).argmax(axis=1) == data.y_test))}
'''

TEST = '''"""The accuracy of the training, compared with its reference runs."""

from train import train


def test_accuracy(accuracy_gate):
    accuracy_gate(train, reference="train.jsonl", smallest_shift=0.03)
'''

WORKFLOW = """name: accuracy
on: [push, pull_request]
jobs:
  gate:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install dlsys-bench pytest
      - run: pytest --junit-xml=gate.xml
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: gate
          path: gate.xml
"""

IGNORED = """# Runs are kept in train.jsonl; the store of every run is local.
reports/
"""

FILES = {
    "train.py": TRAIN,
    "test_accuracy.py": TEST,
    ".github/workflows/accuracy.yml": WORKFLOW,
    ".gitignore": IGNORED,
}

NEXT = """next, in that folder:
  dlsys-bench calibrate train:train --better higher --output train.jsonl
  pytest
and commit train.jsonl"""


@dataclass(frozen=True)
class NewOptions:
    """The argument of `new`."""

    folder: Path


@receives(NewOptions)
def new_command(options: NewOptions) -> None:
    """Write the files. Raises UserError if one is there, or cannot be written."""
    paths = {options.folder / name: text for name, text in FILES.items()}
    if there := [str(path) for path in paths if path.exists()]:
        raise UserError(f"{', '.join(there)} exists already, and is not overwritten")
    for path, text in paths.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        click.echo(path)
    say(NEXT)
