"""Every regularisation arm, on every engine that is here, inside the band of its stored runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.dlsys_study("regularization")
def test_the_accuracy_is_inside_its_band(dlsys_case: Any, dlsys_gate: Callable[[Any], Any]) -> None:
    dlsys_gate(dlsys_case)
