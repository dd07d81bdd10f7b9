"""Hypothesis settings: the same examples every time in CI, so a failure there is the change's own."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
settings.register_profile("ci", max_examples=200, derandomize=True, print_blob=True, **common)  # type: ignore[arg-type]
settings.register_profile("dev", max_examples=50, **common)  # type: ignore[arg-type]
settings.load_profile("ci" if os.environ.get("CI") else "dev")
