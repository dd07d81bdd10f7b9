"""Trained weights in one file that every engine loads: a NumPy .npz with the model as JSON."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from dlsys_bench.engines.plan import Weights
from dlsys_bench.errors import StoreError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.record import from_dict
from dlsys_bench.strict_json import loads

MODEL = "model.json"


def writable(folder: Path) -> None:
    """Raise a StoreError if weights cannot be written to a folder, before a training starts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(f"cannot write weights to {folder}: {error.strerror}") from error


def save(path: Path, model: Model, weights: Weights) -> None:
    """Write a model and its tensors, completely or not at all.

    Raises StoreError if they do not match or cannot be written.
    """
    _check_shapes(path, model, weights)
    arrays = {MODEL: np.frombuffer(json.dumps(model.to_dict()).encode(), np.uint8), **weights}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            try:
                # The stub of numpy takes the arrays for its flag.
                np.savez(file, **arrays)  # type: ignore[arg-type]
            except BaseException:
                os.unlink(file.name)
                raise
        os.replace(file.name, path)
    except OSError as error:
        raise StoreError(f"cannot write weights to {path}: {error.strerror}") from error


def load(path: Path) -> tuple[Model, Weights]:
    """Return the model and its tensors. Raises StoreError if the file cannot be read."""
    try:
        # np.load would leave a damaged file open.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        model = from_dict(loads(arrays.pop(MODEL).tobytes().decode("utf-8")))
    except OSError as error:
        raise StoreError(f"cannot read weights from {path}: {error.strerror or error}") from error
    except (KeyError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} holds no model and weights: {error}") from error
    if not isinstance(model, Model):
        raise StoreError(f"{path} holds a {model.kind}, not a model")
    _check_shapes(path, model, arrays)
    return model, arrays


def _check_shapes(path: Path, model: Model, weights: Weights) -> None:
    """Raise a StoreError if the tensors are not those of the model."""
    expected = {tensor.name: tensor.shape for tensor in model.tensors}
    found = {name: array.shape for name, array in weights.items()}
    for name in {**expected, **found}:
        if expected.get(name) != found.get(name):
            here, there = found.get(name, "missing"), expected.get(name, "none")
            raise StoreError(f"{path}: {name} is {here}, but model {model.name!r} has {there}")
