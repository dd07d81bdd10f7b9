"""Every regularisation arm passes its gate on every installed engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.dlsys_study("regularization")
def test_accuracy_passes_its_gate(dlsys_case: Any, dlsys_gate: Callable[[Any], Any]) -> None:
    dlsys_gate(dlsys_case)
