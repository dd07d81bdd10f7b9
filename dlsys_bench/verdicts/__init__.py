"""Judging: bands from stored runs, and the gate."""
