"""Verdicts: reference bands, gates and their power, and comparisons of two sets of runs."""
