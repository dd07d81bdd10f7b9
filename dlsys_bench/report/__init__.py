"""Showing: tables, plots, the report."""
