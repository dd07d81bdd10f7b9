"""The registry states the devices and dtypes of an engine as the engine itself does."""

from __future__ import annotations

from typing import Any

import pytest

from dlsys_bench.attributes import load_attribute
from dlsys_bench.engines.registry import ENGINES, unavailable


@pytest.mark.parametrize("name", ENGINES)
def test_devices_and_dtypes_are_those_of_the_engine(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    entry = ENGINES[name]
    engine: Any = load_attribute(entry.target, "engine")
    assert (engine.name, engine.devices, engine.dtypes) == (name, entry.devices, entry.dtypes)
