"""Plots of results, one file per kind."""
