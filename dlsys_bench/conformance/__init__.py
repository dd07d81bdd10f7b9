"""Checks that any engine can be put through."""
